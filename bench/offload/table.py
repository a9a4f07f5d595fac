"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.contenders import DIRECT, PGSPLIT
from bench.offload.measuring import PGPOOL, Report, Row
from bench.offload.tally import AFTER, OWN, READ, Amount, Tally

MOST_REASONS = 4
Cell = Callable[[Row], str]


def markdown(report: Report) -> str:
    """Three tables: the shares, the primary's time, and why pgsplit sent to the primary what it did."""
    pgpool = [PGPOOL] if PGPOOL in report.versions else []
    ways = [PGSPLIT, *pgpool]
    shares: dict[str, Cell] = {
        "workload": lambda row: row.workload.words,
        "its reads stand": lambda row: row.workload.stands,
        "reads": _of(DIRECT, lambda found: f"{found.total(READ).calls + found.total(AFTER).calls:,}"),
        "of them after a write": _of(DIRECT, lambda found: f"{found.total(AFTER).calls:,}"),
        **{f"{way}: {words}": _of(way, measure) for way in ways for words, measure in SHARES.items()},
    }
    times: dict[str, Cell] = {
        "workload": shares["workload"],
        "directly": _of(DIRECT, lambda found: _amount(found.applications)),
        "through pgsplit": _of(PGSPLIT, lambda found: _amount(found.applications)),
        "pgsplit's own": _of(PGSPLIT, lambda found: _amount(found.primary[OWN])),
        "with pgsplit, all": _of(PGSPLIT, lambda found: _ms(found.applications + found.primary[OWN])),
        **{name: cell for _ in pgpool for name, cell in {
            "through pgpool-II": _of(PGPOOL, lambda found: _amount(found.applications)),
            "pgpool-II's own": _of(PGPOOL, lambda found: _amount(found.primary[OWN]))}.items()},
        "pgsplit's own, replica": _of(PGSPLIT, lambda found: _amount(found.replica[OWN])),
    }
    reasons: dict[str, Cell] = {
        "workload": shares["workload"],
        "to the primary, by reason": lambda row: _reasons(row) if PGSPLIT in row.tallies else "–",
    }
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    failed = [f"* {row.workload.words}, through {way}: {words}" for row in report.rows
              for way, words in row.failed.items()]
    missing = [f"* {row.workload.words}: {row.missing}" for row in report.rows if row.missing]
    parts = [f"{versions}.", _table(shares, report.rows),
             "What the statements cost the primary, and how many they were:", _table(times, report.rows),
             "What pgsplit sent to the primary, in batches:", _table(reasons, report.rows)]
    if failed or missing or report.notes:
        parts.append("Not measured:\n\n" + "\n".join([*failed, *missing, *(f"* {note}" for note in report.notes)]))
    return "\n\n".join(parts)


def _of(way: str, measure: Callable[[Tally], str]) -> Cell:
    return lambda row: measure(row.tallies[way]) if way in row.tallies else "–"


def _percent(value: float | None) -> str:
    """Cut, not rounded: 100 % is all."""
    return "–" if value is None else f"{int(1000 * value) / 10:g} %"


def _ms(amount: Amount) -> str:
    return f"{amount.ms:,.0f} ms"


def _amount(amount: Amount) -> str:
    return f"{_ms(amount)}, {amount.calls:,}" if amount.calls else "0"


SHARES: dict[str, Callable[[Tally], str]] = {
    "of those that could move": lambda found: _percent(found.share),
    "of all reads": lambda found: _percent(found.share_of_all),
    "of their time": lambda found: _percent(found.share_of_time),
}


def _reasons(row: Row) -> str:
    ordered = sorted(row.kept.items(), key=lambda item: (-item[1], item[0]))
    more = [f"{len(ordered) - MOST_REASONS} more"] if len(ordered) > MOST_REASONS else []
    return ", ".join([*(f"`{reason}` {count:,}" for reason, count in ordered[:MOST_REASONS]), *more]) or "nothing"


def _table(columns: dict[str, Cell], rows: Iterable[Row]) -> str:
    lines: list[Sequence[str]] = [tuple(columns), ["---"] * len(columns)]
    lines.extend([cell(row) for cell in columns.values()] for row in rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
