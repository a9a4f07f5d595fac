"""The report as text: a screen, and a table each for who asks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .report import Report, Row

WIDTH: Final = 118
TITLES: Final = {"digest": "By statement", "application": "By application", "user": "By user",
                 "database": "By database"}
FIRST: Final = 10               # rows of each table


def text(report: Report) -> str:
    """In lines of WIDTH at most."""
    moves = report.moves
    head = f"Of {report.statements:,} statements replicas could answer {moves.number:,} ({percent(moves.share)})"
    if report.timed:
        head += f", with {percent(moves.time_share)} of the time"
    lines = [head + (", at most." if report.upper_bound else "."), ""]
    lines += [f"{name}: {_plain(value)}" for name, value in report.source.items()]
    lines += ["", *table(("statements", "share", *(("time", "of time") if report.timed else ()), ""), [
        (f"{part.number:,}", percent(part.share),
         *((duration(part.microseconds), percent(part.time_share)) if report.timed else ()), part.words)
        for part in report.parts])]
    lines += ["", "What keeps reads on the primary, the most expensive first:"]
    for reason in report.kept:
        cost = f", {duration(reason.microseconds)} ({percent(reason.time_share)})" if report.timed else ""
        lines.append(f"* {reason.name}: {reason.number:,} reads ({percent(reason.share)} of all reads){cost}: "
                     f"{reason.words}")
        lines.append(f"    what to do: {reason.remedy}")
        for detail, number, us in reason.details:
            lines.append(_cut(f"    {number:>9,}  {duration(us) + '  ' if report.timed else ''}{_plain(detail)}"))
    if not report.kept:
        lines.append("* nothing")
    if report.freshness is not None:
        lines += ["", *_freshness(report)]
    for name, title in TITLES.items():
        rows = [row for row in report.by.get(name, ()) if row.statements or row.microseconds][:FIRST]
        if rows:
            lines += ["", f"{title}:", *_rows(rows, timed=report.timed)]
    if report.failed:
        lines += ["", f"{report.failed:,} statements ended with an error."]
    if report.notes:
        lines += ["", *(f"note: {_plain(note)}" for note in report.notes)]
    return "\n".join(_wrapped(lines)) + "\n"


def _freshness(report: Report) -> list[str]:
    fresh = report.freshness
    assert fresh is not None
    rows = [(whose, *(f"{count:,} ({percent(count / fresh.reads)})" for _, count in counts))
            for whose, counts in (("of the same session", fresh.session), ("of anyone", fresh.anyone))]
    return [f"Freshness: of {fresh.reads:,} reads that could move so many began soon after a commit:",
            *table(("", *(f"within {within:,} ms" for within, _ in fresh.session)), rows, left=1)]


def _rows(rows: Iterable[Row], *, timed: bool) -> list[str]:
    return table(("statements", "reads", "could move", *(("time",) if timed else ()), "reason", ""), [
        (number(row.statements), number(row.reads),
         percent(row.moves / row.reads) if row.reads and row.moves is not None else "-",
         *((duration(row.microseconds),) if timed else ()), row.reason, _plain(row.name)) for row in rows], text=2)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 0, text: int = 1) -> list[str]:
    """Lines; the first *left* and the last *text* columns are words, the others are set to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [cell.ljust(width) if column < left or (text and not left and column >= len(head) - text)
                 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))]
        return _cut("  " + "  ".join(cells).rstrip())

    return [line(row) for row in (head, *rows)]


def number(value: int | None) -> str:
    return f"{value:,}" if value is not None else "-"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def duration(us: int) -> str:
    for unit, size in (("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1000)):
        if us >= size:
            return f"{us / size:.1f} {unit}"
    return f"{us} µs"


def _plain(words: str) -> str:
    """Without what moves a terminal's cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in words)


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[:WIDTH - 1] + "…"


def _wrapped(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        indent = len(line) - len(line.lstrip(" *"))
        while len(line) > WIDTH:
            at = line.rfind(" ", indent + 1, WIDTH + 1)
            if at < 0:
                break
            yield line[:at]
            line = " " * indent + line[at + 1:]
        yield line
