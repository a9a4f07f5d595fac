"""Clusters, and the manager that knows them all: which host a new connection goes to, and why not to another."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import gevent
from gevent import socket
from gevent.event import Event

from .. import log
from ..config.model import Cluster as ClusterConfig
from ..config.model import Config
from ..errors import ServerError
from ..split.fence import ALWAYS, Ring
from .host import ORDERED, Configurations, Host, Identity, ground_moved

if TYPE_CHECKING:
    from .connection import HostLike
    from .monitor import HealthCheck, Position

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
        self.hosts: dict[tuple[str, int], Host] = {}
        self.checks: dict[tuple[str, int], HealthCheck] = {}
        self.resolver: gevent.Greenlet[..., None] | None = None
        self._next = 0
        self._context: ssl.SSLContext | None = None

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

    def ssl_context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = client_context(self.config)
        return self._context

    def usable(self) -> list[Host]:
        return [host for host in self.hosts.values() if not host.why_not and not host.removed]

    def silent(self) -> list[Host]:
        """Those that have not answered their last check: nobody knows more of them than a connection would tell."""
        return [host for host in self.hosts.values() if host.silent and not host.order and not host.removed]

    def rotate(self, hosts: list[Host]) -> list[Host]:
        """ROUND_ROBIN: each call begins with the next one."""
        if not hosts:
            return hosts
        self._next += 1
        start = self._next % len(hosts)
        return hosts[start:] + hosts[:start]

    def reasons(self) -> str:
        return "; ".join(f"{host.name}: {host.why_not}" for host in self.hosts.values() if host.why_not) or "no host"


def client_context(config: ClusterConfig) -> ssl.SSLContext:
    """For upstreams: without a CA the certificate is not checked, as with libpq's sslmode=require.

    :raises OSError: (ssl.SSLError among them) when the CA file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    if config.tls.ca is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(config.tls.ca)
        context.check_hostname = bool(config.tls.san)
    return context


