"""Client -> upstream: where each batch goes, and how its bytes get there."""

from __future__ import annotations

from typing import Final

from ..classify.facts import DOUBT, Facts, Verdict
from ..errors import ProtocolViolation
from ..wire import build
from ..wire.framing import message_end
from ..wire.messages import FAILED, FRONTEND, IDLE, IN_TRANSACTION
from .batch import COPY_TYPES, FLUSH, FUNCTION_CALL, QUERY, SYNC, TERMINATE, Batch, Draft
from .cursors import Cursors
from .decision import Decision, Upstream
from .holding import Holding
from .inquiry import DescribeInquiry, Inquiry
from .making import MakingAgain
from .observer import Observer
from .opening import Opening, Rollback, unmovable
from .settings import Ahead, give
from .state import PASSING, State
from .state_query import CHECKED
from .statements import Statement
from .step import MORE, WAIT, Action, Step
from .stream import PIECE, Stream, tells_route
from .transaction import OPENING, PLAIN, Place, Unopened

READ_ONLY_ERROR: Final = build.error_response(
    "ERROR", "25006", "this session may only read",
    detail="pgsplit has no login at the primary for it: the user is not in user_list, or the primary is away.")

CANCELLED_ERROR: Final = build.error_response("ERROR", "57014", "canceling statement due to user request")

ABORTED_ERROR: Final = build.error_response(
    "ERROR", "25P02", "current transaction is aborted, commands ignored until end of transaction block")

PRIMARY_AWAY_ERROR: Final = build.error_response(
    "ERROR", "57P03", "the primary cannot be reached",
    detail="The statement has waited for failover_wait, and has not run.")

STATEMENT_TIMEOUT_ERROR: Final = build.error_response(
    "ERROR", "57014", "canceling statement due to statement timeout",
    detail="The statement has waited for a primary, and has not run.")

NO_REPLICA_ERROR: Final = build.error_response(
    "ERROR", "57P03", "no replica can serve this read now",
    detail="read_fallback is set to error, so the primary is not asked.")
SMALL: Final = 16384           # bytes of a read that is kept for another primary
_SHOW: Final = ("SHOW",)       # alone it has no effects, though its answer may be the primary's
# Why a read that could go to a replica does not find one.
NO_REPLICA: Final = frozenset({"no_replica", "no_fresh_replica", "replica_out", "replica_lost"})


