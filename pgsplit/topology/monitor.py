"""Asking a host: health checks and samples, over one login that is kept open."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from ..auth.secret import parse
from ..config.model import Monitor as MonitorConfig
from ..errors import ConnectionLost, ProtocolViolation, ServerError
from ..split.fence import normalise, parse_lsn
from ..split.settings import RESULT_SETTINGS
from ..upstream.connection import UpstreamConnection
from ..upstream.login import Credentials
from ..upstream.rows import take_row, take_rows
from ..upstream.server_identity import START_TIME, UNKNOWN
from ..wire import build
from .check import Check
from .cluster import Cluster, ClusterManager
from .fact import Fact, Position, failure_of
from .host import MAINTENANCE, Configuration, Host, Identity
from .loop import Bell

# A standby's timeline is the one that it receives; where it receives none, or the monitor may not see which, the one
# that its control file tells, which is later to know.
SAMPLE: Final = """select pg_is_in_recovery(),
  case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end,
  case when pg_is_in_recovery() then null else pg_current_wal_insert_lsn() end,
  case when pg_is_in_recovery() then {standby} else substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) end,
  (extract(epoch from clock_timestamp()) * 1000000)::int8"""
RECEIVED: Final = "(select lpad(to_hex(received_tli), 8, '0') from pg_stat_wal_receiver)"
CONTROLLED: Final = """(select lpad(to_hex(greatest(timeline_id, min_recovery_end_timeline)), 8, '0')
  from pg_control_checkpoint(), pg_control_recovery())"""
IDENTIFY: Final = f"""select {START_TIME}, host(inet_server_addr()), inet_server_port(),
  (select setting from pg_settings where name = 'wal_segment_size'),
  (select setting from pg_settings where name = 'wal_block_size'),
  pg_has_role(current_user, 'pg_read_all_stats', 'usage'),
  has_function_privilege('pg_control_checkpoint()', 'execute')
    and has_function_privilege('pg_control_recovery()', 'execute'),
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0)"""
LOADED: Final = "select pg_conf_load_time()"
CONFIGURATION: Final = f"select name, setting from pg_settings where name in {RESULT_SETTINGS!r} order by name"
COLLATIONS: Final = """select md5(string_agg(collname || ' ' || collnamespace || ' '
    || coalesce(pg_collation_actual_version(oid), ''), ',' order by oid)) from pg_collation where collprovider <> 'd'"""
SYSTEM: Final = "select system_identifier from pg_control_system()"
COLUMNS: Final = 5
ROUND: Final = build.bind("", "sample") + build.execute() + build.SYNC


READABLE: Final = 1             # libev's EV_READ


class MonitorConnection:
    """*check* and *sample* raise ConnectionLost or ServerError when the host does not answer as it should. *name*: the
    connection's application_name.
    """

    def __init__(self, manager: ClusterManager, cluster: Cluster, host: Host, monitor: MonitorConfig,
                 name: str = "pgsplit monitor") -> None:
        self._name = name
        self.host = host
        self.sees_timelines = True         # also those that standbys receive
        self._manager = manager
        self._cluster = cluster
        self._monitor = monitor
        self._connection: UpstreamConnection | None = None
        self._lock = Semaphore()
        self._ready = False
        self._unasked: Callable[[], None] | None = None
        self._ear: Any = None                # where there is none
        self._bell: Bell | None = None       # of the loop that watches the socket
        self._watched: Any = None
        self._answered: Callable[[Position | None], None] | None = None     # who has asked in the loop
        self._sent_ns = self._heard_ns = 0
        self._segment_size, self._block_size = 16 << 20, 8192

    @property
    def open(self) -> bool:
        """Ready to be asked."""
        return self._ready and self._connection is not None

    def listen(self, heard: Callable[[], None]) -> None:
        """Call *heard* when something comes that nobody has asked for: the server's last words, or its end. Until
        `deaf`, or the connection is closed.
        """
        stream = self._connection.stream if self._connection is not None else None
        if not self.open or stream is None or stream.descriptor is None:
            return
        self._unasked = heard
        if self._watched is None:
            self._ear = gevent.get_hub().loop.io(stream.descriptor, READABLE)
            self._ear.start(self._heard)
        else:
            self._heard()               # what has come before is not told again

    def _heard(self) -> None:
        if self._lock.locked():
            if self._bell is not None:
                self._bell.set()
            return                  # a sample: somebody waits for it
        stream = self._connection.stream if self._connection is not None else None
        if self._unasked is None or stream is None or stream.descriptor is None:
            return
        poll = select.poll()
        poll.register(stream.descriptor, select.POLLIN)
        if poll.poll(0):            # else somebody has just taken it
            self._unasked()

    def deaf(self) -> None:
        self._unasked = None
        if self._ear is not None:
            self._ear.stop()
            self._ear.close()
            self._ear = None

    def _be_watched(self, connection: UpstreamConnection) -> None:
        """Have the manager's loop, where it has one, tell of what comes: a sample then costs no turn of the hub."""
        loop, stream = self._manager.loop, connection.stream
        if loop is None or stream is None or stream.sock is None:
            return
        self._bell = loop.bell()
        self._watched = loop.watch(self.host.name, stream.sock, self._heard)
        stream.wait_by(self._bell.wait)

    def connect(self) -> Identity:
        """Log in to the host, and find out which server it is.

        :raises ServerError: 08001 also when other servers than the one that is meant answer at its address.
        """
        others: list[UpstreamConnection] = []
        meant = self.host.behind
        with self._lock:
            try:
                for _ in range(TRIES):
                    identity = self._connect()
                    if meant is None or identity.started == meant.started:
                        return identity
                    assert self._connection is not None
                    others.append(self._connection)         # held until then: a balancer may count connections
                    self._connection, self._ready = None, False
            finally:
                for connection in others:
                    connection.close()
        raise ServerError("08001", f"is not found behind {self.host.endpoint}", severity="FATAL")

    def _connect(self) -> Identity:
        connection = UpstreamConnection(self._manager, self._cluster.name, tls=self._cluster.monitor_tls, counts=False)
        connection.connect(self.host)
        try:
            credentials = Credentials(self._monitor.username, parse(self._monitor.secret))
            first = connection.start({"user": self._monitor.username, "database": self._monitor.database,
                                      "application_name": self._name})
            connection.log_in(credentials, first)
            self._connection = connection
            identity, standby = self._identify()
            self._ask("identity", build.parse("sample", SAMPLE.format(standby=standby)) + build.SYNC, 0)
            self._be_watched(connection)
            self._ready = True
        except BaseException:
            self.close()
            connection.close()
            raise
        return identity

    def close(self) -> None:
        self.deaf()
        self._ready = False
        if self._watched is not None and self._manager.loop is not None:
            self._manager.loop.unwatch(self._watched)
            self._watched = None
        if self._bell is not None:
            self._bell.set()            # who waits finds the connection closed
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(None)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _identify(self) -> tuple[Identity, str]:
        """Which server it is, and the expression that tells its timeline while it is a standby."""
        started, address, port, segment, block, may_see, may_control, allowed = self._ask_row(
            "identity", build.query(IDENTIFY), 8)
        self.host.allowed = int(allowed or 0)
        self._segment_size, self._block_size = int(segment or 16 << 20), int(block or 8192)
        self.host.server = f"{address}:{port}" if address is not None else ""
        self.sees_timelines = may_see == "t"
        known = [part for part, may in ((RECEIVED, may_see), (CONTROLLED, may_control)) if may == "t"]
        try:
            system = self._ask_row("identity", build.query(SYSTEM), 1)[0] or ""
        except ServerError:
            system = ""          # the monitor may not ask; the start time still tells servers apart
        return Identity(system, int(started or 0)), f"coalesce({', '.join(known)})" if known else "null"

    def configuration(self, known: Configuration | None) -> Configuration:
        """What the server's configuration says; *known* where that has not been loaded again since."""
        with self._lock:
            loaded = self._ask_row("health", build.query(LOADED), 1)[0] or ""
            if known is not None and known.loaded == loaded:
                return known        # the time of the last reload, or of the start
            values = tuple((name or "", value or "")
                           for name, value in self._ask("configuration", build.query(CONFIGURATION), 2))
            return Configuration(loaded, values, self._ask_row("configuration", build.query(COLLATIONS), 1)[0] or "")

    def sample(self, kind: str = "sample") -> Position:
        with self._lock:
            self.ask()
            return self.answer(kind)

    def lock(self) -> Semaphore:
        """Held from `ask` to `answer` by whoever asks several hosts at once."""
        return self._lock

    def ask(self) -> None:
        self._write(ROUND)

    def answer(self, kind: str) -> Position:
        """*kind*: as which it is counted (stats/own.py)."""
        return self._position(self._row(kind, COLUMNS))

    @property
    def can_ask_in_loop(self) -> bool:
        """Whether `ask_in_loop` can be tried: nobody else asks, and nothing is to be read."""
        stream = self._connection.stream if self._connection is not None else None
        return (self._ready and self._watched is not None and not self._lock.locked()
                and stream is not None and stream.tls is None and not stream.unread)

    def ask_in_loop(self, answered: Callable[[Position | None], None]) -> bool:
        """`ask`, and be *answered* in the manager's loop, where nobody may wait. None: the answer is not the plainest,
        or not whole yet, or the connection has ended; what has come is where `answer` reads. False: not asked.
        """
        loop, stream = self._manager.loop, self._connection.stream if self._connection is not None else None
        if loop is None or stream is None:
            return False

        def arrived(cells: list[bytes | None] | None, received: bytes) -> None:
            self._answered = None
            position: Position | None = None
            if cells is None or len(cells) != COLUMNS:
                stream.put_back(received)
            else:
                self._count("sample")
                position = self._position([None if cell is None else cell.decode() for cell in cells])
            answered(position)

        self._sent_ns = time.monotonic_ns()
        if not loop.ask(self._watched, ROUND, arrived):
            return False
        self._answered = answered
        return True

    def ask_no_more(self) -> None:
        """What comes answers nobody any more who has asked in the loop."""
        self._answered = None
        if self._manager.loop is not None and self._watched is not None:
            self._manager.loop.ask_no_more(self._watched)

    def _position(self, row: Sequence[str | None]) -> Position:
        recovery, lsn, insert, timeline, clock = row
        position = parse_lsn(lsn) if lsn else 0
        return Position(recovery == "t", self._normalised(position) if recovery == "f" else position,
                        self._normalised(parse_lsn(insert)) if insert else 0,
                        int(timeline, 16) if timeline else UNKNOWN, int(clock or 0), self._sent_ns, self._heard_ns)

    def _normalised(self, lsn: int) -> int:
        return normalise(lsn, self._segment_size, self._block_size)

    def _ask(self, kind: str, data: bytes, columns: int) -> list[list[str | None]]:
        self._write(data)
        return self._rows(kind, columns)

    def _ask_row(self, kind: str, data: bytes, columns: int) -> list[str | None]:
        self._write(data)
        return self._row(kind, columns)

    def _write(self, data: bytes) -> None:
        if self._connection is None or self._connection.stream is None:
            raise ConnectionLost(self.host.name, "the monitor is not connected")
        self._sent_ns = time.monotonic_ns()
        self._connection.stream.write(data)

    def _row(self, kind: str, columns: int) -> list[str | None]:
        """The one row of an answer."""
        rows = self._rows(kind, columns)
        if len(rows) != 1:
            raise ProtocolViolation(f"{self.host.name} answered the monitor with {len(rows)} rows instead of one")
        return rows[0]

    def _rows(self, kind: str, columns: int) -> list[list[str | None]]:
        """The rows of one answer, as text, up to ReadyForQuery.

        :raises ProtocolViolation: for one that has not as many columns as were asked for.
        """
        if self._connection is None or self._connection.stream is None:
            raise ConnectionLost(self.host.name, "the monitor is not connected")
        failure: ServerError | None = None
        if (row := take_row(self._connection.stream)) is not None:
            rows = [row]
        else:
            rows, failure = take_rows(self._connection.stream)
        self._count(kind)
        if failure is not None:
            raise failure
        for row in rows:
            if len(row) != columns:
                raise ProtocolViolation(
                    f"{self.host.name} answered the monitor with {len(row)} columns instead of {columns}")
        return [[None if cell is None else cell.decode() for cell in row] for row in rows]


    def _count(self, kind: str) -> None:
        in_recovery = not self._cluster.writes if self.host.in_recovery is None else self.host.in_recovery
        self._heard_ns = time.monotonic_ns()
        self._manager.asked(self._cluster.name, in_recovery, kind, self._heard_ns - self._sent_ns)


