"""Serving the clients of one listener: startup, login, session, and the ends of all three."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import gevent
from gevent.event import Event

from .. import log
from ..auth.secret import Kind, Secret, parse
from ..config.model import Config, Listener, Process
from ..errors import ConnectionLost, PgSplitError, ServerError, Unanswered
from ..relay.counting import SessionCounter
from ..relay.pyrelay import PyRelay
from ..relay.routes import BOUNDED, CLUSTER, CONSISTENCY, EVENTUAL, Context
from ..split.batch import Batch
from ..split.decision import Upstream
from ..split.fence import NEVER, SEGMENT_HEADER
from ..split.repeat import Held
from ..split.splitter import Splitter
from ..split.token import Term, Token
from ..split.transaction import Transaction
from ..stats.digests import Digests
from ..stats.observed import Sender
from ..topology.catalogue_reader import CatalogueReader
from ..topology.cluster import ClusterManager
from ..topology.host import GROUND, Configurations, Host, differing_values
from ..topology.sampler import Sampler, Waiter
from ..upstream import auth_query, tls_context
from ..upstream.connection import UpstreamConnection
from ..upstream.login import OK, Credentials
from ..upstream.server_identity import UNKNOWN
from ..upstream.stream import Stream
from ..wire import build
from ..wire.startup import PROTOCOL_3_0, CancelRequest, StartupMessage
from . import client_certificate
from .asked_users import AskedUsers
from .cancel import cancel_read, cancel_upstream
from .console import Console
from .console_tables import Known
from .databases import Databases
from .exchange import Exchange
from .failover import Failover, Queue
from .handshake import accept_startup
from .limits import Key as LimitKey
from .limits import Limits
from .login import LoggedIn, Login, NoReplica, connect_replica, differing, is_replication, welcome
from .refusal import Refusal
from .registry import Key, Registry
from .session import AGAIN, CANCELLED, LATER, Session

logger = log.get("pgsplit.session")

LOGIN_WAIT = 1.0               # seconds that a login, or a first read, under `bounded` may wait for a replica that lags
RECONNECT_AFTER = 0.05         # seconds until a read may ask again for a replica that was lost, or not to be had
RECONNECT_AT_MOST = 30.0       # seconds between two attempts
REPLICA_WAIT = 1.0             # seconds that a read waits for the session's connection to a replica
CONSOLE_PARAMETERS = {"server_version": "15.0 (pgsplit console)", "server_encoding": "UTF8", "client_encoding": "UTF8",
                      "DateStyle": "ISO", "TimeZone": "UTC", "standard_conforming_strings": "on",
                      "integer_datetimes": "on"}


class Board(Protocol):
    """What the workers of this node tell each other."""

    def publish_write(self, now_ns: int) -> None: ...

    def latest_write_ns(self) -> int: ...

    def publish_definition(self, now_ns: int) -> None: ...

    def latest_definition_ns(self) -> int: ...


class Hurry:
    """Around what counts on the timers of gevent's hub: *relay*, the compiled one, sees to them often."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def __enter__(self) -> None:
        if self._relay is not None:
            self._relay.hurried += 1

    def __exit__(self, *raised: object) -> None:
        if self._relay is not None:
            self._relay.hurried -= 1


@dataclass
class Shared:
    """What all sessions of a worker use."""

    relay: PyRelay
    registry: Registry
    manager: ClusterManager
    board: Board
    limits: Limits
    cancel_elsewhere: Callable[[Key], None]      # ask the sibling workers
    digests: Digests = field(default_factory=Digests)
    reads_to_primary: set[str] = field(default_factory=set)      # listeners whose reads the operator has sent there
    apart: bool = False         # workers that this one's board does not know serve sessions of this node: so have all
    ask_all: Callable[[str], list[Any]] = lambda what: []        # a question to this worker and its siblings
    reload: Callable[[], None] = lambda: None                    # tell the arbiter
    forget_term: Callable[[str, str], None] = lambda cluster, user: None      # likewise; PgSplitError: no such cluster
    config: Callable[[], Config | None] = lambda: None
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    fast: Any = None             # the compiled relay; for flows in TLS, too, where that is compiled
    databases: Databases = field(init=False)
    hurry: Hurry = field(init=False)
    failovers: Queue = field(default_factory=Queue)

    def __post_init__(self) -> None:
        self.hurry = Hurry(self.fast)

    def relay_for(self, *, tls: bool) -> Any:
        """TLS of Python's ssl module is PyRelay's."""
        return self.relay if self.fast is None or (tls and not tls_context.is_compiled()) else self.fast


