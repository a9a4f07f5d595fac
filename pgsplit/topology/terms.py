"""Terms: (system identifier, timeline), within which positions in the write-ahead log mean something.

A promotion begins a new timeline (PostgreSQL manual 26.3.6), so of two servers out of recovery the one on the lower
timeline is a former primary, whatever it says itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from ..upstream.server_identity import UNKNOWN


class Timelines(Protocol):
    """The board's: the greatest timeline that any worker of this node has seen, by PostgreSQL cluster."""

    def raise_timeline(self, cluster: int, timeline: int) -> None: ...
    def timeline(self, cluster: int) -> int: ...


class OwnTimelines:
    """Those of one process alone."""

    def __init__(self) -> None:
        self._greatest: dict[int, int] = {}

    def raise_timeline(self, cluster: int, timeline: int) -> None:
        self._greatest[cluster] = max(timeline, self.timeline(cluster))

    def timeline(self, cluster: int) -> int:
        return self._greatest.get(cluster, UNKNOWN)


@lru_cache
def _number(system_identifier: str, write_cluster: str, forgotten: int) -> int:
    name = "/".join((system_identifier, write_cluster, *((str(forgotten),) if forgotten else ()))).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


class Terms:
    """What is known of terms in one process, which learns from the others by *timelines*."""

    def __init__(self, timelines: Timelines) -> None:
        self._timelines = timelines
        self._known: dict[int, int] = {}
        self._forgotten: dict[str, int] = {}       # how often, by write cluster
        self.raised = False            # by this process, since the last `news`

    def cluster(self, system_identifier: str, write_cluster: str) -> int:
        """The PostgreSQL cluster as a number of 64 bits: a copy of it (staging, made from a backup) that serves another
        write cluster has the same identifier and goes its own ways. So has one whose terms have been forgotten.
        """
        return _number(system_identifier, write_cluster, self._forgotten.get(write_cluster, 0))

    def forget(self, forgotten: Mapping[str, int]) -> set[str]:
        """*forgotten*: how often the timelines of each write cluster have been, by the operator's orders. Returns those
        for which that is news.

        All workers go over to other numbers, each when it is told: what one that has not been told yet still writes
        under the old ones is nothing to the others.
        """
        news = {name for name, times in forgotten.items() if self._forgotten.get(name, 0) != times}
        self._forgotten = dict(forgotten)
        return news

    def seen(self, cluster: int, timeline: int) -> None:
        if timeline > self._timelines.timeline(cluster):
            self._timelines.raise_timeline(cluster, timeline)
            self.raised = True

    def greatest(self, cluster: int) -> int:
        """The primary's timeline; UNKNOWN when none has been seen."""
        timeline = self._timelines.timeline(cluster)
        self._known.setdefault(cluster, timeline)
        return timeline

    def news(self) -> bool:
        """Whether a timeline has risen since the last call."""
        self.raised = False
        risen = [cluster for cluster, known in self._known.items() if self._timelines.timeline(cluster) != known]
        for cluster in risen:
            self._known[cluster] = self._timelines.timeline(cluster)
        return bool(risen)
