"""A session: the loop between the splitter, which rules, and the relay, which moves bytes (DESIGN sections 4 and 8)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from .. import log
from ..errors import ProtocolViolation, ServerError
from ..relay.leg import Leg
from ..relay.pyrelay import Flow, PyRelay
from ..relay.routes import Context
from ..split.batch import Batch, Draft
from ..split.decision import Upstream
from ..split.repeat import Held
from ..split.restore import Restoration
from ..split.splitter import Splitter
from ..split.step import Action, Step
from ..split.transaction import Defaults
from ..wire import build

logger = log.get("pgsplit.session")

CANCELLED: Final = "cancelled"      # no rule: the client's cancel came while the read waited
AGAIN: Final = "again"              # no rule: to be decided anew: what texts mean has changed, or a replica is there
LATER: Final = "later"              # no rule: to be asked again when what is under way has been answered
SYNC_AWAITED: Final = 0.5         # seconds that the beginning of a read waits for its Sync
SETTLE_AFTER: Final = 1.0         # seconds that a session idles until the primary is asked for its state
LINGER: Final = 5.0               # seconds that a client which reads slowly may take for its last bytes


class Freshness(Protocol):
    """Answers the fence's question (DESIGN section 6) for this session's replica."""

    def why_not(self, fence_ns: int, batch: Batch) -> str:
        """Empty when the replica is fresh for *batch* as of a moment later than *fence_ns*; else the rule that says why
        not, or CANCELLED, LATER, or AGAIN. A session that has no replica yet is given one first (`take_replica`).

        May sleep, while nothing is under way: for a replica's connection, and for as long as `fence_wait`.
        """


class Publish(Protocol):
    def __call__(self, now_ns: int) -> None:
        """Tell all sessions of this node that somebody was told of a commit."""


class Repeats(Protocol):
    """What a session says of the batches that its relay repeats."""

    context: Context

    def repeated(self, held: Held) -> None:
        """The relay has repeated some: count them as the session's."""

    @property
    def transaction_ns(self) -> int:
        """When the open transaction began; 0: there is none."""

    @property
    def inside(self) -> int:
        """See `split.reads.Reads`."""


class Primaries(Protocol):
    """Where a session gets another connection to a primary, when it has lost its own (see `failover`)."""

    patience: float           # seconds that a statement waits for one (`failover_wait`)
    park_after: float         # seconds that the session idles until it gives its connections back; 0: it never does
    aborts: bool              # a transaction that is lost is an error, and not the session's end (`lost_transaction`)

    def lost(self, why: str, last_words: bytes) -> None:
        """The connection is gone. With a FATAL of the server's, *last_words*, the session stands still until `go_on` or
        `say_goodbye`.
        """

    def want(self) -> None:
        """Something waits for the next one: see `offer_primary`, `cannot_go_on`."""

    def parked(self) -> None:
        """The session has given up its connections: no replica is looked for until it wants a primary."""


class NewPrimary(NamedTuple):
    """A connection that is logged in and has taken *restoration*; what it reported at its login, and what its settings
    make of transactions.
    """

    leg: Leg
    restoration: Restoration
    parameters: Mapping[str, str]
    defaults: Defaults | None


