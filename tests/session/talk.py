"""Conversations with a session, without a server: a script of what each side says and what it must have heard.

The script runs through the real `Session` and `Splitter`; only the relay is a stand-in that feeds bytes, all at
once or in pieces of any size, and collects what leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pgsplit.classify.classify import STAGING
from pgsplit.classify.cursors import cursor_of, declared_name
from pgsplit.classify.facts import DOUBT, Facts, Tx, Verdict
from pgsplit.classify.set_commands import changes_of, sets_the_stage
from pgsplit.classify.transactions import begin_of, end_of, modes_of
from pgsplit.errors import ServerError
from pgsplit.session.session import NewPrimary, Session
from pgsplit.split.answers import ROWS
from pgsplit.split.batch import Batch
from pgsplit.split.decision import Decision, Upstream
from pgsplit.split.splitter import Splitter
from pgsplit.split.token import Term
from pgsplit.split.transaction import Defaults, Transaction
from pgsplit.sql.lexer import tokens
from pgsplit.wire import build
from pgsplit.wire.build import message
from pgsplit.wire.framing import skip


def facts(sql: bytes) -> Facts:
    """Just enough of a classifier for conversations; the real one has its own tests."""
    text = sql.decode().strip().lower()
    word = text.split(" ", 1)[0].rstrip(";")
    if not word:
        return Facts(Verdict.READ, "empty_query", effect_free=True, writes=False, wrote_nothing=True, empty=True)
    if word in STAGING and sets_the_stage(tokens(text)):
        names = ("app.t",) if "app.t" in text else ()
        return Facts(Verdict.PRIMARY, "transaction_control", commands=(word.upper(),), writes=False, wrote_nothing=True,
                     stages=True, settings=names, modes=modes_of(tokens(text)),
                     tx=Tx.SAVEPOINT if word in ("savepoint", "release", "rollback") else None)
    if word in ("select", "copy") and "nextval" not in text and "from stdin" not in text:
        hinted = "/*" in text
        return Facts(Verdict.READ, "read", commands=("SELECT",), effect_free=not hinted, writes=False,
                     wrote_nothing=" from " not in text)
    if word == "begin":
        return Facts(Verdict.PRIMARY, "transaction_control", writes=False, wrote_nothing=True, tx=Tx.BEGIN,
                     begins=begin_of(tokens(text)))
    if word in ("commit", "rollback") or text.startswith("prepare transaction"):
        return Facts(Verdict.PRIMARY, "transaction_control", writes=False, wrote_nothing=True, tx=Tx.END,
                     ends_as=end_of(tokens(text)))
    if word in ("declare", "fetch", "move", "close"):
        return Facts(Verdict.PRIMARY, "cursor", commands=(word.upper(),), declares=declared_name(tokens(text)),
                     cursor=cursor_of(tokens(text)) if "nextval" not in text else None)
    if word == "show":
        return Facts(Verdict.PRIMARY, "server_local_setting", commands=("SHOW",), writes=False, wrote_nothing=True,
                     tells_route="last_route" in text)
    if word in ("set", "reset"):
        known = "known" in text or word == "reset"
        return Facts(Verdict.PRIMARY, "session_setting", writes=False, wrote_nothing=True,
                     effects=("session_setting",), cause=text, changes=changes_of(tokens(text)) if known else ())
    if text == "discard all":
        return Facts(Verdict.PRIMARY, "session_setting", writes=False, wrote_nothing=True, releases=True)
    if word in ("insert", "update", "copy"):
        return Facts(Verdict.PRIMARY, "write", commands=(word.upper(),))
    return DOUBT


class Side:
    """A leg as the session sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inbox = bytearray()
        self.outbox = b""
        self.heard = bytearray()
        self.eof: str | None = None
        self.closed = False
        self.limit = 65536
        self.congested = False
        self.lingers = False

    @property
    def full(self) -> bool:
        return len(self.inbox) >= self.limit


class Sides:
    def __init__(self, replica: bool) -> None:
        self.client = Side("client")
        self.default: Side | None = Side("replica") if replica else None
        self.additional = Side("primary")


READ_COMMITTED = Defaults("read committed")


