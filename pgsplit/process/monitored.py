"""The monitor, as a worker reaches it: what it tells is read when it rings, and not believed when it is silent."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import gevent
from gevent import socket as gsocket

from .. import log
from ..topology.host import Identity
from ..topology.told import HOST, Key, ToldManager, key_of
from .channel import Channel
from .facts import Facts

logger = log.get("pgsplit.worker")

SILENT: Final = 2.0            # seconds without a sign of life after which what it has told is not so any more
LOOK: Final = 0.2              # seconds between two looks for one
AGAIN: Final = 0.1             # seconds between two attempts to reach it, and to read what was just being written


class Monitored:
    """*path*: of the monitor's socket. `follow` keeps a manager of clusters told."""

    def __init__(self, facts: Facts, path: str) -> None:
        self._facts = facts
        self._path = path
        self._channel: Channel | None = None
        self._manager: ToldManager | None = None
        self._numbers: dict[int, int] = {}           # that were read, by record
        self._keys: dict[int, Key] = {}              # of which they told
        self._heard = False                          # it is there
        self._pid = 0                                # the last one's that was
        self._since_ns = 0                           # what was asked before is not believed any more

    def follow(self, manager: ToldManager) -> None:
        self._manager = manager
        gevent.spawn(self._keep_reaching)
        gevent.spawn(self._watch)

    # --- telling it -----------------------------------------------------------------------------------------

    def hint(self, cluster_name: str) -> None:
        self._send({"cluster": cluster_name})

    def found_behind(self, cluster_name: str, address: tuple[str, int], identity: Identity) -> None:
        self._send({"cluster": cluster_name, "address": address,
                    "identity": [identity.system_identifier, identity.started]})

    def _send(self, message: Mapping[str, Any]) -> None:
        """Where it is not there, or hangs, nothing is lost: it begins with a look at all."""
        if self._channel is not None and not self._channel.outbox:
            self._channel.send(message)

    # --- being told -----------------------------------------------------------------------------------------

    def _keep_reaching(self) -> None:
        while True:
            sock = gsocket.socket(gsocket.AF_UNIX, gsocket.SOCK_STREAM)
            try:
                sock.connect(self._path)
                self._hear(sock)
            except OSError as error:
                logger.debug("the monitor cannot be reached: %s", error)
            except Exception:
                logger.exception("what the monitor tells cannot be understood")
            finally:
                self._channel = None
                sock.close()
                self._lose_sight("the monitor has ended")
            gevent.sleep(AGAIN)

    def _hear(self, sock: Any) -> None:
        self._channel = channel = Channel(sock)
        while True:
            gsocket.wait_read(channel.fileno())
            if channel.receive() is None:
                return
            channel.flush()
            self._look()

    def _look(self) -> None:
        """Take what is new."""
        if self._manager is None or not self._is_alive():
            return
        self._heard = True
        if self._facts.pid != self._pid:
            self._pid = self._facts.pid
            self._numbers.clear()
            self._keys.clear()
        torn = False
        for record, number in enumerate(self._facts.numbers()):
            if self._numbers.get(record, 0) == number:
                continue
            text = self._facts.read(record, number)
            if text is None:
                torn = True
                continue
            self._numbers[record] = number
            self._take(record, text)
        if torn:
            gevent.spawn_later(AGAIN, self._look)

    def _take(self, record: int, text: bytes) -> None:
        assert self._manager is not None
        told = json.loads(text) if text else None
        key = key_of(told) if told is not None else None
        before = self._keys.pop(record, None)
        if before is not None and before != key and before not in self._keys.values():
            self._manager.take_back(before)
        if told is not None and key is not None:
            self._keys[record] = key
            if key[0] != HOST or told["fact"]["asked_ns"] > self._since_ns:
                self._manager.take(told)

    def _is_alive(self) -> bool:
        return self._facts.pid > 0 and time.monotonic_ns() - self._facts.alive_ns < SILENT * 1e9

    def _watch(self) -> None:
        while True:
            gevent.sleep(LOOK)
            if self._heard and not self._is_alive():
                self._lose_sight("the monitor gives no sign of life")

    def _lose_sight(self, why: str) -> None:
        """Of hosts nothing that was told is believed any more, when it comes back neither: only what it tells then."""
        if self._heard and self._manager is not None:
            self._heard = False
            logger.debug("%s: no read is known to be fresh", why)
            self._since_ns = time.monotonic_ns()
            self._manager.forget_told()