class Session:
    """*freshness* is the session's way to its read cluster; *publish* is the board's, and *define* for changes of
    definitions. *repeats*: where the relay may repeat what it knows. *primaries*: where it may outlive its primary.
    """

    def __init__(self, relay: PyRelay, flow: Flow, splitter: Splitter, *, label: str, reask_buffer: int,
                 reask_hold: float, freshness: Freshness, publish: Publish, lost_replica: Callable[[str], None],
                 answered: Callable[[Upstream, Batch, int, int], None],
                 remember_write: Callable[[bytes], None], define: Publish = lambda now_ns: None,
                 repeats: Repeats | None = None, primaries: Primaries | None = None) -> None:
        self.relay = relay
        self.flow = flow
        self.splitter = splitter
        self.label = label
        self.fence_ns = time.monotonic_ns()
        self.draining = False
        self.terminated = ""
        self._cut = ""
        self._freshness = freshness
        self._publish = publish
        self._lost_replica = lost_replica
        self._answered = answered
        self._remember_write = remember_write
        self._define = define
        self._repeats = repeats
        self._primaries = primaries
        if primaries is not None:
            splitter.may_outlive_primary(aborts=primaries.aborts)
        self._stands_still = False        # until it is known whether the server has ended, or only this session
        self._goodbye = b""               # the last words of a server that has ended this session
        self._new_primary: NewPrimary | None = None
        self._cannot_go_on: ServerError | None = None
        self._wait_until: float | None = None         # for a primary
        self._settle_at: float | None = None          # when the primary is asked for the session's state
        self._active = time.monotonic()               # when it last did something
        self._reask_buffer = reask_buffer
        self._reask_hold = reask_hold
        self._hold_until: float | None = None
        self._gathering: Draft | None = None
        self._gather_until = 0.0
        self._late = False        # what gathers has been told of it
        self._ended = False
        self.lost_primary = False       # its server has ended the connection
        self.cut_off = False            # and the session could not go on without
        self._said_goodbye = False
        self._client_left = False
        self._new_replica: Leg | None = None
        self._had_replica = False
        self._leave_replica = ""
        self._abandoned: Batch | None = None
        if flow.default is not None:
            flow.default.limit = reask_buffer

    # --- called from other greenlets ----------------------------------------------------------------

    def drain(self) -> None:
        """End as soon as nothing is broken by it: between batches, outside a transaction."""
        self.draining = True
        self.relay.raise_(self.flow)

    def terminate(self, why: str) -> None:
        """End now; the client is told *why* in a FATAL 57P01."""
        self.terminated = why
        self.relay.raise_(self.flow)

    def cut(self, why: str) -> None:
        """End now, also in the midst of a batch: the server that it runs on is not to be written to any more."""
        self._cut = why
        self.relay.raise_(self.flow)

    def cancel_waiting(self) -> bool:
        """The client's cancel: whether it was for a statement that waits here, which then gets its error at once."""
        waits = self.relay.waits(self.flow)
        self.hold()
        if not (waits or self.splitter.waits):
            return False
        self.splitter.cancelled_waiting()
        self.relay.raise_(self.flow)
        return True

    def cancel_leaves(self) -> None:
        """A cancel is on its way to the server of what runs. Until it has arrived nothing new is sent, so that the
        cancel of a statement that ends by itself, or whose error the client has already, does not hit the next one.
        """
        self.splitter.cancel_leaves()

    def cancel_arrived(self) -> None:
        self.splitter.cancel_arrived()
        self.relay.raise_(self.flow)

    def abandon(self, batch: Batch) -> None:
        """The replica goes on with *batch* in spite of the client's cancel: give its connection up for that."""
        self._abandoned = batch
        self.relay.raise_(self.flow)

    def leave_replica(self, why: str) -> None:
        """Give up the replica's connection as soon as nothing runs there."""
        self._leave_replica = why
        self.relay.raise_(self.flow)

    def offer_replica(self, leg: Leg) -> None:
        """A replica's connection, logged in, for a session that has none."""
        self._new_replica = leg
        self.relay.raise_(self.flow)

    def go_on(self) -> None:
        """The server that has ended the connection has ended itself, not this session."""
        self._stands_still = False
        self.relay.raise_(self.flow)

    def say_goodbye(self, last_words: bytes) -> None:
        """The server is up as before: it was this session that an administrator has ended."""
        self._goodbye = last_words
        self.relay.raise_(self.flow)

    @property
    def wants_primary(self) -> bool:
        """Whether something waits for a connection to a primary."""
        return self._wait_until is not None

    def offer_primary(self, primary: NewPrimary) -> None:
        self._new_primary = primary
        self.relay.raise_(self.flow)

    def cannot_go_on(self, error: ServerError) -> None:
        """No connection will do: end, with *error*."""
        self._cannot_go_on = error
        self.relay.raise_(self.flow)

    # --- the loop -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve the client until it leaves, or cannot be served any more. Closes all legs."""
        try:
            while not self._ended:
                if self._cut and not self._outlive(self._cut):
                    self.cut_off = True
                    self._fail(self._lost("the connection to the primary was ended", self._cut))
                    break
                self._cut = ""
                self._pump_replica()
                self._pump_primary()
                self._pump_client()
                self._raised()
                if self._primaries is not None and not self._ended:
                    self._look_for_primary(self._primaries)
                if not self._ended:
                    self._release()
                    self.relay.wait(self.flow, self._timeout())
                    self.hold()
        except ProtocolViolation as error:
            self._fail(error)
        finally:
            self._farewell()
            self.relay.close(self.flow)
            for leg in (self._new_replica, self._new_primary.leg if self._new_primary is not None else None):
                if leg is not None:             # it was offered when nobody looked any more
                    self.relay.close_leg(leg)

    def _release(self) -> None:
        """While nothing is to be decided the relay repeats what it knows, and passes rows on."""
        source = self.splitter.rows_from
        if source is not None and self._abandoned is None:
            leg = self.flow.default if source is Upstream.DEFAULT else self.flow.additional
            if leg is not None:
                self.relay.pass_rows(self.flow, leg, self.splitter.rows_left)
            return
        if self._repeats is None or self.draining or not self.splitter.repeats:
            return
        self._repeats.context.ask_for(self.splitter.min_lsn)
        self._repeats.context.without = self.splitter.without_replica
        self._repeats.context.holds_begin = self.splitter.holds_begin
        self._repeats.context.begins_as = self.splitter.begins_as
        self._repeats.context.leaves_begin = self.splitter.leaves_begin
        transaction = self.splitter.transaction
        self.relay.release(self.flow, self._repeats.context, self.fence_ns, self.splitter.tx, self.splitter.tx_wrote,
                           self._repeats.transaction_ns, transaction.place, transaction.ending, self._repeats.inside)

    def hold(self) -> None:
        """Take over from the relay what it has done. For whoever looks at the session, or decides about it."""
        passed = self.relay.rows_passed(self.flow)
        if passed is not None and self.splitter.rows_passed(*passed) is Upstream.ADDITIONAL:
            self.fence_ns = max(self.fence_ns, time.monotonic_ns())
        if self._repeats is None or (held := self.relay.hold(self.flow)) is None:
            return
        self._active = max(self._active, held.answered_ns / 1e9)
        self.fence_ns = max(self.fence_ns, held.fence_ns)
        self.splitter.repeated(held)
        self._repeats.repeated(held)
        if held.running is not None:
            self.splitter.took(held.sent, held.running, held.opening).started = held.started_ns

    def _raised(self) -> None:
        if self._ended:
            return
        if self.terminated or (self.draining and self.splitter.idle and not self.flow.client.inbox):
            why = self.terminated or "terminating connection due to administrator command"
            self._fail(ServerError("57P01", why, severity="FATAL"))
        if self._goodbye:
            self._ended = True
            self.relay.send(self.flow.client, self._goodbye)
        elif self._cannot_go_on is not None:
            self.cut_off = True
            self._fail(self._cannot_go_on)
        elif self._new_primary is not None and not (self.splitter.mid_answer or self.splitter.mid_message):
            self._take_primary(self._new_primary)
        if self._leave_replica and not self.splitter.in_flight:
            why, self._leave_replica = self._leave_replica, ""
            if self.flow.default is not None:
                self.drop_replica(why)
        if self._abandoned is not None:
            self._abandon(self._abandoned)
        self.take_replica()

    def take_replica(self) -> bool:
        """Have the connection that was offered; False: none was."""
        leg, self._new_replica = self._new_replica, None
        if leg is None:
            return False
        if self.flow.default is not None:       # what runs there would have no answer
            self.relay.close_leg(leg)
            return False
        leg.limit = self._reask_buffer
        self.relay.attach_default(self.flow, leg)
        self.splitter.replica_connected()
        if self._had_replica:
            self.fence_ns = max(self.fence_ns, time.monotonic_ns())     # not older than what has been seen elsewhere
        self._had_replica = True
        return True

    def replica_may_be_had(self, possible: bool) -> None:
        """While there is none: whether the next read is to ask for it (see `Freshness`), or is the primary's."""
        if self.flow.default is None:
            self.splitter.replica_may_be_had(possible)
            self.relay.raise_(self.flow)

    def _abandon(self, batch: Batch) -> None:
        """Between two messages, and not before the client has taken what has come already."""
        if batch not in self.splitter.in_flight:
            self._abandoned = None
        elif not (self.splitter.mid_message or self.flow.client.congested):
            self._abandoned = None
            self.drop_replica("the replica went on with a cancelled statement")

    def _timeout(self) -> float | None:
        """Seconds until something is to be done that nothing else wakes the session for."""
        left = self._read_timeout()
        if self._primaries is None:
            return left
        ends = [moment for moment in (self._wait_until, self._settle_at, self._park_at(self._primaries)) if moment]
        if not ends:
            return left
        own = max(0.0, min(ends) - time.monotonic())
        return own if left is None else min(left, own)

    def _read_timeout(self) -> float | None:
        gathering = self.splitter.gathering
        if gathering is not self._gathering:
            self._gathering, self._gather_until, self._late = gathering, time.monotonic() + SYNC_AWAITED, False
        if not self.splitter.holding:
            self._hold_until = None
            return None if gathering is None or self._late else max(0.0, self._gather_until - time.monotonic())
        now = time.monotonic()
        if self._hold_until is None:
            self._hold_until = now + self._reask_hold
        return max(0.0, self._hold_until - now)

    # --- upstream -> client -----------------------------------------------------------------------------

    def _pump_primary(self) -> None:
        leg, client, splitter = self.flow.additional, self.flow.client, self.splitter
        if leg is None:
            return
        while leg.inbox and not client.congested and not splitter.mid_answer:
            publishes = splitter.publishes
            defines = publishes and splitter.publishes_definition
            step = splitter.primary(leg.inbox)
            if step.action is Action.PASS:
                now = time.monotonic_ns()
                self.fence_ns = max(self.fence_ns, now)
                if publishes:
                    self._publish(now)
                if defines:
                    self._define(now)
                if step.data:
                    self.relay.send(client, step.data)
                self.write_callback(step.size)
                if step.batch is not None:
                    self._done(Upstream.ADDITIONAL, step.batch, now)
            elif step.action is Action.CUT:
                self.relay.cut(leg, step.start, step.size)
                if step.batch is not None:
                    self._answered(Upstream.ADDITIONAL, step.batch, time.monotonic_ns(), self.splitter.tx)
            else:
                break
            if step.reply:
                self.relay.send(leg, step.reply)
        ended = leg.eof or ("ended the session" if splitter.last_words else None)
        if ended is not None and not splitter.mid_answer and not client.congested and not self._ended:
            self._primary_ended(ended)

    def write_callback(self, size: int) -> None:
        """S3's shape: what the additional upstream sent is written downstream (see `AdditionalConnCallback`)."""
        assert self.flow.additional is not None
        self.relay.forward(self.flow.additional, self.flow.client, size)

    def _primary_ended(self, why: str) -> None:
        """The server's own last words have been passed on; where it had none the client is told."""
        splitter = self.splitter
        self.lost_primary = True
        leaves = self._said_goodbye or self.flow.client.eof is not None         # so does the server, then
        if splitter.primary_said_goodbye or splitter.mid_message:
            self.cut_off = not leaves and (splitter.primary_shut_down or not splitter.primary_said_goodbye)
            self._ended = True
            return
        last_words = splitter.last_words
        if self._outlive(f"it {why}"):
            return
        self.cut_off = not leaves
        if last_words:
            self._ended = True
            self.relay.send(self.flow.client, last_words)
            return
        if splitter.may_have_defined:
            self._define(time.monotonic_ns())
        upstream = "replica" if splitter.sole else "primary"
        self._fail(self._lost(f"the connection to the {upstream} was lost", f"it {why}"))

    def _lost(self, what: str, why: str) -> ServerError:
        lost = bool(self.splitter.in_flight) or not self.splitter.idle
        detail = "What it was doing may or may not have taken effect." if lost else None
        if not lost and self._primaries is not None and (loss := self.splitter.why_lost()) is not None:
            detail = f"It cannot go on with another connection: {loss.why}."
        return ServerError("08006", f"{what}: {why}", severity="FATAL", detail=detail)

    def _pump_replica(self) -> None:
        leg, client, splitter = self.flow.default, self.flow.client, self.splitter
        if leg is None or self._stands_still:
            return
        if leg.inbox and not splitter.mid_answer and self._ended_at_primary():
            return
        while leg.inbox and not client.congested:
            late = self._hold_until is not None and time.monotonic() >= self._hold_until
            step = splitter.replica(leg.inbox, late or len(leg.inbox) >= self._reask_buffer)
            if step.action is Action.PASS:
                self._hold_until = None
                if step.data:
                    self.relay.send(client, step.data)
                self.relay.forward(leg, client, step.size)
                if step.consume:
                    self.relay.consume(client, step.consume)
                if step.batch is not None:
                    self._done(Upstream.DEFAULT, step.batch, time.monotonic_ns())
            elif step.action is Action.CUT:
                self.relay.cut(leg, step.start, step.size, step.data)
            elif step.action is Action.RETRY:
                self._void(step)
            else:
                break
            if step.reply:
                self.relay.send(leg, step.reply)
        if leg.eof is not None and not client.congested:
            self.drop_replica(f"the replica {leg.eof}")
        elif splitter.promoted and not splitter.in_flight:
            self.drop_replica("the host is no replica any more")

    def _ended_at_primary(self) -> bool:
        """Whether the primary has ended the session: then no replica's answer is passed on any more, as behind
        pg_terminate_backend(). Nobody may have been told of it yet.
        """
        primary = self.flow.additional
        if primary is not None and primary is not self.flow.default:
            self.relay.receive_now(primary)
            if primary.inbox or primary.eof is not None:
                self._pump_primary()
        return self._ended or self.splitter.primary_said_goodbye

    def _done(self, upstream: Upstream, batch: Batch, now: int) -> None:
        self._answered(upstream, batch, now, self.splitter.tx)
        self._learn(batch)

    def _learn(self, batch: Batch) -> None:
        """A relay may repeat what has gone well."""
        if self._repeats is not None:
            statement = self.splitter.statements.get(batch.uses) if batch.uses else None
            if statement is not None or batch.uses is None:
                self._repeats.context.table.learn(batch, statement, self.splitter.still_means)

    def _void(self, step: Step) -> None:
        assert step.batch is not None
        sqlstate = step.batch.sqlstate
        logger.debug("%s: the replica answered %s; the primary is asked", self.label, sqlstate)
        if sqlstate == "25006" and step.batch is not None and step.batch.sql is not None:
            self._remember_write(step.batch.sql)

    def change_replica(self) -> None:
        """Give its connection up, on which nothing is under way: the next read asks for another."""
        self.splitter.replica_left()
        self.relay.attach_default(self.flow, None)
        self._hold_until = None

    def drop_replica(self, why: str) -> None:
        """Do without the replica from now on; what it had not answered goes to the primary."""
        step = self.splitter.replica_lost(why)
        self.relay.attach_default(self.flow, None)
        self._hold_until = None
        if step.action is Action.ANSWER:
            self.relay.send(self.flow.client, step.data)
        elif step.action is Action.CLOSE:
            self._ended = True
        elif step.action is Action.RETRY:
            self.relay.raise_(self.flow)        # what was taken back is to be routed, and nothing else may wake us
        self._lost_replica(why)

    # --- client -> upstream -----------------------------------------------------------------------------

    def _pump_client(self) -> None:
        client, primary, splitter = self.flow.client, self.flow.additional, self.splitter
        if self._stands_still:
            return
        late = self._late = self._gathering is not None and time.monotonic() >= self._gather_until
        while client.inbox and not (primary is not None and primary.congested) and not (self._ended or self._cut):
            step = splitter.next(client.inbox, client.full, late)
            late = False        # what is behind it has not waited
            if step.to_replica and self.flow.default is not None:
                self.relay.send(self.flow.default, step.to_replica)
            if step.action is Action.FORWARD:
                self._forward(step)
            elif step.action is Action.ASK:
                if not self._ask(step):
                    break
            elif step.action is Action.ANSWER:
                self.relay.consume(client, step.size)
                if step.data:
                    self.relay.send(client, step.data)
                if step.batch is not None:
                    self._learn(step.batch)
            elif step.action is Action.CLOSE:
                self._ended = self._client_left = True
            else:
                break
        if client.eof is not None and not (primary is not None and primary.congested):
            self._client_ended()

    def _forward(self, step: Step) -> None:
        client, primary = self.flow.client, self.flow.additional
        assert primary is not None
        if step.batch is not None:
            step.batch.started = time.monotonic_ns()
        if step.data:
            self.relay.send(primary, step.data)
        if step.size:
            self.relay.forward(client, primary, step.size)
        if step.behind:
            self.relay.send(primary, step.behind)

    def _client_ended(self) -> None:
        """What is under way comes to its end, as on a server, which reads the goodbye when it is done with it."""
        if self.splitter.cancelling and self.flow.client.inbox:
            return                  # a server would run it before it sees the end
        if self.splitter.mid_batch or not self.splitter.in_flight:
            self._ended = True
        elif self.splitter.running is Upstream.ADDITIONAL and not self._said_goodbye:
            self._said_goodbye = True
            assert self.flow.additional is not None
            self.relay.send(self.flow.additional, build.TERMINATE)

    def _ask(self, step: Step) -> bool:
        """False when the step is for later."""
        assert step.batch is not None
        why_not = "" if step.batch.unfenced else self._freshness.why_not(self.fence_ns, step.batch)
        if why_not == LATER:
            return False
        if why_not == CANCELLED:
            self.splitter.cancelled_waiting()
            return True
        if why_not == AGAIN:
            return True
        replica = self.flow.default
        if why_not or replica is None or replica.eof is not None or replica.congested:
            self.splitter.refuse(why_not or "no_replica")
            return True
        client = self.flow.client
        step.batch.started = time.monotonic_ns()
        self.relay.send(replica, step.data + bytes(client.inbox[step.start:step.start + step.size]))
        self.splitter.asked(step)
        return True

    # --- another primary ------------------------------------------------------------------------------------

    def _outlive(self, why: str) -> bool:
        """The primary's connection is gone, or is to be left, for *why*: whether the session goes on without it."""
        splitter, primaries = self.splitter, self._primaries
        if primaries is None or self.terminated:
            return False
        loss, last_words = splitter.why_lost(), splitter.last_words
        if loss is not None:
            if not (loss.transaction and primaries.aborts):
                return False
            splitter.transaction_lost(why)
        self.relay.attach_additional(self.flow, None)
        if again := splitter.primary_lost():
            self.relay.cut(self.flow.client, 0, 0, again)
        self._stands_still = bool(last_words)
        primaries.lost(why, last_words)
        return True

    def _take_primary(self, primary: NewPrimary) -> None:
        self._new_primary = self._wait_until = None
        self.relay.attach_additional(self.flow, primary.leg)
        if said := self.splitter.primary_connected(primary.restoration, primary.parameters, primary.defaults):
            self.relay.send(self.flow.client, said)
        self.fence_ns = max(self.fence_ns, time.monotonic_ns())     # whatever was seen before was seen in another term

    def _look_for_primary(self, primaries: Primaries) -> None:
        """What the session does by itself: wait for a primary, and for how long; have its state known; park."""
        splitter, now = self.splitter, time.monotonic()
        if splitter.wants_primary and self.flow.additional is None and self._new_primary is None:
            limit = splitter.statement_timeout
            if self._wait_until is None:
                self._wait_until = now + min(limit or primaries.patience, primaries.patience)
                primaries.want()
            elif now >= self._wait_until:
                self._wait_until = None
                splitter.refuse_waiting(timed_out=0 < limit < primaries.patience)
                self._pump_client()
                if splitter.refused:
                    self._fail(ServerError("57P03", "the primary cannot be reached", severity="FATAL",
                                           detail="Part of a long message has come, and the rest waits behind it."))
        else:
            self._wait_until = None
        idle = splitter.idle
        if not idle or self.flow.client.inbox:
            self._active = now
        if not (idle and splitter.unsettled):
            self._settle_at = None
        elif self._settle_at is None:
            self._settle_at = now + SETTLE_AFTER
        elif now >= self._settle_at and (step := splitter.settle()) is not None:
            self._settle_at = None
            self._forward(step)
        if (park_at := self._park_at(primaries)) is not None and now >= park_at:
            self._park(primaries)

    def _park_at(self, primaries: Primaries) -> float | None:
        """When the session gives its connections back, if nothing comes until then."""
        if not primaries.park_after or self.flow.additional is None or not self.splitter.may_park:
            return None
        return self._active + primaries.park_after

    def _park(self, primaries: Primaries) -> None:
        for leg in (self.flow.default, self.flow.additional):
            if leg is not None and leg.eof is None:
                self.relay.send(leg, build.TERMINATE)
        primaries.parked()
        if self.flow.default is not None:
            self.drop_replica("the session is parked")
        self.relay.attach_additional(self.flow, None)
        self.splitter.primary_lost()

    # --- the end ------------------------------------------------------------------------------------------

    def _fail(self, error: ServerError) -> None:
        """Tell the client in a FATAL, where a message can still begin, and end."""
        self._ended = True
        if not self.splitter.mid_message:
            self.relay.send(self.flow.client, build.error_response("FATAL", error.sqlstate, error.message,
                                                                   detail=error.detail, hint=error.hint))

    def _farewell(self) -> None:
        """Goodbye to the servers, and the last bytes to a client that is still there."""
        if not self.splitter.mid_batch:
            for leg in (self.flow.default, None if self._said_goodbye else self.flow.additional):
                if leg is not None and leg.eof is None:
                    self.relay.send(leg, build.TERMINATE)
        client = self.flow.client
        deadline = time.monotonic() + LINGER
        while client.outbox and client.eof is None and (left := deadline - time.monotonic()) > 0:
            self.relay.consume(client, len(client.inbox))
            self.relay.wait(self.flow, left)
        self.relay.shut_down(client, not self._client_left and client.eof is None)

