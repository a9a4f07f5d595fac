"""Making a prepared statement on a primary that has not got it: a new connection, or one that would not take it before.

What a direct connection has kept it parses anew where definitions have changed: a statement whose table is gone is in
error whenever it is used, and works again when the table is back; one whose result is not what it was stays in error.
So it is made for who uses it, and the server's error is told instead of the statement's answer.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ..wire import build
from ..wire.parse import column_types
from .settings import CLOSE_OWN, OWN, Ahead
from .statements import Statement, shared

CHANGED: Final = build.error_response("ERROR", "0A000", "cached plan must not change result type")      # PostgreSQL's
_LEFT_OUT: Final = build.error_response("ERROR", "XX000", "the primary has not said what it has prepared")
_NOTICE: Final = ord("N")
_RESULT: Final = frozenset(b"Tn")                   # RowDescription, or NoData
_DESCRIPTIONS: Final = frozenset(b"tTn")


class Making:
    """*error* is what the statement's user gets; nothing: it is made. Nobody knows before `apply`."""

    kind = "statement"

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self.error = b""
        self._said: list[bytes] = []        # the bodies of its descriptions
        ahead = _made_by(statement)
        self._awaited = deque(ahead.answers)
        self.data = ahead.data + build.SYNC

    @property
    def leaves_own(self) -> bool:
        """Whether the server may have a statement of pgsplit's own, behind which it was in error."""
        return bool(self.error and self.statement.prepare)

    def take(self, kind: int, body: bytes) -> None:
        if self.error or kind == _NOTICE:
            return
        expected = self._awaited.popleft() if self._awaited else 0
        if kind != expected and not {kind, expected} <= _RESULT:
            self.error = _LEFT_OUT
        elif kind in _DESCRIPTIONS:
            self._said.append(body)

    def failed(self, error: bytes) -> None:
        self.error = self.error or build.message(b"E", error)

    def apply(self) -> None:
        """All has been answered: have the statement known as it is there."""
        statement = self.statement
        if self._awaited and not self.error:
            self.error = _LEFT_OUT
        if statement.described is not None and self._said and not self.error:
            parameters, result = self._said
            if (parameters, column_types(result)) == (statement.described[0], column_types(statement.described[1])):
                statement.described = shared(parameters), shared(result)
            else:
                self.error = CHANGED
        statement.additional, statement.orphaned, statement.refusal = not self.error, bool(self.error), b""
        if self.error:
            statement.route = None


class MakingAgain(Making):
    """As a question of pgsplit's own, ahead of what uses the statement (see `inquiry`)."""

    def __init__(self, statement: Statement) -> None:
        super().__init__(statement)
        self.data = build.message(b"C", b"S" + statement.name + b"\0") + self.data
        self._awaited.appendleft(ord("3"))

    def done(self) -> None:
        self.apply()
        self.statement.refusal = self.error


def _made_by(statement: Statement) -> Ahead:
    """What makes it; where it has been described it is described again."""
    if statement.prepare:
        parts = [CLOSE_OWN, _run(statement.prepare)]
    elif statement.described is not None and statement.name:
        return statement.late_parse()
    else:
        return Ahead(statement.message, b"1")
    if statement.described is not None:
        parts.append(statement.describe())
    return Ahead(b"".join(part.data for part in parts), b"".join(part.answers for part in parts))


def _run(text: bytes) -> Ahead:
    """The client's PREPARE, as it was."""
    data = (build.message(b"P", OWN.encode() + b"\0" + text + b"\0\0\0") + build.bind(statement=OWN) + build.execute()
            + build.close(name=OWN))
    return Ahead(data, b"12C3")
