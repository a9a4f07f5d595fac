"""A connection to an upstream: host chosen, TLS, login; then its stream becomes a leg of the session (S2, S3)."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from ..auth.allowed import Allowed, NotAllowed, allowed
from ..errors import ConnectionLost, ServerError
from ..wire import build, parse
from ..wire.startup import PROTOCOL_3_0
from .login import (
    NEGOTIATE_PROTOCOL_VERSION,
    Credentials,
    ServerSession,
    authenticate,
    direct_tls,
    expect,
    finish,
    read_request,
    server_salt,
    start_tls,
)
from .server_identity import QUESTION, Reached, take
from .stream import Stream


class AdditionalConnCallback(Protocol):
    """What a session implements to be given the additional upstream's answers."""

    def write_callback(self, size: int) -> None:
        """The next *size* bytes of what the additional upstream sent are the client's."""


class HostLike(Protocol):
    """What a connection needs of a host (upstream/host.py)."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> tuple[str, int]: ...
    def connected(self) -> None: ...
    @property
    def balanced(self) -> bool: ...
    def closed(self) -> None: ...
    def connect_failed(self, why: str) -> None: ...
    def logged_in(self, server_version: str, asked: int, agreed: int) -> None: ...
    def not_allowed(self, why: str) -> None: ...


class Judged(HostLike, Protocol):
    """A host of which it is known how fresh it is."""

    @property
    def why_not(self) -> str: ...
    @property
    def fresh_ns(self) -> int: ...


class ClusterLike(Protocol):
    @property
    def connect_timeout(self) -> float: ...
    @property
    def server_hostname(self) -> str | None: ...
    @property
    def direct_tls(self) -> bool: ...
    @property
    def shows_certificate(self) -> bool: ...
    @property
    def upstream_auth(self) -> Collection[str]: ...
    def ssl_context(self) -> ssl.SSLContext: ...


class ClusterManagerLike(Protocol):
    def cluster(self, name: str, /) -> ClusterLike: ...
    def pick(self, cluster_name: str, /) -> HostLike: ...
    def server_of(self, connection: UpstreamConnection, /) -> Judged | None: ...
    def await_server(self, connection: UpstreamConnection, as_of_ns: int, /) -> Judged | None: ...
    def why_not_write(self, cluster_name: str, reached: Reached | None, /) -> str: ...
    def await_change(self, timeout: float, /) -> None: ...
    def hint(self, cluster_name: str, /) -> None: ...
    def asked(self, cluster_name: str, in_recovery: bool, kind: str, nanoseconds: int, /) -> None: ...


class UpstreamConnection:
    """One connection to a host of *cluster_name*. *callback* gets what the upstream sends once the session runs.

    *counts*: it is one of the host's connections; a monitor's is not. *protocol* is the version that it asks for; a
    server that negotiates down is as good: what differs in 3.2, the cancel key, is between pgsplit and each side.
    *asks*: find out at the login which server it is that was reached.
    """

    def __init__(self, cluster_manager: ClusterManagerLike, cluster_name: str,
                 callback: AdditionalConnCallback | None = None, *, tls: bool, counts: bool = True,
                 protocol: int = PROTOCOL_3_0, asks: bool = False) -> None:
        self._manager = cluster_manager
        self.cluster_name = cluster_name
        self.callback = callback
        self.tls = tls
        self.host: HostLike | None = None
        self.stream: Stream | None = None
        self.session = ServerSession()
        self.reached: Reached | None = None        # the server, where it was asked and has said
        self._asks = asks
        self.protocol = protocol
        self._agreed = protocol
        self._counts = counts
        self._counted = False

    def connect(self, host: HostLike | None = None) -> Stream:
        """Connect to *host*, or to the one that the cluster's policy picks, and secure the connection.

        :raises ServerError: 08001 when no host can be reached, with each one's reason.
        """
        cluster = self._manager.cluster(self.cluster_name)
        self.host = host or self._manager.pick(self.cluster_name)
        patience = cluster.connect_timeout
        try:
            self.stream = Stream.to(self.host.address, self.host.name, patience)
            if self.tls:
                begin = direct_tls if cluster.direct_tls else start_tls
                begin(self.stream, cluster.ssl_context(), cluster.server_hostname)
        except (OSError, ConnectionLost, ServerError) as error:
            if isinstance(error, ConnectionLost) and error.where != self.host.name:
                self.close()        # somebody else's deadline
                raise
            why = getattr(error, "strerror", None) or getattr(error, "why", None) or str(error)
            self.host.connect_failed(why)
            self.close()
            raise ServerError("08001", f"could not connect to {self.host.name}: {why}", severity="FATAL") from None
        except BaseException:
            self.close()
            raise
        if self._counts:
            self._counted = True
            self.host.connected()
        return self.stream

    @contextmanager
    def logging_in(self) -> Iterator[None]:
        """Around a login: a failure closes the connection, and its loss is a ServerError 08006."""
        try:
            yield
        except BaseException as raised:
            self.close()
            if isinstance(raised, NotAllowed) and self.host is not None:
                self.host.not_allowed(str(raised))
            if isinstance(raised, ConnectionLost) and raised.where == self.name:
                raise ServerError("08006", f"{raised} during authentication", severity="FATAL") from None
            raise

    def start(self, parameters: Mapping[str, str]) -> tuple[int, bytes]:
        """Send the StartupMessage; returns the server's first authentication request, as `read_request` does.

        :raises ConnectionLost: also when the server is silent for `connect_timeout`, as in all that follows.
        """
        stream = self._connected
        stream.write(build.startup(parameters, self.protocol))
        if stream.peek()[0] == NEGOTIATE_PROTOCOL_VERSION:
            self._agreed = min(self.protocol, parse.negotiate_protocol_version(stream.read_message()[1]))
        return self.next_request()

    def log_in(self, credentials: Credentials, first: tuple[int, bytes]) -> None:
        """Answer the server's requests from *first* on, up to ReadyForQuery."""
        self.authenticate(credentials, first)
        self.finish()

    def authenticate(self, credentials: Credentials, first: tuple[int, bytes]) -> tuple[int, bytes]:
        """Answer the server's requests from *first* on, up to AuthenticationOk, which is returned."""
        return authenticate(self._connected, credentials, self._allowed(credentials), first)

    def check(self, credentials: Credentials, code: int) -> None:
        """Look whether the server may ask for *code* before anybody is asked for it.

        :raises NotAllowed: when it may not.
        """
        self._allowed(credentials).check(self.name, code)

    def _allowed(self, credentials: Credentials) -> Allowed:
        local = self.host is not None and _is_local(self.host.address[0])
        return allowed(self._manager.cluster(self.cluster_name).upstream_auth, credentials.kind,
                       verified=self._connected.verified, local=local, certificate=self.shows_certificate)

    def server_salt(self, data: bytes) -> tuple[bytes, int]:
        """Of the server whose SASL request has *data*: the user's salt and iterations."""
        return server_salt(self._connected, data)

    def request(self, answer: bytes) -> tuple[int, bytes]:
        """Send the client's *answer* to an authentication request; returns the server's next one."""
        self._connected.write(build.message(b"p", answer))
        return self.next_request()

    def expect(self, code: int, answer: bytes) -> bytes:
        """Send the client's *answer*; returns the data of the request *code*, which must be the server's next.

        :raises ProtocolViolation: for any other, AuthenticationOk among them.
        """
        self._connected.write(build.message(b"p", answer))
        return expect(self._connected, code)

    def next_request(self) -> tuple[int, bytes]:
        return read_request(self._connected)

    def finish(self) -> None:
        """AuthenticationOk has been seen: read up to ReadyForQuery."""
        if self._asks:
            self._connected.write(QUESTION)         # it waits there for the server to be ready, and nobody waits for it
        self.session = finish(self._connected)
        if self._asks:
            ready_ns = time.monotonic_ns()              # from here on the server works on it
            self.reached = take(self._connected)
            self._manager.asked(self.cluster_name, self.in_recovery, "identity", time.monotonic_ns() - ready_ns)
        if self.host is not None:
            self.host.logged_in(self.session.parameters.get("server_version", ""), self.protocol, self._agreed)
        self._connected.be_patient(None)

    def belongs_to(self, host: HostLike) -> None:
        """It has turned out to be a connection to *host*, another server behind the same address."""
        if host is self.host:
            return
        if self._counted and self.host is not None:
            self.host.closed()
            host.connected()
        self.host = host

    @property
    def shows_certificate(self) -> bool:
        """Whether the server may have let pgsplit in, whoever the client is."""
        return self.tls and self._manager.cluster(self.cluster_name).shows_certificate

    @property
    def in_recovery(self) -> bool:
        """Whether the server was so at the login: by its answer, else by what it reports by itself (PostgreSQL 14)."""
        if self.reached is not None:
            return self.reached.in_recovery
        return self.session.parameters.get("in_hot_standby") == "on"

    @property
    def name(self) -> str:
        """The host's, for errors."""
        return self.host.name if self.host is not None else self.cluster_name

    @property
    def _connected(self) -> Stream:
        if self.stream is None:
            raise ConnectionLost(self.name, "is closed")
        return self.stream

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


def _is_local(address: str) -> bool:
    """Whether a connection to it ends on this machine. What a tunnel does with it from there on cannot be seen."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
