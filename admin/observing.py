"""Listeners that observe: all goes to the primary, and what replicas would have had is counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgsplit.stats.offload import KEPT, OBSERVED


def observes(listener: Mapping[str, Any]) -> bool:
    """*listener*: as the arbiter tells it."""
    return bool(listener["split_rw"]) and listener["mode"] == "observe"


def would_move(totals: Mapping[str, int], stat_prefix: str) -> float:
    """Of the reads of a listener the share that replicas would have had, or had, from 0 to 1."""
    root = f"postgres.{stat_prefix}"
    replica, primary = (totals.get(f"{root}.reads.{upstream}", 0) for upstream in ("replica", "primary"))
    moves = totals.get(f"{root}.reads_kept.{KEPT[OBSERVED].name}", 0) + replica
    return moves / (replica + primary) if replica + primary else 0.0
