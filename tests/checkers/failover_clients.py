"""Who is connected while servers change their roles: writers, transactions, readers, idle sessions with state."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from tests.checkers.failover_ledger import TABLE, Ledger, Seen

ROLE: Final = "failover_role"       # which idle sessions have by SET ROLE
# What says that a session, a statement or a login has failed with its primary; others are findings.
ALLOWED: Final = frozenset({"57P01", "57P02", "57P03", "08006", "40001"})
# libpq gives no SQLSTATE of a login: the words that stand for one.
LOGIN: Final = {
    "cannot be reached": "57P03", "is in recovery": "57P03", "the database system is": "57P03",
    "another server than expected": "57P03", "former primary": "57P03", "timeline": "57P03",
    "due to administrator command": "57P01",
}


class Account:
    """What clients have seen, told by all their threads."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.errors: Counter[tuple[str, str]] = Counter()       # (SQLSTATE, what it ended)
        self.reads = 0
        self.findings: list[str] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def error(self, who: Client, error: psycopg.Error, sqlstate: str, ended: str) -> None:
        with self._lock:
            if self.over.is_set() and not sqlstate:
                return
            self.errors[sqlstate or "none", ended] += 1
        if sqlstate not in ALLOWED:
            self.find(who, f"{ended} ended with {sqlstate or 'no SQLSTATE'}: {error}")

    def checked(self) -> None:
        with self._lock:
            self.reads += 1

    def find(self, who: Client | None, what: str) -> None:
        with self._lock:
            self.findings.append(f"{time.monotonic():.3f}: {f'{who.kind} {who.number}: ' if who else ''}{what}")


