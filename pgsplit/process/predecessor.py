"""The arbiter whose place this one is to take, as it has told of itself (see `Successor`)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from ..errors import PgSplitError
from .board import LAYOUT, Board
from .channel import Channel, ChannelError
from .listeners import Inherited, Listening
from .successor import VARIABLE


class Predecessor:
    """Its *state*:

    ``pid``, ``generation``; ``run_dir`` and ``lock``, its descriptor; ``sockets``: [descriptor, whether its file is
    its own]; ``board``: {descriptor, layout}; ``taken``: slots of its workers, and of those before it; ``orders``;
    ``totals``, ``history``; ``nonce``, ``admin_key``: hexadecimal; ``admin_password``.
    """

    def __init__(self, channel: socket.socket, state: Mapping[str, Any]) -> None:
        channel.set_inheritable(False)
        self.channel = Channel(channel)
        self.pid: int = state["pid"]
        self.generation: int = state["generation"]
        self.run_dir: str = state["run_dir"]
        self.lock: int = state["lock"]
        self.taken: set[int] = set(state["taken"])
        self.orders: Mapping[str, Any] = state["orders"]
        self.totals: Mapping[str, int] = state["totals"]
        self.nonce = bytes.fromhex(state["nonce"])
        self.admin_key = bytes.fromhex(state["admin_key"])
        self.admin_password: str | None = state["admin_password"]
        self.history: Sequence[Mapping[str, Any]] = state["history"]
        self.sockets = Inherited([Listening(descriptor, owns_file=False) for descriptor, _ in state["sockets"]])
        self._owned = {descriptor for descriptor, owned in state["sockets"] if owned}
        self._given = {sock.fileno(): sock for sock in self.sockets.left}
        self._board: int = state["board"]["descriptor"]
        self.apart = state["board"]["layout"] != LAYOUT       # each has a board that the other one cannot read
        for descriptor in (self.lock, self._board):
            os.set_inheritable(descriptor, False)

    def board(self) -> Board:
        if self.apart:
            os.close(self._board)
            return Board()
        return Board(self._board)

    def settled(self) -> list[int]:
        """All that will be taken of the sockets has been: what is left is closed. Returns the descriptors taken."""
        left = {sock.fileno() for sock in self.sockets.left}
        for sock in self.sockets.left:
            sock.close()
        self.sockets.left.clear()
        return [descriptor for descriptor in self._given if descriptor not in left]

    def own_files(self) -> None:
        """The files of Unix sockets are ours from now on, where they were its."""
        for descriptor in self._owned & self._given.keys():
            self._given[descriptor].owns_file = True

    def refuse(self, problems: Sequence[str]) -> None:
        """Say why its place cannot be taken; this process is to end then."""
        self.channel.sock.setblocking(True)
        self.channel.send({"refused": list(problems)})

    def receive(self) -> list[Any] | None:
        """Its messages; None when it is gone."""
        try:
            return self.channel.receive()
        except ChannelError:
            return None


def from_environment(environment: MutableMapping[str, str] = os.environ) -> Predecessor | None:
    """None where this process was not started by another arbiter. The variable is taken out of *environment*.

    :raises PgSplitError: for what it says that cannot be understood; it has been told so.
    """
    given = environment.pop(VARIABLE, "")
    if not given:
        return None
    try:
        channel, told = map(int, given.split(":"))
        with open(told, encoding="utf-8") as file:
            file.seek(0)
            text = file.read()
        sock = socket.socket(fileno=channel)
    except (OSError, ValueError) as error:
        raise PgSplitError(f"{VARIABLE}={given!r}: {error}") from None
    try:
        return Predecessor(sock, json.loads(text))
    except (KeyError, TypeError, ValueError, OSError) as error:
        problem = f"what the old pgsplit hands over cannot be understood: {error!r}"
        sock.setblocking(True)
        Channel(sock).send({"refused": [problem]})
        raise PgSplitError(problem) from None
