"""A session without its primary: whether it can go on, and what gives its state to the next connection (ADR 0020).

What a server has of a session is its settings and role, its prepared statements, and what no other connection can be
given: those are pins, and a session that has one ends with its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..wire import build
from ..wire.messages import IDLE
from ..wire.parse import error_fields, parameter_status
from .batch import Batch
from .decision import Upstream
from .lsn import MIN_LSN
from .settings import LOGIN, give
from .state import State
from .statements import Statement
from .transaction import PLAIN, Defaults

READY: Final = ord("Z")
ERROR: Final = ord("E")
PARAMETER: Final = ord("S")
NOTICE: Final = ord("N")

# What the client is told that the session has, by pin (see `State.pins`); others are told by their names.
_WORDS: Final = {
    "temporary_object": "temporary objects", "advisory_lock": "advisory locks", "listen": "LISTEN",
    "hold_cursor": "a cursor WITH HOLD", "random_seed": "a seed of random()",
    "unknown_settings": "settings that are not known", "unknown_effect": "a state that is not known",
}
# A pin for where statements go, not for what the connection has.
_GIVEN: Final = frozenset({"serializable"})


_ASKED_ANEW: Final = frozenset({"transaction", "statement"})     # kinds of questions (see `Inquiry`)


class Loss(NamedTuple):
    """Why a session ends with its primary. *under_way*: something was, whose outcome is not known. *transaction*: one
    was open, in which nothing was.
    """

    why: str
    under_way: bool = False
    transaction: bool = False


def why_lost(state: State) -> Loss | None:
    """None: the session can go on with another connection."""
    if state.opaque or state.sole:
        return Loss("it is the only connection of this session", under_way=state.opaque or bool(state.primary))
    asked_again = all((batch.again or _is_asked_anew(batch)) and not (batch.passed or batch.failed)
                      for batch in state.primary)
    if not asked_again or state.segment is not None or state.copying:
        return Loss("something was under way there", under_way=True)
    pins = [(pin, cause) for pin, cause in state.pins.items() if pin not in _GIVEN]
    if pins:
        pin, cause = pins[0]
        return Loss(f"the session has {_WORDS.get(pin, pin)}{f' ({cause})' if cause else ''}")
    if state.unsettled or state.own_unsettled:
        return Loss("the session has changed its state, and the primary has not been asked yet how")
    if state.statements.unclear:
        return Loss("the session has prepared statements that are not known")
    opens = state.opens_under_way or state.transaction.unopened() is not None
    if (state.tx != IDLE or state.transaction.opened) and not opens:
        return Loss("a transaction was open there", transaction=True)
    return None


def _is_asked_anew(batch: Batch) -> bool:
    """Whether it is a question of pgsplit's own that what waits for it asks again, if nobody has answered."""
    return batch.inquiry is not None and batch.inquiry.kind in _ASKED_ANEW


class Restoration:
    """What a new connection is sent behind its login, and what it must answer."""

    def __init__(self, state: State) -> None:
        own = [(b"pgsplit.route", state.route.encode()), (b"pgsplit.trace", b"on" if state.trace else b""),
               (MIN_LSN.encode(), str(state.lsn.token or "").encode())]
        self.statements = [*state.statements.named.values()]
        unnamed = state.statements.unnamed
        if unnamed is not None and unnamed.additional:
            self.statements.append(unnamed)
        facts = [statement.facts for statement in self.statements]
        # What asks for these is given them anew each time; a server that has never had one does not parse it.
        asked = [(name, b"") for name, tells in ((b"pgsplit.last_route", any(each.tells_route for each in facts)),
                                                 (b"pgsplit.lsn", any(each.tells_lsn for each in facts))) if tells]
        more = (*state.primary_only, *((name, value) for name, value in own if value), *asked)
        settings = state.settings._replace(values=state.settings.values + more)
        ahead = [give(settings)] if settings != LOGIN else []
        self._awaited: deque[tuple[int, bytes | None, Statement | None]] = deque(
            (kind, None, None) for part in ahead for kind in part.answers)
        data = [part.data for part in ahead]
        for statement in self.statements:
            data.append(self._parse(statement))
        self.data = b"".join(data) + build.SYNC if data else b""
        self.done = not data
        self.error = ""
        self.parameters: dict[str, str] = {}

    def _parse(self, statement: Statement) -> bytes:
        if statement.described is None or not statement.name:
            self._awaited.append((ord("1"), None, statement))
            return statement.message
        late, (parameters, result) = statement.late_parse(), statement.described
        bodies = (None, parameters, result)
        self._awaited.extend((kind, body, statement) for kind, body in zip(late.answers, bodies, strict=True))
        return late.data

    def take(self, kind: int, body: bytes) -> None:
        """A message of the server's; `done` when it was the last, `error` when the state could not be given."""
        if kind == PARAMETER:
            name, value = parameter_status(body)
            self.parameters[name] = value
        elif kind == READY:
            self.done = True
            if self._awaited and not self.error:
                self.error = "the server has left something out"
        elif kind == ERROR:
            fields = error_fields(body)
            self.error = self.error or f"{fields.sqlstate}: {fields.message}{_of(self._expected)}"
        elif kind != NOTICE and not self.error:
            expected, said, statement = self._awaited.popleft() if self._awaited else (0, None, None)
            if kind != expected or (said is not None and body != said):
                self.error = f"the server answers otherwise than the one before{_of(statement)}"

    @property
    def _expected(self) -> Statement | None:
        return self._awaited[0][2] if self._awaited else None


def _of(statement: Statement | None) -> str:
    return "" if statement is None else f" (prepared statement {statement.name.decode(errors='replace')!r})"


def lose(state: State) -> bytes:
    """The primary's connection is gone; what has to be asked, or run, there waits. Returns what it had of that."""
    again = b"".join(batch.again for batch in state.primary)
    unopened = state.primary[0].unopened if state.primary else None
    for batch in state.primary:
        state.void_operations(batch)
        state.inquiries -= batch.inquiry is not None
    if state.primary:
        state.primary.clear()
        state.taken_back = True
    state.primary_away = True
    state.tx, state.tx_wrote, state.tx_defined = IDLE, False, False
    state.transaction.rolled_back_there()
    if unopened is not None:
        state.transaction.hold_again(unopened)
    return again


def transaction_lost(state: State, why: str) -> None:
    """The transaction that was open there is one that has failed, and that nobody else knows of."""
    transaction = state.transaction
    transaction.end()
    transaction.hold(PLAIN)
    transaction.fail()
    transaction.lost = build.error_response(
        "ERROR", "40001", "the transaction was lost: its connection to the primary has ended",
        detail=f"Why: {why}. Nothing of it has been committed.", hint="The transaction may be run again.")


def regain(state: State, restoration: Restoration, parameters: Mapping[str, str], defaults: Defaults | None) -> bytes:
    """Another connection is there, which has taken *restoration*; *parameters*: what it reported at its login;
    *defaults*: what its settings made of transactions. Returns the ParameterStatus messages that the client must be
    sent (manual 55.2.7).
    """
    if defaults is not None and defaults != state.transaction.login_defaults:
        state.transaction.login_defaults, state.unsettled = defaults, True
    state.primary_away = state.wants_primary = False
    state.leaves_own.discard(Upstream.ADDITIONAL)
    state.primary_unnamed = any(not statement.name for statement in restoration.statements)
    said = []
    for name, value in (dict(parameters) | restoration.parameters).items():
        if state.reported.get(name) != value:
            state.parameter(name, value)
            said.append(build.parameter_status(name, value))
    return b"".join(said)
