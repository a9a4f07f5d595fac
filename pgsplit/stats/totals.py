"""Totals of several workers, living and dead, as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

# What is a state and not a count: of the living workers the sum, or where all see the same thing the greatest.
SUMMED_GAUGES: Final = frozenset({"sessions_active", "upstream_cx_active"})
SHARED_GAUGES: Final = frozenset({"membership_total", "membership_healthy", "healthy", "lag_bytes", "lag_ms",
                                      "clock_skew_us", "primary_changes"})


def last_word(name: str) -> str:
    return name.rpartition(".")[2]


def of_dead(totals: Mapping[str, int]) -> dict[str, int]:
    """What remains of a worker's totals when it is gone: the counts, not the states."""
    return {name: value for name, value in totals.items()
            if last_word(name) not in SUMMED_GAUGES and last_word(name) not in SHARED_GAUGES}


def merge(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    merged: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            if last_word(name) in SHARED_GAUGES:
                merged[name] = max(merged.get(name, 0), value)
            else:
                merged[name] = merged.get(name, 0) + value
    return merged


def render(totals: Mapping[str, int]) -> str:
    """Envoy's text format: ``name: value``, sorted."""
    return "".join(f"{name}: {totals[name]}\n" for name in sorted(totals))
