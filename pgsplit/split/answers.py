"""Upstream -> client: the primary's answers pass; a replica's are held until they are proven (G2)."""

from __future__ import annotations

from typing import Final

from ..wire import build
from ..wire.framing import HEADER, message_end, skip
from ..wire.messages import BACKEND, FAILED, IDLE, IN_TRANSACTION
from ..wire.parse import error_fields, parameter_status
from .batch import FLUSH, FUNCTION_CALL, PARAMETER_DESCRIPTION, PARSE_COMPLETE, QUERY, SYNC, Batch
from .decision import Upstream, traced
from .kept import said
from .observer import Observer
from .replica_errors import explained_by_session, may_be_reasked, servers_own, statements_own
from .requests import CANCELLED_ERROR
from .restore import why_lost
from .settings import RESULT_SETTINGS
from .state import State
from .statements import Statement, shared
from .step import MORE, Action, Step

# Messages that decide nothing here; the rest is looked at one by one.
PLAIN: Final = frozenset(b"DdT12t3ncsVIHv")
ROWS: Final = frozenset(b"Dd")
_CONFIRMING: Final = PLAIN - frozenset(b"13t")      # what confirms that a batch does something with statements
_DESCRIBING: Final = _CONFIRMING - frozenset(b"Tn")
HELD_PLAIN: Final = frozenset(b"DdT12t3ncsVIH")
HELD_QUIET: Final = HELD_PLAIN - ROWS

READY: Final = ord("Z")
ERROR: Final = ord("E")
PARAMETER: Final = ord("S")
NOTICE: Final = ord("N")
NOTIFICATION: Final = ord("A")
COMMAND: Final = ord("C")
COPY_IN: Final = ord("G")
COPY_BOTH: Final = ord("W")
ROW_DESCRIPTION: Final = ord("T")
NO_DATA: Final = ord("n")
# What may be longer than an inbox and then passes in pieces.
ENDING: Final = frozenset({"FATAL", "PANIC"})       # severities
# A server's FATAL by which it ends a session that has done nothing: admin_shutdown and crash_shutdown.
SHUT_DOWN: Final = frozenset({"57P01", "57P02"})
TOO_LONG: Final = build.error_response("ERROR", "54000", "too long an answer to a question of pgsplit's")[HEADER:]
PIECEWISE: Final = frozenset(b"DdTtVNE")


