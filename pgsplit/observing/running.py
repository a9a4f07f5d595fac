"""The report of a running instance whose listeners observe (mode: observe), from its counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..errors import PgSplitError
from ..stats.offload import KEPT, OBSERVED
from ..stats.remedies import OF_GROUPS
from ..stats.shares import offload
from .report import SHOWN, Part, Reason, Report, Row
from .session import OTHER

_NAME: Final = KEPT[OBSERVED].name
NOTES: Final = (
    "how soon behind a commit reads came is not measured here: a log tells (pgsplit observe --log)",
    "by application, user and database: of the workers that run now, and as they were given at the login",
)


def of_instance(listeners: Iterable[Mapping[str, Any]], totals: Mapping[str, int], senders: Iterable[Mapping[str, Any]],
                digests: Iterable[Mapping[str, Any]]) -> Report:
    """*listeners*: the arbiter's word of them. *senders*, *digests*: the rows of all workers.

    :raises PgSplitError: when none observes, and none has.
    """
    chosen = {one["stat_prefix"]: one["name"] for one in listeners
              if one["split_rw"] and (one["mode"] == "observe" or _observed(totals, one["stat_prefix"]))}
    if not chosen:
        raise PgSplitError("no listener observes: set mode: observe, and reload (docs/observing.md)")
    roots = tuple(f"postgres.{prefix}." for prefix in chosen)
    own = {name: value for name, value in totals.items() if name.startswith(roots)}
    found = offload(own)
    statements = sum(own.get(f"postgres.{one}.statements", 0) for one in chosen)
    us = found.without_us
    moves, moves_us = found.replica.number, found.replica.microseconds
    for part in found.kept:
        if part.name == _NAME:
            moves, moves_us = moves + part.number, moves_us + part.microseconds
    parts = tuple(Part(name, words, number, part_us, number / (statements or 1), part_us / (us or 1))
                  for name, words, number, part_us in (
                      ("moves", "reads that a replica would have answered", moves, moves_us),
                      ("stays", "reads that stay on the primary", found.reads - moves, found.reads_us - moves_us),
                      (OTHER, "writes, BEGIN, COMMIT and all else", statements - found.reads,
                       max(0, us - found.reads_us))))
    kept = tuple(Reason(part.name, part.words, OF_GROUPS[part.name], part.number, part.microseconds, part.share,
                        part.time_share) for part in found.kept if part.name != _NAME)
    rows = [row for row in senders if row["stat_prefix"] in chosen]
    by = {name: _by(name, rows) for name in ("application", "user", "database")}
    return Report({"listener": ", ".join(chosen.values())}, statements, us, found.reads, found.reads_us, True, False,
                  parts, kept, {**by, "digest": _digests(digests)}, notes=NOTES)


def _observed(totals: Mapping[str, int], prefix: str) -> int:
    return totals.get(f"postgres.{prefix}.reads_kept.{_NAME}", 0)


def _by(name: str, rows: Iterable[Mapping[str, Any]]) -> tuple[Row, ...]:
    sums: dict[str, list[int]] = {}
    for row in rows:
        of = sums.setdefault(row[name] or "(none)", [0, 0, 0, 0])
        for place, counted in enumerate(("reads", "moves", "reads_us", "moves_us")):
            of[place] += row[counted]
    most = sorted(sums.items(), key=lambda item: (-item[1][2], -item[1][0], item[0]))
    return tuple(Row(label, None, reads, moves, us, moves_us)
                 for label, (reads, moves, us, moves_us) in most[:SHOWN] if reads)


def _digests(rows: Iterable[Mapping[str, Any]]) -> tuple[Row, ...]:
    """Calls and times of all listeners: what of them came in a transaction is not counted by text."""
    calls: dict[str, int] = {}
    times: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for row in rows:
        digest = row["digest"]
        calls[digest] = calls.get(digest, 0) + row["replica"] + row["primary"]
        times[digest] = times.get(digest, 0) + row["total_us"]
        reasons[digest] = row["reason"] or reasons.get(digest, "")
    most = sorted(calls, key=lambda digest: (-times[digest], digest))
    return tuple(Row(digest, calls[digest], None, None, times[digest], None, reasons[digest])
                 for digest in most[:SHOWN])
