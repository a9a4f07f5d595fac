"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.contenders import DIRECT, PGSPLIT
from bench.offload.measuring import PGPOOL, Report, Row
from bench.offload.tally import AFTER, OWN, READ, Amount, Tally
from bench.offload.workloads import AIM, STANDS

MOST_REASONS = 4
Cell = Callable[[Row], str]
Columns = Mapping[str, Cell]


def markdown(report: Report) -> str:
    """The shares, by workload and by where the reads stand; the primary's time; why pgsplit sent to the primary what it
    did; what was not measured.
    """
    ways = [way for way in (PGSPLIT, PGPOOL) if way in report.versions]
    measured = [row for row in report.rows if row.tallies]
    not_measured = [
        *(f"* {row.workload.words}, through {way}: {error}" for row in report.rows
          for way, error in row.failed.items()),
        *(f"* {row.workload.words}: {row.missing}" for row in report.rows if row.missing),
        *(f"* {note}" for note in report.notes)]
    return "\n\n".join([
        ", ".join(f"{name} {version}" for name, version in report.versions.items()) + ".",
        _table(_shares(ways), measured),
        "By where the reads stand, over all workloads:", _summary(ways, measured),
        "Milliseconds that the primary spent, and on how many statements:", _table(_times(ways), measured),
        "Batches that pgsplit sent to the primary, by reason:",
        _table({"workload": _words, "reasons": _reasons}, measured),
        *(["Not measured, and why:\n\n" + "\n".join(not_measured)] if not_measured else [])])


def _words(row: Row) -> str:
    return row.workload.words


def _of(way: str, measure: Callable[[Tally], str]) -> Cell:
    return lambda row: measure(row.tallies[way]) if way in row.tallies else "–"


def _percent(value: float | None) -> str:
    """Cut, not rounded: 100 % is all."""
    return "–" if value is None else f"{int(round(1000 * value, 6)) / 10:g} %"


def _ms(amount: Amount) -> str:
    return f"{amount.ms:.1f}" if amount.ms < 9.95 else f"{amount.ms:,.0f}"


def _amount(amount: Amount) -> str:
    return f"{_ms(amount)} ({amount.calls:,})" if amount.calls else "0"


SHARES: Mapping[str, Callable[[Tally], str]] = {
    "of the movable": lambda found: _percent(found.share),
    "of all": lambda found: _percent(found.share_of_all),
    "of the time": lambda found: _percent(found.share_of_time),
}


def _shares(ways: Sequence[str]) -> Columns:
    return {
        "workload": _words,
        "its reads stand": lambda row: row.workload.stands,
        "reads": _of(DIRECT, lambda found: f"{found.total(READ).calls + found.total(AFTER).calls:,}"),
        "movable": _of(DIRECT, lambda found: f"{found.total(READ).calls:,}"),
        **{f"{way}: {words}": _of(way, measure) for way in ways for words, measure in SHARES.items()},
    }


def _times(ways: Sequence[str]) -> Columns:
    columns: dict[str, Cell] = {"workload": _words, "directly": _of(DIRECT, lambda found: _amount(found.applications))}
    for way in ways:
        columns |= {
            f"{way}: the application's": _of(way, lambda found: _amount(found.applications)),
            f"{way}'s own": _of(way, lambda found: _amount(found.primary[OWN])),
            f"{way}: both": _of(way, lambda found: _ms(found.applications + found.primary[OWN])),
        }
    return columns | {"pgsplit's own on the replica": _of(PGSPLIT, lambda found: _amount(found.replica[OWN]))}


def _summary(ways: Sequence[str], rows: Sequence[Row]) -> str:
    """What replicas served of the reads that could move, the aim beside it."""
    lines: list[Sequence[str]] = []
    for stands in STANDS:
        those = [row for row in rows if row.workload.stands == stands and all(way in row.tallies for way in ways)]
        counts = [(sum(row.tallies[way].replica[READ].calls for row in those),
                   sum(row.tallies[way].total(READ).calls for row in those)) for way in ways]
        if those:
            lines.append([stands, f"{100 * AIM:g} %",
                          *(f"{_percent(part / whole)} ({part:,} of {whole:,})" for part, whole in counts)])
    return _lines([["reads that stand", "aim", *ways], *lines])


def _reasons(row: Row) -> str:
    ordered = sorted(row.kept.items(), key=lambda item: (-item[1], item[0]))
    more = [f"{len(ordered) - MOST_REASONS} more"] if len(ordered) > MOST_REASONS else []
    return ", ".join([*(f"`{reason}` {count:,}" for reason, count in ordered[:MOST_REASONS]), *more]) or "none"


def details(row: Row) -> str:
    """All of pgsplit's reasons, and what the primary ran through it, dearest first."""
    ran = sorted(row.ran, key=lambda each: -each[1].ms)
    return "\n".join([
        *(f"  {count:,} × {reason}" for reason, count in sorted(row.kept.items(), key=lambda item: -item[1])),
        *(f"  {kind}: {each.calls:,} × {each.ms / each.calls:.3f} ms: {' '.join(each.text.split())[:100]}"
          for kind, each in ran)])


def _table(columns: Columns, rows: Sequence[Row]) -> str:
    return _lines([tuple(columns), *([cell(row) for cell in columns.values()] for row in rows)])


def _lines(cells: Sequence[Sequence[str]]) -> str:
    heading, *rest = cells
    return "\n".join("| " + " | ".join(line) + " |" for line in (heading, ["---"] * len(heading), *rest))
