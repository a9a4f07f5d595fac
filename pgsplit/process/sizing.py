"""How much a pgsplit of a certain size takes: connections of each server, memory, file descriptors.

The numbers of memory are measured ones (bench/RESULTS.md, docs/sizing.md): proportional set size on Linux, x86-64,
compiled relay, idle sessions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..config.model import Config, Listener
from .descriptors import OF_A_SESSION, RESERVE

MIB: Final = 1 << 20
ARBITER: Final = 26 * MIB           # with what workers share
MONITOR: Final = 17 * MIB
WORKER: Final = 19 * MIB
ADMIN: Final = 27 * MIB
SESSION: Final = 21 << 10           # all of its connections in the clear
TLS: Final = 22 << 10               # more for each of its connections that has TLS
RESERVED: Final = 3                 # superuser_reserved_connections' default


@dataclass(frozen=True)
class Size:
    """*naming*: clusters that name one server: 2 with ``servers:``, else 1. *databases*: in which sessions are.

    *client_tls*, *server_tls*: whether those connections have TLS.
    """

    sessions: int
    workers: int
    databases: int = 1
    naming: int = 1
    catalogue: bool = True
    client_tls: bool = True
    server_tls: bool = True
    admin: bool = True

    @property
    def monitors(self) -> int:
        """To each server: one a cluster that names it."""
        return self.naming

    @property
    def samplers(self) -> int:
        """To each server: one a worker, while all have reads that wait for samples."""
        return self.workers

    @property
    def catalogues(self) -> int:
        """To the primary: one a worker and database."""
        return self.workers * self.databases if self.catalogue else 0

    @property
    def passing(self) -> int:
        """For moments: who is behind an address, users that are asked for, cancels."""
        return self.workers

    @property
    def connections(self) -> int:
        """Of one server, at most: any may become the primary, or the one replica that is left."""
        return self.sessions + self.monitors + self.samplers + self.catalogues + self.passing

    @property
    def session_memory(self) -> int:
        """Bytes, with a connection to each of two servers."""
        return SESSION + TLS * (self.client_tls + 2 * self.server_tls)

    @property
    def memory(self) -> int:
        """Bytes, while sessions are idle."""
        return (ARBITER + MONITOR + self.workers * WORKER + (ADMIN if self.admin else 0)
                + self.sessions * self.session_memory)

    @property
    def descriptors(self) -> int:
        """Of one process: its siblings may be starting again, and it has all sessions."""
        return OF_A_SESSION * self.sessions + RESERVE


def of_config(config: Config, databases: int = 1, sessions: int = 0) -> Size:
    """*sessions*: in the place of what the listeners allow together, which is 0 where one has no limit."""
    limits = [listener.max_connections for listener in config.listeners]
    return Size(
        sessions=sessions or (sum(limits) if all(limits) else 0), workers=config.process.workers, databases=databases,
        naming=max(_naming(config, endpoint) for cluster in config.clusters for endpoint in cluster.endpoints),
        catalogue=config.process.catalogue, client_tls=any(listener.tls for listener in config.listeners),
        server_tls=any(listener.upstream_ssl == "REQUIRE" for listener in config.listeners),
        admin=config.admin is not None)


def wanted(config: Config, cluster: str, endpoint: object) -> tuple[int, int]:
    """Of the server at *endpoint* of *cluster*: what sessions may want of it, and what pgsplit itself does.

    The first is 0 where a listener that leads there has no limit.
    """
    there = {cluster, *(other.name for other in config.clusters if endpoint in other.endpoints)}
    limits = [listener.max_connections for listener in config.listeners if there & set(_clusters(listener))]
    size = Size(sum(limits) if all(limits) else 0, config.process.workers, naming=_naming(config, endpoint),
                catalogue=config.process.catalogue and any(
                    listener.split_rw and listener.write_cluster in there for listener in config.listeners))
    return size.sessions, size.connections - size.sessions


def _naming(config: Config, endpoint: object) -> int:
    return sum(endpoint in cluster.endpoints for cluster in config.clusters)


def _clusters(listener: Listener) -> Iterable[str]:
    return listener.read_cluster, listener.write_cluster