class ClusterManager:
    """All clusters of a configuration, with health checks in the background. Made in a worker, on gevent."""

    def __init__(self, config: Config, resolver: Resolve = resolve) -> None:
        self.rings: dict[str, Ring] = {}              # of each write cluster, its primary's samples
        self.primaries: dict[str, Host] = {}
        self._clusters: dict[str, Cluster] = {}
        self._resolve = resolver
        self._changed = Event()
        self._ring_of: dict[str, Identity | None] = {}
        self._pairs: dict[str, str] = {}              # read cluster -> write cluster
        self._orders: dict[str, str] = {}
        self.update(config)

    # --- configuration --------------------------------------------------------------------------------

    def update(self, config: Config) -> None:
        """Take over a configuration: clusters that it leaves alone keep their hosts and what is known of them."""
        ground_moved()
        writes = {listener.write_cluster for listener in config.listeners if listener.split_rw}
        tls = {name for listener in config.listeners if listener.upstream_ssl == "REQUIRE"
               for name in (listener.read_cluster, listener.write_cluster)}
        self._pairs = {listener.read_cluster: listener.write_cluster for listener in config.listeners}
        self._config = config
        wanted = {cluster.name: cluster for cluster in config.clusters}
        for name, cluster in list(self._clusters.items()):
            if wanted.get(name) != cluster.config or (name in tls) != cluster.monitor_tls:
                self._drop(self._clusters.pop(name))
        for name, cluster_config in wanted.items():
            self.rings.setdefault(name, Ring())
            if name not in self._clusters:
                self._clusters[name] = self._make(cluster_config, name in writes, name in tls)

    def _make(self, config: ClusterConfig, writes: bool, tls: bool) -> Cluster:
        cluster = Cluster(config, writes=writes, monitor_tls=tls)
        cluster.resolver = gevent.spawn(self._keep_resolved, cluster)
        return cluster

    def _drop(self, cluster: Cluster) -> None:
        if cluster.resolver is not None:
            cluster.resolver.kill()
        for check in cluster.checks.values():
            check.stop()
        for host in cluster.hosts.values():
            host.out("is in the configuration no more")
            host.removed = True

    def stop(self) -> None:
        for cluster in self._clusters.values():
            self._drop(cluster)
        self._clusters.clear()

    # --- names ------------------------------------------------------------------------------------------

    def _keep_resolved(self, cluster: Cluster) -> None:
        """STATIC names are resolved once, STRICT_DNS ones again and again; each address is a host."""
        while True:
            complete = self._resolve_all(cluster)
            if complete and cluster.config.type == "STATIC":
                return
            gevent.sleep(cluster.config.dns_refresh)

    def _resolve_all(self, cluster: Cluster) -> bool:
        found: set[tuple[str, int]] = set()
        complete = True
        for endpoint in cluster.config.endpoints:
            try:
                found.update(self._resolve(endpoint.host, endpoint.port))
            except OSError as error:
                complete = False
                logger.warning("cluster %s: %s does not resolve: %s", cluster.name, endpoint.host, error)
        if complete:
            for address in [address for address in cluster.hosts if address not in found]:
                logger.info("cluster %s: %s:%d is gone from the DNS", cluster.name, *address)
                host = cluster.hosts.pop(address)
                cluster.checks.pop(address).stop()       # first: a check under way would take it back
                host.out("is gone from the DNS")
                host.removed = True
        for address in sorted(found):
            if address not in cluster.hosts:
                self._add(cluster, address)
        self.changed()
        return complete

    def _add(self, cluster: Cluster, address: tuple[str, int]) -> None:
        from .monitor import HealthCheck

        host = cluster.hosts[address] = Host(cluster.name, address)
        host.order = self._orders.get(f"{cluster.name}/{host.name}", "")
        cluster.checks[address] = HealthCheck(self, cluster, host, self._config.monitor)

    # --- the operator's orders ----------------------------------------------------------------------------

    def order(self, orders: Mapping[str, str]) -> None:
        """*orders*: drain or maintenance by ``cluster/host:port``; hosts that it does not name are ready."""
        self._orders = dict(orders)
        for cluster in self._clusters.values():
            for host in cluster.hosts.values():
                before, host.order = host.order, self._orders.get(f"{cluster.name}/{host.name}", "")
                if host.order != before:
                    logger.info("%s of cluster %s: %s", host.name, cluster.name, ORDERED[host.order] or "is ready")
                    cluster.checks[host.address].check_now()
        self.changed()

    def check_now(self) -> None:
        for cluster in self._clusters.values():
            for check in cluster.checks.values():
                check.check_now()

    # --- health -----------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something about a host is known better than before: wake who waits for one."""
        self._changed.set()
        self._changed.clear()

    def seen(self, host: Host, position: Position, t_ns: int) -> None:
        """What a check or a sample found out: the host's role, and how fresh it is."""
        cluster = self._clusters.get(host.cluster_name)
        if cluster is None:
            return
        if cluster.writes:
            self._seen_writer(cluster, host, position, t_ns)
        elif self._pairs.get(cluster.name, cluster.name) == cluster.name:
            host.why_not = ""              # not split: whatever answers serves
        else:
            self._seen_reader(cluster, host, position)

    def _seen_writer(self, cluster: Cluster, host: Host, position: Position, t_ns: int) -> None:
        if position.in_recovery:
            host.out("is in recovery, not a primary")
            return
        before = self.primaries.get(cluster.name)
        if before is not host or self._ring_of.get(cluster.name) != host.identity:
            self.rings[cluster.name].clear()
            self.primaries[cluster.name] = host
            ground_moved()
            self._ring_of[cluster.name] = host.identity
        self.rings[cluster.name].add(t_ns, position.inserted)
        host.why_not = ""

    def _seen_reader(self, cluster: Cluster, host: Host, position: Position) -> None:
        writer = self._pairs[cluster.name]
        primary = self.primaries.get(writer)
        ours, theirs = host.identity, primary.identity if primary is not None else None
        host.is_primary = not position.in_recovery and theirs is not None and ours == theirs
        if host.is_primary:
            host.why_not, host.fresh_ns, host.lag_bytes = "", ALWAYS, 0
            return
        if not position.in_recovery:
            host.out("is not in recovery, and not the primary of the write cluster")
            return
        if ours is not None and theirs is not None and ours.differs(theirs):
            host.out("belongs to another PostgreSQL cluster than the primary: its system identifier differs")
            return
        if primary is not None and primary.configuration and host.configuration and (
                primary.configuration.collations != host.configuration.collations):
            host.out("has collations of other versions than the primary: it may sort, and search, differently")
            return
        ring = self.rings[writer]
        host.replayed = position.lsn
        host.fresh_ns = ring.fresh_ns(position.lsn)
        host.lag_bytes = max(0, ring.newest_lsn - position.lsn)
        host.lag_ns = ring.lag_ns(position.lsn)
        host.why_not = ""
        if over := self._over_limit(host):
            host.out(over)

    def _over_limit(self, host: Host) -> str:
        """Why its lag keeps a replica from being used. One that was over its limit comes back at half of it."""
        config = self._clusters[host.cluster_name].config
        part = 0.5 if host.lagging else 1.0
        host.lagging = True
        if config.max_lag_bytes and host.lag_bytes > config.max_lag_bytes * part:
            return f"is {host.lag_bytes} bytes behind (max_lag_bytes {config.max_lag_bytes})"
        if config.max_lag and host.lag_ns > config.max_lag * 1e9 * part:
            return f"is {host.lag_ns / 1e9:.3g} s behind (max_lag {config.max_lag:g} s)"
        host.lagging = False
        return ""

    # --- questions ----------------------------------------------------------------------------------------

    def is_primary(self, cluster_name: str, host: HostLike | None) -> bool:
        """Whether *host* is still the server that the replicas are compared with: not so after a reload that names
        another primary, or a failover.
        """
        primary = self.primaries.get(cluster_name)
        return primary is host or (isinstance(host, Host) and primary is not None and host.identity is not None
                                   and host.identity == primary.identity)

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
            clusters = self._clusters.values()
            if all(cluster.hosts and all(host.checked for host in cluster.hosts.values()) for cluster in clusters):
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
            usable = cluster.rotate(cluster.usable())
            if usable:
                return usable[0]
            left = deadline - time.monotonic()
            if left <= 0 or (cluster.hosts and all(host.checked for host in cluster.hosts.values())):
                silent = cluster.rotate(cluster.silent()) if cluster.writes else []
                if silent:
                    return silent[0]
                raise ServerError("08001", f"no host of cluster {cluster_name} can be used: {cluster.reasons()}",
                                  severity="FATAL")
            self._changed.wait(min(left, POLL))

    def counters(self) -> dict[str, int]:
        """Envoy's names: `cluster.<name>.membership_total`, `cluster.<name>.<host>.upstream_cx_active` …"""
        totals: dict[str, int] = {}
        for cluster in self._clusters.values():
            prefix = f"cluster.{cluster.name}"
            totals[f"{prefix}.membership_total"] = len(cluster.hosts)
            totals[f"{prefix}.membership_healthy"] = len(cluster.usable())
            for host in cluster.hosts.values():
                for name, value in host.counters().items():
                    totals[f"{prefix}.{host.name}.{name}"] = value
                    if name.startswith("upstream_cx"):
                        totals[f"{prefix}.{name}"] = totals.get(f"{prefix}.{name}", 0) + value
        return totals


POLL: Final = 0.1
