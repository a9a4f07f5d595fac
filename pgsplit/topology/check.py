"""What has been found out about one host, taken for true: by who has asked it, and by who is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .. import log
from ..split.fence import NEVER
from .fact import Fact, Failure
from .host import UNCHECKED, Host

if TYPE_CHECKING:
    from .cluster import Cluster, ClusterManager
    from .monitor import MonitorConnection

logger = log.get("pgsplit.health")

BLIND: Final = ("the monitor's role may not see which timeline this standby receives, so that one which follows another"
                " primary is found out later than it could be: GRANT pg_monitor TO {user}")


class Check:
    """Keeps one host's `why_not` true. *connection* is what samples are asked on, while `can_sample`."""

    def __init__(self, manager: ClusterManager, cluster: Cluster, host: Host, connection: MonitorConnection) -> None:
        self.host = host
        self.connection = connection
        self._manager = manager
        self._cluster = cluster
        self._unseen = ""        # why it is in use all the same

    def stop(self) -> None:
        self.connection.close()

    @property
    def stopped(self) -> bool:
        """Whether another check knows better, or the host is gone."""
        return self._cluster.checks.get(self.host.key) is not self

    @property
    def fails_for(self) -> float:
        """Seconds since it last succeeded, while it does not."""
        return 0.0

    def check_now(self) -> None:
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """The host has not answered as it should: a check, or a sample that somebody waits for."""
        raise NotImplementedError

    def can_sample(self) -> bool:
        """Whether it can be asked for a sample now."""
        raise NotImplementedError

    # --- what was found out -------------------------------------------------------------------------------

    def _failed(self, failure: Failure) -> None:
        """It is out until it answers, unless the failure says nothing of sessions that work on it."""
        good = not self.host.found or self.host.other_role
        if good and (failure.full or (failure.lost and not self._unseen)):
            self._keep(failure)
            return
        if self.host.found != failure.why and self._manager.tells:
            logger.warning("%s of cluster %s is out: %s", self.host.name, self._cluster.name, failure.why)
        self.host.out(failure.why)
        self._know_nothing()
        self.host.silent = failure.silent
        self.host.checked = True
        self._unseen = ""
        if failure.ended:
            self.host.claims = False
        if self._manager.primaries.get(self._cluster.name) is self.host:
            self._manager.changes.lost(self._cluster.name)
            self._manager.hint(self._cluster.name)
        self._manager.changed()

    def _keep(self, failure: Failure) -> None:
        """In use, but unseen: what is fresh there is not known. Where one connection has ended, another says more."""
        self._know_nothing()
        if failure.full and self._unseen != failure.why and self._manager.tells:
            logger.warning("%s of cluster %s stays in use, but is not monitored, so that no read is known to be fresh "
                           "there: %s", self.host.name, self._cluster.name, failure.why)
        self._unseen = failure.why
        if not failure.full:
            self.check_now()
        self._manager.changed()

    def _know_nothing(self) -> None:
        self.host.fresh_ns = NEVER
        self.host.unknown()
        self.host.clock.forget()

    def _answered(self, fact: Fact) -> None:
        """It has, as *fact* says, and its identity is known."""
        assert fact.position is not None
        self.host.silent = False
        self._note(fact)
        self._unseen = ""
        self._manager.seen(self.host, fact.position, fact.asked_ns)

    def _note(self, fact: Fact) -> None:
        """Say what the monitor's role lacks."""
        blind = fact.position is not None and fact.position.in_recovery and not fact.sees_timelines
        note = BLIND.format(user=self._manager.monitor_user) if blind else ""
        if note and note != self.host.note and self._manager.tells:
            logger.warning("%s of cluster %s: %s", self.host.name, self._cluster.name, note)
        self.host.note = note or (self._manager.source_note(self._cluster) if self._cluster.writes else "")

    def _leave_alone(self) -> None:
        """It is in maintenance."""
        self.connection.close()
        self.host.out(UNCHECKED)
        self._know_nothing()
        self.host.claims = False
        self._manager.changed()
