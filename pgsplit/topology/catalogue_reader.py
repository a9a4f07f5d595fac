"""Keeps the catalogue of one database true: read from the primary on a connection of its own (docs/adr/0015)."""

from __future__ import annotations

import hashlib
import json
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import gevent
from gevent.event import Event

from .. import log
from ..auth.secret import parse
from ..config.model import Monitor
from ..errors import ConnectionLost, PgSplitError, ServerError
from ..upstream.connection import UpstreamConnection
from ..upstream.login import Credentials
from ..upstream.rows import take_rows
from ..upstream.server_identity import Reached
from ..wire import build
from .cluster import ClusterManager
from .definitions import CHANGES, QUESTIONS

logger = log.get("pgsplit.catalogue")

LOOK: Final = 5.0             # seconds between two looks at whether somebody has changed a definition
AGE: Final = 300.0            # after so many it is read again, whatever that look says
PACE: Final = 1.0             # seconds between two readings at least, and
SHARE: Final = 10             # so many times as long as the last one took
RETRY: Final = 2.0
IDLE: Final = 60.0            # seconds without a session of the database until nothing is kept of it
GRACE: Final = 1.0            # and until the connection is closed: DROP DATABASE waits five for others to leave
STEP: Final = 0.25
PATIENCE: Final = 20.0        # seconds that a reading may take
AT_ONCE: Final = 500          # rows that are taken in one turn
NEVER: Final = 0
PARAMETERS: Final = {"application_name": "pgsplit catalogue", "client_encoding": "SQL_ASCII",
                     "search_path": "pg_catalog", "default_transaction_read_only": "on", "statement_timeout": "20s"}

Rows = Iterable[Mapping[str, Any]]


