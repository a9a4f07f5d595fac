"""Which statements are reads, and what has kept those on the primary that it answered: counted, never decided by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ..classify.facts import Facts, Tx, Verdict
from ..classify.transactions import READ_COMMITTED
from ..stats.offload import (
    AFTER_WRITE,
    BATCH,
    BEFORE_WRITE,
    BY_RULE,
    OBSERVED,
    WRITES,
    ReadStats,
    group_of,
)
from .batch import Batch
from .decision import Upstream

NO_READ: Final = -2
FREE: Final = -1            # nothing in its text keeps it
NOWHERE: Final = -1         # no transaction is open on the primary
_COMMANDS: Final = frozenset({"COPY", "EXECUTE", "FETCH", "SELECT", "SHOW", "TABLE", "VALUES", "WITH"})


def kept_by_text(facts: Facts) -> int:
    """Of one statement: the group (see stats/offload.py) of what in it keeps it on the primary; FREE, or NO_READ."""
    if facts.verdict is Verdict.READ:
        return NO_READ if facts.empty else FREE
    if facts.commands and _COMMANDS.issuperset(facts.commands):
        return BY_RULE.get(facts.reason, NO_READ)
    return NO_READ


def writes(facts: Facts) -> bool:
    """Whether what follows it in its transaction comes behind a write."""
    return facts.reason in WRITES


def statements(bound: Iterable[Facts]) -> Iterator[Facts]:
    """Each by itself, also of a text that holds several."""
    for facts in bound:
        yield from facts.parts or (facts,)


class Reads:
    """Of one session, in the order of its answers. *inside*: the group of a read that comes next in the transaction
    which is open on the primary.
    """

    __slots__ = ("_stats", "inside")

    def __init__(self, stats: ReadStats) -> None:
        self._stats = stats
        self.inside = NOWHERE

    def answered(self, upstream: Upstream, batch: Batch, microseconds: int, *, open_: bool) -> None:
        """*upstream* has answered *batch*. *open_*: a transaction is open now, for all that the client knows."""
        found = list(statements(batch.bound))
        # What takes no time of its own takes none of the reads'.
        each = microseconds // (sum(facts.tx is None for facts in found) or 1)
        if upstream is Upstream.DEFAULT:
            reads = sum(kept_by_text(facts) != NO_READ for facts in found)
            self._stats.replica += reads
            self._stats.replica_us += reads * each
            return
        rule = batch.decision.reason if batch.decision is not None else batch.reason
        inside = moved_by(found[0], rule, batch.begins_as) if batch.opens and found else self.inside
        for facts in found:
            by_text = kept_by_text(facts)
            if facts.tx is Tx.BEGIN and inside == NOWHERE:
                inside = batch.begins_as
            elif facts.tx is Tx.END:
                inside = NOWHERE
            elif by_text != NO_READ:
                self._stats.keep(kept_by(by_text, inside, rule), 1, each)
                if inside == OBSERVED and by_text != FREE:
                    inside = by_text
            elif inside == OBSERVED:
                inside = _observed_behind(facts)
            elif inside != NOWHERE and writes(facts):
                inside = AFTER_WRITE
        self.inside = inside if open_ else NOWHERE


def _observed_behind(facts: Facts) -> int:
    """As what a read is counted behind *facts*, which are none, in a transaction that a replica would have until then:
    what sets the stage leaves it there, all else would have moved it.
    """
    moves = facts.modes is not None and facts.modes.isolation not in (None, READ_COMMITTED)
    if (facts.stages or facts.empty) and not moves:
        return OBSERVED
    return AFTER_WRITE if writes(facts) else BEFORE_WRITE


def moved_by(facts: Facts, rule: str, begins_as: int) -> int:
    """As what a transaction keeps a read that *facts*, sent to the primary for *rule*, have opened there."""
    by_text = kept_by_text(facts)
    if by_text != FREE:
        return begins_as if by_text == NO_READ else by_text
    group = group_of(rule)
    return begins_as if group == BATCH else group


def kept_by(by_text: int, inside: int, rule: str) -> int:
    """The group of a read that the primary has answered: *by_text* of its own text, *inside* a transaction as `Reads`
    has it, in a batch that was sent there for *rule*.
    """
    if rule == "sole_upstream":
        return group_of(rule)
    if inside == AFTER_WRITE or (inside != NOWHERE and by_text == FREE):
        return inside
    return by_text if by_text != FREE else group_of(rule)
