"""A session without its primary: whether it can go on, and what gives its state to the next connection (ADR 0020).

What a server has of a session is its settings and role, its prepared statements, and what no other connection can be
given: those are pins, and a session that has one ends with its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..wire import build
from ..wire.messages import FAILED, IDLE
from ..wire.parse import error_fields, parameter_status
from .batch import Batch
from .decision import Upstream
from .lsn import MIN_LSN
from .making import Making
from .requests import ABORTED_ERROR
from .settings import LOGIN, NOTHING, give
from .state import State
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
    """What a new connection is sent behind its login, and what it must answer: the state, without which the session
    cannot go on, then each prepared statement by itself, since one that cannot be made is its user's error only.
    """

    def __init__(self, state: State) -> None:
        own = [(b"pgsplit.route", state.route.encode()), (b"pgsplit.trace", b"on" if state.trace else b""),
               (MIN_LSN.encode(), str(state.lsn.token or "").encode())]
        statements = [*state.statements.named.values()]
        unnamed = state.statements.unnamed
        if unnamed is not None and unnamed.additional:
            statements.append(unnamed)
        facts = [statement.facts for statement in statements]
        # What asks for these is given them anew each time; a server that has never had one does not parse it.
        asked = [(name, b"") for name, tells in ((b"pgsplit.last_route", any(each.tells_route for each in facts)),
                                                 (b"pgsplit.lsn", any(each.tells_lsn for each in facts))) if tells]
        more = (*state.primary_only, *((name, value) for name, value in own if value), *asked)
        settings = state.settings._replace(values=state.settings.values + more)
        given = give(settings) if settings != LOGIN else NOTHING
        self.made = [Making(statement) for statement in statements]
        self._given = deque(given.answers)
        self._making = deque(self.made)          # of which not all is answered
        self._gives = bool(given.data)           # likewise of the state
        self.data = b"".join([given.data + build.SYNC if given.data else b"", *(each.data for each in self.made)])
        self.done = not self.data
        self.error = ""
        self.parameters: dict[str, str] = {}

    def take(self, kind: int, body: bytes) -> None:
        """A message of the server's; `done` when it was the last, `error` when the state could not be given."""
        if kind == PARAMETER:
            name, value = parameter_status(body)
            self.parameters[name] = value
        elif kind != NOTICE and self._gives:
            self._take_given(kind, body)
        elif kind == READY:
            self._making.popleft()
            self.done = not self._making
        elif kind == ERROR:
            self._making[0].failed(body)
        elif kind != NOTICE:
            self._making[0].take(kind, body)

    def _take_given(self, kind: int, body: bytes) -> None:
        if kind == READY:
            self._gives, self.done = False, not self._making
            if self._given and not self.error:
                self.error = "the server has left something out"
        elif kind == ERROR:
            fields = error_fields(body)
            self.error = self.error or f"{fields.sqlstate}: {fields.message}"
        elif not self.error and (not self._given or kind != self._given.popleft()):
            self.error = "the server answers otherwise than the one before"


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
    state.lose_changes()
    state.transaction.rolled_back_there()
    if unopened is not None:
        state.transaction.hold_again(unopened)
    return again


def transaction_lost(state: State, why: str) -> None:
    """The transaction that was open there is one that has failed, and that nobody else knows of. Who has had no error
    in it is told, by a COMMIT that comes next, too: else it would seem to have gone well.
    """
    transaction = state.transaction
    had_error = FAILED in (state.tx, transaction.status)
    transaction.end()
    transaction.hold(PLAIN)
    transaction.fail()
    transaction.lost = ABORTED_ERROR if had_error else build.error_response(
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
    for making in restoration.made:
        making.apply()
        if making.leaves_own:
            state.leaves_own.add(Upstream.ADDITIONAL)
    state.primary_unnamed = any(not made.statement.name and not made.error for made in restoration.made)
    said = []
    for name, value in (dict(parameters) | restoration.parameters).items():
        if state.reported.get(name) != value:
            state.parameter(name, value)
            said.append(build.parameter_status(name, value))
    return b"".join(said)
