"""Digests of all workers, merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgsplit.stats.histogram import BOUNDS, quantile


@dataclass
class Usage:
    digest: str
    replica: int = 0
    primary: int = 0
    reasks: int = 0
    errors: int = 0
    reason: str = ""
    total_us: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    @property
    def calls(self) -> int:
        return self.replica + self.primary

    @property
    def share(self) -> float:
        """Of the calls that a replica answered, from 0 to 1."""
        return self.replica / self.calls if self.calls else 0.0

    @property
    def mean_us(self) -> float:
        return self.total_us / self.calls if self.calls else 0.0

    @property
    def p95_us(self) -> float:
        counts = dict(zip((*map(float, BOUNDS), float(BOUNDS[-1])), self.buckets, strict=False))
        return quantile(counts, 0.95)

    def to_dict(self) -> dict[str, Any]:
        return {"digest": self.digest, "calls": self.calls, "replica": self.replica, "primary": self.primary,
                "mean_us": round(self.mean_us, 1), "p95_us": self.p95_us, "reasks": self.reasks,
                "errors": self.errors, "reason": self.reason}


def merged(rows: Iterable[Mapping[str, Any]]) -> list[Usage]:
    """Texts whose digest is the same are one; the one on which most time was spent comes first."""
    found: dict[str, Usage] = {}
    for row in rows:
        usage = found.setdefault(row["digest"], Usage(row["digest"]))
        for name in ("replica", "primary", "reasks", "errors", "total_us"):
            setattr(usage, name, getattr(usage, name) + row[name])
        usage.reason = row["reason"] or usage.reason
        usage.buckets = [ours + theirs for ours, theirs in zip(usage.buckets, row["buckets"], strict=True)]
    return sorted(found.values(), key=lambda usage: usage.total_us, reverse=True)