class Requests:
    """The states are *gathering* (a batch is not complete yet, and a replica may still get it), *streaming* (its
    beginning has left for the primary, the rest follows as it comes) and *skipping* (it was answered with our own
    error: nothing counts until its Sync, as on a server).
    """

    def __init__(self, state: State, observer: Observer) -> None:
        self._state = state
        self._observer = observer
        self._draft = Draft()
        self._stream = Stream(state, observer)
        self._holding = Holding(state, observer)
        self._cursors = Cursors(state)
        self._skipping = False

    @property
    def between_batches(self) -> bool:
        return not (self._stream.left or self._draft.size or self._skipping or self._state.segment)

    @property
    def mid_batch(self) -> bool:
        """The primary has the beginning of a message, a batch or a COPY, and waits for the client's rest."""
        return bool(self._stream.left) or self._state.segment is not None or self._state.copying

    @property
    def gathering(self) -> Draft | None:
        """The batch that waits for its rest, and for nothing else."""
        draft = self._draft
        return draft if draft.size and not draft.end and not self._state.asked else None

    def began(self, now_ns: int) -> int:
        """See `Splitter.began`."""
        self._draft.began_ns = self._draft.began_ns or now_ns
        return self._draft.began_ns

    @property
    def waits(self) -> bool:
        """Whether a statement waits here, and runs at no server: for a question to the primary, to be asked again, for
        a cancel to arrive, or for its Sync, where a server would run it already.
        """
        state = self._state
        if state.redirecting or (state.inquiries and not state.replica):
            return True
        return self._draft.executes and not (state.primary or state.replica)

    def next(self, inbox: bytearray, full: bool, late: bool = False) -> Step:
        """What to do with the client's inbox; *full*: no more is read until something leaves it. *late*: what is
        `gathering` has waited for its Sync for long enough.

        :raises ProtocolViolation: for bytes the protocol does not allow.
        """
        state = self._state
        state.wants_primary = False
        if state.opaque:
            return Step(Action.FORWARD, len(inbox)) if inbox else MORE
        if (state.redirecting or state.inquiries or state.cancelling) and not self._skipping and (
                state.asked or not state.cancelled_waiting):
            return WAIT
        if not state.asked and (self._stream.left or state.segment is not None):
            return self._stream.next(inbox, full)
        if state.skips:
            state.skips, self._skipping = False, True
            self._draft = Draft()       # what came before the server was ready, and waited
        if self._skipping:
            return self._skip(inbox)
        if state.taken_back:
            state.taken_back = False
            self._draft = Draft()
        draft = self._draft
        if not draft.size and len(inbox) > state.asked and inbox[state.asked] in COPY_TYPES:
            if state.primary_away:
                return self._await_primary(draft)
            return WAIT if state.asked else self._stream.next(inbox, full)
        draft.gather(inbox, state.asked)
        if not draft.end:
            judge = draft.size and (draft.size > draft.judged or late or state.cancelled_waiting)
            if judge and not state.asked and (step := self._route(draft, inbox, late)) is not MORE:
                return step
            if not full:
                return MORE
            return WAIT if state.asked else self._too_large(inbox)
        if draft.end == TERMINATE:
            return WAIT if state.asked or state.primary else Step(Action.CLOSE)
        return self._route(draft, inbox)

    def asked(self, step: Step) -> None:
        """The ASK step given last has been done."""
        assert step.batch is not None and step.decision is not None
        transaction = self._state.transaction
        if step.batch.begins is not None:
            transaction.hold(step.batch.begins)
            transaction.begun_in_flight = True
        transaction.tells_time |= transaction.begin is not None and step.batch.reads_clock
        transaction.settings_given |= step.batch.given is not None and transaction.begin is not None
        self._state.replica.append(step.batch)
        self._state.asked += step.size
        self._left_for(step.batch, step.decision)

    def took(self, data: bytes, decision: Decision, opening: bool) -> Batch:
        """A relay has sent the batch *data* already, for *decision*; *opening*: behind what opens its transaction."""
        state = self._state
        draft = Draft()
        draft.gather(bytearray(data), 0)
        bound = state.bound_facts(draft)
        batch = Batch(draft.end, draft.size, bound, decision.reason)
        batch.requests = draft.requests
        batch.sql = draft.sql
        if opening:
            batch.ahead.extend((kind, None) for kind in OPENING.answers)
            batch.opens = decision.upstream is Upstream.ADDITIONAL
            batch.begins_as = state.begins_as(PLAIN)
        batch.texts = [state.text_facts(statement.sql) for statement in draft.parsed] if draft.query is None else bound
        if decision.upstream is Upstream.DEFAULT:
            self._note_unnamed(draft, batch)
            state.replica.append(batch)
            state.asked += draft.size
        else:
            unopened = state.transaction.plainly_unopened() if opening else None
            self._keep_for_another(batch, data, len(data), unopened)
            self._to_primary(draft, batch)
        self._left_for(batch, decision)
        return batch

    def _note_unnamed(self, draft: Draft, batch: Batch) -> None:
        """The replica will have the batch's unnamed statement."""
        if draft.unnamed is not None:
            parsed = draft.unnamed
            batch.statement = Statement(b"", parsed.sql, self._state.text_facts(parsed.sql), parsed.message)

    # --- deciding ---------------------------------------------------------------------------------------

    def _route(self, draft: Draft, inbox: bytearray, late: bool = False) -> Step:
        """Of a batch that is complete. The beginning of one leaves when it is the primary's whatever follows, since a
        server begins with it, and answers an error at once; else MORE: of what a replica may get nothing runs yet.
        """
        state = self._state
        if state.cancelled_waiting:
            if state.asked:
                return WAIT         # what is ahead of it is answered first
            state.cancelled_waiting = False
            return self._refuse(draft, CANCELLED_ERROR)
        if (state.own_unsettled and not state.forced and state.tx == IDLE and not state.primary and not state.asked
                and not state.sole):
            return self._ask_for_state(draft)
        transaction = state.transaction
        if transaction.begin is None and transaction.asked_within:
            transaction.asked_within, state.unsettled = False, True
        if transaction.begin is None and transaction.on_replica != IDLE and not state.replica:
            return Step(Action.ANSWER, to_replica=self._holding.end_on_replica())
        bound = state.bound_facts(draft)
        parsed = state.parsed_facts(draft)
        step = self._transaction(draft, inbox, bound, parsed, late)
        if step is not None:
            return step
        if not draft.end and not late and self._holding.awaits_rest(draft, bound, parsed):
            draft.judged = draft.size
            return MORE
        stage = self._holding.stage(draft, inbox, bound, parsed)
        begins, begins_there = (self._holding.begins_on_replica(draft, bound),
                                self._holding.begins_on_primary(draft, bound))
        if begins_there is not None and state.unsettled:
            return self._ask_for_state(draft)
        if begins is not None:
            bound, parsed = bound[1:], [facts for facts in parsed if facts.begins is None]
        kept = self._cursors.keep(draft, bound, stage is not None)
        if kept and state.primary:
            return WAIT
        decision = None if kept else self._always_primary(
            draft, bound if stage is None else [], parsed if stage is None else [])
        failed_at = self._cursors.failed_at(draft, bound)
        if failed_at is not None:
            decision = Decision(failed_at, "transaction_failed")
        if decision is None and stage is not None:
            decision = Decision(Upstream.DEFAULT, "sets_the_stage", bound[0].commands[0])
        if begins is not None and decision is not None:
            begins, bound, parsed = None, state.bound_facts(draft), state.parsed_facts(draft)
            decision = self._always_primary(draft, bound, parsed)
        partial = not draft.end
        if partial:
            if decision is None and late and not state.must_read_on_replica:
                decision = Decision(Upstream.ADDITIONAL, "sync_awaited")
            if decision is None or self._may_be_refused(decision, parsed):
                draft.judged = draft.size
                return MORE
            draft.end = FLUSH
        if decision is None:
            decision = self._on_replica(bound)
        batch = Batch(draft.end, draft.size, bound, decision.reason)
        batch.begins = begins or begins_there
        batch.beside = failed_at is Upstream.ADDITIONAL
        batch.goes_on = failed_at is not None
        if decision.upstream is Upstream.DEFAULT and stage is not None and failed_at is None:
            batch.stage, batch.effect_free = stage, True
        if decision.upstream is Upstream.DEFAULT and transaction.begin is not None and failed_at is None:
            batch.cursors = self._cursors.changes(draft, bound)
            batch.effect_free |= any(facts.cursor is not None for facts in bound)
            batch.goes_on = kept and not self._cursors.reads_anew(bound)
        if transaction.begin is not None and draft.only_parses:
            batch.kind, batch.own_sync = SYNC, True
        batch.aside = transaction.begin is not None and (batch.own_sync or decision.reason == "nothing_to_run")
        batch.decision = decision
        batch.requests = draft.requests
        batch.sql = draft.sql
        batch.uses = draft.uses[0] if len(draft.uses) == 1 and not draft.parsed else None
        batch.texts = parsed if draft.query is None else bound
        if transaction.stuck and transaction.on_replica == IDLE and not (batch.aside or state.asked):
            return self._refuse(draft, unmovable(decision))
        if decision.upstream is Upstream.DEFAULT:
            if state.primary_away and state.would_ask(draft, bound):
                return self._await_primary(draft)
            unsettled, own = state.unsettled, state.own_unsettled
            if (inquiry := state.inquiry(draft, bound)) is not None:
                if not transaction.opened or kept:
                    transaction.asked_within |= transaction.opened
                    return self._inquire(inquiry)
                state.untold(state=unsettled, own=own)      # an error of the question would be the transaction's
                return self._route(draft, inbox)
            if state.replica and (state.replica[-1].given is not None or state.replica[-1].late):
                return WAIT         # what is under way may fail, and with it what was put ahead
            return self._ask(draft, batch, decision)
        if state.asked:
            return WAIT
        if state.read_only and state.tx == IDLE and any(facts.writes for facts in bound):
            return self._refuse(draft, READ_ONLY_ERROR)
        if state.must_read_on_replica and decision.reason in NO_REPLICA and transaction.begin is None:
            return self._refuse(draft, NO_REPLICA_ERROR)
        if state.primary_away:
            return self._await_primary(draft)
        there = transaction.opened or transaction.cursors       # so that an error of what is parsed is the server's own
        moves = transaction.begin is not None and not batch.beside and (there or not batch.aside)
        if moves and (step := self._open(draft, bound, partial, decision)) is not None:
            return step
        if (step := self._make(draft, bound, partial)) is not None:
            return step
        opens = not (batch.aside or batch.beside)
        self._keep_for_another(batch, inbox, draft.size, transaction.unopened() if opens else None)
        return self._forward(draft, batch, decision)

    def _keep_for_another(self, batch: Batch, inbox: bytearray | bytes, size: int, unopened: Unopened | None) -> None:
        """Keep the *size* bytes of *batch* where another primary may be asked the same if this one is lost. *unopened*:
        the transaction that it opens there, where that can be opened twice.
        """
        state = self._state
        if not state.outlives or size > SMALL or batch.kind not in (QUERY, SYNC) or batch.own_sync or not batch.bound:
            return
        alone = state.transaction.begin is None and (state.tx == IDLE or state.opens_under_way)
        if (alone or unopened is not None) and all(map(_is_harmless, batch.bound)):
            batch.again, batch.unopened = bytes(inbox[:size]), unopened

    def _open(self, draft: Draft, bound: list[Facts], partial: bool, decision: Decision) -> Step | None:
        """What is done before *draft* may run in the transaction on the primary, where it must be what it is here."""
        transaction = self._state.transaction
        if transaction.void:
            return self._refuse(draft, transaction.void)
        leaves = self._cursors.leave(draft, bound)
        stays = transaction.stuck and not (leaves and transaction.on_replica == IN_TRANSACTION)
        if transaction.has_snapshot or stays:
            if transaction.has_snapshot and not self._state.forced:
                transaction.may_be_repeatable = False       # so that another try of the same ends well
            return self._refuse(draft, unmovable(decision))
        transaction.opens_with += self._state.untouched()
        if not transaction.untold():
            return None
        if partial:
            draft.end = 0
        return self._inquire(Opening(transaction))

    def _make(self, draft: Draft, bound: list[Facts], partial: bool) -> Step | None:
        """What is done before *draft* may use a prepared statement that the primary has not got: another one may, and
        who uses it gets the error as if it had been there.
        """
        state = self._state
        statement = next((each for each in state.used(draft, bound) if each.is_lacking), None)
        if statement is None:
            return None
        if state.primary:
            return WAIT         # which may close it
        if statement.refusal:
            refusal, statement.refusal = statement.refusal, b""
            return self._refuse(draft, refusal)
        if partial:
            draft.end = 0
        return self._inquire(MakingAgain(statement))

    def _transaction(self, draft: Draft, inbox: bytearray, bound: list[Facts], parsed: list[Facts],
                     late: bool) -> Step | None:
        """What begins or ends a transaction and is answered here, or is refused in one; None for all else."""
        state, holding = self._state, self._holding
        if state.transaction.begin is not None:
            lost = state.transaction.lost
            if lost not in (b"", ABORTED_ERROR) and holding.ends(draft, bound) == b"COMMIT" and not state.asked:
                holding.leave()         # the error is its end, as it is of a COMMIT that fails
                return self._refuse(draft, lost)
            step = holding.end(draft, inbox, bound) or holding.read_write(draft, inbox, bound)
            if step is None and state.transaction.opened and holding.ends(draft, bound):
                return self._end_there()
            if step is None and state.transaction.lives_on_replica and holding.goes_back(bound):
                return None
            if step is None and state.transaction.status == FAILED and holding.goes_back(bound) and not lost:
                state.transaction.status = IN_TRANSACTION       # what failed has had no effect anywhere
                state.forced = bound[0].reason
            elif step is None and state.transaction.status == FAILED:
                if state.transaction.stuck and not (draft.end or late):
                    return MORE
                if self._cursors.failed_at(draft, bound) is not None:
                    return None
                refused = holding.refuses(draft, bound, parsed, late)
                if refused:
                    keeps = state.transaction.lives_on_replica      # to be gone on with behind a ROLLBACK TO
                    error = lost or state.statements.missing(draft.first_use) or ABORTED_ERROR
                    state.transaction.lost = lost and ABORTED_ERROR
                    return self._refuse(draft, error, keeps=keeps)
                step = MORE if refused is None else None
        elif (begin := holding.held(draft, bound)) is not None:
            if state.unsettled:
                return self._ask_for_state(draft)
            step = holding.hold(draft, inbox, bound, begin)
        else:
            return None
        if step is not None and step.action is Action.ANSWER:
            self._draft = Draft()
        return step

    def _end_there(self) -> Step | None:
        """The primary has it open: what has failed here alone is rolled back there first; else the end is its."""
        state = self._state
        if state.transaction.status == FAILED:
            return self._inquire(Rollback(state.transaction))
        self._holding.leave()
        return None

    def settle(self) -> Step | None:
        """The session idles: ask for its state now, so that it is known when the primary is lost; then for what its
        prepared statements give, so that it is known whether the next primary's give the same.
        """
        state = self._state
        if state.primary_away or state.sole or state.opaque:
            return None
        if state.primary or state.replica or state.status != IDLE or not self.between_batches:
            return None
        if state.unsettled or state.own_unsettled:
            return self._inquire(state.state_inquiry())
        statements = state.statements.undescribed()
        return self._inquire(DescribeInquiry(state, statements)) if statements else None

    def _ask_for_state(self, draft: Draft) -> Step:
        state = self._state
        return self._await_primary(draft) if state.primary_away else self._inquire(state.state_inquiry())

    def _await_primary(self, draft: Draft) -> Step:
        """*draft* needs a connection to the primary, and there is none now."""
        state = self._state
        if state.refusal:
            refusal, state.refusal = state.refusal, b""
            return self._refuse(draft, refusal)
        state.wants_primary = True
        return WAIT

    def _inquire(self, inquiry: Inquiry) -> Step:
        """Ask the primary something first; the batch is decided about anew when it has answered."""
        state = self._state
        question = Batch(SYNC, 0, [], "inquiry")
        question.inquiry = inquiry
        ahead = state.put_ahead(Upstream.ADDITIONAL, [Ahead(inquiry.data, b"")])[:-1]
        question.ahead.extend((kind, None) for part in ahead for kind in part.answers)
        state.inquiries += 1
        state.primary.append(question)
        return Step(Action.FORWARD, 0, data=b"".join(part.data for part in ahead) + inquiry.data, batch=question)

    def _on_replica(self, bound: list[Facts]) -> Decision:
        state = self._state
        if not bound:
            return Decision(Upstream.DEFAULT, "portal_elsewhere")
        if not all(facts.empty for facts in bound):
            return Decision(Upstream.DEFAULT, bound[0].reason, bound[0].detail)
        on_primary = state.last.upstream is Upstream.ADDITIONAL and state.transaction.begin is None
        return Decision(Upstream.ADDITIONAL if on_primary else Upstream.DEFAULT, "empty_query")

    def _ask(self, draft: Draft, batch: Batch, decision: Decision) -> Step:
        """To the replica, behind whatever it lacks."""
        state = self._state
        ahead: list[Ahead] = []
        opens = state.transaction.begin is not None and state.transaction.on_replica == IDLE
        if opens:
            if state.replica:
                return WAIT     # what opens the transaction there may fail
            ahead.append(state.transaction.on_replica_begin)
        if state.applied != state.settings:
            ahead.append(give(state.settings))
            batch.given = state.settings
        if opens:               # behind the settings, which begin with RESET ALL
            ahead += [kept.ahead for kept in state.transaction.prologue]
        ahead = state.put_ahead(Upstream.DEFAULT, ahead)
        if state.transaction.to_close:
            ahead += [Ahead(build.message(b"C", b"P" + name + b"\0"), b"3") for name in state.transaction.to_close]
            state.transaction.to_close = set()
        batch.closed = frozenset(state.statements.to_close)
        ahead += [Ahead(build.message(b"C", b"S" + name + b"\0"), b"3") for name in batch.closed]
        batch.ahead.extend((kind, None) for part in ahead for kind in part.answers)
        for statement in state.used(draft, batch.bound):
            if not statement.default:
                ahead.append(statement.late_parse())
                batch.ahead.extend((kind, statement) for kind in ahead[-1].answers)
                batch.late.append(statement)
        batch.unfenced = batch.empty or (state.transaction.place is Place.REPLICA and (
            state.transaction.has_snapshot or batch.goes_on or not batch.takes_snapshot))
        self._note_unnamed(draft, batch)
        return Step(Action.ASK, draft.size, state.asked, data=b"".join(part.data for part in ahead), batch=batch,
                    decision=decision)

    def _may_be_refused(self, decision: Decision, parsed: list[Facts]) -> bool:
        """Whether the batch gets an error of pgsplit's own once more of it has come: then none of it runs."""
        state = self._state
        return (state.must_read_on_replica and decision.reason in NO_REPLICA and state.transaction.begin is None) or (
            state.read_only and state.tx == IDLE and any(facts.writes for facts in parsed))

    def _always_primary(self, draft: Draft, bound: list[Facts], parsed: list[Facts]) -> Decision | None:
        """The first rule that keeps the batch from the replicas, whatever may follow what is there of it. The rule
        table has the words for each reason.
        """
        state = self._state
        primary = Upstream.ADDITIONAL
        if state.transaction.begin is not None and self._cursors.may_open(draft, bound):
            parsed, bound, opens = [], [], True
        else:
            opens = False
        if state.sole:
            return Decision(primary, "sole_upstream")
        if state.route == "primary":
            return Decision(primary, "route_setting")
        if state.lsn.refused is not None:
            return Decision(primary, "min_lsn_term")
        if state.forced:
            return Decision(primary, state.forced)
        if draft.end in _NEVER_A_READ:
            return Decision(primary, _NEVER_A_READ[draft.end])
        for facts in (*parsed, *bound):
            if facts.verdict is Verdict.PRIMARY:
                return Decision(primary, facts.reason, facts.detail)
        if state.primary:
            return Decision(primary, "pipelined_behind_primary")
        if (state.tx != IDLE and state.transaction.begin is None) or state.transaction.split:
            return Decision(primary, "transaction_open")
        for pin, cause in state.pins.items():
            if pin not in PASSING or not state.unsettled or (state.observes and pin in CHECKED):
                return Decision(primary, f"pinned_{pin}", cause)
        in_transaction = state.transaction.begin is not None
        continues = in_transaction and state.transaction.on_replica != IDLE and draft.continues
        if not draft.bound and draft.query is None and draft.end and not continues:
            return Decision(primary, "nothing_to_run")
        if draft.obstacle and not continues:
            return Decision(primary, draft.obstacle)
        if in_transaction and any(draft.portals) and not opens:
            return Decision(primary, "portal_kept")
        if state.observes:      # nobody is asked: what is not known yet is counted as it stands
            unsure = next((facts.unsure for facts in bound if facts.unsure), "")
            return Decision(primary, "unknown_relation", unsure) if unsure else Decision(primary, "observed")
        if not state.has_replica:
            return Decision(primary, "no_replica")
        if all(facts.empty for facts in bound) and not opens:
            return None
        if state.settings is state.refused and not state.unsettled:
            return Decision(primary, "settings_refused")
        if state.transaction.prologue and state.transaction.on_replica != IDLE and state.applied != state.settings:
            return Decision(primary, "configuration_changed")       # to be given them would undo what it has set
        if any(statement.only_primary or statement.is_lacking for statement in state.used(draft, bound)):
            return Decision(primary, "prepared_on_primary")
        return None

    # --- sending ----------------------------------------------------------------------------------------

    def _forward(self, draft: Draft, batch: Batch, decision: Decision) -> Step:
        ahead = self._ahead_of_primary(draft, batch)
        self._to_primary(draft, batch)
        self._left_for(batch, decision)
        return Step(Action.FORWARD, batch.size, data=ahead, batch=batch, decision=decision,
                    behind=build.SYNC if batch.own_sync else b"",
                    to_replica=b"" if batch.aside or batch.beside else self._holding.end_on_replica())

    def _ahead_of_primary(self, draft: Draft, batch: Batch) -> bytes:
        """What the primary lacks, and the last decision, for who asks."""
        state = self._state
        ahead = state.lacks(draft, batch.bound, tells_route(batch))
        ahead += state.lsn.ahead(batch.bound, batch.texts, wrote=state.may_have_written)
        state.lsn.told()
        untouched = state.untouched()
        if state.transaction.begin is not None and not (batch.aside or batch.beside):
            if not state.transaction.opened:
                state.transaction.opens_with += untouched
                untouched = []
            ahead[:0] = state.transaction.opening()
            batch.begins_as = state.begins_as(state.transaction.begin)
            state.know_touched(state.transaction.touched, everywhere=True)
            batch.opens = True
            batch.beside = state.transaction.splits()
        ahead[:0] = untouched
        ahead = state.put_ahead(Upstream.ADDITIONAL, ahead)
        unnamed = state.statements.unnamed
        if b"" in draft.uses:
            if unnamed is None:
                state.primary_unnamed = False
            elif unnamed.is_owed:
                unnamed.additional = state.primary_unnamed = True
        batch.ahead.extend((kind, None) for part in ahead for kind in part.answers)
        return b"".join(part.data for part in ahead)

    def _too_large(self, inbox: bytearray) -> Step:
        """The inbox is full and the batch not complete: it leaves in pieces, judged by what is there."""
        draft = self._draft
        state = self._state
        if state.primary_away:
            state.wants_primary = True
            return WAIT
        decision = Decision(Upstream.ADDITIONAL, "batch_too_large")
        bound = state.bound_facts(draft)
        if state.transaction.begin is not None and (step := self._open(draft, bound, True, decision)) is not None:
            return step
        if (step := self._make(draft, bound, True)) is not None:
            return step
        end = len(inbox)
        start = draft.size                      # of the message that is not complete
        kind = inbox[start] if start < end else FLUSH
        if kind in (QUERY, FUNCTION_CALL):
            bound.append(DOUBT)
        batch = Batch(kind if kind in (QUERY, FUNCTION_CALL) else FLUSH, 0, bound, decision.reason)
        ahead = self._ahead_of_primary(draft, batch)
        self._to_primary(draft, batch)
        self._left_for(batch, decision)
        if batch.kind != FLUSH:
            self._stream.left = message_end(inbox, start, end, FRONTEND) - end
            step = Step(Action.FORWARD, end)
        else:
            step = Step(Action.FORWARD, start) if start else self._stream.next(inbox, True)
        return step._replace(data=ahead + step.data, batch=batch, decision=decision,
                             to_replica=self._holding.end_on_replica())

    def _to_primary(self, draft: Draft, batch: Batch) -> None:
        state = self._state
        batch.requests = draft.requests
        state.note_operations(draft, batch)
        state.note_begin(batch, batch.bound)
        batch.plain = batch.kind != FLUSH and len(batch.bound) == 1 and state.is_plain(batch.bound[0]) and not (
            batch.beside or state.transaction.split)        # then the replica has a part in it, and is given it now
        state.note_effects(batch.bound, plain=batch.plain)
        if batch.kind == FLUSH:
            state.segment = batch
        state.primary.append(batch)

    def _left_for(self, batch: Batch, decision: Decision) -> None:
        self._draft = Draft()
        self._state.forced = ""
        self._state.last = batch.decision = decision
        if batch.bound and not tells_route(batch):
            self._state.told = decision
        self._observer.decided(decision)
        for facts in batch.texts:
            self._observer.text(facts.parsed)
        self._observer.frontend(batch.requests)
        if batch.kind == QUERY:
            self._state.statements.unnamed = None      # PostgreSQL manual 55.2.3: a simple Query destroys it
            if decision.upstream is Upstream.ADDITIONAL:
                self._state.primary_unnamed = False

    # --- answering for the server -------------------------------------------------------------------------

    def _refuse(self, draft: Draft, error: bytes, *, keeps: bool = False) -> Step:
        """*keeps*: what is open on the replica stays."""
        state = self._state
        self._draft = Draft()
        state.forced = ""
        self._skipping = draft.end in _OPEN
        if state.transaction.begin is not None:
            state.transaction.fail()
        data = error if self._skipping else error + build.ready_for_query(state.status)
        to_replica = b"" if keeps else self._holding.end_on_replica()
        return Step(Action.ANSWER, draft.size, data=data, to_replica=to_replica)

    def _skip(self, inbox: bytearray) -> Step:
        end = len(inbox)
        stop = message_end(inbox, 0, end, FRONTEND)
        if stop < 0 or stop > end:
            if len(inbox) > PIECE:
                raise ProtocolViolation("message too long behind an error")
            return MORE
        if inbox[0] == TERMINATE:
            return Step(Action.CLOSE)
        self._skipping = inbox[0] != SYNC
        return Step(Action.ANSWER, stop, data=b"" if self._skipping else build.ready_for_query(self._state.status))


def _is_harmless(facts: Facts) -> bool:
    """Whether nothing is left of it where its answer has not been passed on. A BEGIN is nothing by itself."""
    return facts.effect_free or facts.begins is not None or facts.commands == _SHOW or (
        bool(facts.parts) and all(map(_is_harmless, facts.parts)))


_NEVER_A_READ: Final = {FUNCTION_CALL: "function_call_message", FLUSH: "flush_without_sync"}
_OPEN: Final = frozenset({0, FLUSH})        # its Sync is still to come
