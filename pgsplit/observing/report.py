"""The report: what would move to replicas, what keeps the rest, and what to do about it. Values only; `text` and `html`
are its forms, and `to_dict` the third.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ..stats.offload import BY_NAME, KEPT
from ..stats.remedies import OF_GROUPS
from .session import OTHER, WRITE
from .tally import UNKNOWN, WITHIN_MS, Sum, Tally

SHOWN: Final = 50               # rows of each table
DETAILS: Final = 5              # of each reason
WORDS: Final = {WRITE: "writes, and what may write", OTHER: "BEGIN, COMMIT, SET and their like",
                UNKNOWN: "their text is missing, cut or no SQL: not guessed at"}


@dataclass(frozen=True)
class Part:
    """*share* and *time_share*: from 0 to 1, of all statements."""

    name: str
    words: str
    number: int
    microseconds: int
    share: float
    time_share: float


@dataclass(frozen=True)
class Reason:
    """What keeps reads on the primary. The shares are of all reads. *details*: text, reads, microseconds."""

    name: str
    words: str
    remedy: str
    number: int
    microseconds: int
    share: float
    time_share: float
    details: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Row:
    """An application, a user, a database or a statement; *reason*: what keeps most of its reads, or its rule. None:
    not known.
    """

    name: str
    statements: int | None
    reads: int | None
    moves: int | None
    microseconds: int
    moves_microseconds: int | None
    reason: str = ""


@dataclass(frozen=True)
class Freshness:
    """Of *reads* that would move so many began within each of `WITHIN_MS` of a commit of their session, of anyone."""

    reads: int
    session: tuple[tuple[int, int], ...]
    anyone: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Report:
    """*source*: what it was made from, by name. *timed*: whether there are times at all; else all are 0.
    *upper_bound*: transactions are not known, so less may move.
    """

    source: Mapping[str, str]
    statements: int
    microseconds: int
    reads: int
    reads_microseconds: int
    timed: bool
    upper_bound: bool
    parts: tuple[Part, ...]
    kept: tuple[Reason, ...]
    by: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    freshness: Freshness | None = None
    failed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def moves(self) -> Part:
        """The reads that would move."""
        return self.parts[0]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def of_tally(tally: Tally, source: Mapping[str, str], *, upper_bound: bool, notes: Iterable[str] = ()) -> Report:
    """The report of what was counted."""
    sums, kinds = tally.all, tally.kinds
    moves = (sums.moves, sums.moves_us)
    stays = (sums.reads - sums.moves, sums.reads_us - sums.moves_us)
    found = (("moves", "reads that a replica could answer" + (", at most" if upper_bound else ""), moves),
             ("stays", "reads that stay on the primary", stays),
             *((kind, WORDS[kind], tuple(kinds[kind])) for kind in (WRITE, OTHER, UNKNOWN)))
    parts = tuple(Part(name, words, number, us, number / (sums.statements or 1), us / (sums.us or 1))
                  for name, words, (number, us) in found)
    kept = [Reason(name, KEPT[BY_NAME[name]].words, OF_GROUPS[name], each.reads, each.us,
                   each.reads / (sums.reads or 1), each.us / (sums.reads_us or 1), _details(each.details))
            for name, each in tally.kept.items() if each.reads or each.us]
    kept.sort(key=lambda reason: (-reason.microseconds, -reason.number, reason.name))
    freshness = None
    if tally.freshness.reads:
        freshness = Freshness(tally.freshness.reads, tuple(zip(WITHIN_MS, tally.freshness.session, strict=True)),
                              tuple(zip(WITHIN_MS, tally.freshness.anyone, strict=True)))
    return Report(dict(source), sums.statements, sums.us, sums.reads, sums.reads_us, tally.timed, upper_bound, parts,
                  tuple(kept), {name: _rows(sums_by) for name, sums_by in tally.by.items()}, freshness, tally.failed,
                  tuple(notes))


def _details(found: Mapping[str, list[int]]) -> tuple[tuple[str, int, int], ...]:
    most = sorted(found.items(), key=lambda item: (-item[1][1], -item[1][0], item[0]))
    return tuple((_whole(detail), number, us) for detail, (number, us) in most[:DETAILS] if detail)


def _rows(sums_by: Mapping[str, Sum]) -> tuple[Row, ...]:
    most = sorted(sums_by.items(), key=lambda item: (-item[1].us, -item[1].statements, item[0]))
    return tuple(Row(_whole(name), sums.statements, sums.reads, sums.moves, sums.us, sums.moves_us,
                     max(sums.reasons, key=lambda reason: sums.reasons[reason], default=""))
                 for name, sums in most[:SHOWN])


def _whole(words: str) -> str:
    """Bytes of a log that are no UTF-8 cannot be written as such."""
    return words.encode(errors="surrogateescape").decode(errors="replace")
