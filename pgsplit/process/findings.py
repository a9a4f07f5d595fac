"""What the servers say to a configuration: for `check --connect`, and for the log when a worker starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import gevent

from ..config.loader import Loaded
from ..config.model import Address, Config
from ..topology.cluster import Cluster, ClusterManager
from ..topology.host import UNCHECKED, Host
from .sizing import wanted

PATIENCE: Final = 2.0          # seconds beyond a health check's own time: for names, and for many hosts
SECOND_LOOK: Final = 0.5       # seconds: a replica's place beside the primary is known once the primary is


@dataclass(frozen=True)
class Finding:
    """*endpoint*: of the cluster, as the configuration has it."""

    cluster: str
    endpoint: Address
    text: str


def look(manager: ClusterManager, config: Config) -> list[Finding]:
    """What keeps hosts from being used, once all have been looked at. Takes as long as the slowest, within bounds."""
    deadline = time.monotonic() + PATIENCE + max(cluster.health_timeout for cluster in config.clusters)
    while time.monotonic() < deadline and not all(map(_known, manager.clusters())):
        gevent.sleep(0.05)
    manager.check_now()
    gevent.sleep(SECOND_LOOK)
    found = [finding for cluster in manager.clusters() for finding in _of(cluster, config.monitor.username)]
    return [*_exchanged(manager, config), *found, *_crowded(manager, config)]


def of_configuration(loaded: Loaded) -> list[str]:
    """The same for a configuration that is not in force, each with where its endpoint stands."""
    logging.getLogger("pgsplit").setLevel(logging.CRITICAL)      # what health checks would log is returned
    manager = ClusterManager(loaded.config)
    try:
        found = look(manager, loaded.config)
    finally:
        manager.stop()
    return [f"{loaded.marks[f'cluster {finding.cluster} {finding.endpoint}']}: {finding.text}" for finding in found]


def _crowded(manager: ClusterManager, config: Config) -> Iterator[Finding]:
    """Servers that allow fewer connections than may be wanted of them. Where a listener has no limit nobody can say."""
    told: set[str] = set()
    for cluster in manager.clusters():
        for endpoint in dict.fromkeys(cluster.config.endpoints):
            sessions, own = wanted(config, cluster.name, endpoint)
            for host in _hosts(cluster, endpoint):
                if sessions and 0 < host.allowed < sessions + own and host.endpoint not in told:
                    told.add(host.endpoint)
                    yield Finding(cluster.name, endpoint, (
                        f"{endpoint} allows {host.allowed} connections of users who are not superusers, and "
                        f"{sessions + own} "
                        f"may be wanted: {sessions} of sessions (max_connections) and {own} of pgsplit's own: raise "
                        f"max_connections there, or set it to {max(0, host.allowed - own)} here"))


def _known(cluster: Cluster) -> bool:
    return len(cluster.resolved) == len(set(cluster.config.endpoints)) and all(
        host.checked or host.order for host in cluster.hosts.values())


def _of(cluster: Cluster, monitor: str) -> Iterator[Finding]:
    served = bool(cluster.usable())
    if cluster.finds_roles and not served and cluster.hosts and not cluster.members:
        what = "out of recovery: there is no primary" if cluster.writes else "a standby: all reads are the primary's"
        yield Finding(cluster.name, cluster.config.endpoints[0], f"no server of cluster {cluster.name} is {what}")
    for endpoint in dict.fromkeys(cluster.config.endpoints):
        if endpoint not in cluster.resolved:
            yield Finding(cluster.name, endpoint, f"{endpoint.host} does not resolve")
        for host in _hosts(cluster, endpoint):
            primary_to_be = served and cluster.writes and host.in_recovery
            if host.other_role:
                continue
            if host.found and not host.order and not primary_to_be:
                yield Finding(cluster.name, endpoint, _words(endpoint, host, monitor))
            elif host.note:
                yield Finding(cluster.name, endpoint, f"{endpoint}: {host.note}")


def _hosts(cluster: Cluster, endpoint: Address) -> list[Host]:
    """Also those behind a balancer."""
    return [host for host in cluster.hosts.values() if host.address in cluster.resolved.get(endpoint, [])]


def _words(endpoint: Address, host: Host, monitor: str) -> str:
    name = str(endpoint) if host.name == str(endpoint) else f"{endpoint} ({host.name})"
    if host.found == UNCHECKED:
        return f"{name} does not answer"
    if host.in_recovery is None and not host.silent:
        return f"{name} does not let the monitor, {monitor}, in: {host.found}"
    return host.found if host.name in host.found else f"{name}: {host.found}"


def _exchanged(manager: ClusterManager, config: Config) -> Iterator[Finding]:
    """A primary among the replicas, and a standby in the primary's place."""
    clusters = {cluster.name: cluster for cluster in manager.clusters()}
    pairs = {(listener.write_cluster, listener.read_cluster) for listener in config.listeners if listener.split_rw}
    for write, read in sorted(pairs):
        if write == read or write not in clusters or read not in clusters or clusters[write].usable() or (
                clusters[write].finds_roles):
            continue
        primaries = [host.name for host in clusters[read].hosts.values() if host.in_recovery is False]
        for endpoint in clusters[write].config.endpoints:
            if primaries and any(host.in_recovery for host in _hosts(clusters[write], endpoint)):
                yield Finding(write, endpoint, f"{endpoint} is a standby, and {' and '.join(primaries)} of the cluster "
                              f"{read} a primary: they are exchanged")
