"""Clusters, and the manager that knows them all: which host a new connection goes to, and why not to another."""

from __future__ import annotations

import ipaddress
import logging
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import gevent
from gevent import socket
from gevent.event import Event

from .. import log
from ..config.model import Address as Endpoint
from ..config.model import Cluster as ClusterConfig
from ..config.model import Config, Placement, Topology
from ..errors import ServerError
from ..split.fence import NEVER, Ring
from ..stats.own import Own
from ..upstream.tls import client_context
from .balance import POLICIES, preferred
from .changes import PATRONI, SERVERS, Changes
from .hints import Hints
from .host import ORDERED, Configurations, Host, HostKey, Identity, ground_moved
from .judge import Judge
from .loop import Loop
from .patroni import UNASKED, Patroni, Word
from .rebalance import Rebalance
from .terms import OwnTimelines, Terms, Timelines

if TYPE_CHECKING:
    from ..upstream.connection import UpstreamConnection
    from ..upstream.server_identity import Reached
    from .check import Check
    from .fact import Fact, Position

logger = log.get("pgsplit.cluster")

Resolve = Callable[[str, int], list[tuple[str, int]]]


def resolve(host: str, port: int) -> list[tuple[str, int]]:
    """All addresses of a name. :raises OSError: when it has none."""
    try:
        ipaddress.ip_address(host)
        return [(host, port)]
    except ValueError:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return sorted({(str(entry[4][0]), port) for entry in found})



class Cluster:
    """Hosts that serve alike, and their health checks. *writes*: its usable host is the primary, not a standby."""

    def __init__(self, config: ClusterConfig, *, writes: bool, monitor_tls: bool) -> None:
        self.config = config
        self.name = config.name
        self.writes = writes
        self.monitor_tls = monitor_tls
        self.hosts: dict[HostKey, Host] = {}
        self.checks: dict[HostKey, Check] = {}
        self.resolver: gevent.Greenlet[..., None] | None = None
        self.resolve_now = Event()
        self.resolved: dict[Endpoint, list[tuple[str, int]]] = {}      # what its endpoints' names were found to be
        self.zone = ""                 # this pgsplit's
        self.rebalance = Rebalance(self.preferred)
        self._context: ssl.SSLContext | None = None

    @property
    def finds_roles(self) -> bool:
        """Whether a host may have the other role than the cluster is for: then it is none of the cluster's."""
        return self.config.role == "auto"

    @property
    def connect_timeout(self) -> float:
        return self.config.connect_timeout

    @property
    def health_interval(self) -> float:
        return self.config.health_interval

    @property
    def health_timeout(self) -> float:
        return self.config.health_timeout

    @property
    def server_hostname(self) -> str | None:
        return self.config.tls.sni or (self.config.tls.san[0] if self.config.tls.san else None)

    @property
    def direct_tls(self) -> bool:
        return self.config.sslnegotiation == "direct"

    @property
    def shows_certificate(self) -> bool:
        return self.config.tls.certificate is not None

    @property
    def upstream_auth(self) -> Collection[str]:
        return self.config.upstream_auth

    def ssl_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = client_context(self.config.tls)
        return self._context

    def read_context_again(self) -> None:
        """With the next connection: the files may hold something else."""
        self._context = None

    def usable(self) -> list[Host]:
        return [host for host in self.hosts.values() if not host.why_not and not host.removed]

    def silent(self) -> list[Host]:
        """Those that have not answered their last check: nobody knows more of them than a connection would tell."""
        return [host for host in self.hosts.values() if host.silent and not host.order and not host.removed]

    def preferred(self) -> list[Host]:
        """Of those that may be used, those that new sessions get: see `balance.preferred`."""
        return preferred(self.usable(), self.zone)

    def choose(self, hosts: list[Host]) -> Host | None:
        """One of *hosts*, by the cluster's policy."""
        return POLICIES[self.config.lb_policy](hosts) if hosts else None

    def placement_of(self, address: tuple[str, int]) -> Placement:
        """Of the first endpoint whose name has *address*."""
        for endpoint, placement in zip(self.config.endpoints, self.config.placements, strict=False):
            if address in self.resolved.get(endpoint, ()):
                return placement
        return Placement()

    def reasons(self) -> str:
        return "; ".join(f"{host.name}: {host.why_not}" for host in self.hosts.values() if host.why_not) or "no host"

    @property
    def members(self) -> list[Host]:
        """All but those that have the other role."""
        return [host for host in self.hosts.values() if not host.other_role]


