"""Hints that roles may have changed: hosts are then checked at once, and not only when their next check is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import gevent

GAP: Final = 0.1               # seconds between two times that a hint has all hosts of a cluster checked
HURRIED: Final = 0.2           # seconds between two checks of servers one of which is to become the primary
HURRY: Final = 60.0            # for so many behind the loss of the primary; then checks are as far apart as ever


class Hints:
    """*check* checks all hosts of a write cluster, and of the read clusters that go with it, now."""

    def __init__(self, check: Callable[[str], None]) -> None:
        self._check = check
        self._checked: dict[str, float] = {}         # monotonic, by write cluster
        self._later: dict[str, gevent.Greenlet[..., None]] = {}
        self._without: dict[str, float] = {}         # since when it has no primary

    def hint(self, cluster: str) -> None:
        """A connection was lost or refused, or has shown another role than was known: look again, soon."""
        left = self._checked.get(cluster, -GAP) + GAP - time.monotonic()
        if left <= 0:
            self._do(cluster)
        elif cluster not in self._later:
            self._later[cluster] = gevent.spawn_later(left, self._do, cluster)

    def _do(self, cluster: str) -> None:
        self._later.pop(cluster, None)
        self._checked[cluster] = time.monotonic()
        self._check(cluster)

    def interval(self, cluster: str, interval: float, *, has_primary: bool) -> float:
        """Seconds between two checks of a host of the write cluster, which are *interval* otherwise."""
        if has_primary:
            self._without.pop(cluster, None)
            return interval
        now = time.monotonic()
        return min(interval, HURRIED) if now - self._without.setdefault(cluster, now) < HURRY else interval

    def stop(self) -> None:
        for greenlet in self._later.values():
            greenlet.kill()
        self._later.clear()
