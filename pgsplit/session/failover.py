"""Another connection to a primary for a session that has lost its own (docs/failover.md; ADR 0020).

The session waits with what needs a primary, and says when that is so; until then nobody looks for one. A FATAL that
ends an idle session may be the server's end or an administrator's word to this session alone (57P01 is both): the same
server is asked for its start time, and the session stands still meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.lock import BoundedSemaphore

from .. import log
from ..errors import ServerError
from ..split.restore import Restoration
from ..upstream.connection import HostLike, UpstreamConnection
from ..wire.framing import HEADER
from ..wire.parse import error_fields
from .login import is_away
from .session import NewPrimary

if TYPE_CHECKING:
    from .active import ActiveSession

logger = log.get("pgsplit.failover")

AT_ONCE: Final = 8             # connections that a worker makes for its sessions at the same time
AGAIN: Final = 0.05            # seconds until the second attempt; each one after that comes twice as late
AGAIN_AT_MOST: Final = 0.5
CRASH_SHUTDOWN: Final = "57P02"      # says of itself that it is the server's end


class CannotRestore(ServerError):
    """The next primary does not take what the session had: no other will."""


class Queue:
    """The worker's: sessions that want a primary are served in their order, a few at a time."""

    def __init__(self) -> None:
        self._places = BoundedSemaphore(AT_ONCE)

    def __enter__(self) -> None:
        self._places.acquire()

    def __exit__(self, *raised: object) -> None:
        self._places.release()