class Answers:
    def __init__(self, state: State, observer: Observer) -> None:
        self._state = state
        self._observer = observer
        self._left = 0            # of a message of the primary that passes in pieces: bytes to come
        self._rows = False        # the primary's inbox ends within a row
        self._primary_drop = 0    # likewise of one that nobody gets
        self._described: bytes | None = None      # a ParameterDescription whose result's description is to come
        self._replica_left = 0
        self._replica_drop = 0    # likewise of a replica's message that nobody gets
        self._held = 0            # bytes of the replica's inbox that have been looked at
        self.cancelled = False    # the client has cancelled what runs on the replica
        self.goodbye = False      # the primary has ended the connection with a FATAL
        self.goodbye_sqlstate = ""
        self.last_words = b""     # that FATAL, where the session may go on without the client being told
        self.aborts = False       # where the session goes on without its primary, its transaction is an error
        self.promoted = False     # the replica is none any more
        self.primary_name = Upstream.DEFAULT if state.sole else Upstream.ADDITIONAL

    @property
    def mid_message(self) -> bool:
        """Part of a message has been passed on: nothing but its rest may follow."""
        return bool(self._left or self._replica_left)

    @property
    def under_way(self) -> bool:
        return bool(self._left or self._primary_drop or self._replica_left or self._replica_drop or self._held
                    or self._described is not None or self.cancelled or self.goodbye or self.promoted)

    @property
    def holding(self) -> bool:
        """Rows are being held back: `reask_hold` runs."""
        queue = self._state.replica
        return bool(queue) and queue[0].rows and not queue[0].passing

    @property
    def mid_answer(self) -> bool:
        """Part of a replica's answer has been passed on: nothing of the primary's may come in between."""
        queue = self._state.replica
        return bool(queue) and queue[0].passing

    # --- rows, whoever sends them ---------------------------------------------------------------------------

    @property
    def rows_from(self) -> Upstream | None:
        """Who is in the midst of rows that a relay may pass on by itself: they say nothing, and nothing waits."""
        state = self._state
        if state.replica:
            batch = state.replica[0]
            return Upstream.DEFAULT if batch.passing and not (state.redirecting or self._replica_drop) else None
        if not state.primary or state.opaque or self._primary_drop:
            return None
        batch = state.primary[0]
        if batch.inquiry is not None or batch.ahead or (state.trace and not batch.traced):
            return None
        return self.primary_name if self._rows else None

    @property
    def rows_left(self) -> int:
        return self._replica_left if self._state.replica else self._left

    def rows_passed(self, rows: int, left: int) -> Upstream:
        self._observer.backend(rows)
        if self._state.replica:
            self._replica_left = left
            return Upstream.DEFAULT
        self._left = left
        if self._state.primary:
            self._state.primary[0].passed = True
        return self.primary_name

    # --- the primary --------------------------------------------------------------------------------------

    def primary(self, inbox: bytearray) -> Step:
        """What to do with the primary's inbox. One PASS ends at most one batch: that is its `batch`.

        :raises ProtocolViolation: for bytes that no PostgreSQL server sends.
        """
        state = self._state
        end = len(inbox)
        if state.opaque:
            return Step(Action.PASS, end) if end else MORE
        if self._primary_drop:
            size = min(self._primary_drop, end)
            self._primary_drop -= size
            return Step(Action.CUT, size) if size else MORE
        head = state.primary[0] if state.primary else None
        trace = state.trace
        step = self._swallow(head, inbox) if head is not None and not self._left and (
            head.inquiry is not None or head.ahead) else self._pass_on(inbox)
        if head is not None and step.action is Action.PASS:
            head.passed = True
            if trace and not head.traced:
                head.traced = True
                return step._replace(data=traced(head.decision))
        return step

    def _pass_on(self, inbox: bytearray) -> Step:
        state = self._state
        end = len(inbox)
        position = min(self._left, end)
        self._left -= position
        while not self._left and position < end:
            batch = state.primary[0] if state.primary else None
            plain = PLAIN if batch is None or not batch.operations else _DESCRIBING if self._described else _CONFIRMING
            position, count = skip(inbox, position, end, plain)
            if count:
                self._observer.backend(count)
            stop = message_end(inbox, position, end, BACKEND)
            self._rows = stop > end and inbox[position] in ROWS
            if stop < 0:
                break
            kind = inbox[position]
            if stop > end:
                if kind in PIECEWISE and stop - position > _INBOX:
                    self._primary_says(kind, bytes(inbox[position + HEADER:end]))
                    self._left = stop - end
                    position = end
                break
            if batch is not None and batch.operations and batch.operations[0].swallowed and (
                    kind == batch.operations[0].answer):
                if position:
                    break
                own = batch.operations.popleft()
                state.confirm(own)
                batch.ahead.extend((answer, None) for answer in own.swallowed)
                return self._swallow(batch, inbox)
            body = bytes(inbox[position + HEADER:stop])
            if kind == ERROR and self._ends_idle_session(body):
                return Step(Action.PASS, position) if position else self._held_back(inbox, stop)
            if batch is not None and batch.aside and kind == READY:
                if batch.own_sync:
                    return Step(Action.PASS, position) if position else self._own_sync_done(stop, body[0])
                inbox[stop - 1] = state.transaction.status
            position = stop
            ended = self._primary_says(kind, body)
            if kind == COPY_BOTH:
                state.opaque = True
                break
            if ended is not None:
                return Step(Action.PASS, position, batch=ended)
        return Step(Action.PASS, position) if position else MORE

    def primary_lost(self) -> None:
        """What has come of a message of it is void."""
        self.last_words, self._primary_drop, self._rows, self._described = b"", 0, False, None

    def _held_back(self, inbox: bytearray, stop: int) -> Step:
        """Its last words: nobody is told them yet."""
        self.last_words, self._state.primary_away = bytes(inbox[:stop]), True
        return Step(Action.CUT, stop)

    def _ends_idle_session(self, body: bytes) -> bool:
        """Whether it is the end of a server, or of one session by an administrator, while the session can go on."""
        if not self._state.outlives:
            return False
        fields = error_fields(body)
        if fields.severity not in ENDING or fields.sqlstate not in SHUT_DOWN:
            return False
        loss = why_lost(self._state)
        return loss is None or (loss.transaction and self.aborts)

    def _own_sync_done(self, stop: int, status: int) -> Step:
        batch = self._ready(status)
        assert batch is not None
        self._state.skips = batch.failed
        return Step(Action.CUT, stop)

    def _swallow(self, batch: Batch, inbox: bytearray) -> Step:
        """One message of an answer to pgsplit's own: nobody gets it, unless it is the session's."""
        end = len(inbox)
        stop = message_end(inbox, 0, end, BACKEND)
        if stop < 0 or (stop > end and stop <= _INBOX):
            return MORE
        kind, body = inbox[0], bytes(inbox[HEADER:min(stop, end)])
        if kind == ERROR and stop <= end and self._ends_idle_session(body):
            return self._held_back(inbox, stop)
        if kind in (PARAMETER, NOTIFICATION) or (kind == ERROR and error_fields(body).severity in ENDING):
            return self._pass_one(kind, body, stop, end)
        if batch.inquiry is None and kind == ERROR:
            batch.ahead.clear()             # the error is the batch's; the server skips all up to a Sync
            self._leaves_own(batch, Upstream.ADDITIONAL)
            return self._pass_on(inbox)._replace(reply=build.SYNC if batch.kind in _WITHOUT_SYNC else b"")
        self._primary_drop = max(0, stop - end)
        batch.own_said(kind)
        if batch.inquiry is None or (batch.ahead and kind not in (ERROR, READY)):
            if kind == batch.ahead[0][0]:
                batch.ahead.popleft()
        elif kind == READY:
            del self._state.primary[0]
            self._state.inquiries -= 1
            self._state.tx = body[0] if body else IDLE
            batch.inquiry.done()
            return Step(Action.CUT, stop, batch=batch)
        elif kind == ERROR or stop > end:
            self._leaves_own(batch, Upstream.ADDITIONAL)
            batch.inquiry.failed(body if stop <= end else TOO_LONG)
        else:
            batch.inquiry.take(kind, body)
        return Step(Action.CUT, min(stop, end))

    def _pass_one(self, kind: int, body: bytes, stop: int, end: int) -> Step:
        self._primary_says(kind, body)
        self._left = max(0, stop - end)
        return Step(Action.PASS, min(stop, end))

    def _primary_says(self, kind: int, body: bytes) -> Batch | None:
        """Note what a message means; returns the batch that it ends."""
        state = self._state
        self._observer.backend(1)
        if kind == READY:
            return self._ready(body[0] if body else IDLE)
        if kind == COMMAND:
            self._observer.command(self.primary_name, body[:-1])
        elif kind == PARAMETER:
            state.parameter(*parameter_status(body))
        elif kind == ERROR:
            fields = error_fields(body)
            self._observer.error(fields.severity, fields.sqlstate)
            self.goodbye, self.goodbye_sqlstate = fields.severity in ENDING, fields.sqlstate
            state.copying = False
            if state.primary:
                state.primary[0].failed = True
                if state.primary[0].aside:
                    state.transaction.fail()
                state.void_operations(state.primary[0])
        elif kind == NOTICE:
            self._observer.notice(error_fields(body).severity)
        elif kind == COPY_IN:
            self._copy_in()
        elif state.primary and state.primary[0].operations:
            self._operation(state.primary[0], kind, body)
        return None

    def _operation(self, batch: Batch, kind: int, body: bytes) -> None:
        """The server has done the next thing that the batch does with a prepared statement."""
        if kind in (ROW_DESCRIPTION, NO_DATA):
            if self._described is not None and batch.operations[0].answer == PARAMETER_DESCRIPTION:
                name = batch.operations.popleft().name
                statement = self._state.statements.get(name) if name is not None else None
                if statement is not None and statement.described is None:
                    statement.described = (shared(self._described), shared(body))
                self._described = None
        elif kind == PARAMETER_DESCRIPTION:
            self._described = body
        elif kind == batch.operations[0].answer:
            self._state.confirm(batch.operations.popleft())

    def _ready(self, status: int) -> Batch | None:
        state = self._state
        state.copying = False
        if not state.primary:
            return None
        batch = state.primary.pop(0)
        if state.segment is batch:
            state.segment = None
        if not state.primary:
            state.copy_ends = 0
        state.tx_wrote = status != IDLE and (state.tx_wrote or batch.wrote)
        state.tx_defined = status != IDLE and (state.tx_defined or batch.defines)
        state.tx = status
        if batch.begins is not None and status == IN_TRANSACTION and not state.primary:
            state.transaction.begun_there(batch.begins, read=len(batch.bound) > 1)
        if batch.beside:
            state.transaction.primary_said(status)
        elif batch.aside and status == FAILED and not state.transaction.stuck:
            state.transaction.end()         # it is open there, and what has failed there is known there
        state.batch_done(batch)
        return batch

    def _copy_in(self) -> None:
        """COPY FROM STDIN begins: the Sync behind its Execute is ignored by the server (manual 55.2.6)."""
        state = self._state
        if state.copy_ends:
            state.copy_ends -= 1
        else:
            state.copying = True
        if not state.primary or state.primary[0].kind != SYNC:
            return
        if len(state.primary) > 1 and state.primary[1].kind in (SYNC, FLUSH):
            later = state.primary[1]
            del state.primary[1]
            state.primary[0].bound += later.bound
            state.primary[0].wrote |= later.wrote
            if later is state.segment:
                state.segment = state.primary[0]
                state.primary[0].kind = FLUSH
        else:
            state.primary[0].kind = FLUSH
            state.segment = state.primary[0]

    # --- the replica --------------------------------------------------------------------------------------

    def replica(self, inbox: bytearray, give_up: bool) -> Step:
        """What to do with the replica's inbox; *give_up*: the answer is too long or too old to be held further."""
        state = self._state
        if state.transaction.ending:
            return self._ending(inbox)
        end = len(inbox)
        if self._replica_left:
            size = min(self._replica_left, end)
            self._replica_left -= size
            return Step(Action.PASS, size) if size else MORE
        if self._replica_drop:
            size = min(self._replica_drop, end)
            self._replica_drop -= size
            return Step(Action.CUT, size) if size else MORE
        while True:
            self._skip_held(inbox, end)
            position = self._held
            stop = message_end(inbox, position, end, BACKEND)
            too_long = stop - position > _INBOX and end - position >= _INBOX
            if stop < 0 or (stop > end and not (too_long and inbox[position] == ERROR)):
                return self._incomplete(inbox, stop, give_up)
            kind = inbox[position]
            if not state.replica or kind in (PARAMETER, NOTIFICATION):
                reconfigured = self._replica_says_aside(kind, inbox, position, stop)
                if reconfigured and not state.redirecting and not state.replica[0].passing:
                    return self._reask(state.replica[0], "F0000", stop)     # its answer is made by the new settings
                return Step(Action.CUT, stop - position, position)
            if state.replica[0].ahead and not state.redirecting:
                return self._ahead_of_replica(state.replica[0], kind, bytes(inbox[position + HEADER:stop]), stop)
            if kind == READY:
                return self._replica_ready(inbox, stop)
            if kind == ERROR and not state.redirecting:
                step = self._replica_error(bytes(inbox[position + HEADER:stop]), position, min(stop, end))
                if step is not None:
                    self._replica_drop = max(0, stop - end)
                    return step
                if stop > end:
                    return self._incomplete(inbox, stop, True)
            state.replica[0].messages += 1
            state.replica[0].tags.append((kind, bytes(inbox[position + HEADER:stop])))
            self._held = stop

    def _ending(self, inbox: bytearray) -> Step:
        """The answer to the end of a transaction on the replica that is nobody's any more."""
        stop = message_end(inbox, 0, len(inbox), BACKEND)
        if stop < 0 or stop > len(inbox):
            return MORE
        if inbox[0] == READY:
            self._state.transaction.ending -= 1
        elif inbox[0] in (PARAMETER, NOTIFICATION):
            self._replica_says_aside(inbox[0], inbox, 0, stop)
        return Step(Action.CUT, stop)

    def _ahead_of_replica(self, batch: Batch, kind: int, body: bytes, stop: int) -> Step:
        """An answer to what pgsplit put ahead. Where it is not as it must be, the batch goes to the primary."""
        if kind == NOTICE:
            return Step(Action.CUT, stop)
        expected, statement = batch.ahead[0]
        if kind == expected and (statement is None or _as_described(statement, kind, body)):
            batch.ahead.popleft()
            if statement is None:
                batch.own_said(kind)
            return Step(Action.CUT, stop)
        state = self._state
        fields = error_fields(body) if kind == ERROR else None
        if fields is not None:
            self._leaves_own(batch, Upstream.DEFAULT)
        if fields is not None and (fields.severity != "ERROR" or servers_own(fields.sqlstate)):
            state.redirecting = f"replica_error_{fields.sqlstate}"
        elif statement is not None:
            statement.only_primary = True
            state.redirecting = "prepared_on_primary"
        else:
            state.refused = batch.given
            state.redirecting = "settings_refused"
        batch.failed = True
        batch.sqlstate = fields.sqlstate if fields is not None else "0A000"
        self._cancel_again()
        self._observer.reasked(batch.sqlstate)
        self._held = stop
        # The server skips all up to a Sync: a Query has none.
        return Step(Action.RETRY, batch=batch, reply=build.SYNC if fields is not None and batch.kind == QUERY else b"")

    def _leaves_own(self, batch: Batch, upstream: Upstream) -> None:
        """An error has ended what is pgsplit's own in *batch*: a statement of it that was made there is there still."""
        if batch.own_left:
            self._state.leaves_own.add(upstream)

    def _skip_held(self, inbox: bytearray, end: int) -> None:
        if not self._state.replica or self._state.replica[0].ahead:
            return
        batch = self._state.replica[0]
        position, count = skip(inbox, self._held, end, HELD_QUIET)
        if position < end and inbox[position] in ROWS:
            batch.rows = True
            position, more = skip(inbox, position, end, HELD_PLAIN)
            count += more
        self._held = position
        batch.messages += count

    def _incomplete(self, inbox: bytearray, stop: int, give_up: bool) -> Step:
        state = self._state
        if not state.replica or state.redirecting:
            if state.redirecting and self._held:
                return self._cut_held()
            return MORE
        batch = state.replica[0]
        if not batch.passing and not give_up:
            return MORE
        size, end = self._held, len(inbox)
        if stop - size > _INBOX and inbox[size] in PIECEWISE:
            self._replica_left = stop - end
            batch.messages += 1
            size = end
        return self._pass(batch, size) if size else MORE

    def _cut_held(self) -> Step:
        size, self._held = self._held, 0
        return Step(Action.CUT, size, 0)

    def _pass(self, batch: Batch, size: int, done: bool = False) -> Step:
        """Pass on what is held; with its first bytes the batch leaves the client's inbox for good."""
        consume = 0 if batch.passing else batch.size
        trace = traced(batch.decision) if self._state.trace and not batch.passing else b""
        self._state.asked -= consume
        batch.passing = True
        self._held = 0
        self._count(batch)
        return Step(Action.PASS, size, consume=consume, batch=batch if done else None, data=trace)

    def _count(self, batch: Batch) -> None:
        self._observer.backend(batch.messages)
        for kind, body in batch.tags:
            if kind == COMMAND:
                self._observer.command(Upstream.DEFAULT, body[:-1])
            else:
                fields = error_fields(body)
                if kind == ERROR:
                    self._observer.error(fields.severity, fields.sqlstate)
                else:
                    self._observer.notice(fields.severity)
        batch.messages = 0
        batch.tags.clear()

    def _replica_says_aside(self, kind: int, inbox: bytearray, start: int, stop: int) -> bool:
        """Nobody gets it. Returns whether it tells in the middle of an answer that its configuration was reloaded."""
        if kind != PARAMETER:
            return False
        name, value = parameter_status(bytes(inbox[start + HEADER:stop]))
        self.promoted |= (name, value) == ("in_hot_standby", "off")
        state = self._state
        if name not in RESULT_SETTINGS or (state.replica and state.replica[0].given is not None):
            return False
        state.configurations_differ(state.differing | {name})
        state.applied = None
        return bool(state.replica) and state.replica[0].effect_free

    def _replica_ready(self, inbox: bytearray, stop: int) -> Step:
        state = self._state
        batch = state.replica.pop(0)
        self._note_put_ahead(batch)
        state.transaction.replica_said(inbox[stop - 1], told=not state.redirecting, snapshot=batch.takes_snapshot)
        if not state.redirecting:
            if batch.begins is not None:
                state.transaction.begun_in_flight = False
            if not batch.failed and state.transaction.begin is not None:
                state.transaction.cursors = (state.transaction.cursors | batch.cursors[0]) - batch.cursors[1]
            if batch.stage is not None and not batch.failed and state.transaction.begin is not None:
                answer = b"" if batch.passing else bytes(inbox[:stop])       # part of it may have gone
                state.transaction.keep(batch.stage._replace(said=said(answer)), batch.bound[0])
            if batch.statement is not None and not batch.failed:
                state.statements.unnamed = batch.statement
                batch.statement.default = True
            self.cancelled = False
            batch.messages += 1
            return self._pass(batch, stop, done=True)
        self._held = 0
        if state.replica:
            return Step(Action.CUT, stop, 0)
        state.take_back(state.redirecting)
        return Step(Action.CUT, stop, 0)

    def _note_put_ahead(self, batch: Batch) -> None:
        """What was put ahead is rolled back where the batch failed; of statements nothing is certain then."""
        state = self._state
        if batch.given is not None:
            state.applied = None if batch.failed else batch.given
        for statement in batch.late:
            statement.default = not batch.failed
            if batch.failed and statement.name:
                state.statements.to_close.add(statement.name)
        if not batch.failed:
            state.statements.to_close -= batch.closed

    def _replica_error(self, body: bytes, position: int, stop: int) -> Step | None:
        """None when the error is to be held and passed like the rest of the answer."""
        batch = self._state.replica[0]
        batch.failed = True
        fields = error_fields(body)
        if explained_by_session(fields.sqlstate, fields.has_detail) or (
                self.cancelled and statements_own(fields.sqlstate)):
            return None
        if self._state.transaction.stuck and not (fields.severity != "ERROR" or servers_own(fields.sqlstate)):
            return None             # it cannot move: the error is the transaction's, as on one server
        if not batch.passing and (batch.effect_free or may_be_reasked(fields.sqlstate, batch.rows)):
            return self._reask(batch, fields.sqlstate, stop)
        if statements_own(fields.sqlstate):
            return None
        text = build.error_response(
            "ERROR", "40001", "the replica could not finish this statement; it may be run again",
            detail=f"Part of the result had been passed on. The replica said {fields.sqlstate}: {fields.message}")
        self._held = position + len(text)
        return Step(Action.CUT, stop - position, position, data=text)

    def _reask(self, batch: Batch, sqlstate: str, stop: int) -> Step:
        self._state.redirecting = f"replica_error_{sqlstate}"
        self._cancel_again()
        self._observer.reasked(sqlstate)
        self._held = stop
        batch.sqlstate = sqlstate
        return Step(Action.RETRY, batch=batch)

    def _cancel_again(self) -> None:
        """What was cancelled at the replica, which had no answer to it, is to be routed anew: its cancel, too."""
        self._state.cancelled_waiting |= self.cancelled
        self.cancelled = False

    def replica_left(self) -> None:
        """There is no connection to it any more: what the session had there is gone."""
        self._held = 0
        self._replica_drop = 0
        self._state.leaves_own.discard(Upstream.DEFAULT)
        self._state.transaction.replica_gone()
        self._state.statements.replica_gone()

    def replica_lost(self, why: str) -> Step:
        """The replica's connection has ended. Its batches go to the primary; one that has begun to pass fails.

        An ANSWER step holds the error that the client gets; CLOSE means that not even that can be said.
        """
        state = self._state
        head = state.replica[0] if state.replica else None
        state.replica.clear()
        state.has_replica = False
        state.take_back("replica_lost" if head is not None and not head.passing else state.forced)
        self.replica_left()
        if head is None:
            return MORE
        if not head.passing:
            self._cancel_again()
            self._observer.reasked("08006")
            head.sqlstate = "08006"
            return Step(Action.RETRY, batch=head)
        if self._replica_left:
            return Step(Action.CLOSE)
        error = CANCELLED_ERROR if self.cancelled else build.error_response(
            "ERROR", "08006", "the connection to the replica was lost during this statement",
            detail=f"Part of the result had been passed on. {why}")
        self.cancelled = False
        if state.transaction.begin is not None:
            state.transaction.fail()
        return Step(Action.ANSWER, data=error + build.ready_for_query(state.status), batch=head)


def _as_described(statement: Statement, kind: int, body: bytes) -> bool:
    """Whether a statement parsed late is the one that the primary knows."""
    if kind == PARSE_COMPLETE or statement.described is None:
        return True
    return body == statement.described[kind != PARAMETER_DESCRIPTION]


_INBOX: Final = 65536
_WITHOUT_SYNC: Final = frozenset({QUERY, FUNCTION_CALL})
