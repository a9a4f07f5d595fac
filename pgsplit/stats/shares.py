"""Off-load in shares, of the totals of an instance: what the page, the console and the API show of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from .offload import KEPT
from .own import KINDS

UPSTREAMS: Final = ("replica", "primary")
COUNTED: Final = re.compile(r"(?:postgres|cluster)\.(?:.+)\."
                            r"(reads(?:_kept)?(?:_us)?\.\w+|own(?:_us)?\.\w+\.\w+|latency_\w+_us\.sum_us)")


class Part(NamedTuple):
    """*share* of the number and *time_share* of the time, from 0 to 1: of all reads, or of an upstream's time."""

    name: str
    words: str
    number: int
    microseconds: int
    share: float
    time_share: float


class OffLoad(NamedTuple):
    """*kept*: the reads that the primary has answered, by what has kept them there, and *own* pgsplit's own questions
    by upstream, each the most expensive first. *without_us*: what clients' statements took, wherever they ran, as if
    the primary had run all; *with_us*: those that it did run, and pgsplit's own questions to it.
    """

    reads: int
    reads_us: int
    replica: Part
    kept: tuple[Part, ...]
    own: Mapping[str, tuple[Part, ...]]
    without_us: int
    with_us: int

    @property
    def own_us(self) -> int:
        """Of the primary's time."""
        return sum(part.microseconds for part in self.own["primary"])

    def to_dict(self) -> dict[str, Any]:
        return {"reads": self.reads, "reads_us": self.reads_us, "replica": self.replica._asdict(),
                "kept": [part._asdict() for part in self.kept],
                "own": {upstream: [part._asdict() for part in parts] for upstream, parts in self.own.items()},
                "primary_us": {"without_pgsplit": self.without_us, "with_pgsplit": self.with_us}}


def offload(totals: Mapping[str, int]) -> OffLoad:
    """Of all listeners and clusters together."""
    sums: Counter[str] = Counter()
    for name, value in totals.items():
        if found := COUNTED.fullmatch(name):
            sums[found[1]] += value
    reads, reads_us = (sum(sums[f"{name}.{upstream}"] for upstream in UPSTREAMS) for name in ("reads", "reads_us"))

    def part(name: str, words: str, counted: str, timed: str, all_: int, all_us: int) -> Part:
        count, microseconds = sums[counted], sums[timed]
        return Part(name, words, count, microseconds, count / (all_ or 1), microseconds / (all_us or 1))

    clients = {upstream: sums[f"latency_{upstream}_us.sum_us"] for upstream in UPSTREAMS}
    own_us = {upstream: sum(sums[f"own_us.{upstream}.{kind.name}"] for kind in KINDS) for upstream in UPSTREAMS}
    own_count = {upstream: sum(sums[f"own.{upstream}.{kind.name}"] for kind in KINDS) for upstream in UPSTREAMS}
    return OffLoad(
        reads, reads_us, part("replica", "on replicas", "reads.replica", "reads_us.replica", reads, reads_us),
        _by_time(part(group.name, group.words, f"reads_kept.{group.name}", f"reads_kept_us.{group.name}",
                      reads, reads_us) for group in KEPT),
        {upstream: _by_time(part(kind.name, kind.words, f"own.{upstream}.{kind.name}", f"own_us.{upstream}.{kind.name}",
                                 own_count[upstream], clients[upstream] + own_us[upstream]) for kind in KINDS)
         for upstream in UPSTREAMS},
        sum(clients.values()), clients["primary"] + own_us["primary"])


def _by_time(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(sorted((part for part in parts if part.number), key=lambda part: (-part.microseconds, part.name)))
