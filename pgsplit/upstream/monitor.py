"""The monitor's connection to a host: health checks and samples, over one login that is kept open."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from .. import log
from ..auth.secret import parse
from ..config.model import Monitor as MonitorConfig
from ..errors import ConnectionLost, ProtocolViolation, ServerError
from ..split.fence import normalise, parse_lsn
from ..split.settings import RESULT_SETTINGS
from ..wire import build
from ..wire.parse import data_row, server_error
from .cluster import Cluster, ClusterManager
from .connection import UpstreamConnection
from .host import MAINTENANCE, UNCHECKED, Configuration, Host, Identity
from .login import Credentials

logger = log.get("pgsplit.health")

SAMPLE: Final = """select pg_is_in_recovery(),
  case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end,
  case when pg_is_in_recovery() then null else pg_current_wal_insert_lsn() end"""
IDENTIFY: Final = """select pg_postmaster_start_time(),
  (select setting from pg_settings where name = 'wal_segment_size'),
  (select setting from pg_settings where name = 'wal_block_size')"""
LOADED: Final = "select pg_conf_load_time()"
CONFIGURATION: Final = f"select name, setting from pg_settings where name in {RESULT_SETTINGS!r} order by name"
COLLATIONS: Final = """select md5(string_agg(collname || ' ' || collnamespace || ' '
    || coalesce(pg_collation_actual_version(oid), ''), ',' order by oid)) from pg_collation where collprovider <> 'd'"""
SYSTEM: Final = "select system_identifier from pg_control_system()"
ROUND: Final = build.bind("", "sample") + build.execute() + build.SYNC


@dataclass(frozen=True, slots=True)
class Position:
    in_recovery: bool
    lsn: int                 # replayed on a standby, flushed on a primary
    inserted: int            # a primary's end of the log, up to which commits may have been acknowledged unflushed


class MonitorConnection:
    """*check* and *sample* raise ConnectionLost or ServerError when the host does not answer as it should."""

    def __init__(self, manager: ClusterManager, cluster: Cluster, host: Host, monitor: MonitorConfig) -> None:
        self.host = host
        self._manager = manager
        self._cluster = cluster
        self._monitor = monitor
        self._connection: UpstreamConnection | None = None
        self._lock = Semaphore()
        self._ready = False
        self._segment_size, self._block_size = 16 << 20, 8192

    @property
    def open(self) -> bool:
        """Ready to be asked."""
        return self._ready and self._connection is not None

    def connect(self) -> Identity:
        with self._lock:
            return self._connect()

    def _connect(self) -> Identity:
        connection = UpstreamConnection(self._manager, self._cluster.name, tls=self._cluster.monitor_tls, counts=False)
        connection.connect(self.host)
        try:
            credentials = Credentials(self._monitor.username, parse(self._monitor.secret))
            first = connection.start({"user": self._monitor.username, "database": self._monitor.database,
                                      "application_name": "pgsplit monitor"})
            connection.log_in(credentials, first)
            self._connection = connection
            identity = self._identify()
            self._write(build.parse("sample", SAMPLE) + build.SYNC)
            self._rows(0)
            self._ready = True
        except BaseException:
            self.close()
            connection.close()
            raise
        return identity

    def close(self) -> None:
        self._ready = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _identify(self) -> Identity:
        self._write(build.query(IDENTIFY))
        started, segment, block = self._row(3)
        self._segment_size, self._block_size = int(segment or 16 << 20), int(block or 8192)
        try:
            self._write(build.query(SYSTEM))
            system = self._row(1)[0] or ""
        except ServerError:
            system = ""          # the monitor may not ask; the start time still tells servers apart
        return Identity(system, started or "")

    def configuration(self, known: Configuration | None) -> Configuration:
        """What the server's configuration says; *known* where that has not been loaded again since."""
        with self._lock:
            self._write(build.query(LOADED))
            loaded = self._row(1)[0] or ""
            if known is not None and known.loaded == loaded:
                return known        # the time of the last reload, or of the start
            self._write(build.query(CONFIGURATION))
            values = tuple((name or "", value or "") for name, value in self._rows(2))
            self._write(build.query(COLLATIONS))
            return Configuration(loaded, values, self._row(1)[0] or "")

    def sample(self) -> Position:
        with self._lock:
            self.ask()
            return self.answer()

    def lock(self) -> Semaphore:
        """Held from `ask` to `answer` by whoever asks several hosts at once."""
        return self._lock

    def ask(self) -> None:
        self._write(ROUND)

    def answer(self) -> Position:
        recovery, lsn, insert = self._row(3)
        position = parse_lsn(lsn) if lsn else 0
        return Position(recovery == "t", self._normalised(position) if recovery == "f" else position,
                        self._normalised(parse_lsn(insert)) if insert else 0)

    def _normalised(self, lsn: int) -> int:
        return normalise(lsn, self._segment_size, self._block_size)

    def _write(self, data: bytes) -> None:
        if self._connection is None or self._connection.stream is None:
            raise ConnectionLost(self.host.name, "the monitor is not connected")
        self._connection.stream.write(data)

    def _row(self, columns: int) -> list[str | None]:
        """The one row of an answer."""
        rows = self._rows(columns)
        if len(rows) != 1:
            raise ProtocolViolation(f"{self.host.name} answered the monitor with {len(rows)} rows instead of one")
        return rows[0]

    def _rows(self, columns: int) -> list[list[str | None]]:
        """The rows of one answer, as text, up to ReadyForQuery.

        :raises ProtocolViolation: for one that has not as many columns as were asked for.
        """
        if self._connection is None or self._connection.stream is None:
            raise ConnectionLost(self.host.name, "the monitor is not connected")
        rows: list[list[str | None]] = []
        failure: ServerError | None = None
        while True:
            kind, body = self._connection.stream.read_message()
            if kind == ord("D"):
                row = [None if cell is None else cell.decode() for cell in data_row(body)]
                if len(row) != columns:
                    raise ProtocolViolation(
                        f"{self.host.name} answered the monitor with {len(row)} columns instead of {columns}")
                rows.append(row)
            elif kind == ord("E"):
                failure = server_error(body)
                if failure.severity in ("FATAL", "PANIC"):
                    raise failure
            elif kind == ord("Z"):
                if failure is not None:
                    raise failure
                return rows