class Client:
    """One after another, sessions of the same kind. *session*: the how manieth it is, while one is open."""

    kind = ""
    pause = (0.01, 0.05)
    parts = 0               # rows a write of this kind of writer has

    def __init__(self, number: int, account: Account, login: Mapping[str, Any]) -> None:
        self.number = number
        self.session = 0
        self.is_open = False
        self.last_end = ""
        self.steps = 0
        self._account = account
        self._ledger = account.ledger
        self._login = login
        self._last_words = ""
        self._n = 0
        self._socket: socket.socket | None = None
        if self.parts:
            self._ledger.enter(number, self.parts)

    def prepare(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        """What the session has from its begin on."""

    def step(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        raise NotImplementedError

    def live(self, dice: random.Random) -> None:
        """One session, from its login to its end."""
        over = self._account.over
        try:
            connection = psycopg.connect(**self._login, prepare_threshold=dice.choice((None, 0)))
        except psycopg.Error as error:
            sqlstate = next((code for words, code in LOGIN.items() if words in str(error)), "")
            self._account.error(self, error, sqlstate, "a login")
            over.wait(dice.uniform(0.05, 0.2))
            return
        self._last_words = ""
        connection.add_notice_handler(self._hear)
        self._socket = socket.socket(fileno=connection.fileno())
        try:
            self.prepare(connection, dice)
            self.session += 1
            self.is_open = True
            while not over.is_set() and self._try(connection, dice):
                self.steps += 1
                over.wait(dice.uniform(*self.pause))
        except psycopg.Error as error:
            self._take(connection, error)
        finally:
            self.is_open = False
            self._socket.detach()
            self._socket = None
            with suppress(psycopg.Error):
                connection.close()

    def cut(self) -> None:
        """End a session that would wait for ever."""
        with suppress(AttributeError, OSError):
            self._socket.shutdown(socket.SHUT_RDWR)     # type: ignore[union-attr]

    def _try(self, connection: psycopg.Connection[Any], dice: random.Random) -> bool:
        """A step; whether the session lives on. A transaction that has failed is rolled back."""
        try:
            try:
                self.step(connection, dice)
            except psycopg.Error as error:
                if not self._take(connection, error):
                    return False
                if connection.info.transaction_status == TransactionStatus.INERROR and dice.random() < 0.5:
                    self._is_failed(connection)
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.execute("rollback")
        except psycopg.Error as error:
            if not self._take(connection, error):
                return False
        if connection.info.transaction_status != TransactionStatus.IDLE:
            self._account.find(self, "a transaction that ROLLBACK does not end")
            return False
        return True

    def _is_failed(self, connection: psycopg.Connection[Any]) -> None:
        try:
            connection.execute("select 1")
        except psycopg.errors.InFailedSqlTransaction:
            return
        self._account.find(self, "a statement has run in a transaction that has failed")

    def _take(self, connection: psycopg.Connection[Any], error: psycopg.Error) -> bool:
        sqlstate = error.sqlstate or self._last_words
        self._account.error(self, error, sqlstate, "a session" if connection.closed else "a statement")
        if connection.closed:
            self.last_end = sqlstate or "none"
        return not connection.closed

    def _hear(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized in ("FATAL", "PANIC", "ERROR"):      # of an idle session, to libpq a notice
            self._last_words = diagnostic.sqlstate or ""

    def _refused(self, connection: psycopg.Connection[Any], error: psycopg.Error, number: int) -> None:
        """The client knows of a write that nothing of it has been committed: the session goes on, and was told why."""
        if not connection.closed and error.sqlstate in ALLOWED - {"08006"}:
            self._ledger.refuse(self.number, number)

    def _next(self) -> int:
        self._n += 1
        return self._n


class Writer(Client):
    kind = "writer"
    parts = 1

    def step(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        number = self._next()
        try:
            connection.execute(f"insert into {TABLE} values (%s, %s)", [self.number, number])
        except psycopg.Error as error:
            self._refused(connection, error, number)
            raise
        self._ledger.acknowledge(self.number, number)


class Transactions(Client):
    """Two rows a transaction, a read between them; what follows 40001 is the client's to undo."""

    kind = "transaction"
    parts = 2

    def step(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        number = self._next()
        try:
            connection.execute("begin")
            if dice.random() < 0.5:     # on a replica, perhaps
                connection.execute("select 1").fetchone()
            connection.execute(f"insert into {TABLE} values (%s, %s, 1)", [self.number, number])
            time.sleep(dice.uniform(0, 0.05))
            query = f"select count(*) from {TABLE} where writer = %s and n = %s"
            if connection.execute(query, [self.number, number]).fetchone() != (1,):
                self._account.find(self, f"does not see its own row {number} within its transaction")
            connection.execute(f"insert into {TABLE} values (%s, %s, 2)", [self.number, number])
            done = connection.execute("commit").statusmessage
        except psycopg.Error as error:
            self._refused(connection, error, number)
            raise
        if done == "COMMIT":
            self._ledger.acknowledge(self.number, number)
        else:
            self._account.find(self, f"COMMIT of a transaction without an error is answered with {done}")


class Reader(Client):
    """What was acknowledged, to anybody, before a read began is seen by it."""

    kind = "reader"

    def step(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        if dice.random() < 0.2:
            connection.execute(dice.choice(("begin", "begin read only")))
            for _ in range(dice.randrange(1, 4)):
                self._read(connection, dice)
                time.sleep(dice.uniform(0, 0.1))
            connection.execute("commit")
        else:
            self._read(connection, dice)

    def _read(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        writer = dice.choice(list(self._ledger.parts))
        seen = self._ledger.seen(writer)
        row = connection.execute(
            f"select max(n), count(*) from {TABLE} where writer = %s and part = 1 and n >= %s and n <= %s",
            [writer, seen.first, seen.last]).fetchone()
        assert row is not None
        self._compare(connection, writer, seen, row[0] or 0, row[1])

    def _compare(self, connection: psycopg.Connection[Any], writer: int, seen: Seen, last: int, count: int) -> None:
        if last < seen.last or count < seen.count:
            self._account.find(self, f"a stale read: {count} numbers up to {last} of writer {writer}, where {seen} was "
                                     "acknowledged before it began")
            self._account.find(self, f"it was answered by {connection.execute('show pgsplit.last_route').fetchone()}")
        self._account.checked()


class Idle(Client):
    """Wakes up now and then, and has all that it had: on a replica, and where it writes."""

    kind = "idle"
    parts = 1
    pause = (0.3, 2.5)

    def prepare(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        self._had = {"work_mem": f"{dice.randrange(100, 900)}kB",
                     "timezone": dice.choice(("Asia/Tokyo", "Africa/Cairo")),
                     "app.tenant": f"tenant {self.number}", "role": ROLE}
        for name, value in self._had.items():
            connection.execute(f"set {name} = '{value}'")
        connection.execute("prepare plus (int) as select $1 + 1")

    def step(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        if dice.random() < 0.2:
            value = f"tenant {dice.randrange(1000)}"
            connection.execute(f"set app.tenant = '{value}'")
            self._had["app.tenant"] = value
        names = list(self._had)
        found = [connection.execute(f"show {name}").fetchone() for name in names]
        self._compare("", dict(zip(names, [row[0] if row else None for row in found], strict=True)))
        number = dice.randrange(1000)
        if connection.execute(f"execute plus ({number})").fetchone() != (number + 1,):
            self._account.find(self, "a prepared statement that has another answer")
        if connection.execute("select %s::int * 2", [number], prepare=True).fetchone() != (number * 2,):
            self._account.find(self, "a prepared statement of the protocol that has another answer")
        seen = self._ledger.seen(self.number)
        row = connection.execute(f"select max(n) from {TABLE} where writer = %s and n <= %s",
                                 [self.number, seen.last]).fetchone()
        if row != (seen.last or None,):
            self._account.find(self, f"a stale read: {row} of its own, where {seen} was acknowledged")
        self._account.checked()
        if dice.random() < 0.5:
            self._write(connection)

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        number, names = self._next(), list(self._had)
        shown = ", ".join(f"current_setting('{name}')" for name in names)
        try:
            row = connection.execute(f"insert into {TABLE} values (%s, %s) returning {shown}",
                                     [self.number, number]).fetchone()
        except psycopg.Error as error:
            self._refused(connection, error, number)
            raise
        self._ledger.acknowledge(self.number, number)
        assert row is not None
        self._compare(" where it writes", dict(zip(names, row, strict=True)))

    def _compare(self, where: str, found: Mapping[str, str | None]) -> None:
        if found != self._had:
            self._account.find(self, f"the wrong state{where}: {found} instead of {self._had}")


class Pinned(Client):
    """Has a temporary table, which no other connection can be given: there with all its rows, or the session ends."""

    kind = "pinned"
    pause = (0.3, 1.5)

    def prepare(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        self._rows = dice.randrange(1, 100)
        connection.execute(f"create temp table mine as select generate_series(1, {self._rows}) as n")

    def step(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        row = connection.execute("select count(*) from mine").fetchone()
        if row != (self._rows,):
            self._account.find(self, f"a temporary table of {row} rows instead of {self._rows}")


CREW: Final[tuple[type[Client], ...]] = (Writer, Writer, Transactions, Transactions, Reader, Reader, Reader,
                                         Idle, Idle, Idle, Idle, Pinned)
