"""Sessions that are open are spread anew over a read cluster's hosts when one has come back. Sans-I/O.

Gently: a few a second, each with its next read, and only while one host has more than its share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .host import Host

A_SECOND: Final = 5            # sessions of a worker
SECOND_NS: Final = 1_000_000_000
FOR_NS: Final = 60 * SECOND_NS     # behind a return, or the last move: who has not read by then stays where he is


class Rebalance:
    """*hosts*: those that new sessions get (`Cluster.preferred`)."""

    def __init__(self, hosts: Callable[[], list[Host]]) -> None:
        self._hosts = hosts
        self._known: set[Host] | None = None
        self._until_ns = 0
        self._second_ns = 0
        self._left = 0                  # sessions that may move in this second

    def look(self, now_ns: int) -> bool:
        """Called now and then. Whether sessions are to be asked, with their next read, if they move (`target`)."""
        hosts = set(self._hosts())
        if self._known is not None and not hosts <= self._known and hosts:
            self._until_ns = now_ns + FOR_NS
        self._known = hosts
        if now_ns >= self._until_ns or now_ns - self._second_ns < SECOND_NS:
            return False
        self._second_ns, self._left = now_ns, A_SECOND
        return True

    def target(self, host: Host, now_ns: int) -> Host | None:
        """To which other host a session of *host* moves now; None: it stays. Who asks and is told of one moves."""
        if not self._left or now_ns >= self._until_ns:
            return None
        hosts = self._hosts()
        least = min((other for other in hosts if other is not host), key=_load, default=None)
        if least is None or (host in hosts and _load(least) > (host.cx_active - 1) / host.placement.weight):
            return None
        self._left -= 1
        self._until_ns = now_ns + FOR_NS
        return least


def _load(host: Host) -> float:
    """With one session more, for its weight."""
    return (host.cx_active + 1) / host.placement.weight
