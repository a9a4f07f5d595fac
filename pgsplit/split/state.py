"""What the two directions of a session's splitter share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from ..classify.facts import DOUBT, HINTABLE, Facts, Tx, Verdict
from ..classify.function_call import facts_of_call
from ..classify.set_commands import ALL, Change
from ..classify.transactions import READ_COMMITTED, Begin
from ..stats.offload import BEFORE_WRITE, BY_NAME, OBSERVED
from ..wire import build
from ..wire.framing import HEADER
from ..wire.messages import FAILED, IDLE
from .batch import CLOSE_COMPLETE, FUNCTION_CALL, Batch, Draft, Operation, Parsed
from .decision import Decision, Upstream
from .inquiry import DescribeInquiry, Inquiry, StateInquiry
from .lsn import MIN_LSN, Lsn
from .reads import statements
from .settings import CLOSE_OWN, LOGIN, Ahead, Pair, Settings, changed, empty, set_config
from .state_query import CHECKED, LONGEST
from .statements import Statement, Statements, parse_message
from .transaction import Defaults, Transaction

OWN_OPTIONS: Final = frozenset({"pgsplit.route", "pgsplit.trace", MIN_LSN})
MAX_OPTIONS: Final = 200       # customized options of a session that are looked after

# Client encodings in which the second byte of a character may be an ASCII one (PostgreSQL manual 24.3.1).
UNSAFE_ENCODINGS: Final = frozenset({"SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "GB18030", "UHC", "JOHAB"})

# Pins that another look at the primary may end.
PASSING: Final = CHECKED | {"unknown_effect", "serializable"}

Classify = Callable[[bytes], Facts]


class State:
    """*classify* gives the facts of an SQL text as the client sent it, and is expected to remember them."""

    __slots__ = (
        "_changing", "_classify", "_user", "application_name", "applied", "asked", "cancelled_waiting", "cancelling",
        "copy_ends",
        "copying", "differing", "forced", "has_replica", "inquiries", "last", "leaves_own", "lsn",
        "must_read_on_replica", "observes", "opaque", "options", "outlives", "own_unsettled", "pins", "plain_strings",
        "primary", "primary_away",
        "primary_lacks", "primary_only", "primary_unnamed", "read_only", "redirecting", "refusal", "refused",
        "replica", "replica_clock", "reported", "route", "segment", "settings", "skips", "sole", "statements",
        "taken_back", "told", "trace", "transaction", "tx", "tx_defined", "tx_wrote", "unknown_functions",
        "unsafe_encoding", "unsettled", "wants_primary",
    )

    def __init__(self, classify: Classify, *, user: str, has_replica: bool, sole: bool, read_only: bool, opaque: bool,
                 must_read_on_replica: bool, transaction: Transaction, lsn: Lsn,
                 replica_clock: bool = False, observes: bool = False) -> None:
        self._user = user
        self.observes = observes               # it gets no replica, and what one would have had is counted
        self._classify = classify
        self.has_replica = has_replica
        self.sole = sole                       # one upstream only, in the additional one's place
        self.read_only = read_only             # a write gets an ERROR
        self.opaque = opaque                   # a replication connection: nothing is read of it
        self.must_read_on_replica = must_read_on_replica
        self.replica_clock = replica_clock     # a replica's clock may be read
        self.tx = IDLE                         # the status in the primary's last ReadyForQuery
        self.transaction = transaction         # what is not open there
        self.tx_wrote = False
        self.tx_defined = False                # it has changed definitions, as far as that shows
        self._changing: tuple[Change, ...] = ()      # and so, plainly, the session's settings, if it commits
        self.pins: dict[str, str] = {}         # name -> what in a statement caused it
        self.primary: list[Batch] = []         # sent and not answered
        self.replica: list[Batch] = []
        self.asked = 0                         # bytes at the front of the client's inbox: batches the replica has
        self.taken_back = False                # those batches are the client's again: none is gathered any more
        self.redirecting = ""                  # why the replica's answers are being dropped
        self.forced = ""                       # why the batch at the front must go to the primary
        self.segment: Batch | None = None      # open on the primary: its Sync is still to come
        self.copying = False                   # the primary reads CopyData: Sync and Flush do not count
        self.copy_ends = 0                     # CopyDone or CopyFail sent before CopyInResponse came back
        self.statements = Statements()
        self.settings = LOGIN                  # what the session has on the primary
        self.applied: Settings | None = LOGIN  # what its replica has; None: not known
        self.refused: Settings | None = None   # what a replica would not take
        self.primary_lacks: set[str] = set()   # customized options that a transaction has touched on a replica only
        self.primary_only: tuple[Pair, ...] = ()     # settings of the session that no replica is given
        self.outlives = False                  # the session may go on with another connection to a primary
        self.primary_away = False              # there is no connection to it, or it has said goodbye
        self.wants_primary = False             # and something waits for the next one
        self.refusal = b""                     # the error that what waits for it gets instead
        self.reported: Mapping[str, str] = {}  # by ParameterStatus, as the client was told
        self.primary_unnamed = False           # the primary holds an unnamed statement, the session's or an old one
        self.unsettled = False                 # the primary must be asked before a replica may answer
        self.unknown_functions = False         # something ran that may have touched any option a function names
        self.options: set[str] = set()         # customized options that the session's texts have named
        self.differing: frozenset[str] = frozenset()     # settings in which the servers' configurations differ
        self.trace = False                     # pgsplit.trace
        self.application_name = ""
        self.route = ""                        # pgsplit.route
        self.lsn = lsn                         # pgsplit.lsn and pgsplit.min_lsn
        self.own_unsettled = False             # one of those that are set may have changed
        self.leaves_own: set[Upstream] = set()     # who may have one of pgsplit's own statements, left by an error
        self.inquiries = 0                     # pgsplit's own questions at the primary
        self.cancelled_waiting = False         # the client has cancelled the statement that is to be routed next
        self.skips = False                     # an error was told: the client's next messages do not count up to a Sync
        self.cancelling = 0                    # cancels on their way to a server
        self.plain_strings = True              # standard_conforming_strings
        self.unsafe_encoding = False
        self.last = Decision(Upstream.ADDITIONAL, "login")
        self.told = self.last                  # the last of a batch that ran something, for who asks

    def take_back(self, reason: str = "") -> None:
        """What the replica was asked is decided about anew; its first batch goes to the primary for *reason*."""
        self.asked = 0
        self.taken_back = True
        self.redirecting = ""
        self.forced = reason
        if self.transaction.begun_in_flight:
            self.transaction.end()

    @property
    def status(self) -> int:
        """The transaction status that the client was told last."""
        return self.tx if self.transaction.begin is None else self.transaction.status

    def parameter(self, name: str, value: str) -> None:
        """A ParameterStatus of the primary."""
        if self.reported.get(name) != value:
            self.reported = {**self.reported, name: value}
        if name == "application_name":
            self.application_name = value
        if name == "standard_conforming_strings":
            self.plain_strings = value == "on"
        elif name == "client_encoding":
            self.unsafe_encoding = value.upper() in UNSAFE_ENCODINGS

    def begins_as(self, begin: Begin | None) -> int:
        """As what a read is kept that comes first in a transaction which *begin* opens on the primary. None: one that
        is not understood.
        """
        defaults = self.transaction.defaults
        isolation = (begin and begin.isolation) or defaults.isolation
        read_only = defaults.read_only if begin is None or begin.read_only is None else begin.read_only
        if isolation not in ("", READ_COMMITTED):
            return BY_NAME["read_only" if read_only else "isolation"]
        if self.route == "primary":
            return BY_NAME["asked_for"]
        if self.pins:
            return BY_NAME["pinned"]
        if self.observes:
            may = begin is not None and self.transaction.may_hold(begin)
            return OBSERVED if may else BY_NAME["read_only"] if read_only else BEFORE_WRITE
        if not self.has_replica:
            return BY_NAME["no_replica"]
        return BY_NAME["read_only"] if read_only else BEFORE_WRITE

    def note_begin(self, batch: Batch, bound: list[Facts]) -> None:
        """For who counts: *batch*, with *bound* now in it, may open a transaction on the primary."""
        for facts in statements(bound):
            if facts.tx is Tx.BEGIN and not batch.opens:
                batch.begins_as = self.begins_as(facts.begins)
                if batch.begins_as == OBSERVED and facts not in bound:
                    batch.begins_as = BEFORE_WRITE      # in one text with others it is the primary's

    @property
    def repeats(self) -> bool:
        """Whether a text alone decides what becomes of it, outside and inside a transaction."""
        return (self.tx != FAILED and not self.tx_defined and not self.primary and not self.replica and not self.pins
                and self.plain_strings
                and (not self.has_replica or (self.applied == self.settings and self.settings is not self.refused))
                and not (self.unsettled and not self.observes)
                and not (
                    self.own_unsettled or self._changing or self.forced or self.redirecting or self.taken_back
                    or self.asked or self.inquiries or self.cancelled_waiting or self.cancelling
                    or self.copying or self.copy_ends or self.segment or not self.transaction.may_repeat
                    or self.trace or self.route or self.lsn.refused or self.unsafe_encoding or self.opaque
                    or self.read_only or self.statements.coming or self.statements.to_close or self.leaves_own
                    or self.transaction.asked_within or self.primary_away))

    def put_ahead(self, upstream: Upstream, ahead: list[Ahead]) -> list[Ahead]:
        """*ahead* as it may be sent to *upstream*, whatever has failed there before."""
        if not ahead or upstream not in self.leaves_own:
            return ahead
        self.leaves_own.discard(upstream)
        return [CLOSE_OWN, *ahead]

    @property
    def without_replica(self) -> bool:
        """Whether reads go to the primary because there is no replica now."""
        return not self.has_replica and not self.must_read_on_replica

    def set_unnamed(self, message: bytes, upstream: Upstream) -> None:
        """The unnamed statement is what the Parse *message* made at *upstream*; with no message there is none."""
        self.statements.unnamed = None
        if message:
            sql = message[HEADER:].split(b"\0", 2)[1]
            statement = Statement(b"", sql, self.text_facts(sql), message)
            statement.default = upstream is Upstream.DEFAULT
            statement.additional = upstream is Upstream.ADDITIONAL
            self.statements.unnamed = statement

    # --- facts --------------------------------------------------------------------------------------

    def text_facts(self, sql: bytes) -> Facts:
        if (not self.plain_strings and b"\\" in sql) or (self.unsafe_encoding and not sql.isascii()):
            return DOUBT
        return self._classify(sql)

    def query_facts(self, body: bytes) -> Facts:
        """*body* of a Query: the text and its terminator."""
        return self.text_facts(body[:-1]) if body and body.find(b"\0") == len(body) - 1 else DOUBT

    def bound_facts(self, draft: Draft) -> list[Facts]:
        """The facts of what the draft runs."""
        if draft.query is not None:
            return self._timed([self.resolve(self.query_facts(draft.query))])
        if draft.end == FUNCTION_CALL:
            return [facts_of_call(draft.call)]
        return self._timed([facts for statement in draft.bound for facts in self._statement_facts(statement)])

    def parsed_facts(self, draft: Draft) -> list[Facts]:
        return self._timed([self.text_facts(parsed.sql) for parsed in draft.parsed])

    def _timed(self, found: list[Facts]) -> list[Facts]:
        """*found* as it is for a session that may read the replica's clock now. In a transaction all that reads the
        clock is told one time: only one that cannot leave its replica may begin with that of the replica.
        """
        if not self.replica_clock or self.tx != IDLE or all(facts.timed is None for facts in found):
            return found
        if any(facts.tx is not None for facts in found) or not self.transaction.may_read_clock:
            return found
        return [facts.timed or facts for facts in found]

    def _statement_facts(self, statement: Parsed | bytes) -> list[Facts]:
        if isinstance(statement, Parsed):
            return [self.resolve(self.text_facts(statement.sql))]
        known = self.statements.known(statement)
        for each in known:
            each.facts = self.text_facts(each.sql)       # definitions may have changed since
        return [self.resolve(each.facts) for each in known] or [DOUBT]

    def resolve(self, facts: Facts) -> Facts:
        """EXECUTE is what was prepared; its own facts speak for its arguments."""
        if facts.executes:
            known = self.statements.known(facts.executes)
            if len(known) == 1 and not known[0].facts.executes:
                known_as, timed = known[0].facts, known[0].facts.timed
                if timed is not None:
                    timed = replace(timed, executes=facts.executes, commands=facts.commands)
                facts = replace(known_as, executes=facts.executes, commands=facts.commands, empty=False, timed=timed)
        if self.route == "replica" and facts.verdict is Verdict.PRIMARY and facts.reason in HINTABLE:
            facts = replace(facts, verdict=Verdict.READ, reason="route_setting", effect_free=False)
        elif self.route == "replica" and facts.unsure:
            facts = replace(facts, unsure="", effect_free=False)
        return facts

    # --- effects, noted when a batch leaves for the primary --------------------------------------------

    def note_operations(self, draft: Draft, batch: Batch) -> None:
        """What the batch does with prepared statements counts once the server confirms it."""
        if batch.failed:
            return
        for answer, name, parsed in draft.operations:
            statement = None
            if parsed is not None:
                statement = Statement(parsed.name, parsed.sql, self.text_facts(parsed.sql), parsed.message)
                if name:
                    self.statements.leaves(statement)
                else:
                    self.statements.unnamed = statement
                    self.primary_unnamed = True
            batch.operations.append(Operation(answer, name, statement))

    def is_plain(self, facts: Facts) -> bool:
        """Whether what *facts* change in the session is known once the primary has confirmed it, and committed."""
        if not facts.changes:
            return False
        resets = {name for name, value in facts.changes if value is None}
        return not (
            (ALL in resets and (self.differing or "serializable" in self.pins))
            or any(name.lower() in resets for name in self.differing)
            or any(value is not None and len(value) > LONGEST for _, value in facts.changes))

    def note_effects(self, bound: list[Facts], *, plain: bool = False) -> None:
        """*plain*: the settings are known without a question."""
        for facts in bound:
            for effect in facts.effects:
                if plain and effect == "session_setting":
                    continue
                if effect in CHECKED or effect in ("session_setting", "unknown_effect"):
                    self.unsettled = True
                    if effect in CHECKED:
                        self.pins.setdefault(effect, facts.cause)
                    self.unknown_functions |= effect == "unknown_effect"
                else:
                    self.pins.setdefault(effect, facts.cause)
            if facts.ends and not self.pins.keys().isdisjoint(facts.ends):
                self.unsettled = True
            self.options.update(facts.settings)
            if facts.settings:
                self.lsn.leaves(facts)
            self.own_unsettled |= not plain and (any(name in OWN_OPTIONS for name in facts.settings) or (
                (self.trace or bool(self.route) or self.lsn.is_set)
                and any(change.name == ALL for change in facts.changes)))
        if len(self.options) > MAX_OPTIONS:
            self.pins.setdefault("unknown_settings", "many customized options")

    def confirm(self, operation: Operation) -> None:
        statement = operation.statement
        if statement is not None:
            self.statements.confirmed(statement)
        elif operation.answer == CLOSE_COMPLETE and operation.name is not None:
            self.statements.dropped(operation.name)

    def void_operations(self, batch: Batch) -> None:
        """What the server has not confirmed so far it will not."""
        for operation in batch.operations:
            if operation.statement is not None:
                self.statements.void(operation.statement)
        batch.operations.clear()

    def batch_done(self, batch: Batch) -> None:
        """The primary has answered all of *batch*."""
        self.void_operations(batch)
        if batch.plain and not batch.failed:
            self._changing += batch.bound[0].changes
        if self._changing:
            self._see_changes(batch)
        for facts in batch.bound:
            if facts.prepares is not None and not batch.failed:
                self._prepared(*facts.prepares)
            elif facts.deallocates:
                self.statements.deallocated(facts.deallocates, not batch.failed)
        if not batch.failed and len(batch.bound) == 1 and batch.bound[0].releases:
            self.pins = {pin: cause for pin, cause in self.pins.items() if pin == "random_seed"}
            self.unknown_functions = False

    def _see_changes(self, batch: Batch) -> None:
        """What *batch*, which the primary has answered, makes of what its transaction has changed in the session
        (manual, SQL command SET): it is kept once that commits. What was changed behind a savepoint may be undone by
        itself, and is asked about; so no savepoint stands behind what is here, and an error undoes all of it.
        """
        changes = self._changing
        if self.tx == FAILED or (self.tx == IDLE and batch.failed):
            self._changing = ()
            self._undo(changes)
        elif self.tx == IDLE:
            self._changing = ()
            ends = [facts.ends_as for facts in batch.bound]
            if batch.plain or ends == [b"COMMIT"]:
                self._change(changes)
            elif ends == [b"ROLLBACK"]:
                self._undo(changes)
            else:
                self.unsettled = True
        elif any(part.tx is not None for facts in batch.bound for part in facts.parts or (facts,)):
            self._changing, self.unsettled = (), True

    def _undo(self, changes: tuple[Change, ...]) -> None:
        """They have been rolled back; but a customized option that was unknown before is empty now."""
        self._touch(name for name, _ in changes if "." in name and not name.startswith("pgsplit."))

    def lose_changes(self) -> None:
        """The primary's transaction is lost, and what it has changed with it."""
        self._changing = ()

    def _change(self, changes: tuple[Change, ...]) -> None:
        """The primary has confirmed that the session's settings have changed so."""
        for name, value in changes:
            if name == "pgsplit.trace" or name == ALL:
                self.trace = value in ("on", "true", "yes", "1")
            if name == "pgsplit.route" or name == ALL:
                self.route = value or ""
            if name in (MIN_LSN, ALL):
                self.lsn.take(value or "")
            if name == ALL:
                self.transaction.defaults = self.transaction.login_defaults
                self.primary_only = ()
        settings = changed(self.settings, (change for change in changes if not change.name.startswith("pgsplit.")))
        if settings != self.settings:
            self.settings = settings

    def know_touched(self, names: Iterable[str], *, everywhere: bool = False) -> None:
        """A transaction on a replica has set these options for itself: behind it they are empty, and not unknown, but
        for what the session has set, too. The primary is told when it is next used, if they are not set *everywhere*.
        """
        alike = self.applied == self.settings
        new = self._touch(names)
        if new:
            self.applied = self.settings if alike else self.applied
            if not everywhere:
                self.primary_lacks |= new
            self.options |= new

    def _touch(self, names: Iterable[str]) -> set[str]:
        """Customized options among *names* are known to the primary from now on: empty, where they have no value. Which
        of them were not known before.
        """
        known = {key.decode("latin-1").lower() for key, _ in self.settings.values}
        new = set(names) - known
        if new:
            self.settings = changed(self.settings, [Change(name, None) for name in sorted(new)])
        return new

    def _prepared(self, name: bytes, sql: bytes, text: bytes) -> None:
        statement = Statement(name, sql, self.text_facts(sql), parse_message(name, sql), text)
        self.statements.confirmed(statement)

    def configurations_differ(self, names: Iterable[str]) -> None:
        """In these settings the replica's configuration differs from the primary's."""
        names = frozenset(names)
        if names != self.differing:
            self.differing = names
            self.unsettled = True

    # --- what the primary must be asked -------------------------------------------------------------------

    def inquiry(self, draft: Draft, bound: list[Facts]) -> Inquiry | None:
        """What has to be asked before a replica may run *draft*, which is a read."""
        for statement in self.used(draft, bound):
            if _is_unknown(statement):
                return DescribeInquiry(self, [statement])
        return self.state_inquiry() if self.unsettled else None

    def would_ask(self, draft: Draft, bound: list[Facts]) -> bool:
        """Whether `inquiry` has one."""
        return self.unsettled or any(map(_is_unknown, self.used(draft, bound)))

    def state_inquiry(self) -> Inquiry:
        pins = CHECKED if self.unknown_functions else CHECKED & self.pins.keys()
        own = self.own_unsettled
        self.unsettled = self.own_unsettled = False
        return StateInquiry(self, self._user, sorted(pins), sorted(self.options), functions=self.unknown_functions,
                            differing=sorted(self.differing), own=own)

    def used(self, draft: Draft, bound: list[Facts]) -> list[Statement]:
        """The statements of earlier batches that *draft* uses."""
        names = [*(facts.executes for facts in bound if facts.executes), *draft.uses]
        found = [self.statements.get(name) for name in dict.fromkeys(names)]
        return [statement for statement in found if statement is not None]

    def lacks(self, draft: Draft, bound: list[Facts], tells_route: bool) -> list[Ahead]:
        """What the primary must be given ahead of *draft*: the unnamed statement, where it has not got it, or an
        end of one that a Query elsewhere has ended; an empty one for DEALLOCATE, where the named one could not be made
        there; and the last decision, where a text asks for it.
        """
        found = (self.statements.named.get(facts.deallocates) for facts in bound)
        ahead = [Ahead(build.message(b"C", b"S" + each.name + b"\0") + parse_message(each.name, b""), b"31")
                 for each in found if each is not None and each.is_lacking]
        unnamed = self.statements.unnamed
        if b"" in draft.uses:
            if unnamed is not None and unnamed.is_owed:
                ahead.append(Ahead(unnamed.message, b"1"))
            elif unnamed is None and self.primary_unnamed:
                ahead.append(Ahead(build.close(), b"3"))
        if tells_route:
            ahead.append(set_config([(b"pgsplit.last_route", str(self.told).encode())]))
        return ahead

    def untouched(self) -> list[Ahead]:
        """What tells the primary of options that transactions have touched on a replica only: they are empty now."""
        names, self.primary_lacks = sorted(self.primary_lacks), set()
        return [empty(name) for name in names]

    def settled(self, settings: Settings, pins: dict[str, str], defaults: Mapping[str, str],
                primary_only: tuple[Pair, ...]) -> None:
        """What the session's state is (see `StateInquiry`)."""
        if self._changing:          # that may yet be undone
            self._changing, self.unsettled = (), True
        self.primary_only = primary_only
        self.transaction.defaults = Defaults.of(defaults)
        own = {name: value for name, value in settings.values if name.startswith(b"pgsplit.")}
        self.trace = own.get(b"pgsplit.trace") in (b"on", b"true", b"yes", b"1")
        self.route = own.get(b"pgsplit.route", b"").decode(errors="replace")
        self.lsn.take(own.get(MIN_LSN.encode(), b"").decode(errors="replace"))
        self.settings = settings._replace(values=tuple(pair for pair in settings.values if pair[0] not in own))
        found = {pin: cause or self.pins.get(pin, "") for pin, cause in pins.items()}
        self.pins = found | {pin: cause for pin, cause in self.pins.items() if pin not in PASSING}
        self.unknown_functions = False

    def unsettled_for_good(self, why: str) -> None:
        """The primary would not say: until something changes, nothing is known."""
        self.pins.setdefault("unknown_effect", f"the primary would not say: {why}")

    def untold(self, *, state: bool = False, own: bool = False) -> None:
        """The primary could not say this time (see `Asker`): what waits for it is the primary's."""
        self.unsettled |= state
        self.own_unsettled |= own
        self.forced = "state_unknown"

    # --- what goes past ---------------------------------------------------------------------------------

    @property
    def opens_under_way(self) -> bool:
        """Whether all that a transaction on the primary has there is still under way, its opening among it."""
        return bool(self.primary) and self.primary[0].unopened is not None

    def may_have_written(self) -> bool:
        """Whether the transaction in which the primary is when it has done all that was sent may have written."""
        opened, wrote = self.tx != IDLE, self.tx_wrote
        sent = (facts for batch in self.primary for facts in batch.bound)
        for each in (part for facts in sent for part in facts.parts or (facts,)):
            if each.tx in (Tx.BEGIN, Tx.END):
                opened, wrote = each.tx is Tx.BEGIN, False
            wrote |= opened and not each.wrote_nothing
        return wrote

    @property
    def publishes(self) -> bool:
        """Whether what the primary says next may tell of a commit that other sessions must see (G3)."""
        if not self.primary:
            return False
        batch = self.primary[0]
        ends = any(facts.tx is Tx.END for facts in batch.bound)
        if (self.tx != IDLE or batch.opens) and not ends:
            return False
        return batch.wrote or (ends and self.tx_wrote)

    @property
    def publishes_definition(self) -> bool:
        """Of what `publishes`: whether it may be a change of definitions."""
        return self.primary[0].defines or self.tx_defined


def _is_unknown(statement: Statement) -> bool:
    """Whether the primary has to say what it gives before a replica can be given it."""
    return (statement.described is None and not (statement.only_primary or statement.default)
            and not statement.uses_cursor)
