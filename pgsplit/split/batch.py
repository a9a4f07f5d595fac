"""A batch: the client's messages that the server answers with one ReadyForQuery, gathered from its byte stream.

PostgreSQL manual 55.2.3 and 55.2.4: one Query or FunctionCall, or extended-protocol messages up to Sync.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..errors import ProtocolViolation
from ..wire.framing import HEADER, message_end
from ..wire.messages import FRONTEND
from .facts import Facts

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


class Batch:
    """A batch on its way to an upstream."""

    __slots__ = ("ahead", "bound", "effect_free", "empty", "failed", "kind", "messages", "passing", "reason",
                 "requests", "rows", "size", "sql", "started", "statement", "tags", "texts", "wrote")

    def __init__(self, kind: int, size: int, bound: list[Facts], reason: str) -> None:
        self.kind = kind              # QUERY, FUNCTION_CALL or SYNC; FLUSH while its Sync is still to come
        self.size = size              # bytes of the client's
        self.bound = bound            # the facts of each statement that it runs, in order
        self.empty = bool(bound) and all(facts.empty for facts in bound)
        self.sql: bytes | None = None  # the text, where there is just one
        self.reason = reason
        self.requests = 0             # messages of the client's
        self.wrote = any(facts.writes for facts in bound)
        self.effect_free = all(facts.effect_free for facts in bound)
        self.ahead = 0                # ParseCompletes to swallow, of Parses that pgsplit put ahead
        self.texts: list[Facts] = []   # of its Query, or of its Parses
        self.statement: Unnamed | None = None    # the unnamed statement as it is after the batch
        self.failed = False
        self.messages = 0             # of the answer that is held: how many, and the CommandCompletes and notices
        self.tags: list[tuple[int, bytes]] = []
        self.rows = False             # the answer has begun
        self.passing = False          # part of the answer has been passed on
        self.started = 0              # monotonic ns, for the session's histogram


class Unnamed:
    """The session's unnamed prepared statement: its Parse message, its facts, and which upstreams hold it."""

    __slots__ = ("additional", "default", "facts", "parse")

    def __init__(self, parse: bytes, facts: Facts) -> None:
        self.parse = parse
        self.facts = facts
        self.default = False
        self.additional = False


class Parsed(NamedTuple):
    name: bytes
    sql: bytes
    message: bytes


class Draft:
    """The batch that is being gathered from the client's inbox.

    `gather` may be called again whenever more bytes are there; it goes on where it stopped. *end* is then the type
    of the message that completed the batch (QUERY, FUNCTION_CALL, SYNC or TERMINATE), FLUSH when what is there
    must leave without a Sync, or 0. *obstacle* names the rule that keeps the batch off the replicas, if any.
    """

    __slots__ = ("bound", "closes", "end", "obstacle", "parsed", "portals", "query", "requests", "size", "unnamed",
                 "uses_earlier")

    def __init__(self) -> None:
        self.size = 0
        self.requests = 0
        self.end = 0
        self.obstacle = ""
        self.query: bytes | None = None          # body of a Query
        self.parsed: list[Parsed] = []
        self.bound: list[Parsed | bytes] = []    # of each Bind: the Parse of this batch that it means, or the name
        self.closes: list[bytes] = []
        self.portals: set[bytes] = set()
        self.unnamed: Parsed | None = None       # the unnamed statement of this batch
        self.uses_earlier = False                # uses the unnamed statement of an earlier batch

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
            if taker is None:
                self.end = kind
            elif kind == PARSE:
                self._parse(bytes(inbox[position:stop]))
            else:
                taker(self, bytes(inbox[position + HEADER:stop]))

    @property
    def sql(self) -> bytes | None:
        """The text of a Query, or of the only Parse."""
        if self.query is not None:
            return self.query[:-1]
        return self.parsed[0].sql if len(self.parsed) == 1 else None

    def _refuse(self, obstacle: str) -> None:
        self.obstacle = self.obstacle or obstacle

    def _query(self, body: bytes) -> None:
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
        if name:
            self._refuse("named_statement")
            self.bound.append(next((p for p in reversed(self.parsed) if p.name == name), name))
        elif self.unnamed is not None:
            self.bound.append(self.unnamed)
        else:
            self.uses_earlier = True
            self.bound.append(b"")

    def _execute(self, body: bytes) -> None:
        self._portal(body.partition(b"\0")[0])

    def _describe(self, body: bytes) -> None:
        name = body[1:].partition(b"\0")[0]
        if body[:1] == b"P":
            self._portal(name)
        elif name:
            self._refuse("named_statement")
        elif self.unnamed is None:
            self.uses_earlier = True

    def _close(self, body: bytes) -> None:
        name = body[1:].partition(b"\0")[0]
        if body[:1] == b"S":
            self._refuse("named_statement" if name else "unnamed_statement")
            self.closes.append(name)

    def _portal(self, name: bytes) -> None:
        if name not in self.portals:
            self._refuse("portal_elsewhere")


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
