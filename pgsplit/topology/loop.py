"""What a sample needs of the loop that moves the sessions' bytes, so that a question costs no turn of the hub."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from gevent.event import Event

Answered = Callable[[list[bytes | None] | None, bytes], None]


class Bell(Protocol):
    """Wakes one greenlet, which waits for nothing else meanwhile."""

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None, /) -> object: ...


class HubBell:
    """One of gevent's hub."""

    def __init__(self) -> None:
        self._event = Event()
        self.set, self.clear = self._event.set, self._event.clear

    def wait(self, timeout: float | None = None) -> object:
        return self._event.wait(timeout)


class Loop(Protocol):
    """The compiled relay's."""

    def bell(self) -> Bell: ...

    def watch(self, name: str, sock: socket.socket, heard: Callable[[], None], /) -> Any: ...

    def unwatch(self, watched: Any, /) -> None: ...

    def ask(self, watched: Any, question: bytes, answered: Answered, /) -> bool: ...

    def ask_no_more(self, watched: Any, /) -> None: ...

    def give_turn(self) -> None: ...


def bell_of(loop: Loop | None) -> Bell:
    """One of *loop*, or where there is none of gevent's hub."""
    return loop.bell() if loop is not None else HubBell()
