"""Fifteen minutes of samples, one a second, of what a chart shows: made from the totals, there before anybody looks."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..stats.histogram import BOUNDS, quantile

SECONDS: Final = 15 * 60
QUANTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
# Series that are counted up by several listeners: shown as how many more in this second.
RATES: Final = {"statements_replica": "replica", "statements_primary": "primary", "reasks": "reasks",
                "errors": "errors", "fence_timeouts": "fence_timeouts", "sessions": "logins"}
LISTENER: Final = re.compile(r"postgres\.(.+)\.([a-z_]+)")
LATENCY: Final = re.compile(r"postgres\..+\.latency_(?:replica|primary)_us\.le_(\d+|inf)")
LAG: Final = re.compile(r"cluster\.(.+)\.lag_bytes")


class History:
    """:attr:`samples`: dicts with the time (Unix seconds), the rates, ``sessions_active``, latency quantiles in
    microseconds (None when nothing was answered) and ``lag`` in bytes by host.
    """

    def __init__(self, samples: Iterable[Mapping[str, Any]] = ()) -> None:
        self.samples: deque[dict[str, Any]] = deque(map(dict, samples), maxlen=SECONDS)
        self._before: dict[str, int] | None = None
        self._latencies: dict[float, int] = {}

    def add(self, now: float, totals: Mapping[str, int]) -> None:
        sums = dict.fromkeys(RATES.values(), 0)
        latencies: dict[float, int] = {}
        lag: dict[str, int] = {}
        sessions = 0
        for name, value in totals.items():
            if found := LATENCY.fullmatch(name):
                bound = float(found[1])
                latencies[bound] = latencies.get(bound, 0) + value
            elif found := LAG.fullmatch(name):
                lag[found[1]] = value
            elif found := LISTENER.fullmatch(name):
                if found[2] == "sessions_active":
                    sessions += value
                elif found[2] in RATES:
                    sums[RATES[found[2]]] += value
        if self._before is not None:
            fresh = {bound: count - self._latencies.get(bound, 0) for bound, count in latencies.items()}
            self.samples.append({
                "time": round(now, 2), "sessions_active": sessions, "lag": lag,
                **{name: max(0, value - self._before[name]) for name, value in sums.items()},
                **{name: min(quantile(fresh, q), BOUNDS[-1]) if any(fresh.values()) else None
                   for name, q in QUANTILES}})
        self._before, self._latencies = sums, latencies

    def since(self, moment: float) -> list[dict[str, Any]]:
        """The samples taken after *moment*, Unix seconds."""
        return [sample for sample in self.samples if sample["time"] > moment]