class Failover:
    """One session's (`session.Primaries`). *adopt* makes a leg of a connection."""

    def __init__(self, active: ActiveSession, adopt: Callable[[UpstreamConnection], Any]) -> None:
        listener = active.listener
        self.patience = listener.failover_wait
        self.park_after = listener.park_after
        self.aborts = listener.lost_transaction == "abort"
        self.away = False                        # parked, or the primary is lost
        self.is_parked = False
        self._active = active
        self._adopt = adopt
        self._looking: gevent.Greenlet[..., None] | None = None
        self._over = False
        self._kept = False                       # it has lost its primary, as topology/changes.py knows

    # --- the session's words ------------------------------------------------------------------------------

    def lost(self, why: str, last_words: bytes) -> None:
        active = self._active
        logger.info("%s: goes on without a primary: %s", active.session.label, why)
        active.server.stats.primary_lost += 1
        self._kept = True
        active.shared.manager.changes.kept(active.listener.write_cluster, self._started)
        active.shared.manager.hint(active.listener.write_cluster)
        self._leave()
        if not last_words:
            return
        if error_fields(last_words[HEADER:]).sqlstate == CRASH_SHUTDOWN:
            active.session.go_on()
        else:
            self._looking = gevent.spawn(self._judge, last_words)

    def want(self) -> None:
        if self._looking is None and not self._over:
            self._active.server.stats.primary_waits += 1
            self._looking = gevent.spawn(self._find)

    def parked(self) -> None:
        active = self._active
        logger.debug("%s: is parked", active.session.label)
        active.server.stats.parked += 1
        self.is_parked = True
        self._leave()

    def stop(self) -> None:
        """The session is over."""
        self._over = True
        if self._looking is not None:
            self._looking.kill(block=False)

    def not_kept(self) -> None:
        """The session ends before it has another primary."""
        if self._kept:
            self._kept = False
            self._active.shared.manager.changes.kept(self._active.listener.write_cluster, self._started, -1)

    @property
    def _started(self) -> int:
        """The start time of the server on which the session is, or has been last."""
        reached = self._active.logged_in.main.reached
        return reached.started if reached is not None else 0

    def _leave(self) -> None:
        self.away = True
        self._active.logged_in.main.release()

    # --- in greenlets of their own ------------------------------------------------------------------------

    def _judge(self, last_words: bytes) -> None:
        """Find out whether the server that has ended the session is up as it was."""
        session, before = self._active.session, self._active.logged_in.main
        try:
            is_up = self._is_up(before)
        except Exception:
            logger.exception("%s: whether its primary is up cannot be told", session.label)
            is_up = True
        finally:
            self._looking = None
        if self._over:
            return
        if is_up:
            self.not_kept()
            session.say_goodbye(last_words)
        else:
            session.go_on()

    def _is_up(self, before: UpstreamConnection) -> bool:
        if before.reached is None or before.host is None:
            return True             # it cannot be told from what it was: its words stand
        try:
            with self._active.shared.failovers:
                connection = self._connect(before.host)
        except ServerError as error:
            return not is_away(error)
        connection.close()
        return connection.reached is not None and connection.reached.started == before.reached.started

    def _find(self) -> None:
        """Until there is one, or the session wants it no more."""
        session, delay = self._active.session, AGAIN
        began, started = time.monotonic(), self._started
        try:
            while not self._over and session.wants_primary:
                try:
                    if self._serve():
                        self._active.server.stats.primary_wait_ns += int(1e9 * (time.monotonic() - began))
                        return
                except ServerError as error:
                    if isinstance(error, CannotRestore) or not is_away(error):
                        session.cannot_go_on(error)
                        return
                    logger.debug("%s: no primary yet: %s", session.label, error)
                self._active.shared.manager.await_change(delay)
                delay = min(2 * delay, AGAIN_AT_MOST)
        finally:
            self._active.shared.manager.changes.waited(self._active.listener.write_cluster, started,
                                                       time.monotonic() - began)
            self._looking = None

    def _serve(self) -> bool:
        """Give the session a connection, where there is a primary now.

        :raises ServerError: why there is none, or why the one that there is will not do.
        """
        active, manager = self._active, self._active.shared.manager
        hosts = manager.cluster(active.listener.write_cluster).usable()
        if not hosts:
            return False
        with active.shared.failovers:
            if self._over or not active.session.wants_primary:
                return False
            connection = self._connect(manager.pick(active.listener.write_cluster))
            try:
                self._take_over(connection)
            except BaseException:
                connection.close()
                raise
        return True

    def _connect(self, host: HostLike) -> UpstreamConnection:
        active = self._active
        before = active.logged_in.main
        connection = UpstreamConnection(active.shared.manager, active.listener.write_cluster, tls=before.tls,
                                        asks=True, protocol=before.protocol)
        connection.connect(host)
        with connection.logging_in():
            connection.log_in(active.logged_in.credentials, connection.start(active.logged_in.parameters))
        return connection

    def _take_over(self, connection: UpstreamConnection) -> None:
        """*connection* is the session's from now on, with all that the one before had.

        :raises ServerError: it is no primary's, or does not take the session's state.
        """
        active = self._active
        why = active.shared.manager.why_not_write(active.listener.write_cluster, connection.reached)
        if connection.in_recovery or why:
            raise ServerError("57P03", why or "the server that was reached is in recovery", severity="FATAL")
        restoration = active.session.splitter.restoration()
        with connection.logging_in():
            self._restore(connection, restoration)
        if self._over:
            connection.close()
            return
        active.logged_in.additional = connection
        connection.callback = active.session
        self.away = self._kept = False
        active.session.offer_primary(NewPrimary(
            self._adopt(connection), restoration, connection.session.parameters,
            connection.reached.transactions if connection.reached is not None else None))
        from_park, self.is_parked = self.is_parked, False
        active.has_primary(from_park=from_park)

    def _restore(self, connection: UpstreamConnection, restoration: Restoration) -> None:
        stream, cluster = connection.stream, self._active.shared.manager.cluster(connection.cluster_name)
        assert stream is not None
        sent = time.monotonic_ns()
        if restoration.data:
            stream.be_patient(cluster.connect_timeout)
            stream.write(restoration.data)
            while not restoration.done:
                restoration.take(*stream.read_message())
            stream.be_patient(None)
            self._active.shared.manager.asked(connection.cluster_name, False, "restoration",
                                              time.monotonic_ns() - sent)
        if restoration.error:
            raise CannotRestore("08006", "the session's state cannot be given to the new primary", severity="FATAL",
                                detail=restoration.error)
