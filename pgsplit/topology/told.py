"""Clusters as a worker has them: it asks no server who it is, but is told by the monitor, one process for all workers
(docs/adr/0024). Samples, for which reads wait, it takes itself, of servers that are monitored.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

import gevent

from .. import log
from ..config.model import Address as Endpoint
from ..config.model import Config, Topology
from ..config.model import Monitor as MonitorConfig
from ..errors import ConnectionLost, ProtocolViolation, ServerError
from ..split.fence import NEVER
from .check import Check
from .cluster import Cluster, ClusterManager
from .fact import Fact, fact_of
from .host import MAINTENANCE, Host, HostKey, Identity
from .monitor import SLOWLY, MonitorConnection
from .patroni import Leader, Word

logger = log.get("pgsplit.health")

SAMPLER: Final = "pgsplit sampler"     # application_name of the connections on which a worker takes samples
UNUSED: Final = 60.0           # seconds after which one is closed on which nobody wanted a sample
AGAIN: Final = 0.5             # seconds between two attempts to make one
CONNECTING: Final = 0.25       # seconds that a login waits at most for such connections
LATE: Final = 2.0              # seconds that a fact may come later than it should, until it is none any more

HOST: Final = "host"           # kinds of what is told
NAMES: Final = "names"
WORD: Final = "patroni"
ASKED: Final = "asked"         # how often the monitor has asked, by counter

FAILURES: Final = (ServerError, ConnectionLost, ProtocolViolation, OSError, TimeoutError, ValueError, IndexError)

Key = tuple[Any, ...]
Told = Mapping[str, Any]


class MonitorLike(Protocol):
    """The monitor, as a worker reaches it."""

    def hint(self, cluster_name: str) -> None:
        """Have the hosts of a write cluster, and of the read clusters that go with it, checked now."""

    def found_behind(self, cluster_name: str, address: tuple[str, int], identity: Identity) -> None:
        """Another server has answered at *address*."""


def host_key(cluster_name: str, host: Host) -> Key:
    return (HOST, cluster_name, *host.key)


def told_of_host(cluster_name: str, host: Host, fact: Mapping[str, Any]) -> Told:
    behind = host.behind
    return {"kind": HOST, "cluster": cluster_name, "address": host.address, "fact": fact,
            "behind": None if behind is None else [behind.system_identifier, behind.started]}


def told_names(cluster: Cluster) -> Told:
    return {"kind": NAMES, "cluster": cluster.name, "names": [
        [endpoint.host, endpoint.port, addresses] for endpoint, addresses in cluster.resolved.items()]}


def told_word(cluster_name: str, word: Word) -> Told:
    leader = word.leader
    return {"kind": WORD, "cluster": cluster_name, "asked": word.asked, "silent": word.silent,
            "leader": None if leader is None else [leader.host, leader.port], "addresses": sorted(word.addresses)}


def told_asked(counts: Mapping[str, int]) -> Told:
    return {"kind": ASKED, "cluster": "", "counts": counts}


def key_of(told: Told) -> Key:
    """:raises KeyError, TypeError: for what was not told by the functions above."""
    key: Key = (told["kind"], told["cluster"])
    if told["kind"] == HOST:
        behind = told["behind"]
        key += (*told["address"], *(() if behind is None else (behind[1],)))
    return key


class ToldCheck(Check):
    """Of a host of which the monitor tells."""

    def __init__(self, manager: ToldManager, cluster: Cluster, host: Host, monitor: MonitorConfig) -> None:
        super().__init__(manager, cluster, host, MonitorConnection(manager, cluster, host, monitor, SAMPLER))
        host.monitored = False
        self._told_ns = 0            # when what was told last had been asked for
        self._over = False
        self._wanted = time.monotonic()
        self._not_before = 0.0
        self._connecting: gevent.Greenlet[..., None] | None = None
        self._why_no_sample = ""
        self._proving = False
        self._seen_at = time.monotonic()     # monitored

    def stop(self) -> None:
        self._over = True
        if self._connecting is not None:
            self._connecting.kill(block=False)
        super().stop()

    # --- what is told -------------------------------------------------------------------------------------

    def take(self, fact: Fact) -> None:
        host = self.host
        if self._over or host.order == MAINTENANCE or fact.asked_ns <= self._told_ns:
            return
        self._told_ns = fact.asked_ns
        if fact.failure is not None:
            host.monitored = False
            self._failed(fact.failure)
            return
        if fact.identity != host.identity:
            self.connection.close()
            host.identity = fact.identity
            host.clock.forget()
        if fact.configuration != host.configuration:
            host.configuration = fact.configuration
        host.server, host.allowed = fact.server, fact.allowed
        host.know_protocol(fact.protocol, fact.declined)
        host.monitored = True
        if fact.asked_ns > host.asked_ns:
            self._answered(fact)
        host.checked = True
        self._manager.changed()

    def lose_sight(self) -> None:
        """Nobody tells of it any more: what is fresh there is not known. What it is it stays, until that is."""
        if self.host.monitored:
            self.host.monitored = False
            self._know_nothing()

    def check_now(self) -> None:
        """The monitor is told by who tells us."""
        if self.host.order == MAINTENANCE:
            self.host.monitored = False
            self._leave_alone()

    # --- samples ------------------------------------------------------------------------------------------

    def can_sample(self) -> bool:
        """Where there is no connection for that now, one is made."""
        if not self.host.monitored:
            return False
        self._wanted = time.monotonic()
        if self.connection.open:
            return True
        if self._connecting is None and self._wanted >= self._not_before:
            self._connecting = gevent.spawn(self._connect)
        return False

    def _connect(self) -> None:
        try:
            with gevent.Timeout(self._cluster.health_timeout, TimeoutError("the login took too long")):
                identity = self.connection.connect()
            if self.host.identity is None or identity.started != self.host.identity.started:
                raise ConnectionLost(self.host.name, "another server answers than the monitor has found")
        except FAILURES as error:
            self._no_sample(error)
        else:
            self._why_no_sample = ""
            self.connection.listen(self._heard)
        finally:
            self._connecting = None
            self._manager.changed()

    @property
    def is_connecting(self) -> bool:
        return self._connecting is not None

    def _heard(self) -> None:
        """In the loop that watches the connection: something that nobody has asked for."""
        if not self._proving:
            self._proving = True
            gevent.spawn(self._prove)

    def _prove(self) -> None:
        """Does it still answer? What has come may have been a notice, or its last words."""
        asked_ns = time.monotonic_ns()
        try:
            with gevent.Timeout(self._cluster.health_timeout, TimeoutError("the sample timed out")):
                position = self.connection.sample()
        except FAILURES as error:
            self.fail(error)
        else:
            self._manager.sampled(self.host, position, asked_ns)
        finally:
            self._proving = False
            self._manager.hint(self._cluster.name)

    def fail(self, error: Exception) -> None:
        """A sample. Whether the host is out the monitor finds out, at once."""
        self._no_sample(error)
        if not self._over:
            self.host.fresh_ns = NEVER
            self._manager.hint(self._cluster.name)

    def _no_sample(self, error: Exception) -> None:
        self.connection.close()
        self._not_before = time.monotonic() + AGAIN
        why = str(error) or type(error).__name__
        if why != self._why_no_sample and not isinstance(error, ConnectionLost):
            logger.warning("%s of cluster %s: no sample can be taken, so that reads that wait for one are the "
                           "primary's: %s", self.host.name, self._cluster.name, why)
        self._why_no_sample = why

    def look(self, now: float, interval: float) -> None:
        """Once in a while: is what was told old, is a sample wanted no more, does the monitor know of it at all?"""
        if self.host.monitored and now - self._told_ns / 1e9 > interval + self._cluster.health_timeout + LATE:
            self.lose_sight()
        if self.connection.open and now - self._wanted > UNUSED and not self.connection.lock().locked():
            self.connection.close()
        if self.host.monitored:
            self._seen_at = now

    @property
    def fails_for(self) -> float:
        return 0.0 if self.host.monitored else time.monotonic() - self._seen_at


class ToldManager(ClusterManager):
    """*monitor*: who tells, by `take`, and is told what hints at changes."""

    tells = False

    def __init__(self, monitor: MonitorLike, *arguments: Any, **keywords: Any) -> None:
        self._monitor = monitor
        self._told: dict[Key, Told] = {}
        self._told_behind = 0.0              # when the monitor was told of servers that it may not know
        super().__init__(*arguments, **keywords)

    def update(self, config: Config) -> None:
        """The monitor may have gone over to it, and told of its names, before."""
        super().update(config)
        for name in self._clusters:
            gevent.spawn(self._take_again, (NAMES, name))

    # --- being told ---------------------------------------------------------------------------------------

    def take(self, told: Told) -> None:
        """:raises KeyError, TypeError, ValueError: for what cannot be understood."""
        key = key_of(told)
        self._told[key] = told
        cluster = self._clusters.get(told["cluster"])
        if cluster is not None:
            _TAKEN[told["kind"]](self, cluster, told)

    def take_back(self, key: Key) -> None:
        """What was told of *key* is not so any more."""
        self._told.pop(key, None)
        kind, name, *rest = key
        cluster = self._clusters.get(name)
        if kind == HOST and len(rest) > 2 and cluster is not None and (host_key := tuple(rest)) in cluster.hosts:
            self._remove(cluster, host_key, "is behind its balancer no more")
            self._count_behind(cluster, (rest[0], rest[1]))

    def forget_told(self) -> None:
        """The monitor is gone, or says nothing: nothing is fresh. Another one will tell all anew."""
        self._told = {key: told for key, told in self._told.items() if key[0] != HOST}
        for check in self._checks():
            check.lose_sight()
        self.changed()

    def monitor_counters(self) -> Mapping[str, int]:
        """How often the monitor has asked the servers."""
        counts: Mapping[str, int] = self._told.get((ASKED, ""), {}).get("counts", {})
        return counts

    def _take_names(self, cluster: Cluster, told: Told) -> None:
        cluster.resolved.update({Endpoint(host=host, port=port): [(name, number) for name, number in addresses]
                                 for host, port, addresses in told["names"]})
        self._take_hosts(cluster)

    def _take_word(self, cluster: Cluster, told: Told) -> None:
        word = self._sources.get(cluster.name)
        if word is not None:
            leader = told["leader"]
            before = word.asked, word.leader, word.addresses
            word.asked, word.silent = told["asked"], told["silent"]
            word.leader = None if leader is None else Leader(*leader)
            word.addresses = {(host, port) for host, port in told["addresses"]}
            if before != (word.asked, word.leader, word.addresses):
                self._look_at_source(cluster.name)

    def _take_host(self, cluster: Cluster, told: Told) -> None:
        key: HostKey = key_of(told)[2:]
        if key not in cluster.hosts and told["behind"] is not None:
            super().found_behind(cluster, key[:2], Identity(*told["behind"]))
        check = cluster.checks.get(key)
        if isinstance(check, ToldCheck):
            check.take(fact_of(told["fact"]))

    # --- instead of asking --------------------------------------------------------------------------------

    def _begin_resolving(self, cluster: Cluster) -> None:
        """The names are told."""

    def _source(self, name: str, topology: Topology) -> Word:
        gevent.spawn(self._take_again, (WORD, name))
        return Word(topology)

    def _check(self, cluster: Cluster, host: Host) -> Check:
        gevent.spawn(self._take_again, host_key(cluster.name, host))
        return ToldCheck(self, cluster, host, self._config.monitor)

    def _take_again(self, key: Key) -> None:
        """What was told before there was somebody to take it."""
        told = self._told.get(key)
        if told is not None:
            self.take(told)

    def _check_all_of(self, write_cluster: str) -> None:
        self._monitor.hint(write_cluster)

    def check_now(self) -> None:
        for name in {self._pairs.get(name, name) for name in self._clusters}:
            self._monitor.hint(name)

    def prepare_samples(self, checks: Collection[Check]) -> None:
        until = time.monotonic() + CONNECTING
        for check in checks:
            check.can_sample()
        while any(isinstance(check, ToldCheck) and check.is_connecting for check in checks):
            left = until - time.monotonic()
            if left <= 0:
                return
            self.await_change(left)

    def found_behind(self, cluster: Cluster, address: tuple[str, int], identity: Identity) -> None:
        self._monitor.found_behind(cluster.name, address, identity)

    def _forget_gone(self) -> None:
        """Look for what is old, or not wanted any more, too. Another monitor may not know of a balancer's servers."""
        super()._forget_gone()
        now = time.monotonic()
        if now - self._told_behind > 1:
            self._told_behind = now
            for check in self._checks():
                host = check.host
                if host.behind is not None and not host.monitored:
                    self._monitor.found_behind(host.cluster_name, host.address, host.behind)
        for check in self._checks():
            interval = self.cluster(check.host.cluster_name).health_interval
            check.look(now, interval if check.host.behind is None else max(interval, SLOWLY))

    def _checks(self) -> list[ToldCheck]:
        return [check for cluster in self._clusters.values() for check in cluster.checks.values()
                if isinstance(check, ToldCheck)]


_TAKEN: Final = {HOST: ToldManager._take_host, NAMES: ToldManager._take_names, WORD: ToldManager._take_word}