TRIES: Final = 12         # connections to a balancer, until one reaches the server that is meant
PROBES: Final = 4         # connections beside the first one that show whether an address is a balancer's
SLOWLY: Final = 5.0       # seconds between two attempts to find a server that is not there


class HealthCheck(Check):
    """Asks the host, in the background, and tells the manager what it has found out."""

    def __init__(self, manager: ClusterManager, cluster: Cluster, host: Host, monitor: MonitorConfig) -> None:
        super().__init__(manager, cluster, host, MonitorConnection(manager, cluster, host, monitor))
        self._monitor = monitor
        self._failing_since = 0.0
        self._wake = Event()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        self._greenlet.kill()
        super().stop()

    @property
    def fails_for(self) -> float:
        return time.monotonic() - self._failing_since if self._failing_since else 0.0

    def check_now(self) -> None:
        self._wake.set()

    def can_sample(self) -> bool:
        return self.connection.open

    def fail(self, error: Exception) -> None:
        failure = failure_of(error, lost=self.connection.open)
        self.connection.close()
        if not self.stopped:
            self._failed(failure)
            self._manager.found_out(self.host, Fact(time.monotonic_ns(), failure))

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            self._wake.clear()
            if self.host.order == MAINTENANCE:
                self._leave_alone()
                self._manager.found_out(self.host, None)
                self._wake.wait()
                continue
            try:
                with gevent.Timeout(self._cluster.health_timeout, TimeoutError("the health check timed out")):
                    self._check()
            except (ServerError, ConnectionLost, ProtocolViolation, OSError, TimeoutError, ValueError, IndexError) as e:
                self.fail(e)
                self._failing_since = self._failing_since or time.monotonic()
            else:
                self._failing_since = 0.0
            interval = self._manager.interval(self._cluster)
            if self._failing_since and self.host.behind is not None:
                interval = max(interval, SLOWLY)
            self._rest(max(0.05, interval - (time.monotonic() - started)))

    def _rest(self, seconds: float) -> None:
        """Until the next check is due, or something comes from the server unasked: its last words, or its end."""
        self.connection.listen(self._wake.set)
        try:
            self._wake.wait(seconds)
        finally:
            self.connection.deaf()

    def _look_behind(self, first: Identity) -> None:
        """Whether other servers answer at the same address; what is not found out now sessions will show."""
        if self._cluster.writes:
            return
        for _ in range(PROBES):
            probe = MonitorConnection(self._manager, self._cluster, Host(self._cluster.name, self.host.address),
                                      self._monitor)
            try:
                identity = probe.connect()
            except (ServerError, ConnectionLost, OSError):
                return
            finally:
                probe.close()
            if identity.started != first.started:
                self._manager.found_behind(self._cluster, self.host.address, identity)

    def _check(self) -> None:
        host = self.host
        anew = not self.connection.open
        if anew:
            host.identity = self.connection.connect()
            host.clock.forget()
            if host.behind is None:
                self._manager.forget_behind(self._cluster, host.address, host.identity)
        host.configuration = self.connection.configuration(host.configuration)
        asked_ns = time.monotonic_ns()
        fact = Fact(asked_ns, None, self.connection.sample("health"), host.identity, host.configuration, host.server,
                    self.connection.sees_timelines, *host.protocol_known, host.allowed)
        self._answered(fact)
        self._manager.found_out(host, fact)
        if anew and host.behind is None and host.identity is not None:
            self._look_behind(host.identity)
        host.checked = True
        self._manager.changed()
