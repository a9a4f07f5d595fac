"""A session's connection to a replica: made when a read first wants it, lost, made again, and changed for another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import gevent
from gevent.event import Event

from .. import log
from ..config.model import Listener
from ..errors import PgSplitError
from ..topology.host import Host
from ..topology.sampler import Waiter
from ..upstream.connection import UpstreamConnection
from ..upstream.login import Credentials
from . import client_certificate
from .login import NoReplica, connect_replica
from .session import AGAIN, CANCELLED, LATER

if TYPE_CHECKING:
    from .active import ActiveSession
    from .server import Server

logger = log.get("pgsplit.session")

LOGIN_WAIT: Final = 1.0        # seconds that a login, or a first read, under `bounded` may wait for a replica that lags
RECONNECT_AFTER: Final = 0.05  # seconds until a read may ask again for a replica that was lost, or not to be had
RECONNECT_AT_MOST: Final = 30.0       # seconds between two attempts
REPLICA_WAIT: Final = 1.0      # seconds that a read waits for the session's connection to a replica


def pick_fresh(server: Server, as_of_ns: int) -> Host | None:
    """A replica for a session that has logged in at *as_of_ns*, or logs in then."""
    patience = max(server.listener.fence_wait, min(LOGIN_WAIT, staleness(server.listener) / 1e9))
    return server.sampler.pick_fresh(as_of_ns, patience) if server.sampler is not None else None


def staleness(listener: Listener) -> int:
    """Nanoseconds by which what a session sees may be old though it is not its own."""
    return int(1e9 * listener.max_staleness) if listener.consistency == "bounded" else 0


class ReplicaConnection:
    """*active*'s. *why_none*: why the session got none when a read wanted it."""

    def __init__(self, active: ActiveSession) -> None:
        self._active = active
        self._since_ns = time.monotonic_ns()        # the session's login
        self.why_none = ""
        self._connecting: gevent.Greenlet[..., None] | None = None      # or waits until it may be tried again
        self._connected = Event()    # or not, but tried
        self._connect_delay = RECONNECT_AFTER / 2       # seconds: half of the next one
        self._target: Host | None = None        # to which the session moves

    def stop(self) -> None:
        if self._connecting is not None:
            self._connecting.kill(block=False)

    def lost(self, why: str) -> None:
        active = self._active
        logger.info("%s: goes on without a replica: %s", active.session.label, why)
        active.shared.manager.hint(active.listener.write_cluster)
        self._let_go()
        self._later(RECONNECT_AFTER)

    def _let_go(self) -> None:
        active = self._active
        active.context.freshness = None
        if active.logged_in.default is not None:
            active.logged_in.default.release()
            active.logged_in.default = None

    @property
    def _parked(self) -> bool:
        active = self._active
        return active.failover is not None and active.failover.is_parked

    def _later(self, delay: float) -> None:
        """No read waits for a replica until *delay* seconds are over."""
        active = self._active
        if active.over:
            return
        active.session.replica_may_be_had(False)
        if not self._parked and self._connecting is None:
            self._connect_delay = delay
            self._connecting = gevent.spawn_later(delay, self._may_be_had)

    def _may_be_had(self) -> None:
        self._connecting = None
        if not self._parked:
            self._active.session.replica_may_be_had(True)

    def wanted(self) -> str:
        """Have the session's replica connected, now that a read wants it. Then the read is decided about AGAIN, since
        it is to be given what this one lacks; else the rule that says why not.
        """
        active = self._active
        if active.session.take_replica():
            return AGAIN
        if self._connecting is None:
            self._connected = Event()
            self._connecting = gevent.spawn(self._connect)
        if active.session.splitter.in_flight:         # its answer is not to wait with this one
            return LATER
        waiter = active.at_fence = Waiter(0, None, self._connected)
        try:
            with active.shared.hurry:
                connected = waiter.ready.wait(REPLICA_WAIT)
        finally:
            active.at_fence = None
        if waiter.given_up:
            return CANCELLED
        if active.session.take_replica():
            return AGAIN
        if not connected:
            active.session.replica_may_be_had(False)      # who comes next does not wait for it, too
        return "no_replica"

    def _connect(self) -> None:
        """Offer the session a connection to a replica, or say why there is none, and when a read may ask again."""
        active = self._active
        connection = None
        try:
            connection = self._connection()
            self.why_none = ""
        except PgSplitError as error:
            if self.why_none != str(error):
                logger.info("%s: has no replica: %s", active.session.label, error)
            self.why_none = str(error)
        finally:
            self._connecting = None
            if connection is None:
                self._later(min(2 * self._connect_delay, RECONNECT_AT_MOST))
            elif active.over or self._parked:
                connection.close()
            else:
                self._connect_delay = RECONNECT_AFTER
                active.logged_in.default = connection
                active.freshness.compare_configurations(active.session.splitter)
                active.session.offer_replica(active.adopt("replica", connection))
            self._connected.set()

    def _connection(self) -> UpstreamConnection:
        """:raises PgSplitError: there is none to be had; or a reload has removed the cluster."""
        active = self._active
        host, self._target = self._target, None
        if host is None or host.why_not or host.fresh_ns <= self._since_ns:
            host = pick_fresh(active.server, self._since_ns)
        if host is None:
            raise NoReplica("none is fresh as of the session's login, or none can be used")
        *others, last = self._credentials()
        for credentials in others:
            try:
                return self._connect_as(credentials, host)
            except NoReplica as error:
                logger.debug("%s: by the list as it is now: %s", active.session.label, error)
        return self._connect_as(last, host)

    def _connect_as(self, credentials: Credentials, host: Host) -> UpstreamConnection:
        active = self._active
        active.logged_in.credentials = credentials
        return connect_replica(active.shared.manager, active.listener, active.logged_in, host, self._since_ns)

    def _credentials(self) -> list[Credentials]:
        """What the list of users has now, where a reload has changed it; then what the session began with."""
        active = self._active
        known, config = active.logged_in.credentials, active.shared.config()
        listeners = config.listeners if config is not None else ()
        entry = next((now.listed(known.user) for now in listeners if now.name == active.listener.name), None)
        secret = client_certificate.own_secret(entry) if entry is not None else known.secret
        return [known] if secret == known.secret else [Credentials(known.user, secret, known.keys), known]

    def moves_on(self, host: Host) -> bool:
        """Whether the session has left its replica for another, since too many read from *host* (see `Rebalance`)."""
        active = self._active
        if not active.session.splitter.may_change_replica:
            return False
        target = active.shared.manager.cluster(active.listener.read_cluster).rebalance.target(host, time.monotonic_ns())
        if target is None:
            return False
        logger.info("%s: reads from %s instead of %s from now on: sessions are spread anew", active.session.label,
                    target.name, host.name)
        active.session.change_replica()
        self._let_go()
        self._target = target
        return True