@dataclass
class Server:
    """One listener's part. A reload replaces *listener* and the rest; sessions keep what they began with."""

    listener: Listener
    shared: Shared
    stats: Any
    sampler: Sampler | None                      # None where reads and writes are not split
    tls: ssl.SSLContext | None = None
    binding: bytes | None = None                 # of our certificate (RFC 5929)
    sessions: set[ActiveSession] = field(default_factory=set)
    asked_users: AskedUsers | None = field(init=False, default=None)     # where auth_user may be asked for users

    def __post_init__(self) -> None:
        listener, manager = self.listener, self.shared.manager
        entry = listener.listed(listener.auth_user) if listener.split_rw and listener.auth_user else None
        if entry is not None:
            secret = client_certificate.own_secret(entry)
            self.asked_users = AskedUsers(lambda user: auth_query.ask(manager, listener, secret, user),
                                          self.shared.board.latest_write_ns)

    def handle(self, sock: socket.socket, peer: str) -> None:
        """Serve one client from its first byte to its last. Runs in a greenlet of its own; raises nothing."""
        stream = Stream(sock, "client")
        logged_in = None
        held: list[LimitKey] = []     # its places under the limits
        try:
            too_long = ConnectionLost("client", "did not log in within client_login_timeout")
            with gevent.Timeout(self.listener.client_login_timeout, too_long):
                logged_in = self._log_in(stream, held)
            if isinstance(logged_in, LoggedIn):
                self._session(stream, logged_in, peer).run()
            elif logged_in is not None:
                logged_in.run()
        except ServerError as error:
            self.stats.logins_failed += 1
            logger.info("%s: login refused: %s%s", peer, error.message, f" ({error.for_log})" if error.for_log else "")
            _tell(stream, error)
        except Unanswered as error:
            self.stats.logins_failed += 1
            logger.info("%s: closed without an answer: %s", peer, error)
        except ConnectionLost as lost:
            logger.debug("%s: %s", peer, lost)
        except Exception:
            logger.exception("%s: the session failed", peer)
        finally:
            for key in held:
                self.shared.limits.give_back(key)
            stream.close()

    def _session(self, stream: Stream, logged_in: LoggedIn, peer: str) -> ActiveSession:
        try:
            return ActiveSession(self, stream, logged_in, peer)
        except BaseException:       # the client may be gone before it is let in
            logged_in.close()
            raise

    def _log_in(self, stream: Stream, held: list[LimitKey]) -> LoggedIn | Console | None:
        """None when the client only wanted to cancel."""
        request = accept_startup(stream, self.listener.downstream_ssl, self.tls, self._newest_protocol())
        if isinstance(request, CancelRequest):
            self._cancel(request)
            return None
        client_certificate.insist(stream, self.listener)
        config = self.shared.config()
        if config is not None and is_console(config.process, request):
            return self._console(stream, request, config)
        held.append(self.shared.limits.take_listener(self.listener))
        started = time.monotonic_ns()

        def fresh_replica() -> Host | None:
            host = pick_fresh(self, started)
            return None if host is not None and host.balanced else host

        asked = self._ask_for(request.user)
        try:
            logged_in = Login(stream, request, self.listener, self.shared.manager, fresh_replica, self.binding,
                              started, asked).run()
        except ServerError:
            if asked is not None and self.asked_users is not None:
                self.asked_users.doubt(request.user)
            raise
        try:
            held.append(self.shared.limits.take_user(self.listener, request.user))
        except ServerError:
            logged_in.close()
            raise
        return logged_in

    def _ask_for(self, user: str) -> Secret | None:
        """The secret of one who is in no list, where the primary may be asked and has one."""
        if self.asked_users is None or self.listener.listed(user) is not None:
            return None
        return self.asked_users.find(user)

    def _newest_protocol(self) -> int:
        """What every host that a session may be given now is known to speak."""
        clusters = {self.listener.read_cluster, self.listener.write_cluster}
        return min((host.protocol for name in clusters for host in self.shared.manager.cluster(name).usable()),
                   default=PROTOCOL_3_0)

    def _console(self, stream: Stream, request: StartupMessage, config: Config) -> Console:
        """The SQL console, instead of a session: pgsplit itself asks for SCRAM."""
        process, user = config.process, request.user
        entry = self.listener.listed(user)
        secret = parse(entry.secret) if entry is not None else None
        if entry is None or secret is None or secret.kind is Kind.MD5:
            Refusal(stream, user, self.binding).refuse("no password or SCRAM verifier for the console in the user_list")
        if secret.kind is Kind.CERT:
            client_certificate.prove(stream, entry)
        else:
            Exchange(stream, Credentials(user, secret), self.binding).prove(secret)
        if user not in (*process.admin_users, *process.stats_users):
            raise ServerError("28000", f'user "{user}" may not use the console', severity="FATAL",
                              detail="It is neither in admin_users nor in stats_users.")
        stream.write(build.authentication(OK) + b"".join(
            build.parameter_status(name, value) for name, value in CONSOLE_PARAMETERS.items()))
        may_order = user in process.admin_users
        return Console(stream, Known(config, self.shared.ask_all), self.shared.reload if may_order else None,
                       (lambda cluster: self.shared.forget_term(cluster, user)) if may_order else None)

    def _cancel(self, request: CancelRequest) -> None:
        self.stats.cancels += 1
        key = (request.pid, request.key)
        if not self.shared.registry.cancel(key):
            self.shared.cancel_elsewhere(key)

    def drain(self) -> None:
        for active in list(self.sessions):
            active.session.drain()


