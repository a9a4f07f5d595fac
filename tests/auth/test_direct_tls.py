"""TLS from the first byte (PostgreSQL 17's sslnegotiation=direct), on either side of pgsplit."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import psycopg
import pytest

from pgsplit.demo import installation
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.errors import ServerError, Unanswered
from pgsplit.session.cancel import cancel_upstream
from pgsplit.session.handshake import accept_startup
from pgsplit.upstream.connection import UpstreamConnection
from pgsplit.upstream.stream import ALPN, Stream
from pgsplit.wire import build
from pgsplit.wire.startup import CancelRequest, StartupMessage
from tests.auth.front import Manager, listen
from tests.auth.test_startup_packets import INSIDE_TLS, talk, trusting
from tests.needs import missing
from tests.waiting import eventually

FIRST_WITH_IT = 17


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with gevent.Timeout(120):
        yield


# --- clients --------------------------------------------------------------------------------------------------------

def connect(proxy: Proxy, **over: Any) -> psycopg.Connection[Any]:
    if psycopg.pq.version() < 170000:
        missing(f"libpq {psycopg.pq.version()} has no sslnegotiation")
    arguments = {"host": "127.0.0.1", "port": proxy.port, "user": "scram_user", "password": "scram-secret",
                 "dbname": "postgres", "sslmode": "require", "sslnegotiation": "direct", "autocommit": True}
    return psycopg.connect(**arguments | over)


@pytest.mark.parametrize("channel_binding", ["disable", "prefer", "require"])
def test_libpq_logs_in_and_cancels(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy],
                                   channel_binding: str):
    proxy = pgsplit_server(pgsplit={"workers": 2})
    with connect(proxy, channel_binding=channel_binding) as connection:
        assert connection.execute("select 7").fetchone() == (7,)
        sleep_and_cancel(cluster, connection)


def sleep_and_cancel(cluster: PrimaryAndStandbys, connection: psycopg.Connection[Any]) -> None:
    """libpq sends the cancel as it has connected: over direct TLS, too."""
    query = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and usename = 'scram_user'"

    def cancel() -> None:
        eventually(lambda: any(server.query(query) == [(1,)] for server in cluster.servers))
        connection.cancel_safe()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("select pg_sleep(60)")
    canceller.join()


def test_a_listener_without_tls_and_a_client_without_alpn_get_no_answer(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    clear = pgsplit_server(tls=None)
    with socket.create_connection(("127.0.0.1", clear.port), timeout=30) as sock:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            trusting(direct=True).wrap_socket(sock)
    with pytest.raises(psycopg.OperationalError):
        connect(clear)
    proxy = pgsplit_server()
    with trusting(direct=False).wrap_socket(socket.create_connection(("127.0.0.1", proxy.port), timeout=30)) as sock:
        sock.sendall(build.startup({"user": "trust_user", "database": "postgres"}))
        try:
            assert sock.recv(100) == b""
        except (ConnectionResetError, ssl.SSLEOFError):
            pass
    assert "without ALPN" in proxy.log.read_text()


def test_what_comes_inside_is_answered_as_the_server_answers_it(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    if installation.find().major < FIRST_WITH_IT:
        pytest.skip(f"PostgreSQL {installation.find().version} has no direct TLS to compare with")
    proxy = pgsplit_server()
    packets = {name: packet for name, packet in INSIDE_TLS.items()
               if name not in ("SSLRequest", "GSSENCRequest", "cut off", "half a length")}
    assert ({name: talk(proxy.port, packet, tls=True, direct=True) for name, packet in packets.items()}
            == {name: talk(cluster.primary.port, packet, tls=True, direct=True) for name, packet in packets.items()})


# --- servers --------------------------------------------------------------------------------------------------------

def test_sessions_and_health_checks_over_direct_tls(cluster: PrimaryAndStandbys,
                                                    pgsplit_server: Callable[..., Proxy]):
    if installation.find().major < FIRST_WITH_IT:
        pytest.skip(f"PostgreSQL {installation.find().version} has no direct TLS")
    proxy = pgsplit_server(pgsplit={"workers": 1, "sslnegotiation": "direct", "fence_wait": "60s"})
    with connect(proxy, sslnegotiation="postgres") as connection:
        query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        assert connection.execute(query).fetchone() == (True,)
        assert connection.execute("select count(*) from pg_class").fetchone() is not None
        assert connection.execute("show pgsplit.last_route").fetchone() == ("replica: read",)
        sleep_and_cancel(cluster, connection)


def test_an_older_server_is_named(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    if installation.find().major >= FIRST_WITH_IT:
        pytest.skip(f"PostgreSQL {installation.find().version} has direct TLS")
    proxy = pgsplit_server(pgsplit={"sslnegotiation": "direct"})
    with pytest.raises(psycopg.OperationalError, match="the primary cannot be reached"):
        connect(proxy, sslnegotiation="postgres")
    assert re.search(r"is out: .*\(sslnegotiation: direct takes PostgreSQL 17\)", proxy.log.read_text())


class Direct:
    """A server that takes direct TLS, with ALPN or without; ``got`` is what came of each connection."""

    def __init__(self, servers: PrimaryAndStandbys, *, alpn: bool) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(servers.key_pair.certificate, servers.key_pair.key)
        if alpn:
            self._context.set_alpn_protocols([ALPN])
        self._socket = listen()
        self.manager = Manager(self._socket.getsockname()[1], self._socket.getsockname()[1])
        for one in self.manager.clusters.values():
            one.direct_tls = True
        self.got: list[object] = []
        self._greenlet = gevent.spawn(self._run)

    def __enter__(self) -> Direct:
        return self

    def __exit__(self, *_: object) -> None:
        self._greenlet.kill()
        self._socket.close()

    def _run(self) -> None:
        while True:
            stream = Stream(self._socket.accept()[0], "pgsplit")
            try:
                request = accept_startup(stream, "REQUIRE", self._context)
                assert stream.tls is not None
                self.got.append(request)
                if isinstance(request, StartupMessage):
                    stream.write(build.authentication(0) + build.backend_key_data(7, b"keys")
                                 + build.ready_for_query(ord("I")))
                    continue
            except Unanswered as silence:
                self.got.append(silence)
            stream.close()


def test_pgsplit_begins_with_tls_and_offers_alpn(cluster: PrimaryAndStandbys):
    with Direct(cluster, alpn=True) as server:
        connection = UpstreamConnection(server.manager, "write", tls=True)
        connection.connect()
        connection.start({"user": "app"})
        connection.finish()
        cancel_upstream(server.manager, connection)
        connection.close()
    assert server.got == [StartupMessage(3, 0, {"user": "app"}), CancelRequest(7, b"keys")]


def test_a_server_that_chooses_no_alpn_is_not_talked_to(cluster: PrimaryAndStandbys):
    with Direct(cluster, alpn=False) as server:
        connection = UpstreamConnection(server.manager, "write", tls=True)
        with pytest.raises(ServerError, match="without ALPN") as refused:
            connection.connect()
    assert refused.value.sqlstate == "08001"
    assert server.manager.primary.failures and server.manager.primary.active == 0
