"""A connection to an upstream: host chosen, TLS, login; then its stream becomes a leg of the session (S2, S3)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Protocol

import gevent
from gevent import socket

from ..errors import ConnectionLost, ServerError
from ..wire import build
from .login import Credentials, ServerSession, authenticate, finish, read_request, start_tls
from .stream import Stream


class AdditionalConnCallback(Protocol):
    """What a session implements to be given the additional upstream's answers."""

    def write_callback(self, size: int) -> None:
        """The next *size* bytes of what the additional upstream sent are the client's."""


class HostLike(Protocol):
    """What a connection needs of a host (upstream/host.py)."""

    name: str
    address: tuple[str, int]

    def connected(self) -> None: ...
    def closed(self) -> None: ...
    def connect_failed(self, why: str) -> None: ...


class ClusterLike(Protocol):
    connect_timeout: float
    server_hostname: str | None

    def ssl_context(self) -> ssl.SSLContext: ...


class ClusterManagerLike(Protocol):
    def cluster(self, name: str) -> ClusterLike: ...
    def pick(self, cluster_name: str) -> HostLike: ...


class UpstreamConnection:
    """One connection to a host of *cluster_name*. *callback* gets what the upstream sends once the session runs."""

    def __init__(self, cluster_manager: ClusterManagerLike, cluster_name: str,
                 callback: AdditionalConnCallback | None = None, *, tls: bool) -> None:
        self._manager = cluster_manager
        self._cluster_name = cluster_name
        self.callback = callback
        self.tls = tls
        self.host: HostLike | None = None
        self.stream: Stream | None = None
        self.session = ServerSession()
        self._counted = False

    def connect(self, host: HostLike | None = None) -> Stream:
        """Connect to *host*, or to the one that the cluster's policy picks, and secure the connection.

        :raises ServerError: 08001 when no host can be reached, with each one's reason.
        """
        cluster = self._manager.cluster(self._cluster_name)
        self.host = host or self._manager.pick(self._cluster_name)
        try:
            with gevent.Timeout(cluster.connect_timeout, TimeoutError("connect_timeout is over")):
                sock = socket.create_connection(self.host.address)
                self.stream = Stream(sock, self.host.name)
                if self.tls:
                    start_tls(self.stream, cluster.ssl_context(), cluster.server_hostname)
        except (OSError, TimeoutError, ConnectionLost) as error:
            why = getattr(error, "strerror", None) or getattr(error, "why", None) or str(error)
            self.host.connect_failed(why)
            self.close()
            raise ServerError("08001", f"could not connect to {self.host.name}: {why}", severity="FATAL") from None
        self._counted = True
        self.host.connected()
        return self.stream

    def start(self, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        """Send the StartupMessage; returns the server's first authentication request, as `read_request` does."""
        assert self.stream is not None
        self.stream.write(build.startup(parameters))
        return read_request(self.stream)

    def log_in(self, credentials: Credentials, first: tuple[int, bytes]) -> None:
        """Answer the server's requests from *first* on, up to ReadyForQuery."""
        assert self.stream is not None
        authenticate(self.stream, credentials, first)
        self.finish()

    def finish(self) -> None:
        """AuthenticationOk has been seen: read up to ReadyForQuery."""
        assert self.stream is not None
        self.session = finish(self.stream)

    def close(self) -> None:
        """Idempotent: the stream, and its place in the host's counters, unless the session has taken them over."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None
        self.release()

    def release(self) -> None:
        """The connection has ended: it counts no more."""
        if self._counted and self.host is not None:
            self._counted = False
            self.host.closed()