def pick_fresh(server: Server, as_of_ns: int) -> Host | None:
    """A replica for a session that has logged in at *as_of_ns*, or logs in then."""
    patience = max(server.listener.fence_wait, min(LOGIN_WAIT, staleness(server.listener) / 1e9))
    return server.sampler.pick_fresh(as_of_ns, patience) if server.sampler is not None else None


def staleness(listener: Listener) -> int:
    """Nanoseconds by which what a session sees may be old though it is not its own."""
    return int(1e9 * listener.max_staleness) if listener.consistency == "bounded" else 0


def _sender(logged_in: LoggedIn) -> Sender:
    parameters, user = logged_in.parameters, logged_in.credentials.user
    return Sender(parameters.get("application_name", ""), user, parameters.get("database", user))


def is_console(process: Process, request: StartupMessage) -> bool:
    """Whether a startup asks for the SQL console: its name is a database's where nobody may use it."""
    return bool(process.admin_users or process.stats_users) and (
        request.parameters.get("database", request.user) == process.console_database)


def _tell(stream: Stream, error: ServerError) -> None:
    if error.raw is not None:
        data = build.message(b"E", error.raw)
    else:
        data = build.error_response("FATAL", error.sqlstate, error.message, detail=error.detail, hint=error.hint)
    try:
        with gevent.Timeout(5, TimeoutError()):
            stream.write(data)
    except (ConnectionLost, TimeoutError):
        pass


