"""What is counted of the statements that were seen, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..stats.offload import BY_NAME
from .session import OTHER, READ, WRITE, Outcome

MOST: Final = {"digest": 2000, "application": 500, "user": 500, "database": 500}     # counted apart, of each
MOST_DETAILS: Final = 200       # of each group of what keeps reads
REST: Final = "(all others)"
UNKNOWN: Final = "unknown"
WITHIN_MS: Final = (10, 100, 1000)


class Sum:
    """Statements, those of them that read, and those that would move; times in microseconds."""

    __slots__ = ("moves", "moves_us", "reads", "reads_us", "reasons", "statements", "us")

    def __init__(self) -> None:
        self.statements = self.us = self.reads = self.reads_us = self.moves = self.moves_us = 0
        self.reasons: dict[str, int] = {}       # what keeps its reads, or the rule of what is none

    def add(self, outcome: Outcome, count: int) -> None:
        self.statements += count
        if outcome.kind == READ:
            self.reads += count
            self.moves += count * outcome.moves
        reason = outcome.kept or outcome.rule
        if reason in self.reasons or len(self.reasons) < len(BY_NAME):
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def time(self, outcome: Outcome, us: int) -> None:
        self.us += us
        if outcome.kind == READ:
            self.reads_us += us
            self.moves_us += us * outcome.moves

    def merge(self, other: Sum) -> None:
        for name in ("moves", "moves_us", "reads", "reads_us", "statements", "us"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Kept:
    """Reads that stay, of one group, and by what in their texts, or their transactions, keeps them."""

    __slots__ = ("details", "reads", "us")

    def __init__(self) -> None:
        self.reads = self.us = 0
        self.details: dict[str, list[int]] = {}

    def of(self, detail: str) -> list[int]:
        if detail not in self.details and len(self.details) >= MOST_DETAILS:
            detail = REST
        return self.details.setdefault(detail, [0, 0])


class Counted:
    """One statement that was counted, whose time may be told later."""

    __slots__ = ("_outcome", "_tally", "_where")

    def __init__(self, tally: Tally, outcome: Outcome, where: tuple[Sum, ...]) -> None:
        self._tally = tally
        self._outcome = outcome
        self._where = where

    def time(self, us: int) -> None:
        tally, outcome = self._tally, self._outcome
        tally.timed = True
        tally.kinds[outcome.kind][1] += us
        for sums in self._where:
            sums.time(outcome, us)
        if outcome.kept:
            kept = tally.kept[outcome.kept]
            kept.us += us
            kept.of(outcome.detail)[1] += us


class Freshness:
    """How long ago the latest commit was when reads began that would move: by their session, and by anyone."""

    def __init__(self) -> None:
        self.reads = 0
        self.session = [0] * len(WITHIN_MS)
        self.anyone = [0] * len(WITHIN_MS)

    def add(self, session: float | None, anyone: float | None) -> None:
        """In milliseconds; None: nobody had written before, as far as the log goes."""
        self.reads += 1
        for counts, behind in ((self.session, session), (self.anyone, anyone)):
            for place, within in enumerate(WITHIN_MS):
                counts[place] += behind is not None and behind <= within


class Tally:
    """*timed*: whether any time was told."""

    def __init__(self) -> None:
        self.all = Sum()
        self.by: dict[str, dict[str, Sum]] = {name: {} for name in MOST}
        self.kinds: dict[str, list[int]] = {kind: [0, 0] for kind in (READ, WRITE, OTHER, UNKNOWN)}
        self.kept: dict[str, Kept] = {}
        self.freshness = Freshness()
        self.failed = 0
        self.timed = False

    def add(self, outcome: Outcome, labels: Mapping[str, str], count: int = 1) -> Counted:
        """*labels*: its value in each of MOST that is known."""
        self.kinds[outcome.kind][0] += count
        self.all.add(outcome, count)
        where = [self.all]
        for name, label in labels.items():
            sums = self._of(name, label)
            sums.add(outcome, count)
            where.append(sums)
        if outcome.kept:
            kept = self.kept.setdefault(outcome.kept, Kept())
            kept.reads += count
            kept.of(outcome.detail)[0] += count
        return Counted(self, outcome, tuple(where))

    def unknown(self, us: int = 0, count: int = 1) -> None:
        """A statement whose text is missing or cut."""
        self.kinds[UNKNOWN][0] += count
        self.kinds[UNKNOWN][1] += us
        self.all.statements += count
        self.all.us += us

    def _of(self, name: str, label: str) -> Sum:
        sums = self.by[name]
        found = sums.get(label)
        if found is None:
            if len(sums) >= MOST[name]:
                _shrink(sums)
            found = sums[label] = Sum()
        return found


def _shrink(sums: dict[str, Sum]) -> None:
    """The half that took least becomes one."""
    rest = sums.pop(REST, None) or Sum()
    for label in sorted(sums, key=lambda label: (sums[label].us, sums[label].statements))[:len(sums) // 2 + 1]:
        rest.merge(sums.pop(label))
    sums[REST] = rest
