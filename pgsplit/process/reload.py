"""A reload in two phases: every worker prepares the new configuration, then all commit it or none does."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..config.model import Address, Config
from . import listeners
from .children import Child

PATIENCE: Final = 5.0          # seconds for all workers to prepare


class Reload:
    """:raises listeners.BindError: when a new address cannot be bound."""

    def __init__(self, old: Config, config: Config, sockets: Mapping[Address, list[socket.socket]]) -> None:
        self.config = config
        self.problems: list[str] = []
        self._new: dict[Address, list[socket.socket]] = {}
        self._asked: list[Child] = []
        self._waiting: set[Child] = set()
        self._deadline = time.monotonic() + PATIENCE
        try:
            for address in dict.fromkeys(a for listener in config.listeners for a in listener.addresses):
                if address not in sockets:
                    self._new[address] = listeners.bind(address, config.process.backlog)
        except listeners.BindError:
            self._close_new()
            raise

    def begin(self, children: Iterable[Child]) -> None:
        bound = [(address, sock) for address, sockets in self._new.items() for sock in sockets]
        message = {"order": "prepare", "config": self.config.model_dump_json(),
                   "sockets": [address.model_dump() for address, _ in bound]}
        for child in children:
            self._asked.append(child)
            self._waiting.add(child)
            child.channel.send(message, [sock.fileno() for _, sock in bound])

    def answered(self, child: Child, message: Mapping[str, Any]) -> None:
        self._waiting.discard(child)
        if "refused" in message:
            self.problems.append(f"worker {child.index + 1}: {message['refused']}")

    def gone(self, child: Child) -> None:
        self._waiting.discard(child)
        if child in self._asked:
            self._asked.remove(child)

    @property
    def decided(self) -> bool:
        if self._waiting and time.monotonic() > self._deadline:
            self.problems.append(f"{len(self._waiting)} workers did not answer within {PATIENCE:g} s")
        return bool(self.problems) or not self._waiting

    def abort(self) -> None:
        for child in self._asked:
            child.channel.send({"order": "abort"})
        self._close_new()

    def commit(self, sockets: dict[Address, list[socket.socket]]) -> list[socket.socket]:
        """Puts the new sockets into *sockets*; returns those that nobody listens on any more."""
        for child in self._asked:
            child.channel.send({"order": "commit"})
        wanted = {address for listener in self.config.listeners for address in listener.addresses}
        unwanted = [address for address in sockets if address not in wanted]
        sockets.update(self._new)
        return [sock for address in unwanted for sock in sockets.pop(address)]

    def _close_new(self) -> None:
        for sock in (sock for sockets in self._new.values() for sock in sockets):
            listeners.close(sock)