class ActiveSession:
    """A session and what surrounds it: its connections, its place in the registry, its replica's freshness."""

    def __init__(self, server: Server, stream: Stream, logged_in: LoggedIn, peer: str) -> None:
        self.server = server
        self.listener = server.listener
        self.shared = server.shared
        self.peer = peer
        self.logged_in = logged_in
        self.started = time.time()
        self.number = next(self.shared.numbers)
        observed = server.stats.observed.of(_sender(logged_in)) if self.listener.observes else None
        self.counter = SessionCounter(server.stats, self.shared.digests, observed)
        self._since_ns = time.monotonic_ns()
        self.key = self.shared.registry.new_key(logged_in.main.session.pid, logged_in.main.protocol)
        self._stream = stream
        self._configurations: Configurations | None = None
        self._unsure_ns = 0          # since when a read waits for the catalogue to have a relation
        self._defined_by = 0.0       # until when the read that is decided about may wait for definitions; 0: it has not
        self._at_fence: Waiter | None = None        # while a read of the session waits there
        self._over = False
        self.no_replica = ""         # why the session gets no connection to one
        self._connecting: gevent.Greenlet[..., None] | None = None      # or waits until it may be tried again
        self._connected = Event()    # or not, but tried
        self._connect_delay = RECONNECT_AFTER / 2       # seconds: half of the next one
        self._target: Host | None = None        # to which the session moves
        self.failover = self._failover()
        board = self.shared.board
        self.relay = self.shared.relay_for(tls=stream.tls is not None or logged_in.main.tls)
        reached = logged_in.main.reached
        self._on_standby = reached is not None and reached.in_recovery       # nothing is written there
        self._publish = (lambda now_ns: None) if self._on_standby else board.publish_write
        self.database = self.shared.databases.of(
            self.listener.write_cluster, logged_in.parameters.get("database", logged_in.credentials.user),
            split=server.sampler is not None and not self._on_standby)
        self.context = Context(self.database.table(server.stats, self.relay, observed), {}, self.counter.recent,
                               CONSISTENCY[self.listener.consistency], self._publish, board.latest_write_ns,
                               want=self.want, waited_in_vain=self.waited_in_vain,
                               gave_up=self.gave_up, fence_wait_ns=int(1e9 * self.listener.fence_wait),
                               writes_nothing=self._on_standby, known=self.database.known,
                               latest_definition_ns=board.latest_definition_ns,
                               staleness_ns=staleness(self.listener))
        self.session = self._make(stream)

    def _make(self, stream: Stream) -> Session:
        logged_in, relay = self.logged_in, self.relay
        main = logged_in.main
        sole = logged_in.additional is None
        counter = self.counter
        splitter = Splitter(
            self.database.classifier, counter, user=logged_in.credentials.user,
            has_replica=not (sole or is_replication(logged_in.parameters)), sole=sole,
            read_only=logged_in.read_only, opaque=is_replication(logged_in.parameters),
            parameters=main.session.parameters, observes=self.listener.observes,
            must_read_on_replica=self.listener.read_fallback == "error" and not self.listener.observes,
            transaction=self._transaction(), term=self._term, replica_clock=self.listener.clock == "replica")
        if any("pgsplit." in text.lower() for pair in logged_in.parameters.items() for text in pair):
            splitter.own_options_given()
        fence_ns = time.monotonic_ns() - self.context.staleness_ns
        welcome(stream, main.session.statuses.messages, *self.key)
        tls = stream.tls is not None
        client = relay.adopt("client", *stream.detach())
        client.traffic = self.server.stats.traffic
        flow = relay.open(client, None, self._adopt("replica" if sole else "primary", main))
        session = Session(
            relay, flow, splitter, label=f"{self.peer} {logged_in.credentials.user}",
            reask_buffer=self.listener.reask_buffer, reask_hold=self.listener.reask_hold, freshness=self,
            publish=self._publish, lost_replica=self._lost_replica, answered=counter.answered,
            remember_write=self.database.remember_write, define=self._define, repeats=self,
            primaries=self.failover)
        self.context.statements = splitter.statements
        self.context.sole = sole
        session.fence_ns = fence_ns
        main.callback = session
        self._compare_configurations(splitter)
        self.server.stats.session_began(tls=tls, upstream_tls=main.tls)
        return session

    def _failover(self) -> Failover | None:
        """What lets the session outlive its primary, where it may."""
        sole = self.logged_in.additional is None
        if sole or not self.listener.failover_wait or is_replication(self.logged_in.parameters):
            return None
        return Failover(self, lambda connection: self._adopt("primary", connection))

    def has_primary(self, *, from_park: bool) -> None:
        """The session has another connection to a primary."""
        self._compare_configurations(self.session.splitter)
        if from_park:
            self.session.replica_may_be_had(True)

    def _transaction(self) -> Transaction:
        """Which transactions of the session may read on a replica."""
        reached = self.logged_in.main.reached
        return Transaction(self.listener.transactions, reached.transactions if reached is not None else None,
                           holds=self.listener.hold_begin,
                           repeatable=self.listener.repeatable_read_only == "replica")

    def _adopt(self, name: str, connection: UpstreamConnection) -> Any:
        assert connection.stream is not None
        return self.relay.adopt(name, *connection.stream.detach())

    def run(self) -> None:
        self.shared.registry.add(self.key, self)
        self.server.sessions.add(self)
        reader = self.database.reader
        if reader is not None:
            reader.enter()
        self.look_at_primary()
        try:
            self.session.run()
        finally:
            self._over = True
            if self.session.lost_primary:
                self.shared.manager.hint(self.listener.write_cluster)
            if self.session.cut_off and not self._on_standby:
                self._count_cut()
            if reader is not None:
                reader.leave()
            self.server.stats.session_ended()
            self.server.sessions.discard(self)
            self.shared.registry.remove(self.key)
            if self._connecting is not None:
                self._connecting.kill(block=False)
            if self.failover is not None:
                self.failover.stop()
            for connection in (self.logged_in.default, self.logged_in.additional):
                if connection is not None:
                    connection.release()

    def _count_cut(self) -> None:
        self.server.stats.primary_cut += 1
        reached = self.logged_in.main.reached
        changes, started = self.shared.manager.changes, reached.started if reached is not None else 0
        if self.failover is not None:
            self.failover.not_kept()
        changes.cut(self.listener.write_cluster, started)

    def _compare_configurations(self, splitter: Splitter) -> None:
        """Tell the splitter in which settings the replica is configured differently."""
        self.context.cleared = -1
        replica, main = self.logged_in.default, self.logged_in.main
        if replica is None or replica is main:
            return
        assert isinstance(replica.host, Host)
        self._configurations = self.shared.manager.configurations(self.listener.write_cluster, replica.host)
        self.context.freshness = replica.host.freshness
        splitter.configurations_differ(differing(replica, main) | differing_values(self._configurations))

    def look_at_primary(self) -> None:
        """End the session if its server may not be written to any more: what it would take would be lost."""
        main, manager = self.logged_in.main, self.shared.manager
        if self._on_standby or (self.failover is not None and self.failover.away):
            return
        why = manager.why_not_write(self.listener.write_cluster, main.reached)
        if main.reached is None and isinstance(main.host, Host) and main.host.claims:
            why = main.host.found
        if why:
            logger.warning("%s leaves its primary: %s", self.session.label, why)
            self.session.cut(why)

    # --- the fence ----------------------------------------------------------------------------------------

    def why_not(self, fence_ns: int, batch: Batch) -> str:
        """The rule that keeps the next read from the replica, or nothing (see `Freshness`)."""
        ground = GROUND[0]
        why_not = self._why_not(fence_ns, batch)
        if why_not != AGAIN:
            self._defined_by = 0.0
        if not why_not:
            self.context.cleared = ground
        elif why_not == "reads_to_primary":
            self.context.ordered = ground
        elif why_not == "no_fresh_replica" and self.session.splitter.min_lsn is None:
            self.context.stale = ground
        return why_not

    def _why_not(self, fence_ns: int, batch: Batch) -> str:
        if self.shared.apart or (
                self.shared.reads_to_primary and self.listener.name in self.shared.reads_to_primary):
            return "reads_to_primary"
        if self.session.flow.default is None:
            return self._await_replica()
        connection, sampler = self.logged_in.default, self.server.sampler
        assert connection is not None and sampler is not None
        host = connection.host
        assert isinstance(host, Host)
        if host.why_not:
            if not self.session.splitter.in_flight:
                self.session.drop_replica(host.why_not)
            return "replica_out"
        if connection.reached is None or host.identity is None or connection.reached.started != host.identity.started:
            if not self.session.splitter.in_flight:
                self.session.drop_replica(f"another server than this one is known at {host.name}")
            return "replica_out"
        if self._moves_on(host):
            return self._await_replica()
        if not self.shared.manager.is_primary(self.listener.write_cluster, self.logged_in.main.reached):
            return "primary_changed"
        if self.shared.manager.configurations(self.listener.write_cluster, host) is not self._configurations:
            self._compare_configurations(self.session.splitter)
            return "configuration_changed"
        reader = self.database.reader
        if reader is not None:
            if not reader.usable:
                return self._await_definitions(reader, reader.latest_ns(), "definitions_unknown")
            if batch.unsure and reader.known[0] <= (self._unsure_ns or time.monotonic_ns()):
                self._unsure_ns = self._unsure_ns or time.monotonic_ns()
                return self._await_definitions(reader, self._unsure_ns, "unknown_relation")
            self._unsure_ns = 0
            if batch.unsure:
                return "unknown_relation"
            # What a replica has not replayed of the definitions that were read is not what it would do.
            fence_ns = max(fence_ns, reader.known[0])
        context = self.context
        if context.consistency != EVENTUAL:
            waits = context.consistency in (BOUNDED, CLUSTER)
            fence_ns = context.fence(fence_ns, self.session.splitter.began(time.monotonic_ns()) if waits else 0)
        return self._why_not_fresh(sampler, host, fence_ns) or (
            self._await_clock(host, fence_ns) if batch.reads_clock else "")

    def _why_not_fresh(self, sampler: Sampler, host: Host, fence_ns: int) -> str:
        """The rule that keeps the next read, which must see what there was at *fence_ns*, from *host*, or nothing."""
        context, token = self.context, self.session.splitter.min_lsn
        is_fenced = context.consistency != EVENTUAL
        if token is None:
            return self._await_fresh(sampler, host, fence_ns) if is_fenced else ""
        context.ask_for(token)
        return self._why_not_reached(sampler, host, fence_ns if is_fenced else NEVER, token)

    def _why_not_reached(self, sampler: Sampler, host: Host, fence_ns: int, token: Token) -> str:
        """The same where the session asks to see *token*, too. Where no sample has come so far yet, one that is begun
        later than it has asked will have, unless the primary itself has lost what was there.
        """
        if token.term != self._term():
            return "min_lsn_term"
        told_ns = self.context.told_ns
        as_of = self.shared.manager.rings[self.listener.write_cluster].as_of(token.lsn, told_ns)
        why_not = self._await_fresh(sampler, host, max(fence_ns, told_ns if as_of is None else as_of - 1))
        reached = host.is_primary or host.replayed + SEGMENT_HEADER >= token.lsn
        return why_not or ("" if reached else "no_fresh_replica")

    def _term(self) -> Term | None:
        """Of the session's primary; None: it has none, or its system identifier is not known."""
        reached, manager = self.logged_in.main.reached, self.shared.manager
        if reached is None or reached.in_recovery or reached.timeline == UNKNOWN:
            return None
        system = reached.system_identifier
        if not system and manager.is_primary(self.listener.write_cluster, reached):
            identity = manager.primaries[self.listener.write_cluster].identity
            system = identity.system_identifier if identity is not None else ""
        return Term(system, reached.timeline) if system else None

    def _await_fresh(self, sampler: Sampler, host: Host, fence_ns: int) -> str:
        """Have *host* fresh as of later than *fence_ns*, or say why not."""
        if host.fresh_ns > fence_ns:
            return ""
        if self.context.waited:
            self.context.waited = False
        elif not host.is_waited_for(time.monotonic_ns()):
            self._look(sampler, host, fence_ns)
        elif self.session.splitter.in_flight:       # its answer is not to wait with this one
            sampler.want(host, fence_ns, self.listener.fence_wait)
            return LATER
        else:
            self.server.stats.fence_waits += 1
            with self.shared.hurry:
                waiter = self._at_fence = Waiter(fence_ns, host)
                try:
                    found = sampler.wait(waiter, self.listener.fence_wait)
                finally:
                    self._at_fence = None
                if waiter.given_up:
                    return CANCELLED
                if found is not None:
                    return ""
            host.waited_in_vain(time.monotonic_ns(), self.context.fence_wait_ns)
        self.server.stats.fence_timeouts += 1
        return "no_fresh_replica"

    def _await_clock(self, host: Host, fence_ns: int) -> str:
        """Until the replica's clock has passed what the primary's showed at *fence_ns*: by then no row that was
        acknowledged before has a time in it that is still to come.
        """
        limit_ns, now = int(1e9 * self.listener.max_clock_skew), time.monotonic_ns()
        skew = host.skew(now)
        if skew is None or not skew.within(limit_ns):
            host.clock_apart(self.listener.name, limit_ns, now)
            return "clock_apart"
        until = skew.passed_ns(fence_ns)
        if now >= until:
            return ""
        if self.session.splitter.in_flight:         # its answer is not to wait with this one
            return LATER
        waiter = self._at_fence = Waiter(0, None)
        try:
            with self.shared.hurry:
                while not waiter.given_up and (left := until - time.monotonic_ns()) > 0:
                    waiter.ready.wait(left / 1e9)
        finally:
            self._at_fence = None
        if waiter.given_up:
            return CANCELLED
        fresh = self.listener.consistency == "eventual" or host.fresh_ns > fence_ns
        return "" if fresh and not host.why_not else "no_fresh_replica"

    def _define(self, now_ns: int) -> None:
        """A definition has been changed by the session."""
        self.shared.board.publish_definition(now_ns)
        if self.database.reader is not None:
            self.database.reader.want(now_ns)

    def _await_definitions(self, reader: CatalogueReader, since_ns: int, rule: str) -> str:
        """What a text means is known anew when the catalogue has been read later than *since_ns*; *rule*: that takes
        too long. By then others may have changed it again: one read waits for ``fence_wait`` in all.
        """
        if self.session.splitter.in_flight:
            reader.want(since_ns)
            return LATER
        now = time.monotonic()
        self._defined_by = self._defined_by or now + self.listener.fence_wait
        left = self._defined_by - now
        waiter = self._at_fence = Waiter(0, None)
        try:
            known = left > 0 and reader.wait(since_ns, waiter.ready, left)
        finally:
            self._at_fence = None
        if known or waiter.given_up:
            return CANCELLED if waiter.given_up else AGAIN
        self._unsure_ns = 0
        return rule

    # --- what the relay repeats -----------------------------------------------------------------------------

    @property
    def transaction_ns(self) -> int:
        return self.counter.transaction_ns

    @property
    def inside(self) -> int:
        return self.counter.reads.inside

    def repeated(self, held: Held) -> None:
        self.counter.repeated(held)

    def want(self, fence_ns: int) -> None:
        """A read waits in the relay until the replica is fresh as of later than *fence_ns*: have that found out."""
        connection, sampler = self.logged_in.default, self.server.sampler
        self.server.stats.fence_waits += 1
        if connection is not None and sampler is not None and isinstance(connection.host, Host):
            sampler.want(connection.host, fence_ns, self.listener.fence_wait)

    def waited_in_vain(self, now_ns: int) -> None:
        """One has waited in the relay as long as it may."""
        connection = self.logged_in.default
        if connection is not None and isinstance(connection.host, Host):
            connection.host.waited_in_vain(now_ns, self.context.fence_wait_ns)

    def gave_up(self, fence_ns: int) -> None:
        """The relay sends one to the primary."""
        self.server.stats.fence_timeouts += 1
        connection, sampler = self.logged_in.default, self.server.sampler
        if connection is not None and sampler is not None and isinstance(connection.host, Host):
            self._look(sampler, connection.host, fence_ns)

    def _look(self, sampler: Sampler, host: Host, fence_ns: int) -> None:
        """Nobody waits: only what is asked now and then makes a later one fresh, or has them wait again."""
        if not self.listener.fence_wait or host.wants_a_look(time.monotonic_ns()):
            sampler.want(host, fence_ns, 0)

    # --- another replica ------------------------------------------------------------------------------------

    def _lost_replica(self, why: str) -> None:
        logger.info("%s: goes on without a replica: %s", self.session.label, why)
        self.shared.manager.hint(self.listener.write_cluster)
        self._let_replica_go()
        self._replica_later(RECONNECT_AFTER)

    def _moves_on(self, host: Host) -> bool:
        """Whether the session has left its replica for another, since too many read from *host* (see `Rebalance`)."""
        if not self.session.splitter.may_change_replica:
            return False
        target = self.shared.manager.cluster(self.listener.read_cluster).rebalance.target(host, time.monotonic_ns())
        if target is None:
            return False
        logger.info("%s: reads from %s instead of %s from now on: sessions are spread anew", self.session.label,
                    target.name, host.name)
        self.session.change_replica()
        self._let_replica_go()
        self._target = target
        return True

    def _let_replica_go(self) -> None:
        self.context.freshness = None
        if self.logged_in.default is not None:
            self.logged_in.default.release()
            self.logged_in.default = None

    @property
    def _parked(self) -> bool:
        return self.failover is not None and self.failover.is_parked

    def _replica_later(self, delay: float) -> None:
        """No read waits for a replica until *delay* seconds are over."""
        if self._over:
            return
        self.session.replica_may_be_had(False)
        if not self._parked and self._connecting is None:
            self._connect_delay = delay
            self._connecting = gevent.spawn_later(delay, self._replica_may_be_had)

    def _replica_may_be_had(self) -> None:
        self._connecting = None
        if not self._parked:
            self.session.replica_may_be_had(True)

    def _await_replica(self) -> str:
        """Have the session's replica connected, now that a read wants it. Then the read is decided about AGAIN, since
        it is to be given what this one lacks; else the rule that says why not.
        """
        if self.session.take_replica():
            return AGAIN
        if self._connecting is None:
            self._connected = Event()
            self._connecting = gevent.spawn(self._connect)
        if self.session.splitter.in_flight:         # its answer is not to wait with this one
            return LATER
        waiter = self._at_fence = Waiter(0, None, self._connected)
        try:
            with self.shared.hurry:
                connected = waiter.ready.wait(REPLICA_WAIT)
        finally:
            self._at_fence = None
        if waiter.given_up:
            return CANCELLED
        if self.session.take_replica():
            return AGAIN
        if not connected:
            self.session.replica_may_be_had(False)      # who comes next does not wait for it, too
        return "no_replica"

    def _connect(self) -> None:
        """Offer the session a connection to a replica, or say why there is none, and when a read may ask again."""
        connection = None
        try:
            connection = self._connect_replica()
            self.no_replica = ""
        except PgSplitError as error:
            if self.no_replica != str(error):
                logger.info("%s: has no replica: %s", self.session.label, error)
            self.no_replica = str(error)
        finally:
            self._connecting = None
            if connection is None:
                self._replica_later(min(2 * self._connect_delay, RECONNECT_AT_MOST))
            elif self._over or self._parked:
                connection.close()
            else:
                self._connect_delay = RECONNECT_AFTER
                self.logged_in.default = connection
                self._compare_configurations(self.session.splitter)
                self.session.offer_replica(self._adopt("replica", connection))
            self._connected.set()

    def _connect_replica(self) -> UpstreamConnection:
        """:raises PgSplitError: there is none to be had; or a reload has removed the cluster."""
        host, self._target = self._target, None
        if host is None or host.why_not or host.fresh_ns <= self._since_ns:
            host = pick_fresh(self.server, self._since_ns)
        if host is None:
            raise NoReplica("none is fresh as of the session's login, or none can be used")
        *others, last = self._credentials()
        for credentials in others:
            try:
                return self._connect_as(credentials, host)
            except NoReplica as error:
                logger.debug("%s: by the list as it is now: %s", self.session.label, error)
        return self._connect_as(last, host)

    def _connect_as(self, credentials: Credentials, host: Host) -> UpstreamConnection:
        self.logged_in.credentials = credentials
        return connect_replica(self.shared.manager, self.listener, self.logged_in, host, self._since_ns)

    def _credentials(self) -> list[Credentials]:
        """What the list of users has now, where a reload has changed it; then what the session began with."""
        known, config = self.logged_in.credentials, self.shared.config()
        listeners = config.listeners if config is not None else ()
        entry = next((now.listed(known.user) for now in listeners if now.name == self.listener.name), None)
        secret = client_certificate.own_secret(entry) if entry is not None else known.secret
        return [known] if secret == known.secret else [Credentials(known.user, secret, known.keys), known]

    # --- cancel ---------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        if self._at_fence is not None:      # so nothing runs
            self._at_fence.give_up()
            return True
        session = self.session
        waited = session.cancel_waiting()
        running = session.splitter.running
        if running is None:
            return waited
        session.cancel_leaves()
        read = session.splitter.in_flight[0] if running is Upstream.DEFAULT else None
        told = Event()
        gevent.spawn(self._cancel, read, told)      # it goes on where nobody waits for it any longer
        told.wait()
        return True

    def _cancel(self, read: Batch | None, told: Event) -> None:
        """*read*: what is cancelled runs at the replica. *told* is set when the server has been told."""
        manager, replica = self.shared.manager, self.logged_in.default
        try:
            with self.shared.hurry:
                if read is None:
                    cancel_upstream(manager, self.logged_in.main)
                elif replica is not None:
                    cancel_read(manager, replica, self.session, read, told.set)
        finally:
            told.set()
            self.session.cancel_arrived()
