"""What pgsplit asks the primary on a session's own connection, between two batches; the client sees nothing of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Protocol

from ..errors import ProtocolViolation
from ..wire import build
from ..wire.parse import data_row, error_fields
from .settings import OWN, ROLE, USER, Pair, Settings
from .state_query import state_query
from .statements import Statement, shared

# What keeps the primary from answering this time: a cancel, the session's own time-outs, a deadlock; class 53 is a lack
# of resources. Whatever else it says it will say again.
PASSING_ERRORS: Final = frozenset({"57014", "55P03", "40P01"})
NO_RESOURCES: Final = "53"


class Asker(Protocol):
    """The session's state, which takes the answers."""

    def settled(self, settings: Settings, pins: dict[str, str], defaults: Mapping[str, str],
                primary_only: tuple[Pair, ...]) -> None: ...

    def unsettled_for_good(self, why: str) -> None: ...

    def untold(self, *, state: bool = False, own: bool = False) -> None:
        """Nothing is known this time, and may be the next: of the session's *state*, of pgsplit's *own* options."""


class Inquiry(Protocol):
    """*kind*: as which it is counted (stats/own.py)."""

    kind: str
    data: bytes

    def take(self, kind: int, body: bytes) -> None:
        """A message of the answer."""

    def failed(self, error: bytes) -> None:
        """The body of an ErrorResponse: the server's, or one of ours where a message is too long."""

    def done(self) -> None:
        """ReadyForQuery."""


class StateInquiry:
    """The session's settings, and which of *pins* hold. *options*: names of customized options to look for.

    *functions*: something ran that may have touched any option which a function of this database names. *differing*:
    settings in which the two servers' configurations differ. *own*: pgsplit's own options have to be known.
    """

    def __init__(self, asker: Asker, user: str, pins: Iterable[str], options: Iterable[str], *,
                 functions: bool, differing: Collection[str], own: bool) -> None:
        self.kind = "functions" if functions else "settings"
        self._asker = asker
        self._own = own
        self._user = user.encode(errors="surrogateescape")
        self._session_user = self._user
        self._role = b"none"
        self._error = ""
        self._values: list[Pair] = []
        self._pins: dict[str, str] = {}
        self._defaults: dict[str, str] = {}      # of transactions
        self._primary_only: list[Pair] = []
        sql, values = state_query(pins, [name for name in options if name != "pgsplit.last_route"],
                                  functions=functions, differing=differing)
        self.data = b"".join((build.parse(OWN, sql), build.bind(statement=OWN, values=values), build.execute(),
                              build.close(name=OWN), build.SYNC))

    def take(self, kind: int, body: bytes) -> None:
        if kind != ord("D"):
            return
        row = data_row(body)
        if len(row) != 3:
            raise ProtocolViolation("a row of another shape than was asked for")
        what, name, value = (cell or b"" for cell in row)
        if what == b"t":
            self._defaults[name.decode()] = value.decode(errors="replace")
        elif what == b"o":
            self._primary_only.append((name, value))
        elif what == b"s":
            self._values.append((name, value))
        elif name == ROLE:
            self._role = value
        elif name == USER:
            self._session_user = value
        else:
            self._pins[name.decode()] = value.decode(errors="replace")

    def failed(self, error: bytes) -> None:
        self._error = error_fields(error).sqlstate or "XX000"

    def done(self) -> None:
        if passes(self._error):
            self._asker.untold(state=True, own=self._own)
            return
        if self._error:
            self._asker.unsettled_for_good(self._error)
            return
        if (b"default_transaction_isolation", b"serializable") in self._values:
            self._pins["serializable"] = "default_transaction_isolation"
        user = b"" if self._session_user == self._user else self._session_user
        self._asker.settled(Settings(tuple(sorted(set(self._values))), user, self._role), self._pins,
                            self._defaults, tuple(self._primary_only))


class DescribeInquiry:
    """What the primary says of prepared statements: their parameters and their results."""

    kind = "statement"

    def __init__(self, asker: Asker, statements: Iterable[Statement]) -> None:
        self._asker = asker
        self._left = deque(statements)          # not answered yet
        self._error = ""
        self._parameters: bytes | None = None
        self.data = b"".join(build.message(b"D", b"S" + each.name + b"\0") for each in self._left) + build.SYNC

    def take(self, kind: int, body: bytes) -> None:
        if kind == ord("t"):
            self._parameters = body
        elif kind in b"Tn" and self._parameters is not None and self._left:
            self._left.popleft().described = shared(self._parameters), shared(body)
            self._parameters = None

    def failed(self, error: bytes) -> None:
        self._error = error_fields(error).sqlstate or "XX000"

    def done(self) -> None:
        if passes(self._error):
            self._asker.untold()
        elif self._left:
            self._left[0].only_primary = True


def passes(sqlstate: str) -> bool:
    """Whether an error says nothing of the next time that the same is asked."""
    return sqlstate in PASSING_ERRORS or sqlstate.startswith(NO_RESOURCES)
