"""Accepting connections on a shared listening socket, fairly between the workers."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import Event

from .. import log
from ..upstream.stream import READ
from .board import Slot

logger = log.get("pgsplit.listeners")

OUT_OF_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
MOMENT: Final = 0.01             # seconds for which a worker lets those go first that a session is better with
RECOVER: Final = 0.5             # seconds of pause when there are no descriptors left

Handle = Callable[[socket.socket, str], None]


class Acceptor:
    """Calls *handle* in a greenlet of its own for each connection. Made in a worker."""

    def __init__(self, listening: socket.socket, slot: Slot, handle: Handle, count: Connections) -> None:
        self._listening = listening
        self._slot = slot
        self._handle = handle
        self._count = count
        self._open = Event()
        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(listening.fileno(), READ)
        self._greenlet = gevent.spawn(self._run)

    def resume(self) -> None:
        self._open.set()

    def pause(self) -> None:
        self._open.clear()

    def close(self) -> None:
        self._greenlet.kill()
        self._readable.close()
        self._listening.close()

    def _run(self) -> None:
        while True:
            self._open.wait()
            self._hub.wait(self._readable)
            if not self._open.is_set():
                continue
            if self._slot.lets_others_first():
                gevent.sleep(MOMENT)
            try:
                sock, peer = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                continue
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS:
                    raise
                logger.error("cannot accept: %s; pausing for %s s", error.strerror, RECOVER)
                gevent.sleep(RECOVER)
                continue
            self._count.add(1)
            gevent.spawn(self._serve, sock, _name(peer))

    def _serve(self, sock: socket.socket, peer: str) -> None:
        try:
            self._handle(sock, peer)
        finally:
            self._count.add(-1)


class Connections:
    """How many connections this worker has, for itself and on the board."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self.count = 0
        slot.set_sessions(0)

    def add(self, change: int) -> None:
        self.count += change
        self._slot.set_sessions(self.count)


def _name(peer: object) -> str:
    if isinstance(peer, tuple):
        host, port = peer[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "[local]"
