"""Cursors and portals that a READ ONLY transaction has open on its replica: they live there to its end.

A portal of the protocol and a cursor of SQL are the same thing to a server, and share their names (manual 55.2.3). The
names are those that may be open: one that a ROLLBACK TO has closed, its server misses by itself.
"""

from __future__ import annotations

from ..classify.facts import DOUBT, Facts, Tx, Verdict
from ..wire.messages import FAILED
from .batch import CLOSE_COMPLETE, QUERY, SYNC, Draft
from .decision import Upstream
from .state import State

_USING = frozenset({"FETCH", "MOVE", "CLOSE"})


class Cursors:
    def __init__(self, state: State) -> None:
        self._state = state

    def go_on(self, draft: Draft, bound: list[Facts]) -> bool:
        """Whether *draft* goes on with what is open on the replica, and does nothing else but read."""
        names = self._state.transaction.cursors
        used = _used(draft, bound) | (_opened(draft, bound) & names)    # that are refused where the first ones are
        every = any(facts.cursor is not None and not facts.cursor.name for facts in bound)
        if not names or not (used or every) or draft.end not in (QUERY, SYNC) or draft.obstacle not in _OF_PORTALS:
            return False
        only_portals = all(not name and not (answer == CLOSE_COMPLETE and name is not None)
                           for answer, name, _ in draft.operations)
        return used <= names | draft.portals and only_portals and all(map(reads, bound)) and not (
            every and self._state.transaction.split)

    def may_open(self, draft: Draft, bound: list[Facts]) -> bool:
        """Whether *draft* opens such, and does nothing else but read, in a transaction that may have them there."""
        transaction = self._state.transaction
        return (transaction.surely_read_only and not transaction.split and _used(draft, bound) <= draft.closes
                and bool(_opened(draft, bound)) and draft.end in (QUERY, SYNC) and not draft.obstacle
                and all(map(reads, bound)))

    def reads_anew(self, bound: list[Facts]) -> bool:
        """Whether something in *bound* is not gone on with, but has a snapshot of its own."""
        return any(facts.cursor is None or facts.cursor.opens for facts in bound)

    def keep(self, draft: Draft, bound: list[Facts], stages: bool) -> bool:
        """Whether *draft* must run where the transaction's cursors are, whatever else may be said of it. What *stages*
        closes cursors, too, where it goes back to a savepoint.
        """
        transaction = self._state.transaction
        if transaction.begin is None or not transaction.cursors or self._state.forced:
            return False
        return self.go_on(draft, bound) or (stages and transaction.split)

    def failed_at(self, draft: Draft, bound: list[Facts]) -> Upstream | None:
        """Who knows that the transaction has failed, and says so to *draft*; None where nobody does."""
        state, transaction = self._state, self._state.transaction
        if not transaction.stuck or transaction.status != FAILED or draft.end not in (QUERY, SYNC) or state.forced:
            return None
        unclear = any(not facts.commands and (draft.query is not None or facts is not DOUBT) for facts in bound)
        if unclear or any(facts.tx is Tx.END or "ROLLBACK" in facts.commands for facts in bound):
            return None         # it may end the failure, and there only
        if transaction.on_replica == FAILED:
            given = state.applied == state.settings and not (state.statements.to_close or transaction.to_close)
            has = given and all(statement.default for statement in state.used(draft, bound))
            return Upstream.DEFAULT if has else None
        return Upstream.ADDITIONAL if transaction.opened and state.tx == FAILED else None

    def changes(self, draft: Draft, bound: list[Facts]) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """The names that *draft* opens, and those that it closes, once it has gone well."""
        closed = {facts.cursor.name for facts in bound if facts.cursor is not None and facts.cursor.verb == "close"}
        if b"" in closed:
            closed |= self._state.transaction.cursors
        opened = _opened(draft, bound)
        return opened, frozenset((closed | draft.closes) - opened)

    def leave(self, draft: Draft, bound: list[Facts]) -> bool:
        """*draft* is for the primary: note which of them it ends. False where it may need one of them."""
        transaction = self._state.transaction
        ends = any(facts.tx is Tx.END or (facts.cursor is not None and not facts.cursor.name) for facts in bound)
        if ends:
            transaction.cursors.clear()
        gone = transaction.cursors & draft.closes
        transaction.cursors -= gone
        transaction.to_close |= gone
        unclear = any(facts.tx is Tx.SAVEPOINT or (facts.cursor is None and not _USING.isdisjoint(facts.commands))
                      for facts in bound)
        parts = [part for facts in bound for part in facts.parts or (facts,)]
        unclear |= any("DECLARE" in part.commands and not part.declares for part in parts)
        named = _used(draft, bound) | draft.portals | {part.declares for part in parts}
        return not transaction.cursors or not (unclear or named & transaction.cursors)


def reads(facts: Facts) -> bool:
    """Whether it is a read, or does something with a cursor of one."""
    return facts.verdict is Verdict.READ or facts.cursor is not None


def _used(draft: Draft, bound: list[Facts]) -> set[bytes]:
    named = {facts.cursor.name for facts in bound if facts.cursor is not None and not facts.cursor.opens}
    return (named | draft.elsewhere | draft.closes) - {b""}


def _opened(draft: Draft, bound: list[Facts]) -> frozenset[bytes]:
    declared = {facts.cursor.name for facts in bound if facts.cursor is not None and facts.cursor.opens}
    return frozenset((declared | draft.portals) - {b""})


_OF_PORTALS = ("", "portal_elsewhere")
