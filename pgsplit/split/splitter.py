"""The splitter: every rule about what goes where, for one session; bytes in, steps out (DESIGN sections 4 to 8).

It looks at the inboxes of the session's legs and says what to do next; the session does it. `Requests` rules what
leaves the client, `Answers` what comes back; `State` is what both know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..wire.messages import IDLE
from .answers import SHUT_DOWN, Answers
from .batch import Batch, Draft
from .decision import Decision, Upstream
from .lsn import Lsn
from .observer import Observer
from .repeat import Held
from .requests import PRIMARY_AWAY_ERROR, STATEMENT_TIMEOUT_ERROR, Requests
from .restore import Loss, Restoration, lose, regain, transaction_lost, why_lost
from .settings import LOGIN
from .state import OWN_OPTIONS, Classify, State
from .statements import Statement
from .timeouts import seconds
from .token import Term, Token
from .transaction import PLAIN, Defaults, Place, Transaction


class Splitter:
    """One session's rules.

    *user*: who has logged in. *has_replica*: one is connected, or can be when a read asks for it; it may come and go
    (`replica_connected`, `replica_lost`, `replica_may_be_had`).
    *sole*: there is one upstream only, in the additional one's place; *read_only*: a write there is an ERROR.
    *opaque*: a replication connection, of which nothing is read. *must_read_on_replica*: a read that no replica can
    serve is an ERROR. *parameters*: the primary's ParameterStatus. *transaction*: which transactions may read on a
    replica. *replica_clock*: a replica's clock may be read, where `Freshness` lets it. *term*: the primary's, on which
    positions compare. *observes*: there is no replica, whatever comes, and what one would have had is counted.
    """

    def __init__(self, classify: Classify, observer: Observer, *, user: str, has_replica: bool, sole: bool = False,
                 read_only: bool = False, opaque: bool = False, must_read_on_replica: bool = False,
                 parameters: Mapping[str, str] | None = None, transaction: Transaction | None = None,
                 term: Callable[[], Term | None] = lambda: None, replica_clock: bool = False,
                 observes: bool = False) -> None:
        self._state = State(classify, user=user, has_replica=has_replica and not observes,
                            observes=observes, sole=sole, read_only=read_only, opaque=opaque,
                            must_read_on_replica=must_read_on_replica, transaction=transaction or Transaction(),
                            lsn=Lsn(term), replica_clock=replica_clock)
        self._requests = Requests(self._state, observer)
        self._answers = Answers(self._state, observer)
        self._state.reported = parameters or {}
        for name, value in self._state.reported.items():
            self._state.parameter(name, value)
        self.next = self._requests.next
        self.asked = self._requests.asked
        self.settle = self._requests.settle
        self.primary = self._answers.primary
        self.replica = self._answers.replica
        self.replica_lost = self._answers.replica_lost

    @property
    def idle(self) -> bool:
        """Between batches and outside a transaction: the session may end without breaking anything."""
        state = self._state
        return state.status == IDLE and not state.primary and not state.replica and self._requests.between_batches

    @property
    def tx(self) -> int:
        """The transaction status that the client was told last."""
        return self._state.status

    @property
    def tx_wrote(self) -> bool:
        return self._state.tx_wrote

    @property
    def pins(self) -> Mapping[str, str]:
        return self._state.pins

    @property
    def last(self) -> Decision:
        return self._state.last

    @property
    def application_name(self) -> str:
        return self._state.application_name

    @property
    def publishes(self) -> bool:
        return self._state.publishes

    @property
    def publishes_definition(self) -> bool:
        """Of what it publishes: whether it may be a change of definitions, which what is known of the database is then
        behind.
        """
        return self._state.publishes_definition

    def still_means(self, batch: Batch, statement: Statement | None) -> bool:
        """Whether what *batch* has run, *statement* or its own text, is by itself what it was taken for: definitions
        may have changed since, or the session may have asked for another upstream. What reads the clock is not, where
        a replica's may be read: no relay knows the clocks.
        """
        if self._state.replica_clock and any(facts.timed is not None or facts.reads_clock for facts in (
                *batch.bound, *([statement.facts] if statement is not None else ()))):
            return False
        if statement is not None:
            return self._state.text_facts(statement.sql) == statement.facts
        if batch.sql is None:       # answered here
            return len(batch.bound) == 1 and batch.bound[0].tx is not None
        return len(batch.bound) == 1 and self._state.text_facts(batch.sql) == batch.bound[0]

    @property
    def may_have_defined(self) -> bool:
        """Whether what is under way may change definitions, or its transaction has."""
        return self._state.tx_defined or any(batch.defines for batch in self._state.primary)

    @property
    def holding(self) -> bool:
        return self._answers.holding

    @property
    def gathering(self) -> Draft | None:
        """The batch of which a part has come that waits for its Sync."""
        return self._requests.gathering

    @property
    def mid_answer(self) -> bool:
        return self._answers.mid_answer

    @property
    def mid_message(self) -> bool:
        return self._answers.mid_message

    @property
    def rows_from(self) -> Upstream | None:
        """The upstream whose rows pass, where nothing but another message than a row needs to be looked at."""
        return self._answers.rows_from

    @property
    def rows_left(self) -> int:
        """Of a row that passes in pieces: bytes to come."""
        return self._answers.rows_left

    def rows_passed(self, rows: int, left: int) -> Upstream:
        """A relay has passed *rows* more on, of the last of which *left* bytes are to come."""
        return self._answers.rows_passed(rows, left)

    @property
    def running(self) -> Upstream | None:
        """The upstream that works on a statement now, or on a question for it. Of what is not read nothing is known."""
        if self._state.replica:
            return Upstream.DEFAULT
        return Upstream.ADDITIONAL if self._state.primary or self._state.opaque else None

    @property
    def in_flight(self) -> list[Batch]:
        """Batches sent and not answered."""
        return [*self._state.replica, *self._state.primary]

    @property
    def sole(self) -> bool:
        return self._state.sole

    @property
    def primary_said_goodbye(self) -> bool:
        """Its FATAL, which names why it ends the connection, has been passed on."""
        return self._answers.goodbye

    @property
    def primary_shut_down(self) -> bool:
        """By that FATAL the server has ended, or an administrator the session: not a time limit, say."""
        return self._answers.goodbye and self._answers.goodbye_sqlstate in SHUT_DOWN

    # --- without a primary --------------------------------------------------------------------------------

    def may_outlive_primary(self, *, aborts: bool) -> None:
        """The session may be given another connection to a primary (`primary_connected`). *aborts*: a transaction that
        is lost is an error, and not its end.
        """
        self._state.outlives, self._answers.aborts = True, aborts

    @property
    def last_words(self) -> bytes:
        """The FATAL with which the primary has ended the connection, and which the client has not been told."""
        return self._answers.last_words

    @property
    def primary_away(self) -> bool:
        return self._state.primary_away

    @property
    def wants_primary(self) -> bool:
        """Whether something waits for a connection to a primary."""
        return self._state.wants_primary

    @property
    def unsettled(self) -> bool:
        """Whether the primary has to be asked for the session's state, or for what its prepared statements give."""
        return self._state.unsettled or self._state.own_unsettled or self._state.statements.unseen

    def why_lost(self) -> Loss | None:
        """Why the session ends with its connection to the primary; None: it can go on with another one."""
        return why_lost(self._state)

    def primary_lost(self) -> bytes:
        """It goes on: nothing is sent to a primary before `primary_connected`. Returns the reads that the primary had
        and has not answered: they are the client's again.
        """
        self._answers.primary_lost()
        return lose(self._state)

    def restoration(self) -> Restoration:
        """What a new connection has to be told first."""
        return Restoration(self._state)

    def primary_connected(self, restoration: Restoration, parameters: Mapping[str, str],
                          defaults: Defaults | None = None) -> bytes:
        """A new connection has taken *restoration*; *parameters*: what it reported at its login; *defaults*: what its
        settings made of transactions then. Returns what the client must be sent.
        """
        return regain(self._state, restoration, parameters, defaults)

    @property
    def statement_timeout(self) -> float:
        """The session's, in seconds; 0: none."""
        state = self._state
        own = dict(state.settings.values).get(b"statement_timeout")
        return seconds(state.transaction.login_defaults.statement_timeout if own is None else own.decode("latin-1"))

    def refuse_waiting(self, *, timed_out: bool) -> None:
        """What waits for a primary has waited for long enough, or, *timed_out*, for as long as a statement may take:
        the next step is its error. A message that is too long to be seen whole cannot have one: it is `refused` still.
        """
        self._state.refusal = STATEMENT_TIMEOUT_ERROR if timed_out else PRIMARY_AWAY_ERROR

    @property
    def refused(self) -> bool:
        return bool(self._state.refusal)

    def transaction_lost(self, why: str) -> None:
        """The transaction that is open on the primary is gone with it: until the client ends it, all is refused."""
        transaction_lost(self._state, why)

    @property
    def may_park(self) -> bool:
        """Whether the session can give its connections back, and get others when it wants them."""
        state = self._state
        return (self.idle and state.transaction.begin is None and not (state.transaction.ending or state.cancelling)
                and why_lost(state) is None)

    @property
    def mid_batch(self) -> bool:
        return self._requests.mid_batch

    @property
    def promoted(self) -> bool:
        """The replica has said that it is none any more."""
        return self._answers.promoted

    @property
    def repeats(self) -> bool:
        """Whether a relay may repeat what is known: nothing is under way, and nothing has to be asked first."""
        state = self._state
        return state.repeats and self._requests.between_batches and not self._answers.under_way

    def repeated(self, held: Held) -> None:
        """A relay has repeated batches."""
        state = self._state
        state.tx, state.tx_wrote = held.tx if held.place is Place.PRIMARY else IDLE, held.tx_wrote
        state.transaction.repeated(held.place, held.ending)
        if held.last is not None:
            state.last = state.told = held.last
        if held.unnamed is not None:
            state.set_unnamed(held.unnamed, held.unnamed_on)
        if held.primary_unnamed is not None:
            state.primary_unnamed = held.primary_unnamed

    def took(self, data: bytes, decision: Decision, opening: bool = False) -> Batch:
        """A relay has sent the batch *data*, which is not answered yet; a replica's is at the front of the client's
        inbox. *opening*: behind what opens its transaction.
        """
        return self._requests.took(data, decision, opening)

    @property
    def transaction(self) -> Transaction:
        return self._state.transaction

    @property
    def holds_begin(self) -> bool:
        """Whether a plain BEGIN is answered here, and no relay may send it on."""
        transaction = self._state.transaction
        return transaction.holds and not transaction.plain_is_repeatable and self._may_hold

    @property
    def leaves_begin(self) -> bool:
        """Whether a plain BEGIN is the session's: no relay knows what follows one that the primary gets at once, or
        that is not READ COMMITTED.
        """
        return self._may_hold and not self.holds_begin

    @property
    def _may_hold(self) -> bool:
        state = self._state
        return state.has_replica and not state.sole and state.transaction.may_hold(PLAIN)

    @property
    def begins_as(self) -> int:
        """As what a plain BEGIN that goes to the primary keeps a read there (stats/offload.py)."""
        return self._state.begins_as(PLAIN)

    @property
    def without_replica(self) -> bool:
        return self._state.without_replica

    @property
    def statements(self) -> Mapping[bytes, Statement]:
        """The named ones, always the same object."""
        return self._state.statements.named

    def refuse(self, reason: str) -> None:
        """The ASK step given last cannot be done: its batch goes to the primary for *reason*."""
        self._state.forced = reason

    @property
    def min_lsn(self) -> Token | None:
        """What the session has asked to see (`SET pgsplit.min_lsn`)."""
        return self._state.lsn.token

    def own_options_given(self) -> None:
        """The client may have given pgsplit's own options at its login: the primary is asked for them first."""
        self._state.options |= OWN_OPTIONS
        self._state.own_unsettled = not self._state.sole
        self._state.lsn.given()

    def began(self, now_ns: int) -> int:
        """The moment at which the batch of the last ASK step was first looked at: now, or before."""
        return self._requests.began(now_ns)

    @property
    def waits(self) -> bool:
        """Whether a statement waits here (see `Requests`)."""
        return self._requests.waits

    @property
    def cancelling(self) -> bool:
        """Whether a cancel is on its way to a server."""
        return self._state.cancelling > 0

    def cancel_leaves(self) -> None:
        """A cancel is on its way to the server of what runs, whose error is the client's then, also a replica's. No
        other batch leaves before it has arrived (`cancel_arrived`), since a server ends what it finds running.
        """
        self._state.cancelling += 1
        self._answers.cancelled = bool(self._state.replica) and not self._state.redirecting

    def cancel_arrived(self) -> None:
        self._state.cancelling -= 1

    def cancelled_waiting(self) -> None:
        """The client has cancelled the statement that waits to be routed: it gets the error, and no server is asked."""
        self._state.cancelled_waiting = True

    def configurations_differ(self, names: Iterable[str]) -> None:
        """The replica's configuration has other values than the primary's for the settings *names*."""
        self._state.configurations_differ(names)

    def replica_may_be_had(self, possible: bool) -> None:
        """While none is connected: whether reads are to ask for it, or are the primary's."""
        self._state.has_replica = possible and not self._state.observes
        self._state.applied = LOGIN
        self._state.refused = None

    @property
    def may_change_replica(self) -> bool:
        """Whether nothing is at its replica that another one is not given."""
        state = self._state
        return not state.replica and state.transaction.has_nothing_on_replica

    def replica_left(self) -> None:
        """The session has given up its connection to a replica, and is to have another."""
        self._answers.replica_left()
        self.replica_may_be_had(True)

    def replica_connected(self) -> None:
        self.replica_may_be_had(True)
        self._answers.promoted = False