class CatalogueReader:
    """*learn* is given the rows of each reading. *latest_definition_ns*: when a definition last changed through this
    node.

    *known*: as of when what was learnt is true (monotonic ns), a cell that relays compare; NEVER: nothing is known.
    """

    def __init__(self, manager: ClusterManager, cluster_name: str, database: str, monitor: Callable[[], Monitor],
                 latest_definition_ns: Callable[[], int], learn: Callable[[Rows], None]) -> None:
        self.known = array("q", [NEVER])
        self.why_not = "has not been read yet"      # in words, for who looks
        self.took_s = 0.0
        self.readings = 0
        self.failures = 0
        self._manager = manager
        self._cluster_name = cluster_name
        self._database = database
        self._monitor = monitor
        self._latest_definition_ns = latest_definition_ns
        self._learn = learn
        self._connection: UpstreamConnection | None = None
        self._changes = b""
        self._read_of: Reached | None = None      # the server that it was read from
        self._digest = b""            # of the rows that were learnt last
        self._read_at = -AGE
        self._users = 0
        self._left_at = time.monotonic()
        self._wanted = Event()
        self._waiting: set[Event] = set()
        self._wanted_ns = NEVER
        self._stale = False
        self._greenlet: gevent.Greenlet[..., None] | None = None

    def enter(self) -> None:
        """A session of the database has begun."""
        self._users += 1
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)
        elif self._users == 1:
            self._wanted.set()

    def leave(self) -> None:
        self._users -= 1
        self._left_at = time.monotonic()
        if not self._users:
            self._wanted.set()

    @property
    def in_use(self) -> bool:
        """Whether sessions of the database were there lately."""
        return self._greenlet is not None

    @property
    def usable(self) -> bool:
        """Whether what was learnt is newer than all that has been changed through this node."""
        return self.known[0] > self._latest_definition_ns()

    def read_again(self) -> None:
        """What was learnt is not to be used any more."""
        self.known[0] = NEVER
        self._stale, self._digest = True, b""
        self._wanted.set()

    def latest_ns(self) -> int:
        """When a definition last changed through this node."""
        return self._latest_definition_ns()

    def want(self, since_ns: int) -> None:
        """Read it, where that was not done later than *since_ns*."""
        self._wanted_ns = max(self._wanted_ns, since_ns)
        self._wanted.set()

    def wait(self, since_ns: int, woken: Event, timeout: float) -> bool:
        """Whether it has been read later than *since_ns*, within *timeout* seconds. *woken* ends the wait, too."""
        self.want(since_ns)
        self._waiting.add(woken)
        try:
            woken.wait(timeout)
        finally:
            self._waiting.discard(woken)
        return self.known[0] > since_ns

    # --- reading ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._users or time.monotonic() - self._left_at < IDLE:
                if not self._users:
                    if time.monotonic() - self._left_at >= GRACE:
                        self._close()
                    self._wanted.wait(GRACE)
                    self._wanted.clear()
                    continue
                try:
                    self._look()
                except (PgSplitError, OSError, ValueError, KeyError, TypeError) as error:
                    self._failed(str(error) or type(error).__name__)
                except Exception as error:
                    logger.exception("the catalogue of database %s", self._database)
                    self._failed(type(error).__name__)
                else:
                    self._wanted.wait(LOOK)
                    self._wanted.clear()
                    continue
                gevent.sleep(RETRY)
        finally:
            self._close()
            self.known[0] = NEVER
            self._greenlet = None

    def _failed(self, why: str) -> None:
        self._close()
        if why != self.why_not:
            effect = "its reads are the primary's" if self.known[0] == NEVER else "what was read stays in use"
            logger.warning("the catalogue of database %s cannot be read, %s: %s", self._database, effect, why)
        self.why_not = why
        self.failures += 1

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill()

    @property
    def read_s(self) -> float | None:
        """Seconds since what is known was read."""
        return (time.monotonic_ns() - self.known[0]) / 1e9 if self.known[0] != NEVER else None

    def _look(self) -> None:
        with gevent.Timeout(PATIENCE, TimeoutError("the catalogue was not read in time")):
            due = (self._stale or self.known[0] <= max(self._wanted_ns, self.latest_ns())
                   or time.monotonic() - self._read_at > AGE)
            if self._connection is not None and not self._is_primary(self._connection):
                self._close()
            if self._connection is None:
                connection = self._connect()
                due |= connection.reached is None or connection.reached != self._read_of
            changes = self._ask(CHANGES)[0][0] or b""
            if not due and changes == self._changes:
                return
            pause = max(PACE, SHARE * self.took_s) - (time.monotonic() - self._read_at)
            if pause > 0 and self.known[0] != NEVER:
                until = time.monotonic() + min(pause, PATIENCE / 2)
                while self._users and (left := until - time.monotonic()) > 0:
                    gevent.sleep(min(STEP, left))
                if not self._users:
                    return
                changes = self._ask(CHANGES)[0][0] or b""
            self._read(changes)

    def _read(self, changes: bytes) -> None:
        started = time.monotonic_ns()
        self._stale = False
        self._ask("begin isolation level repeatable read read only")
        answers = [self._ask(question) for question in QUESTIONS]
        self._ask("commit")
        self.took_s = (time.monotonic_ns() - started) / 1e9
        digest = _digest(answers)
        if digest != self._digest:      # else somebody has made a temporary table, say: what was learnt is true yet
            self._learn(_rows(answers))
            self._digest = digest
        self._changes, self._read_at, self.why_not = changes, time.monotonic(), ""
        self._read_of = self._connection.reached if self._connection is not None else None
        self.known[0] = started if not self._stale else NEVER
        self.readings += 1
        for woken in self._waiting:
            woken.set()

    def _connect(self) -> UpstreamConnection:
        primary = self._manager.primaries.get(self._cluster_name)
        if primary is None:
            raise ServerError("08001", f"cluster {self._cluster_name} has no primary to ask", severity="FATAL")
        cluster, monitor = self._manager.cluster(self._cluster_name), self._monitor()
        connection = UpstreamConnection(self._manager, self._cluster_name, tls=cluster.monitor_tls, counts=False,
                                        asks=True)
        try:
            connection.connect(primary)
            with connection.logging_in():
                first = connection.start({"user": monitor.username, "database": self._database, **PARAMETERS})
                connection.log_in(Credentials(monitor.username, parse(monitor.secret)), first)
            if connection.in_recovery or not self._is_primary(connection):
                raise ServerError("08001", f"{connection.name} is not the primary", severity="FATAL")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _is_primary(self, connection: UpstreamConnection) -> bool:
        """Whether what it has reached still is the cluster's primary."""
        return connection.host is self._manager.primaries.get(self._cluster_name) and not (
            self._manager.why_not_write(self._cluster_name, connection.reached))

    def _ask(self, sql: str) -> list[list[bytes | None]]:
        stream = self._connection.stream if self._connection is not None else None
        if stream is None:
            raise ConnectionLost(self._cluster_name, "the catalogue's connection is closed")
        sent = time.monotonic_ns()
        stream.write(build.query(sql))
        rows, failure = take_rows(stream)
        self._manager.asked(self._cluster_name, False, "catalogue", time.monotonic_ns() - sent)
        if failure is not None:
            raise failure
        return rows

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _digest(answers: list[list[list[bytes | None]]]) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for answer in answers:
        for row in sorted(cell or b"" for (cell,) in answer):
            found.update(row + b"\n")
    return found.digest()


def _rows(answers: list[list[list[bytes | None]]]) -> Iterator[Mapping[str, Any]]:
    """In whatever encoding the database is: texts are compared as bytes, one letter each."""
    for answer in answers:
        for number, (row,) in enumerate(answer):
            if number % AT_ONCE == AT_ONCE - 1:
                gevent.sleep(0)
            yield json.loads((row or b"").decode("latin-1"))