class HealthCheck:
    """Keeps one host's `why_not` true, in the background."""

    def __init__(self, manager: ClusterManager, cluster: Cluster, host: Host, monitor: MonitorConfig) -> None:
        self.host = host
        self.connection = MonitorConnection(manager, cluster, host, monitor)
        self._manager = manager
        self._cluster = cluster
        self._wake = Event()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        self._greenlet.kill()
        self.connection.close()

    def check_now(self) -> None:
        self._wake.set()

    def fail(self, error: Exception) -> None:
        """The host did not answer: it is out until it does."""
        self.connection.close()
        why = str(error) or type(error).__name__
        if self.host.found != why:
            logger.warning("%s of cluster %s is out: %s", self.host.name, self._cluster.name, why)
        self.host.out(why)
        self.host.silent = not isinstance(error, ServerError) or error.sqlstate[:2] in ("08", "57")
        self.host.checked = True
        self._manager.changed()

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            self._wake.clear()
            if self.host.order == MAINTENANCE:
                self._leave_alone()
                continue
            try:
                with gevent.Timeout(self._cluster.health_timeout, TimeoutError("the health check timed out")):
                    self._check()
            except (ServerError, ConnectionLost, ProtocolViolation, OSError, TimeoutError, ValueError, IndexError) as e:
                self.fail(e)
            self._wake.wait(max(0.05, self._cluster.health_interval - (time.monotonic() - started)))

    def _leave_alone(self) -> None:
        self.connection.close()
        self.host.out(UNCHECKED)
        self._manager.changed()
        self._wake.wait()

    def _check(self) -> None:
        host = self.host
        if not self.connection.open:
            host.identity = self.connection.connect()
        host.configuration = self.connection.configuration(host.configuration)
        t_ns = time.monotonic_ns()
        position = self.connection.sample()
        was, host.in_recovery = host.found, position.in_recovery
        host.checked = True
        host.silent = False
        self._manager.seen(host, position, t_ns)
        if was and not host.found:
            logger.info("%s of cluster %s can be used: %s", host.name, self._cluster.name,
                        "a standby" if position.in_recovery else "the primary")
        self._manager.changed()