class ClusterManager:
    """All clusters of a configuration, with health checks in the background. Made in a worker, on gevent.

    *timelines*: the greatest that this node has seen. *demoted* is called when a server has lost the right to be
    written to: sessions that are on it must not stay (`why_not_write`). *promoted* is called with a host of a read
    cluster that has turned out to be no standby any more. *loop*: in which samples are taken, the hub where it is None.

    :attr:`tells`: the log gets to know of hosts that go out or come back.
    """

    tells = True

    def __init__(self, config: Config, resolver: Resolve = resolve, *, timelines: Timelines | None = None,
                 demoted: Callable[[], None] = lambda: None,
                 promoted: Callable[[Host], None] = lambda host: None, loop: Loop | None = None) -> None:
        self.loop = loop
        self._clusters: dict[str, Cluster] = {}
        self._own: dict[str, Own] = {}                # also of clusters that are gone: totals never fall
        self._demoted, self._promoted = demoted, promoted
        self._terms = Terms(timelines or OwnTimelines())
        self.changes = Changes()
        self.judge = Judge(self._clusters, lambda name: self._pairs.get(name, name), self._terms,
                           self._look_at_demotion, self._look_at_promotion, self._refused, self.changes, self._by_whom,
                           tells=self.tells)
        self._sources: dict[str, Word] = {}           # by write cluster
        self.rings, self.primaries = self.judge.rings, self.judge.primaries
        self._hints = Hints(self._check_all_of)
        self._resolve = resolver
        self._changed = Event()
        self._pairs: dict[str, str] = {}              # read cluster -> write cluster
        self._orders: dict[str, str] = {}
        self._config = config
        self.update(config)
        self._watcher = gevent.spawn(self._watch)

    # --- configuration --------------------------------------------------------------------------------

    def update(self, config: Config) -> None:
        """Take over a configuration. A host whose address stays keeps its sessions, and what is known of it."""
        ground_moved()
        pairs = {listener.read_cluster: listener.write_cluster for listener in config.listeners if listener.split_rw}
        writes = set(pairs.values())
        tls = {name for listener in config.listeners if listener.upstream_ssl == "REQUIRE"
               for name in (listener.read_cluster, listener.write_cluster)}
        before, self._pairs = self._pairs, pairs
        other_monitor, self._config = config.monitor != self._config.monitor, config
        wanted = {cluster.name: cluster for cluster in config.clusters}
        for name, cluster in list(self._clusters.items()):
            if name not in wanted or (name in writes) != cluster.writes:
                self._drop(self._clusters.pop(name))
        for name, cluster_config in wanted.items():
            self.rings.setdefault(name, Ring())
            if name not in self._clusters:
                self._clusters[name] = self._make(cluster_config, name in writes, name in tls)
                continue
            self._change(self._clusters[name], cluster_config, name in tls, other_monitor)
            if pairs.get(name) != before.get(name):
                for host in self._clusters[name].hosts.values():
                    host.fresh_ns = NEVER       # compared with another primary
        for cluster in self._clusters.values():
            cluster.zone = config.process.zone
        self._have_sources()

    def _have_sources(self) -> None:
        wanted = {cluster.name: cluster.config.topology for cluster in self._clusters.values()
                  if cluster.writes and cluster.config.topology.source == "patroni"}
        for name, source in list(self._sources.items()):
            if source.topology != wanted.get(name):
                self._sources.pop(name).stop()
            else:
                source.read_context_again()
        for name, topology in wanted.items():
            if name not in self._sources:
                self._sources[name] = self._source(name, topology)

    def _source(self, name: str, topology: Topology) -> Word:
        return Patroni(name, topology, interval=partial(self._interval_of, name),
                       timeout=partial(self._timeout_of, name), resolve=self._resolve,
                       changed=partial(self._look_at_source, name), asked_again=partial(self._asked_source, name))

    def _asked_source(self, name: str) -> None:
        """Patroni has been asked once more."""

    def _look_at_source(self, name: str) -> None:
        """Patroni has another word."""
        for host in self._clusters[name].hosts.values():
            host.checked &= host.found != UNASKED       # who waits for a primary waits for the next check
        self.judge.reconsider()
        self._look_at_demotion()
        self.hint(name)

    def _refused(self, cluster: Cluster, host: Host) -> str:
        """Why the cluster's source does not have *host* for the primary."""
        source = self._sources.get(cluster.name)
        if source is None:
            return ""
        names = {(endpoint.host.lower(), endpoint.port) for endpoint, addresses in cluster.resolved.items()
                 if host.address in addresses}
        return source.why_not(names | {host.address})

    def _by_whom(self, cluster: Cluster) -> str:
        """By whose word the cluster's primary is it: Patroni's counts once it has said one."""
        source = self._sources.get(cluster.name)
        return PATRONI if source is not None and source.leader is not None else SERVERS

    def _interval_of(self, name: str) -> float:
        return self.interval(self.cluster(name))

    def _timeout_of(self, name: str) -> float:
        return self.cluster(name).health_timeout

    def _is_checked(self, cluster: Cluster) -> bool:
        """Whether all that can be known of its hosts has been asked once."""
        source = self._sources.get(cluster.name)
        return bool(cluster.hosts) and all(host.checked for host in cluster.hosts.values()) and (
            source is None or source.asked)

    def source_note(self, cluster: Cluster) -> str:
        """In words, what the operator should know of who says which server is the primary."""
        source = self._sources.get(cluster.name)
        return source.note if source is not None else ""

    def _make(self, config: ClusterConfig, writes: bool, tls: bool) -> Cluster:
        cluster = Cluster(config, writes=writes, monitor_tls=tls)
        self._begin_resolving(cluster)
        return cluster

    def _begin_resolving(self, cluster: Cluster) -> None:
        cluster.resolver = gevent.spawn(self._keep_resolved, cluster)

    def _change(self, cluster: Cluster, config: ClusterConfig, tls: bool, other_monitor: bool) -> None:
        """Another configuration for *cluster*. Monitors log in anew where they would do so differently now."""
        before, cluster.config = cluster.config, config
        other_login = (other_monitor or tls != cluster.monitor_tls or config.tls != before.tls
                       or config.upstream_auth != before.upstream_auth)
        cluster.monitor_tls = tls
        cluster.read_context_again()
        if config != before:
            self._take_hosts(cluster)
            cluster.resolve_now.set()
        for address, check in list(cluster.checks.items()):
            if other_login:
                cluster.checks[address] = self._check(cluster, check.host)
                check.stop()
            else:
                check.check_now()

    def _drop(self, cluster: Cluster) -> None:
        if cluster.resolver is not None:
            cluster.resolver.kill()
        for address in list(cluster.hosts):
            self._remove(cluster, address, "is in the configuration no more")

    def stop(self) -> None:
        self._watcher.kill()
        self._hints.stop()
        for source in self._sources.values():
            source.stop()
        for cluster in self._clusters.values():
            self._drop(cluster)
        self._clusters.clear()

    # --- names ------------------------------------------------------------------------------------------

    def _keep_resolved(self, cluster: Cluster) -> None:
        """STATIC names are resolved once, STRICT_DNS ones again and again; each address is a host."""
        while True:
            complete = self._resolve_all(cluster)
            once = complete and cluster.config.type == "STATIC"
            cluster.resolve_now.wait(None if once else cluster.config.dns_refresh)
            cluster.resolve_now.clear()

    def _resolve_all(self, cluster: Cluster) -> bool:
        config, complete = cluster.config, True
        found: dict[Endpoint, list[tuple[str, int]]] = {}
        for endpoint in config.endpoints:
            try:
                found[endpoint] = self._resolve(endpoint.host, endpoint.port)
            except OSError as error:
                complete = False
                logger.warning("cluster %s: %s does not resolve: %s", cluster.name, endpoint.host, error)
        if cluster.config is config:
            cluster.resolved.update(found)
            self._take_hosts(cluster)
        return complete

    def _take_hosts(self, cluster: Cluster) -> None:
        """Have the hosts that the endpoints' names are known to be. One that does not resolve now keeps its own."""
        named = cluster.config.endpoints
        left = {address for endpoint in cluster.resolved if endpoint not in named
                for address in cluster.resolved[endpoint]}
        cluster.resolved = {endpoint: cluster.resolved[endpoint] for endpoint in named if endpoint in cluster.resolved}
        found = {address for addresses in cluster.resolved.values() for address in addresses}
        for key in [key for key in cluster.hosts if key[:2] not in found]:
            self._remove(cluster, key,
                         "is in the configuration no more" if key[:2] in left else "is gone from the DNS")
        for address in sorted(found):
            if address not in cluster.hosts:
                self._add(cluster, address)
        for host in cluster.hosts.values():
            host.placement = cluster.placement_of(host.address)
        self.changed()

    def _add(self, cluster: Cluster, address: tuple[str, int], behind: Identity | None = None) -> None:
        host = Host(cluster.name, address, behind)
        host.order = self._orders.get(f"{cluster.name}/{host.endpoint}", "")
        host.placement = cluster.placement_of(address)
        cluster.hosts[host.key] = host
        cluster.checks[host.key] = self._check(cluster, host)

    def _remove(self, cluster: Cluster, key: HostKey, why: str) -> None:
        host, check = cluster.hosts.pop(key), cluster.checks.pop(key)
        self._say("cluster %s: %s %s", cluster.name, host.name, why)
        host.removed = True
        check.stop()       # first: a check under way would take it back
        host.out(why)

    def _check(self, cluster: Cluster, host: Host) -> Check:
        from .monitor import HealthCheck

        return HealthCheck(self, cluster, host, self._config.monitor)

    # --- the operator's orders ----------------------------------------------------------------------------

    def order(self, orders: Mapping[str, str]) -> None:
        """*orders*: drain or maintenance by ``cluster/host:port``, for all servers that answer there; hosts that it
        does not name are ready.
        """
        self._orders = dict(orders)
        for cluster in self._clusters.values():
            for host in cluster.hosts.values():
                before, host.order = host.order, self._orders.get(f"{cluster.name}/{host.endpoint}", "")
                if host.order != before:
                    self._say("%s of cluster %s: %s", host.name, cluster.name, ORDERED[host.order] or "is ready")
                    cluster.checks[host.key].check_now()
        self.changed()

    def forget_terms(self, forgotten: Mapping[str, int]) -> None:
        """*forgotten*: how often the timelines of each write cluster have been forgotten by now (`Terms.forget`)."""
        for name in self._terms.forget(forgotten):
            self._say("cluster %s: the timelines that were seen are forgotten, by the operator's order", name,
                      level=logging.WARNING)
            self.hint(name)

    def check_now(self) -> None:
        for cluster in self._clusters.values():
            for check in cluster.checks.values():
                check.check_now()

    # --- health -----------------------------------------------------------------------------------------

    def hint(self, cluster_name: str) -> None:
        """Something hints at other roles of the servers of a cluster: they are checked at once, but not too often."""
        self._hints.hint(self._pairs.get(cluster_name, cluster_name))

    def _check_all_of(self, write_cluster: str) -> None:
        for cluster in self._clusters.values():
            if self._pairs.get(cluster.name, cluster.name) == write_cluster:
                for check in cluster.checks.values():
                    check.check_now()
        if (source := self._sources.get(write_cluster)) is not None:
            source.ask_now()

    def interval(self, cluster: Cluster) -> float:
        """Seconds between two checks of a host of *cluster*."""
        if not cluster.writes:
            return cluster.health_interval
        return self._hints.interval(cluster.name, cluster.health_interval, has_primary=bool(cluster.usable()))

    def _say(self, text: str, *values: str, level: int = logging.INFO) -> None:
        """In the log, unless another process does."""
        if self.tells:
            logger.log(level, text, *values)

    @property
    def monitor_user(self) -> str:
        return self._config.monitor.username

    def found_out(self, host: Host, fact: Fact | None) -> None:
        """What a check has just found out, and the host has been judged by. None: it is not looked at."""

    def changed(self) -> None:
        """Something about a host is known better than before: wake who waits for one."""
        self._changed.set()
        self._changed.clear()

    def seen(self, host: Host, position: Position, t_ns: int) -> None:
        """What a check or a sample that was asked for at *t_ns* has just found out."""
        if not host.monitored:
            return
        host.asked_ns = t_ns
        self.judge.seen(host, position, t_ns, time.monotonic_ns())

    def sampled(self, host: Host, position: Position, t_ns: int) -> None:
        """The same of a sample."""
        if not self.moves(host, position, t_ns, time.monotonic_ns()):
            self.seen(host, position, t_ns)

    def moves(self, host: Host, position: Position, t_ns: int, heard_ns: int) -> bool:
        """See `Judge.moves`. Nothing is noted of a host that nobody monitors."""
        if not host.monitored:
            return True
        host.asked_ns = t_ns
        return self.judge.moves(host, position, t_ns, heard_ns)

    def prepare_samples(self, checks: Collection[Check]) -> None:
        """Have what samples of these are taken on, within bounds; where health checks are made, that is there."""

    def await_change(self, timeout: float) -> None:
        """Until something about a host is known better than before, at most *timeout* seconds."""
        self._changed.wait(timeout)

    def _look_at_demotion(self) -> None:
        if self.judge.demotion():
            self.changed()
            self._demoted()
            for name in set(self._pairs.values()):
                self.hint(name)

    def _look_at_promotion(self, host: Host) -> None:
        self._promoted(host)
        self.hint(host.cluster_name)

    def _watch(self) -> None:
        """Look what other workers have seen, and for servers that balancers have no more."""
        while True:
            gevent.sleep(WATCH)
            self._look_at_demotion()
            self._forget_gone()
            self._spread_sessions()

    def _spread_sessions(self) -> None:
        now = time.monotonic_ns()
        due = [cluster.rebalance.look(now) for cluster in self._clusters.values() if not cluster.writes]
        if any(due):
            ground_moved()      # sessions look again at where they read

    # --- questions ----------------------------------------------------------------------------------------

    def is_primary(self, cluster_name: str, reached: Reached | None) -> bool:
        """See `Judge.is_primary`: not so after a reload that names another primary, or a failover."""
        return self.judge.is_primary(cluster_name, reached)

    def server_of(self, connection: UpstreamConnection) -> Host | None:
        """The host that *connection* has reached: its address may be a balancer's, behind which there are several.
        None: it has not said, or is not known yet; then it is looked for.
        """
        cluster, reached, host = self.cluster(connection.cluster_name), connection.reached, connection.host
        if reached is None or host is None:
            return None
        there = [other for other in cluster.hosts.values() if other.address == host.address]
        for other in there:
            if other.identity is not None and other.identity.started == reached.started:
                return other
        if all(other.identity is not None for other in there):
            self.found_behind(cluster, host.address, Identity(reached.system_identifier, reached.started))
        return None

    def await_server(self, connection: UpstreamConnection, as_of_ns: int) -> Host | None:
        """The same once it is known, and fresh as of *as_of_ns*; None when that takes too long."""
        deadline = time.monotonic() + FINDING
        while True:
            server = self.server_of(connection)
            if server is not None and not server.why_not and server.fresh_ns > as_of_ns:
                return server
            left = deadline - time.monotonic()
            if left <= 0 or connection.reached is None:
                return None
            self._changed.wait(min(left, POLL))

    def found_behind(self, cluster: Cluster, address: tuple[str, int], identity: Identity) -> None:
        """Another server than those that are known has answered at *address*: check and sample it by itself."""
        first, there = cluster.hosts.get(address), (*address, identity.started)
        alike = [host for host in cluster.hosts.values() if host.address == address]
        if first is None or there in cluster.hosts or len(alike) >= BEHIND or cluster.writes or (
                self._pairs.get(cluster.name, cluster.name) == cluster.name):
            return
        self._say("cluster %s: %s is a balancer: another server answers there, too", cluster.name, first.endpoint)
        first.balanced = True
        self._add(cluster, address, identity)

    def forget_behind(self, cluster: Cluster, address: tuple[str, int], identity: Identity) -> None:
        """The host of *address* itself is that server now."""
        there = (*address, identity.started)
        if there in cluster.hosts:
            self._remove(cluster, there, "is known by its address")
            self._count_behind(cluster, address)

    def _forget_gone(self) -> None:
        """Of a balancer's servers those that have not been found for long."""
        for cluster in self._clusters.values():
            for key, check in list(cluster.checks.items()):
                if check.host.behind is not None and check.fails_for > FORGET:
                    self._remove(cluster, key, "is behind its balancer no more")
                    self._count_behind(cluster, check.host.address)

    def _count_behind(self, cluster: Cluster, address: tuple[str, int]) -> None:
        if (first := cluster.hosts.get(address)) is not None:
            first.balanced = any(host.behind and host.address == address for host in cluster.hosts.values())

    def why_not_write(self, cluster_name: str, reached: Reached | None) -> str:
        """See `Judge.why_not_write`."""
        why = self.judge.why_not_write(cluster_name, reached)
        if why:
            self.hint(cluster_name)
        return why

    def configurations(self, write_cluster: str, host: Host) -> Configurations:
        """The same object for as long as neither has changed."""
        primary = self.primaries.get(write_cluster)
        ours = primary.configuration if primary is not None else None
        known = host.configurations
        if known is None or known[0] is not ours or known[1] is not host.configuration:
            known = host.configurations = (ours, host.configuration)
        return known

    def cluster(self, name: str) -> Cluster:
        """:raises ServerError: 08001 for one that a reload has removed: open sessions may still name it."""
        cluster = self._clusters.get(name)
        if cluster is None:
            raise ServerError("08001", f"cluster {name} is in the configuration no more", severity="FATAL")
        return cluster

    def clusters(self) -> Iterable[Cluster]:
        return self._clusters.values()

    def wait_checked(self, timeout: float) -> None:
        """Until every host has been checked once, at most *timeout* seconds."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if all(map(self._is_checked, self._clusters.values())):
                return
            self._changed.wait(min(left, POLL))

    def pick(self, cluster_name: str) -> Host:
        """The host for a new connection. Waits for the first health checks, at most `connect_timeout`.

        For writes there is no other: where none can be used, one that has missed its last check is tried all the same.

        :raises ServerError: 08001 with each host's reason when none can be used.
        """
        cluster = self.cluster(cluster_name)
        deadline = time.monotonic() + cluster.connect_timeout
        while True:
            if (host := cluster.choose(cluster.preferred())) is not None:
                return host
            left = deadline - time.monotonic()
            if left <= 0 or self._is_checked(cluster):
                silent = cluster.choose([host for host in cluster.silent() if self.judge.may_be_primary(cluster, host)]
                                        if cluster.writes else [])
                self.hint(cluster_name)
                if silent is not None:
                    return silent
                raise ServerError("08001", f"no host of cluster {cluster_name} can be used: {cluster.reasons()}",
                                  severity="FATAL")
            self._changed.wait(min(left, POLL))

    def asked(self, cluster_name: str, in_recovery: bool, kind: str, nanoseconds: int) -> None:
        """A server of the cluster has answered a question of pgsplit's own (stats/own.py) after *nanoseconds*."""
        self._own.setdefault(cluster_name, Own()).add("replica" if in_recovery else "primary", kind, nanoseconds)

    def counters(self) -> dict[str, int]:
        """Envoy's names: `cluster.<name>.membership_total`, `cluster.<name>.<host>.upstream_cx_active` …"""
        totals: dict[str, int] = {}
        for name, own in self._own.items():
            totals.update(own.to_dict(f"cluster.{name}"))
        for cluster in self._clusters.values():
            prefix = f"cluster.{cluster.name}"
            totals[f"{prefix}.membership_total"] = len(cluster.members)
            totals[f"{prefix}.membership_healthy"] = len(cluster.usable())
            if cluster.writes:
                totals[f"{prefix}.primary_changes"] = self.changes.count(cluster.name)
            for host in cluster.hosts.values():
                for name, value in host.counters().items():
                    totals[f"{prefix}.{host.name}.{name}"] = value
                    if name.startswith("upstream_cx"):
                        totals[f"{prefix}.{name}"] = totals.get(f"{prefix}.{name}", 0) + value
        return totals


POLL: Final = 0.1
FINDING: Final = 3.0           # seconds that a login waits for a server that has just been found behind a balancer
BEHIND: Final = 32             # servers at most behind one address
FORGET: Final = 60.0           # seconds that one of them may be away
WATCH: Final = 0.1           # seconds between two looks at what other workers know of timelines
