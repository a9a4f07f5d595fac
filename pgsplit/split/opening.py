"""Opening a transaction on the primary as it is on a replica, and ending there what shall not go on.

Both are questions of pgsplit's own (see `inquiry`): nothing of the client's leaves before they are answered. So a
statement runs in the transaction that its client has set up, or not at all.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ..wire import build
from ..wire.parse import error_fields
from .decision import Decision
from .settings import run
from .transaction import Transaction

COMMAND: Final = ord("C")
NOTICE: Final = ord("N")


class Opening:
    """Its BEGIN, where the primary has not got it, and the prologue; each answer is held against the replica's.

    Where one differs the transaction is *void*: what the client gets is an error, 40001, and nothing runs.
    """

    kind = "transaction"

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._told = len(transaction.prologue)
        kept = transaction.untold()
        self._awaited = deque((part.command, kind, body) for part in kept for kind, body in part.awaited())
        self._why = ""
        self.data = b"".join(part.ahead.data for part in kept) + build.SYNC

    def take(self, kind: int, body: bytes) -> None:
        if self._why or kind == NOTICE:
            return
        command, expected, said = self._awaited.popleft() if self._awaited else ("what was sent", 0, None)
        if kind != expected:
            self._why = f"another answer to {command}: a message of type {chr(kind)!r}"
        elif said is not None and body != said:
            word = body[:-1].decode("latin-1") if kind == COMMAND else "another row"
            self._why = f"another answer to {command}: {word}"

    def failed(self, error: bytes) -> None:
        command, fields = self._awaited[0][0] if self._awaited else "what was sent", error_fields(error)
        self._why = self._why or f"{fields.sqlstate} to {command}: {fields.message}"

    def done(self) -> None:
        if self._awaited and not self._why:
            self._why = f"nothing to {self._awaited[0][0]}"
        self._transaction.opened_there(self._told, differs(self._why) if self._why else b"")


class Rollback:
    """What the primary has of a transaction that has failed here comes to its end."""

    kind = "transaction"

    def __init__(self, transaction: Transaction) -> None:
        self.data = run("rollback").data + build.SYNC
        self._transaction = transaction

    def take(self, kind: int, body: bytes) -> None: ...

    def failed(self, error: bytes) -> None: ...

    def done(self) -> None:
        self._transaction.rolled_back_there()


def unmovable(decision: Decision) -> bytes:
    """The error that the client gets in a transaction that should move to the primary for *decision*, and cannot: the
    primary has not got what it has on a replica.
    """
    why = decision.reason + (f" ({decision.detail})" if decision.detail else "")
    return build.error_response(
        "ERROR", "40001", "the transaction cannot go on: it reads on a replica, and this needs the primary",
        detail=f"Why the primary: {why}.", hint="The transaction may be run again. See repeatable_read_only.")


def differs(why: str) -> bytes:
    """The error that the client gets in a transaction that cannot be the same on the primary."""
    return build.error_response(
        "ERROR", "40001", "the transaction cannot go on: the primary did not repeat what it had set on a replica",
        detail=f"The primary gave {why}", hint="Nothing was written. The transaction may be run again.")
