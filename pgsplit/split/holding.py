"""Answering BEGIN and COMMIT here: transactions that no server, or only a replica, knows of (see `transaction`)."""

from __future__ import annotations

from ..classify.facts import Facts, Verdict
from ..classify.transactions import Begin
from ..wire.messages import FAILED, IDLE, IN_TRANSACTION
from .batch import QUERY, SELECTING, SYNC, Batch, Draft
from .cursors import reads
from .decision import BEGIN_HELD, READ_WRITE_ANYWAY, TRANSACTION_ENDED, Decision, Upstream, traced
from .kept import Kept
from .observer import Observer
from .prologue import again
from .state import PASSING, State
from .step import WAIT, Action, Step
from .transaction import END_ON_REPLICA, answer_to


class Holding:
    def __init__(self, state: State, observer: Observer) -> None:
        self._state = state
        self._observer = observer

    def may_hold(self, begin: Begin) -> bool:
        """Whether the transaction of *begin* need not be opened yet; while the session's settings are not known it may
        turn out that it must.
        """
        state = self._state
        return (state.has_replica and state.tx == IDLE and not (state.sole or state.read_only or state.primary
                or state.forced or state.route == "primary" or state.pins.keys() - PASSING)
                and (not state.pins or state.unsettled)
                and state.transaction.may_hold(begin, unsettled=state.unsettled))

    def held(self, draft: Draft, bound: list[Facts]) -> Begin | None:
        """The BEGIN, all that *draft* is, that can be answered here."""
        begin = bound[0].begins if len(bound) == 1 and draft.end and self._state.transaction.holds else None
        return begin if begin is not None and not draft.obstacle and self.may_hold(begin) else None

    def hold(self, draft: Draft, inbox: bytearray, bound: list[Facts], begin: Begin) -> Step | None:
        """Answer *begin*; None where its answer is not known to the byte."""
        if self._state.asked:
            return WAIT
        step = self._answer(draft, inbox, bound, begin.tag, IN_TRANSACTION, BEGIN_HELD)
        if step is not None:
            self._state.transaction.hold(begin)
        return step

    def begins_on_replica(self, draft: Draft, bound: list[Facts]) -> Begin | None:
        """The BEGIN at the head of a batch of reads, which a replica may have as it is."""
        transaction = self._state.transaction
        begin = self._begins(bound) if transaction.holds and len(bound) > 1 and draft.end == SYNC else None
        return begin if begin is None or begin.isolation or transaction.reads_anew(begin) else None

    def begins_on_primary(self, draft: Draft, bound: list[Facts]) -> Begin | None:
        """The BEGIN that *draft*, in which else all is a read, begins with, where the primary gets it at once, and what
        follows it may be a replica's.
        """
        alone = draft.end in (QUERY, SYNC) and not draft.obstacle
        begin = self._begins(bound) if not self._state.transaction.holds and bound and alone else None
        return begin if begin is None or len(bound) == 1 or self._state.transaction.reads_anew(begin) else None

    def _begins(self, bound: list[Facts]) -> Begin | None:
        begin = bound[0].begins
        if begin is None or self._state.transaction.begin is not None or not self.may_hold(begin):
            return None
        return begin if all(facts.verdict is Verdict.READ for facts in bound[1:]) else None

    def read_write(self, draft: Draft, inbox: bytearray, bound: list[Facts]) -> Step | None:
        """In a transaction that the primary does not know of: the answer to a SET TRANSACTION READ WRITE that changes
        nothing, which a standby would refuse; WAIT where something must be answered before.
        """
        state, transaction = self._state, self._state.transaction
        modes = bound[0].modes if len(bound) == 1 and draft.end and not draft.obstacle else None
        if modes is None or transaction.status == FAILED or not transaction.is_read_write(modes):
            return None
        if state.primary or state.asked:
            return WAIT
        step = self._answer(draft, inbox, bound, b"SET", IN_TRANSACTION, READ_WRITE_ANYWAY)
        if step is not None and transaction.begin is not None:
            transaction.begin = transaction.begin._replace(read_only=False)
        return step

    def stage(self, draft: Draft, inbox: bytearray, bound: list[Facts], parsed: list[Facts]) -> Kept | None:
        """What does again what *draft* does, where that sets the stage in a transaction that may read on a replica."""
        state, transaction = self._state, self._state.transaction
        if transaction.begin is None or len(bound) != 1 or not bound[0].stages or len(parsed) > 1 or draft.obstacle:
            return None
        if draft.end not in (QUERY, SYNC) or transaction.prologue_is_long:
            return None
        if bound[0].modes is not None and not transaction.may_set(bound[0].modes):
            return None
        if transaction.would_be_repeatable(bound[0].modes) and state.applied != state.settings:
            return None     # to be given settings takes a snapshot: the transaction's, and ahead of its first read
        command = bound[0].commands[0]
        ahead = again(bytes(inbox[state.asked:state.asked + draft.size]), rows=command in SELECTING,
                      parse_of=state.statements.parse_of)
        return Kept(ahead, command) if ahead is not None else None

    @staticmethod
    def goes_back(bound: list[Facts]) -> bool:
        """Whether it is ROLLBACK TO a savepoint."""
        return len(bound) == 1 and bound[0].stages and bound[0].commands == ("ROLLBACK",)

    def awaits_rest(self, draft: Draft, bound: list[Facts], parsed: list[Facts]) -> bool:
        """Whether *draft*, of which a part has come, may turn out to be answered here, to be a replica's as a whole, or
        to run nothing.
        """
        if self._state.transaction.begin is not None:
            may_read = self._state.transaction.surely_read_only     # also by a portal, or a cursor
            return all(facts.stages or facts.ends_as or (may_read and reads(facts)) for facts in bound)
        known = [*parsed, *bound]
        begin = known[0].begins if known else None
        return (begin is not None and not draft.obstacle and self.may_hold(begin)
                and all(facts.verdict is Verdict.READ or facts.begins is not None for facts in known[1:]))

    def end(self, draft: Draft, inbox: bytearray, bound: list[Facts]) -> Step | None:
        """In a transaction that the primary does not know of: the answer to what ends it; WAIT where something must be
        answered before; None for what runs in it, or beside it.
        """
        state, transaction = self._state, self._state.transaction
        failed = transaction.status == FAILED
        tag = self.ends(draft, bound)
        if state.primary or (state.asked and (tag or failed)):
            return WAIT
        if not tag or transaction.opened:
            return None
        step = self._answer(draft, inbox, bound, b"ROLLBACK" if failed else tag, IDLE, TRANSACTION_ENDED)
        if step is None:
            return None
        self.leave()
        return step._replace(to_replica=self.end_on_replica())

    @staticmethod
    def ends(draft: Draft, bound: list[Facts]) -> bytes:
        """The tag of the plain COMMIT or ROLLBACK that *draft* is."""
        return bound[0].ends_as if len(bound) == 1 and draft.end and not draft.obstacle else b""

    def leave(self) -> None:
        """The transaction ends, and nothing of it is to be repeated on the primary any more."""
        self._state.know_touched(self._state.transaction.touched)
        self._state.transaction.end()

    def refuses(self, draft: Draft, bound: list[Facts], parsed: list[Facts], late: bool) -> bool | None:
        """Whether *draft* is refused in a transaction that has failed, and no server knows it; None where its rest may
        tell. What may be about the transaction's end is parsed beside it.
        """
        if (bound and draft.end) or not all(facts.ends_as for facts in (*parsed, *bound)):
            return True
        return False if draft.end == SYNC else True if draft.end or late else None

    def end_on_replica(self) -> bytes:
        """What ends the transaction that is open on the replica, if there is one; nobody waits for the answer."""
        state, transaction = self._state, self._state.transaction
        if transaction.on_replica == IDLE:
            return b""
        if transaction.settings_given and transaction.on_replica == FAILED:
            state.applied = None
        transaction.on_replica, transaction.settings_given = IDLE, False
        transaction.ending += 1
        return END_ON_REPLICA

    def _answer(self, draft: Draft, inbox: bytearray, bound: list[Facts], tag: bytes, status: int,
                decision: Decision) -> Step | None:
        """Answer for a server, which would say just this."""
        state = self._state
        data = answer_to(bytes(inbox[:draft.size]), tag, status)
        if data is None:
            return None
        state.last = state.told = decision
        self._observer.decided(decision)
        self._observer.frontend(draft.requests)
        if draft.query is not None:
            state.statements.unnamed = None
            self._observer.text(state.query_facts(draft.query).parsed)
        for parsed in draft.parsed:
            state.set_unnamed(parsed.message, Upstream.DEFAULT)     # whoever needs it is given it
            self._observer.text(state.text_facts(parsed.sql).parsed)
        self._observer.command(decision.upstream, tag)
        batch = Batch(draft.end, draft.size, bound, decision.reason)
        batch.uses = draft.uses[0] if len(draft.uses) == 1 and not draft.parsed else None
        return Step(Action.ANSWER, draft.size, data=traced(decision) + data if state.trace else data, batch=batch)
