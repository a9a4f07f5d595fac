"""A batch: the client's messages that the server answers with one ReadyForQuery, gathered from its byte stream.

PostgreSQL manual 55.2.3 and 55.2.4: one Query or FunctionCall, or extended-protocol messages up to Sync.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from ..classify.facts import Facts
from ..classify.transactions import Begin
from ..errors import ProtocolViolation
from ..stats.offload import BEFORE_WRITE
from ..wire.framing import HEADER, message_end
from ..wire.messages import FRONTEND
from .decision import Decision
from .inquiry import Inquiry
from .kept import Kept
from .settings import Settings
from .statements import Statement
from .transaction import Unopened

QUERY: Final = ord("Q")
PARSE: Final = ord("P")
BIND: Final = ord("B")
DESCRIBE: Final = ord("D")
EXECUTE: Final = ord("E")
CLOSE: Final = ord("C")
FLUSH: Final = ord("H")
SYNC: Final = ord("S")
FUNCTION_CALL: Final = ord("F")
TERMINATE: Final = ord("X")
PASSWORD: Final = ord("p")
COPY_TYPES: Final = frozenset(b"dcf")
PARSE_COMPLETE: Final = ord("1")
SELECTING: Final = frozenset({"SELECT", "EXECUTE"})
CLOSE_COMPLETE: Final = ord("3")
PARAMETER_DESCRIPTION: Final = ord("t")


class Batch:
    """A batch on its way to an upstream."""

    __slots__ = ("again", "ahead", "aside", "begins", "begins_as", "beside", "bound", "closed", "cursors", "decision",
                 "effect_free", "empty", "failed", "given", "goes_on", "inquiry", "kind", "late", "messages", "opens",
                 "operations", "own_left", "own_sync", "passed", "passing", "plain", "reason", "requests", "rows",
                 "size", "sql", "sqlstate", "stage", "started", "statement", "tags", "texts", "traced", "unfenced",
                 "unopened", "uses", "wrote")

    def __init__(self, kind: int, size: int, bound: list[Facts], reason: str) -> None:
        self.kind = kind              # QUERY, FUNCTION_CALL or SYNC; FLUSH while its Sync is still to come
        self.size = size              # bytes of the client's
        self.bound = bound            # the facts of each statement that it runs, in order
        self.empty = bool(bound) and all(facts.empty for facts in bound)
        self.sql: bytes | None = None  # the text, where there is just one
        self.reason = reason
        self.requests = 0             # messages of the client's
        self.wrote = not all(facts.wrote_nothing for facts in bound)
        self.effect_free = all(facts.effect_free for facts in bound)
        # The answers to what pgsplit put ahead, which are swallowed: their types, and what they are of.
        self.ahead: deque[tuple[int, Statement | None]] = deque()
        self.own_left = False         # a statement of pgsplit's own is made there, and not closed yet
        self.decision: Decision | None = None
        self.given: Settings | None = None       # what was put ahead gives the connection these
        self.late: list[Statement] = []          # what was put ahead parses these
        self.closed: frozenset[bytes] = frozenset()     # and closes statements of these names
        self.operations: deque[Operation] = deque()     # not confirmed by the server yet
        self.inquiry: Inquiry | None = None      # pgsplit's own question: nothing of the answer is the client's
        self.texts: list[Facts] = []   # of its Query, or of its Parses
        self.statement: Statement | None = None  # the unnamed statement as it is after the batch
        self.uses: bytes | None = None           # the one statement of an earlier batch that it is about
        self.begins: Begin | None = None         # a BEGIN ahead of what else it runs, where a replica gets both
        self.begins_as = BEFORE_WRITE  # as what its transaction keeps a read at first (stats/offload.py)
        self.opens = False            # what was put ahead opens the client's transaction
        self.aside = False            # it runs beside the client's transaction, which is not open on the primary
        self.beside = False           # it runs in it on the primary, while cursors of it are open on the replica
        self.cursors: tuple[frozenset[bytes], frozenset[bytes]] = frozenset(), frozenset()     # it opens, and closes
        self.own_sync = False         # its Sync is pgsplit's own: the client has flushed, and its Sync is to come
        self.stage: Kept | None = None           # does the same again on another server
        self.plain = False            # what it changes in the session is known from its text
        self.goes_on = False          # with cursors, and has no snapshot of its own
        self.unfenced = False         # the replica need not be fresh for it
        self.failed = False
        self.sqlstate = ""            # of the error for which the replica's answer is void
        self.traced = False           # the client has been told the decision
        self.messages = 0             # of the answer that is held: how many, and the CommandCompletes and notices
        self.tags: list[tuple[int, bytes]] = []
        self.rows = False             # the answer has begun
        self.again = b""              # a read at the primary: its bytes, for another one if that is lost
        self.unopened: Unopened | None = None    # and the transaction that it opens there, as it was before
        self.passed = False           # part of the primary's answer has been passed on
        self.passing = False          # part of the answer has been passed on
        self.started = 0              # monotonic ns, for the session's histogram

    def own_said(self, kind: int) -> None:
        """A message of the answer to what is pgsplit's own."""
        if kind in (PARSE_COMPLETE, CLOSE_COMPLETE):
            self.own_left = kind == PARSE_COMPLETE

    @property
    def takes_snapshot(self) -> bool:
        """Whether a server takes a snapshot for it: not for an empty query, nor for a command that sets the stage."""
        return not (self.empty or (self.stage is not None and self.stage.command not in SELECTING))

    @property
    def unsure(self) -> bool:
        """Whether it reads a relation that the catalogue does not have."""
        return any(facts.unsure for facts in self.bound)

    @property
    def reads_clock(self) -> bool:
        """Whether it reads the replica's clock."""
        return any(facts.reads_clock for facts in self.bound)

    @property
    def defines(self) -> bool:
        """Whether it may change definitions."""
        return any(facts.defines for facts in self.bound)

    @property
    def text(self) -> bytes:
        """By which it is counted: of the first statement that it runs, or parses."""
        known = self.bound or self.texts
        return known[0].text if known else b""


