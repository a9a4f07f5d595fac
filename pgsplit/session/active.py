"""A session that is logged in, with all that it is made of, up to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from .. import log
from ..relay.counting import SessionCounter
from ..relay.routes import CONSISTENCY, Context
from ..split.batch import Batch
from ..split.decision import Upstream
from ..split.repeat import Held
from ..split.splitter import Splitter
from ..split.token import Term
from ..split.transaction import Transaction
from ..stats.observed import Sender
from ..topology.host import Host
from ..topology.sampler import Waiter
from ..upstream.connection import UpstreamConnection
from ..upstream.server_identity import UNKNOWN
from ..upstream.stream import Stream
from .cancel import cancel_read, cancel_upstream
from .failover import Failover
from .freshness import ReplicaFreshness
from .login import LoggedIn, is_replication, welcome
from .replica import ReplicaConnection, staleness
from .session import Session

if TYPE_CHECKING:
    from .server import Server

logger = log.get("pgsplit.session")


class ActiveSession:
    """A session and what surrounds it: its connections, its place in the registry, its primary and its replica."""

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
        self.key = self.shared.registry.new_key(logged_in.main.session.pid, logged_in.main.protocol)
        self._stream = stream
        self.at_fence: Waiter | None = None         # while a read of the session waits there
        self.over = False
        self.replica = ReplicaConnection(self)
        self.freshness = ReplicaFreshness(self)
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
                               want=self.freshness.want, waited_in_vain=self.freshness.waited_in_vain,
                               gave_up=self.freshness.gave_up, fence_wait_ns=int(1e9 * self.listener.fence_wait),
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
            transaction=self._transaction(), term=self.term, replica_clock=self.listener.clock == "replica")
        if any("pgsplit." in text.lower() for pair in logged_in.parameters.items() for text in pair):
            splitter.own_options_given()
        fence_ns = time.monotonic_ns() - self.context.staleness_ns
        welcome(stream, main.session.statuses.messages, *self.key)
        tls = stream.tls is not None
        client = relay.adopt("client", *stream.detach())
        client.traffic = self.server.stats.traffic
        flow = relay.open(client, None, self.adopt("replica" if sole else "primary", main))
        session = Session(
            relay, flow, splitter, label=f"{self.peer} {logged_in.credentials.user}",
            reask_buffer=self.listener.reask_buffer, reask_hold=self.listener.reask_hold, freshness=self.freshness,
            publish=self._publish, lost_replica=self.replica.lost, answered=counter.answered,
            remember_write=self.database.remember_write, define=self._define, repeats=self,
            primaries=self.failover)
        self.context.statements = splitter.statements
        self.context.sole = sole
        session.fence_ns = fence_ns
        main.callback = session
        self.freshness.compare_configurations(splitter)
        self.server.stats.session_began(tls=tls, upstream_tls=main.tls)
        return session

    def _failover(self) -> Failover | None:
        """What lets the session outlive its primary, where it may."""
        sole = self.logged_in.additional is None
        if sole or not self.listener.failover_wait or is_replication(self.logged_in.parameters):
            return None
        return Failover(self, lambda connection: self.adopt("primary", connection))

    def has_primary(self, *, from_park: bool) -> None:
        """The session has another connection to a primary."""
        self.freshness.compare_configurations(self.session.splitter)
        if from_park:
            self.session.replica_may_be_had(True)

    def _transaction(self) -> Transaction:
        """Which transactions of the session may read on a replica."""
        reached = self.logged_in.main.reached
        return Transaction(self.listener.transactions, reached.transactions if reached is not None else None,
                           holds=self.listener.hold_begin,
                           repeatable=self.listener.repeatable_read_only == "replica")

    def adopt(self, name: str, connection: UpstreamConnection) -> Any:
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
            self.over = True
            if self.session.lost_primary:
                self.shared.manager.hint(self.listener.write_cluster)
            if self.session.cut_off and not self._on_standby:
                self._count_cut()
            if reader is not None:
                reader.leave()
            self.server.stats.session_ended()
            self.server.sessions.discard(self)
            self.shared.registry.remove(self.key)
            self.replica.stop()
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

    def _define(self, now_ns: int) -> None:
        """A definition has been changed by the session."""
        self.shared.board.publish_definition(now_ns)
        if self.database.reader is not None:
            self.database.reader.want(now_ns)

    def term(self) -> Term | None:
        """Of the session's primary; None: it has none, or its system identifier is not known."""
        reached, manager = self.logged_in.main.reached, self.shared.manager
        if reached is None or reached.in_recovery or reached.timeline == UNKNOWN:
            return None
        system = reached.system_identifier
        if not system and manager.is_primary(self.listener.write_cluster, reached):
            identity = manager.primaries[self.listener.write_cluster].identity
            system = identity.system_identifier if identity is not None else ""
        return Term(system, reached.timeline) if system else None

    # --- what the relay repeats -----------------------------------------------------------------------------

    @property
    def transaction_ns(self) -> int:
        return self.counter.transaction_ns

    @property
    def inside(self) -> int:
        return self.counter.reads.inside

    def repeated(self, held: Held) -> None:
        self.counter.repeated(held)

    # --- cancel ---------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        if self.at_fence is not None:      # so nothing runs
            self.at_fence.give_up()
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


def _sender(logged_in: LoggedIn) -> Sender:
    parameters, user = logged_in.parameters, logged_in.credentials.user
    return Sender(parameters.get("application_name", ""), user, parameters.get("database", user))
