"""A latency histogram with fixed buckets: cheap to fill, and sums of several are histograms again."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

# Upper bounds in microseconds, about a fifth apart: 1, 2, 3, 4, 5, 7, 10 … 60 s; the last bucket has none.
BOUNDS: Final = tuple(int(step * 10 ** power) for power in range(8) for step in (1, 1.5, 2, 3, 5, 7)
                      if step * 10 ** power >= 1 and step * 10 ** power == int(step * 10 ** power))


def place(nanoseconds: int) -> tuple[int, int]:
    """The bucket of a duration, for who puts it into several histograms, and the duration in microseconds."""
    microseconds = nanoseconds // 1000
    return bisect_left(BOUNDS, microseconds), microseconds


class Histogram:
    __slots__ = ("counts", "total_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total_us = 0

    def observe(self, microseconds: int) -> None:
        self.counts[bisect_left(BOUNDS, microseconds)] += 1
        self.total_us += microseconds

    def add(self, other: Histogram) -> None:
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.total_us += other.total_us

    def to_dict(self, name: str) -> dict[str, int]:
        """The buckets that are not empty, as counters: ``<name>.le_<bound>`` and ``<name>.sum_us``."""
        buckets = {f"{name}.le_{bound}": count for bound, count in zip((*BOUNDS, "inf"), self.counts, strict=True)
                   if count}
        return {**buckets, f"{name}.sum_us": self.total_us} if buckets else {}


def quantile(buckets: dict[float, int], q: float) -> float:
    """The upper bound of the bucket in which the *q*-quantile lies; 0 when nothing was observed."""
    total = sum(buckets.values())
    seen = 0
    for bound in sorted(buckets):
        seen += buckets[bound]
        if seen >= q * total and total:
            return bound
    return 0.0