class Parsed(NamedTuple):
    name: bytes
    sql: bytes
    message: bytes


class Operation(NamedTuple):
    """What a message does with a prepared statement, once the server confirms it by *answer*."""

    answer: int                    # the type of ParseComplete, CloseComplete or ParameterDescription
    name: bytes | None             # None: a portal's
    statement: Statement | None = None
    swallowed: bytes = b""         # pgsplit's own, put between the client's: its answers, this one first, are nobody's


class Draft:
    """The batch that is being gathered from the client's inbox.

    `gather` may be called again whenever more bytes are there; it goes on where it stopped. *end* is then the type
    of the message that completed the batch (QUERY, FUNCTION_CALL, SYNC or TERMINATE), FLUSH when what is there
    must leave without a Sync, or 0. *obstacle* names the rule that keeps the batch off the replicas, if any.
    """

    __slots__ = ("_sync", "began_ns", "bound", "call", "closes", "elsewhere", "end", "executes", "judged", "obstacle",
                 "operations", "parsed", "portals", "query", "requests", "size", "unnamed", "uses")

    def __init__(self) -> None:
        self.size = 0
        self._sync = 0                           # where its Sync was found ahead of time
        self.began_ns = 0                        # when it was first asked whether a replica may have it
        self.judged = 0                          # the size at which it could still be a replica's
        self.requests = 0
        self.executes = False
        self.end = 0
        self.obstacle = ""
        self.query: bytes | None = None          # body of a Query
        self.call = b""                          # body of a FunctionCall
        self.parsed: list[Parsed] = []
        self.bound: list[Parsed | bytes] = []    # of each Bind: the Parse of this batch that it means, or the name
        self.operations: list[tuple[int, bytes | None, Parsed | None]] = []     # as in Operation
        self.portals: set[bytes] = set()
        self.closes: set[bytes] = set()          # portals that it closes
        self.elsewhere: set[bytes] = set()       # portals of earlier batches that it executes or describes
        self.unnamed: Parsed | None = None       # the unnamed statement of this batch
        self.uses: list[bytes] = []              # statements of earlier batches that it binds or describes

    def gather(self, inbox: bytearray, start: int) -> None:
        """Take in the complete messages at *start* and behind it.

        :raises ProtocolViolation: for types and lengths that a client may not send here.
        """
        end = len(inbox)
        while not self.end:
            position = start + self.size
            stop = message_end(inbox, position, end, FRONTEND)
            if stop < 0:
                return
            kind = inbox[position]
            if kind == PASSWORD:
                raise ProtocolViolation("unexpected PasswordMessage: the session is logged in")
            if self.size and (kind in _ENDS_WITHOUT_SYNC):
                self.end = FLUSH
                return
            if stop > end:
                return
            self.size += stop - position
            self.requests += 1
            taker = _TAKERS.get(kind)
            if kind == FLUSH and self._synced(inbox, start, stop):
                continue            # nobody waits for what it would bring: the client has gone on
            if taker is None:
                self.end = kind
                if kind == FUNCTION_CALL:
                    self.call = bytes(inbox[position + HEADER:stop])
            elif kind == PARSE:
                self._parse(bytes(inbox[position:stop]))
            else:
                taker(self, bytes(inbox[position + HEADER:stop]))

    def _synced(self, inbox: bytearray, start: int, position: int) -> bool:
        """Whether the messages at *position* and behind it go on to a Sync that is there; looked for once."""
        end = len(inbox)
        if position <= start + self._sync:
            return True
        while (stop := message_end(inbox, position, end, FRONTEND)) >= 0 and stop <= end:
            if inbox[position] == SYNC:
                self._sync = position - start
                return True
            if inbox[position] not in _EXTENDED:
                return False
            position = stop
        return False

    @property
    def sql(self) -> bytes | None:
        """The text of a Query, or of the only Parse."""
        if self.query is not None:
            return self.query[:-1]
        return self.parsed[0].sql if len(self.parsed) == 1 else None

    @property
    def only_parses(self) -> bool:
        """Whether it is without a Sync, and runs nothing: the client wants to know of statements."""
        return self.end == FLUSH and not (self.bound or self.elsewhere or self.obstacle == "malformed_message")

    @property
    def continues(self) -> bool:
        """Whether it does nothing but go on with the unnamed portal of an earlier batch."""
        return self.elsewhere == {b""} and not (self.parsed or self.bound or self.operations or self.uses)

    @property
    def first_use(self) -> bytes | None:
        """The statement of an earlier batch that the first of its messages which does anything binds or describes."""
        return self.uses[0] if self.uses and not (self.parsed or self.closes or self.elsewhere) else None

    def _refuse(self, obstacle: str) -> None:
        self.obstacle = self.obstacle or obstacle

    def _query(self, body: bytes) -> None:
        self.executes = True
        self.query = body
        self.end = QUERY

    def _parse(self, message: bytes) -> None:
        name, found, rest = message[HEADER:].partition(b"\0")
        sql, terminated, _ = rest.partition(b"\0")
        if not (found and terminated):
            self._refuse("malformed_message")
            return
        parsed = Parsed(name, sql, message)
        self.parsed.append(parsed)
        self.operations.append((PARSE_COMPLETE, name, parsed))
        if name:
            self._refuse("named_statement")
        else:
            self.unnamed = parsed

    def _bind(self, body: bytes) -> None:
        words = body.split(b"\0", 2)
        if len(words) < 3:
            self._refuse("malformed_message")
            return
        portal, name, _ = words
        self.portals.add(portal)
        here = next((parsed for parsed in reversed(self.parsed) if parsed.name == name), None)
        if here is None:
            self.uses.append(name)
        self.bound.append(name if here is None else here)

    def _execute(self, body: bytes) -> None:
        self.executes = True
        self._portal(body.partition(b"\0")[0])

    def _describe(self, body: bytes) -> None:
        name = body[1:].partition(b"\0")[0]
        if body[:1] == b"P":
            self._portal(name)
        elif body[:1] == b"S":
            self.operations.append((PARAMETER_DESCRIPTION, name, None))
            if not any(parsed.name == name for parsed in self.parsed):
                self.uses.append(name)

    def _close(self, body: bytes) -> None:
        name = body[1:].partition(b"\0")[0]
        if body[:1] == b"S":
            self._refuse("named_statement" if name else "unnamed_statement")
            self.operations.append((CLOSE_COMPLETE, name, None))
        else:
            self.closes.add(name)
            self.operations.append((CLOSE_COMPLETE, None, None))

    def _portal(self, name: bytes) -> None:
        if name not in self.portals:
            self.elsewhere.add(name)
            self._refuse("portal_elsewhere")


_EXTENDED: Final = frozenset((PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, FLUSH))
_TAKERS: Final = {
    QUERY: Draft._query,
    PARSE: Draft._parse,
    BIND: Draft._bind,
    DESCRIBE: Draft._describe,
    EXECUTE: Draft._execute,
    CLOSE: Draft._close,
}
# Behind extended messages these come without a Sync: to the server what is there so far is still open.
_ENDS_WITHOUT_SYNC: Final = frozenset(b"QFX") | COPY_TYPES
