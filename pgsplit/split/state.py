"""What the two directions of a session's splitter share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ..wire.messages import IDLE
from .batch import Batch, Draft, Parsed, Unnamed
from .decision import Decision, Upstream
from .facts import DOUBT, Facts, Tx

MAX_NAMED: Final = 10_000      # named statements whose facts are kept; what others do is doubt

# Client encodings in which the second byte of a character may be an ASCII one (PostgreSQL manual 24.3.1).
UNSAFE_ENCODINGS: Final = frozenset({"SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "GB18030", "UHC", "JOHAB"})

Classify = Callable[[bytes], Facts]


class State:
    """*classify* gives the facts of an SQL text as the client sent it, and is expected to remember them."""

    def __init__(self, classify: Classify, *, has_replica: bool, sole: bool, read_only: bool, opaque: bool,
                 must_read_on_replica: bool) -> None:
        self._classify = classify
        self.has_replica = has_replica
        self.sole = sole                       # one upstream only, in the additional one's place
        self.read_only = read_only             # a write gets an ERROR
        self.opaque = opaque                   # a replication connection: nothing is read of it
        self.must_read_on_replica = must_read_on_replica
        self.tx = IDLE                         # the status in the primary's last ReadyForQuery
        self.tx_wrote = False
        self.pins: dict[str, str] = {}         # name -> what in a statement caused it
        self.async_commit = False              # synchronous_commit may be off in this session
        self.primary: deque[Batch] = deque()   # sent and not answered
        self.replica: deque[Batch] = deque()
        self.asked = 0                         # bytes at the front of the client's inbox: batches the replica has
        self.redirecting = ""                  # why the replica's answers are being dropped
        self.forced = ""                       # why the batch at the front must go to the primary
        self.segment: Batch | None = None      # open on the primary: its Sync is still to come
        self.copying = False                   # the primary reads CopyData: Sync and Flush do not count
        self.copy_ends = 0                     # CopyDone or CopyFail sent before CopyInResponse came back
        self.unnamed: Unnamed | None = None
        self.named: dict[bytes, Facts] = {}
        self.plain_strings = True              # standard_conforming_strings
        self.unsafe_encoding = False
        self.last = Decision(Upstream.ADDITIONAL, "login")

    def parameter(self, name: str, value: str) -> None:
        """A ParameterStatus of the primary."""
        if name == "standard_conforming_strings":
            self.plain_strings = value == "on"
        elif name == "client_encoding":
            self.unsafe_encoding = value.upper() in UNSAFE_ENCODINGS

    # --- facts --------------------------------------------------------------------------------------

    def text_facts(self, sql: bytes) -> Facts:
        if (not self.plain_strings and b"\\" in sql) or (self.unsafe_encoding and not sql.isascii()):
            return DOUBT
        return self._classify(sql)

    def query_facts(self, body: bytes) -> Facts:
        """*body* of a Query: the text and its terminator."""
        return self.text_facts(body[:-1]) if body and body.find(b"\0") == len(body) - 1 else DOUBT

    def bound_facts(self, draft: Draft) -> list[Facts]:
        """The facts of what the draft runs; of a FunctionCall they are doubt."""
        if draft.query is not None:
            return [self.query_facts(draft.query)]
        return [self._statement_facts(statement) for statement in draft.bound]

    def _statement_facts(self, statement: Parsed | bytes) -> Facts:
        if isinstance(statement, Parsed):
            return self.text_facts(statement.sql)
        if statement:
            return self.named.get(statement, DOUBT)
        return self.unnamed.facts if self.unnamed is not None else DOUBT

    # --- effects, noted when a batch leaves for the primary --------------------------------------------

    def note_statements(self, draft: Draft) -> None:
        """Remember what the named statements are that the draft makes, and forget those it closes."""
        for parsed in draft.parsed:
            if parsed.name and (len(self.named) < MAX_NAMED or parsed.name in self.named):
                self.named[parsed.name] = self.text_facts(parsed.sql)
        for name in draft.closes:
            self.named.pop(name, None)

    def note_effects(self, bound: list[Facts]) -> None:
        for facts in bound:
            if facts.session_effect:
                self.pins.setdefault(facts.session_effect, facts.detail or " ".join(facts.commands))
            self.async_commit |= facts.async_commit

    # --- what goes past ---------------------------------------------------------------------------------

    @property
    def publishes(self) -> bool:
        """Whether what the primary says next may tell of a commit that other sessions must see (G3)."""
        if not self.primary:
            return False
        batch = self.primary[0]
        ends = any(facts.tx is Tx.END for facts in batch.bound)
        if self.tx != IDLE and not ends:
            return False
        return batch.wrote or (ends and self.tx_wrote)
