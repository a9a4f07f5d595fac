"""A bell: wakes one greenlet from the relay's loop, which then has no turn of the hub to give for that."""

from __future__ import annotations

from typing import Any

from .pyrelay import Event


class Bell:
    """As gevent's Event with one waiter, which waits for nothing else meanwhile. *relay*: the compiled one."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay
        self._flow = relay.open(None, None, None)
        self._flow.events = 0

    def set(self) -> None:
        """From anywhere, the hub too."""
        self._relay.raise_(self._flow)

    def clear(self) -> None:
        self._flow.events = 0

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it has been set, before or within *timeout* seconds; it is clear then."""
        return bool(self._relay.wait(self._flow, timeout) & Event.RAISED)
