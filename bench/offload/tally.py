"""What the servers counted while a workload ran: pg_stat_statements, statement by statement, sorted into kinds."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pgsplit.demo.server import Server

READ: Final = "read"            # one that a replica could serve
AFTER: Final = "after"          # a read behind its transaction's write
OTHER: Final = "other"          # whatever else the application sent
OWN: Final = "own"              # what the application did not send: a proxy's own questions
KINDS: Final = (READ, AFTER, OTHER, OWN)

_SELECT = re.compile(r"\s*(select|with)\b", re.IGNORECASE)
_DATA = re.compile(r"\b(account|entry|ticket|pgbench_accounts)\b", re.IGNORECASE)
# Whoever sends it, it is the application's transaction.
_TRANSACTION = re.compile(r"\s*(begin|start transaction|commit|rollback|end|abort)\b", re.IGNORECASE)


class Statement(NamedTuple):
    """A row of pg_stat_statements: whose, the text with its constants taken out, how often and how long."""

    role: str
    text: str
    calls: int
    ms: float


@dataclass(frozen=True)
class Amount:
    calls: int = 0
    ms: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.calls + other.calls, self.ms + other.ms)


@dataclass(frozen=True)
class Tally:
    """Of one workload by one way: for primary and replica, how much of each kind."""

    primary: Mapping[str, Amount]
    replica: Mapping[str, Amount]

    def total(self, kind: str) -> Amount:
        return self.primary[kind] + self.replica[kind]

    @property
    def share(self) -> float | None:
        """Of the reads that a replica could serve, how much a replica served; None where there are none."""
        return _ratio(self.replica[READ].calls, self.total(READ).calls)

    @property
    def share_of_all(self) -> float | None:
        """Of all reads, those behind writes included."""
        return _ratio(self.replica[READ].calls + self.replica[AFTER].calls,
                      self.total(READ).calls + self.total(AFTER).calls)

    @property
    def share_of_time(self) -> float | None:
        """Of the time that all reads took."""
        return _ratio(self.replica[READ].ms + self.replica[AFTER].ms, self.total(READ).ms + self.total(AFTER).ms)

    @property
    def applications(self) -> Amount:
        """What the application's statements were for the primary."""
        return self.primary[READ] + self.primary[AFTER] + self.primary[OTHER]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class Sorter:
    """Tells of a statement which kind it is.

    *roles* are the application's. *known* are the texts (see :func:`canonical`) that it sends when it is connected
    directly; what else comes in its name is a proxy's. Empty: all is the application's.
    """

    roles: Container[str]
    is_after: Callable[[str], bool]
    known: frozenset[str] = field(default=frozenset())

    def kind(self, statement: Statement) -> str:
        text = statement.text
        if statement.role not in self.roles:
            return OWN
        if _SELECT.match(text) and _DATA.search(text):
            return AFTER if self.is_after(text) else READ
        if not self.known or _TRANSACTION.match(text) or canonical(text) in self.known:
            return OTHER
        return OWN

    def tally(self, primary: Iterable[Statement], replica: Iterable[Statement]) -> Tally:
        return Tally(self._sums(primary), self._sums(replica))

    def _sums(self, statements: Iterable[Statement]) -> dict[str, Amount]:
        sums = dict.fromkeys(KINDS, Amount())
        for statement in statements:
            sums[self.kind(statement)] += Amount(statement.calls, statement.ms)
        return sums


def canonical(text: str) -> str:
    """*text* without the numbers in it: constants that the server leaves in (those of SET), numbered names."""
    return re.sub(r"\d+", "0", text)


def statements(server: Server, roles: Iterable[str]) -> list[Statement]:
    """All that *server* has counted for *roles* since it was last told to forget."""
    return [Statement(*row) for row in server.query(
        "select rolname, query, calls, total_exec_time from pg_stat_statements s join pg_roles r on r.oid = s.userid "
        "where rolname = any(%s)", [list(roles)])]
