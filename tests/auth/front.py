"""pgsplit's door without the session behind it: clients log in, tests look at the connections that came of it."""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gevent
import psycopg
from gevent import socket
from gevent.event import AsyncResult

from pgsplit.config.model import Address, Listener, User
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.errors import ConnectionLost, ServerError
from pgsplit.session.handshake import accept_startup
from pgsplit.session.login import LoggedIn, Login, NoReplica, connect_replica, is_replication, welcome
from pgsplit.upstream.certificate import end_point
from pgsplit.upstream.connection import UpstreamConnection
from pgsplit.upstream.stream import ALPN, Stream
from pgsplit.wire import build
from pgsplit.wire.startup import CancelRequest


@dataclass
class Host:
    name: str
    address: tuple[str, int]
    active: int = 0
    failures: list[str] = field(default_factory=list)
    logins: list[tuple[str, int, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    balanced: bool = False
    why_not: str = ""
    fresh_ns: int = 0

    def connected(self) -> None:
        self.active += 1

    def closed(self) -> None:
        self.active -= 1

    def logged_in(self, server_version: str, asked: int, agreed: int) -> None:
        self.logins.append((server_version, asked, agreed))

    def not_allowed(self, why: str) -> None:
        self.refused.append(why)

    def connect_failed(self, why: str) -> None:
        self.failures.append(why)


@dataclass
class Cluster:
    host: Host
    connect_timeout: float = 10.0
    server_hostname: str | None = None
    direct_tls: bool = False
    shows_certificate: bool = False
    upstream_auth: tuple[str, ...] = ("none", "password", "md5", "scram-sha-256")

    def ssl_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols([ALPN])
        return context


class Manager:
    def __init__(self, replica: int, primary: int) -> None:
        self.clusters = {"read": Cluster(Host("replica", ("127.0.0.1", replica))),
                         "write": Cluster(Host("primary", ("127.0.0.1", primary)))}
        self.questions: list[tuple[str, bool, str]] = []

    @classmethod
    def of(cls, servers: PrimaryAndStandbys) -> Manager:
        return cls(servers.standbys[0].port, servers.primary.port)

    @property
    def replica(self) -> Host:
        return self.clusters["read"].host

    @property
    def primary(self) -> Host:
        return self.clusters["write"].host

    def cluster(self, name: str) -> Cluster:
        return self.clusters[name]

    def pick(self, cluster_name: str) -> Host:
        return self.clusters[cluster_name].host

    def server_of(self, connection: UpstreamConnection) -> Any:
        """Every server is the one that is expected at its address."""
        return connection.host

    def await_server(self, connection: UpstreamConnection, as_of_ns: int) -> Any:
        return connection.host

    def why_not_write(self, cluster_name: str, reached: Any) -> str:
        return ""

    def await_change(self, timeout: float) -> None:
        gevent.sleep(timeout)

    def hint(self, cluster_name: str) -> None:
        pass

    def asked(self, cluster_name: str, in_recovery: bool, kind: str, nanoseconds: int) -> None:
        self.questions.append((cluster_name, in_recovery, kind))


def listener(users: dict[str, str], **over: Any) -> Listener:
    settings: dict[str, Any] = {
        "name": "test", "addresses": (Address(host="127.0.0.1", port=0),), "stat_prefix": "test",
        "enable_sql_parsing": False, "downstream_ssl": "ALLOW", "upstream_ssl": "DISABLE", "split_rw": True,
        "read_cluster": "read", "write_cluster": "write", "tls": None, "consistency": "global",
        "max_staleness": 1.0,
        "transactions": "until_write", "hold_begin": True, "repeatable_read_only": "primary",
        "clock": "primary", "max_clock_skew": 0.002,
        "read_fallback": "primary", "unlisted_users": "reject", "login_without_primary": False, "login_wait": 0.0,
        "failover_wait": 30.0, "lost_transaction": "fatal", "park_after": 0.0, "fence_wait": 0.005,
        "reask_buffer": 65536, "reask_hold": 0.05, "client_login_timeout": 30.0, "max_statement_bytes": 65536,
        "max_connections": 0, "max_user_connections": 0, "auth_user": "", "auth_query": "", "auth_dbname": "",
        "users": tuple(User(username=name, secret=secret) for name, secret in users.items()),
    }
    return Listener(**(settings | over))


def listen() -> socket.socket:
    """On a free port. (`create_server` would be the standard library's, whose sockets block the hub.)"""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


class Front:
    """*fresh*: whether the replica is fresh as of a StartupMessage."""

    def __init__(self, manager: Manager, listener: Listener, servers: PrimaryAndStandbys, *,
                 fresh: bool = True) -> None:
        self.manager = manager
        self.fresh = fresh
        self._listener = listener
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(servers.key_pair.certificate, servers.key_pair.key)
        self._context.set_alpn_protocols([ALPN])
        self._binding = end_point(ssl.PEM_cert_to_DER_cert(servers.key_pair.certificate.read_text()))
        self._socket = listen()
        self.port: int = self._socket.getsockname()[1]

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def log_in(self, **client: Any) -> LoggedIn:
        """What a psycopg client with these arguments ends up with. Raises the client's own error when it fails."""
        with gevent.Timeout(60):
            served: AsyncResult[LoggedIn] = AsyncResult()
            greenlet = gevent.spawn(self._serve, served)
            defaults = {"host": "127.0.0.1", "port": self.port, "dbname": "postgres", "gssencmode": "disable",
                        "sslmode": "disable", "connect_timeout": 30}
            try:
                connection = gevent.get_hub().threadpool.apply(psycopg.connect, (), defaults | client)
                connection.close()
                return served.get()
            finally:
                greenlet.join(timeout=5)
                greenlet.kill()

    def _serve(self, served: AsyncResult[LoggedIn]) -> None:
        sock, _ = self._socket.accept()
        stream = Stream(sock, "client")
        try:
            startup = accept_startup(stream, self._listener.downstream_ssl, self._context)
            assert not isinstance(startup, CancelRequest)
            login = Login(stream, startup, self._listener, self.manager,
                          lambda: self.manager.replica if self.fresh else None, self._binding)
            logged_in = login.run()
            if self.fresh and not is_replication(startup.parameters):
                read_first(logged_in, self._listener, self.manager)
            welcome(stream, logged_in.main.session.statuses.messages, logged_in.main.session.pid, b"\1\2\3\4")
            served.set(logged_in)
        except ServerError as error:
            raw = build.message(b"E", error.raw) if error.raw is not None else build.error_response(
                "FATAL", error.sqlstate, error.message, detail=error.detail, hint=error.hint)
            stream.write(raw)
            served.set_exception(error)
        except ConnectionLost as error:
            served.set_exception(error)
        finally:
            stream.close()


def read_first(logged_in: LoggedIn, config: Listener, manager: Manager) -> None:
    """Connect the session's replica, as its first read does."""
    if logged_in.additional is not None:
        with suppress(NoReplica):
            logged_in.default = connect_replica(manager, config, logged_in, manager.replica, 0)


def ask(connection: UpstreamConnection, sql: str) -> list[str]:
    """The first row that an upstream answers with, over the connection that the login made."""
    assert connection.stream is not None
    connection.stream.write(build.query(sql))
    row: list[str] = []
    while True:
        kind, body = connection.stream.read_message()
        if kind == ord("D"):
            position = 2
            for _ in range(int.from_bytes(body[:2], "big")):
                length = int.from_bytes(body[position:position + 4], "big")
                row.append(body[position + 4:position + 4 + length].decode())
                position += 4 + length
        elif kind == ord("Z"):
            return row
        assert kind != ord("E"), body


WHO = "select session_user, pg_is_in_recovery(), current_setting('default_transaction_read_only')"


def outcome(logged_in: LoggedIn) -> str:
    """Where a session would read and write, in the words of docs/login.md; closes the connections."""
    user = logged_in.credentials.user
    try:
        if logged_in.default is not None:
            assert ask(logged_in.default, WHO) == [user, "t", "on"]
        if logged_in.additional is not None:
            assert ask(logged_in.additional, WHO) == [user, "f", "off"]
        if logged_in.read_only:
            assert logged_in.additional is None
            return "reads only"
        assert logged_in.additional is not None
        return "both" if logged_in.default is not None else "primary only"
    finally:
        close(logged_in)


def close(logged_in: LoggedIn) -> None:
    for connection in (logged_in.default, logged_in.additional):
        if connection is not None:
            connection.close()