class Talk:
    """Say what happens with `client`, `replica`, `primary`, `expect…`; `run` plays it cut in pieces of *cut* bytes."""

    classify = staticmethod(facts)
    term: Term | None = None

    def __init__(self, *, replica: bool = True, sole: bool = False, read_only: bool = False, hold: float = 1000.0,
                 buffer: int = 65536, transactions: str = "primary", holds: bool = True,
                 repeatable: bool = False, defaults: Defaults = READ_COMMITTED, replica_clock: bool = False,
                 outlives: bool = False, aborts: bool = False, patience: float = 1000.0,
                 observes: bool = False) -> None:
        self.script: list[Callable[[], bool]] = []
        self._make = {"replica": replica, "sole": sole, "read_only": read_only}
        self._transactions = transactions
        self._holds = holds
        self._repeatable = repeatable
        self._replica_clock = replica_clock
        self._observes = observes
        self._defaults = defaults
        self._outlives = outlives
        self.aborts = aborts
        self.patience = patience
        self.park_after = 0.0
        self.wanted = 0
        self.primaries_lost: list[tuple[str, bytes]] = []
        self._hold = hold
        self._buffer = buffer
        self.stale = ""
        self.commands: list[tuple[str, str]] = []
        self.reasks: list[str] = []
        self.decisions: list[Decision] = []
        self.published = 0
        self.replicas_lost: list[str] = []
        self.remembered: list[bytes] = []

    # --- the script -------------------------------------------------------------------------------------

    def _feed(self, name: str, data: bytes) -> Talk:
        left = bytearray(data)

        def step() -> bool:
            side = getattr(self.sides, name)
            piece = left[:self._cut] if self._cut else bytes(left)
            side.inbox += piece
            del left[:len(piece)]
            if not left:
                left.extend(data)
                return True
            return False

        self.script.append(step)
        return self

    def client(self, *messages: bytes) -> Talk:
        return self._feed("client", b"".join(messages))

    def replica(self, *messages: bytes) -> Talk:
        return self._feed("default", b"".join(messages))

    def primary(self, *messages: bytes) -> Talk:
        return self._feed("additional", b"".join(messages))

    def do(self, action: Callable[[], object]) -> Talk:
        def step() -> bool:
            action()
            return True

        self.script.append(step)
        return self

    def ends(self, name: str, why: str = "closed the connection") -> Talk:
        def end() -> None:
            side = getattr(self.sides, name)
            if side is not None:
                side.eof = why

        return self.do(end)

    def expect(self, name: str, *messages: bytes) -> Talk:
        """*name* has heard just these since the last time it was asked."""
        expected = b"".join(messages)

        def check() -> bool:
            side = self._all[name]
            assert bytes(side.heard) == expected, f"{name} heard {bytes(side.heard)!r}, not {expected!r}"
            side.heard.clear()

            return True

        self.script.append(check)
        return self

    def expect_client(self, *messages: bytes) -> Talk:
        return self.expect("client", *messages)

    def expect_replica(self, *messages: bytes) -> Talk:
        return self.expect("default", *messages)

    def expect_primary(self, *messages: bytes) -> Talk:
        return self.expect("additional", *messages)

    # --- playing ------------------------------------------------------------------------------------------

    def run(self, cut: int = 0) -> Session:
        self._cut = cut
        self.commands, self.reasks, self.decisions, self.replicas_lost, self.remembered = [], [], [], [], []
        self.published = self.wanted = 0
        self.primaries_lost = []
        self.sides = Sides(self._make["replica"])
        self._all = {"client": self.sides.client, "additional": self.sides.additional}
        if self.sides.default is not None:
            self._all["default"] = self.sides.default
        self._steps = iter(self.script)
        self._now: Callable[[], bool] | None = None
        self._raised = False
        self._unread: dict[str, bytes] = {}
        self._rows: tuple[Side, int] | None = None
        self.rows = 0             # that passed without the session
        self.messages = 0         # of servers
        splitter = Splitter(self.classify, self, user="u", has_replica=self._make["replica"], sole=self._make["sole"],
                            read_only=self._make["read_only"],
                            replica_clock=self._replica_clock, observes=self._observes,
                            transaction=Transaction(self._transactions, self._defaults, holds=self._holds,
                                                        repeatable=self._repeatable), term=lambda: self.term)
        self.session = Session(self, self.sides, splitter, label="talk", reask_buffer=self._buffer,
                               reask_hold=self._hold, freshness=self, publish=self._publish,
                               lost_replica=self.replicas_lost.append, answered=self.answered,
                               remember_write=self.remembered.append,
                               primaries=self if self._outlives else None)
        self.session.run()
        for step in self._steps:      # what is looked at behind the session's end
            assert step.__name__ == "check", "the session ended before the script"
            step()
        return self.session

    def cuts(self, sizes: Iterable[int] = (0, 1, 2, 3, 5, 7)) -> None:
        for cut in sizes:
            self.run(cut)

    def unread(self, name: str, *messages: bytes) -> Talk:
        """*name* has sent these, and nobody has been told yet."""
        return self.do(lambda: self._unread.update({name: b"".join(messages)}))

    # --- the relay's stand-in -------------------------------------------------------------------------------

    def wait(self, flow: Sides, timeout: float | None = None) -> None:
        if self._raised:            # by the session itself, as it did what it was woken for
            self._raised = False
            return
        if self._now is None:
            self._now = next(self._steps, None)
            if self._now is None:
                self.session._ended = True
                return
        if self._now():
            self._now = None
        self._raised = False        # it wakes for that once, whatever has raised it

    def receive_now(self, leg: Side) -> None:
        leg.inbox += self._unread.pop("primary" if leg is self.sides.additional else "replica", b"")

    def waits(self, flow: Sides) -> bool:
        return False

    def pass_rows(self, flow: Sides, leg: Side, left: int) -> None:
        self._rows = leg, left

    def rows_passed(self, flow: Sides) -> tuple[int, int] | None:
        """As the compiled relay passes them: whole ones, and the rest of one that has begun to pass."""
        if self._rows is None:
            return None
        (leg, left), self._rows = self._rows, None
        piece = min(left, len(leg.inbox))
        position, rows = skip(leg.inbox, piece, len(leg.inbox), ROWS) if piece == left else (piece, 0)
        if position:
            self.forward(leg, self.sides.client, position)
        self.rows += rows
        return rows, left - piece

    def send(self, leg: Side, data: bytes) -> None:
        leg.heard += data

    def forward(self, source: Side, destination: Side, size: int) -> None:
        assert 0 < size <= len(source.inbox)
        destination.heard += source.inbox[:size]
        del source.inbox[:size]

    def consume(self, leg: Side, size: int) -> None:
        assert size <= len(leg.inbox)
        del leg.inbox[:size]

    def cut(self, leg: Side, start: int, size: int, data: bytes = b"") -> None:
        assert start + size <= len(leg.inbox)
        leg.inbox[start:start + size] = data

    def attach_default(self, flow: Sides, leg: Side | None) -> None:
        flow.default = leg

    def attach_additional(self, flow: Sides, leg: Side | None) -> None:
        flow.additional = leg

    def raise_(self, flow: Sides) -> None:
        self._raised = True

    def close(self, flow: Sides) -> None: ...

    def close_leg(self, leg: Side) -> None:
        leg.closed = True

    def shut_down(self, leg: Side, lingers: bool = False) -> None:
        leg.lingers = lingers

    # --- primaries ------------------------------------------------------------------------------------------

    def lost(self, why: str, last_words: bytes) -> None:
        self.primaries_lost.append((why, last_words))

    def want(self) -> None:
        self.wanted += 1

    def parked(self) -> None: ...

    def new_primary(self, *answers: bytes, **parameters: str) -> Talk:
        """Another connection to a primary, which answers what it is given so."""
        def offer() -> None:
            restoration = self.session.splitter.restoration()
            self.given_to_primary = restoration.data
            data = b"".join(answers)
            while data:
                end = 1 + int.from_bytes(data[1:5], "big")
                restoration.take(data[0], data[5:end])
                data = data[end:]
            self.restoration = restoration
            if restoration.error:
                self.session.cannot_go_on(ServerError("08006", restoration.error, severity="FATAL"))
                return
            assert restoration.done
            side = Side("primary")
            self._all["additional"] = side
            self.session.offer_primary(NewPrimary(side, restoration, parameters, None))

        def check() -> bool:
            return True

        self.do(offer).script.append(check)         # the session looks at it then
        return self

    # --- freshness, board, observer -----------------------------------------------------------------------------

    def why_not(self, fence_ns: int, batch: Batch) -> str:
        return self.stale

    def _publish(self, now: int) -> None:
        self.published += 1

    def answered(self, upstream: Upstream, batch: Batch, now: int, tx: int) -> None: ...

    def frontend(self, messages: int) -> None: ...

    def backend(self, messages: int) -> None:
        self.messages += messages

    def text(self, parsed: bool | None) -> None: ...

    def decided(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def command(self, upstream: Upstream, tag: bytes) -> None:
        self.commands.append((upstream.text, tag.decode()))

    def error(self, severity: str, sqlstate: str) -> None: ...

    def notice(self, severity: str) -> None: ...

    def reasked(self, sqlstate: str) -> None:
        self.reasks.append(sqlstate)


# --- words ------------------------------------------------------------------------------------------------------

Q = build.query
S = build.SYNC
X = build.TERMINATE
I = build.ready_for_query(ord("I"))  # noqa: E741
T = build.ready_for_query(ord("T"))
FAILED = build.ready_for_query(ord("E"))
ROW = message(b"T", b"\0\1?column?\0" + b"\0" * 18) + message(b"D", b"\0\1\0\0\0\1" + b"1")
PARSED = message(b"1")
BOUND = message(b"2")


def done(tag: str) -> bytes:
    return message(b"C", build.cstring(tag))


def error(sqlstate: str, severity: str = "ERROR", detail: str | None = None) -> bytes:
    return build.error_response(severity, sqlstate, "text", detail=detail)


def batch(sql: str, *, name: str = "") -> bytes:
    """Parse, Bind, Describe, Execute, Sync: what most drivers send for a statement with parameters."""
    return build.parse(name, sql) + build.bind("", name) + build.describe() + build.execute() + S
