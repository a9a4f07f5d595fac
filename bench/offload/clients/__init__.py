"""The clients, a module each. What one sends is a function of a :class:`Target` and a number of rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ACCOUNTS = 1000
TENANTS = 10
WRITE_EVERY = 5         # a request of five writes


class Sent(NamedTuple):
    """How many reads a client has sent: those that a replica could serve, and those behind a transaction's write."""

    reads: int
    after: int = 0


@dataclass(frozen=True)
class Target:
    """Where a client connects. *programs* has pgbench; *scratch* is a directory for a client's files."""

    host: str
    port: int
    user: str
    password: str
    dbname: str
    programs: Path
    scratch: Path
    jdbc: Path | None = None

    @property
    def libpq(self) -> dict[str, str | int]:
        return {"host": self.host, "port": self.port, "user": self.user, "password": self.password,
                "dbname": self.dbname, "sslmode": "disable", "gssencmode": "disable", "connect_timeout": 10}

    @property
    def plain(self) -> dict[str, str | int]:
        """As drivers without libpq name them."""
        return {"host": self.host, "port": self.port, "user": self.user, "password": self.password,
                "database": self.dbname}


Client = Callable[[Target, int], Sent]


class NotHere(Exception):
    """The machine lacks what the client needs; the text says what."""


def requests(rounds: int) -> Iterator[tuple[int, bool]]:
    """The account of each request, and whether it writes; the same each time."""
    for number in range(rounds):
        yield 1 + number * 37 % ACCOUNTS, number % WRITE_EVERY == WRITE_EVERY - 1


def writes(rounds: int) -> int:
    """How many of them write."""
    return rounds // WRITE_EVERY
