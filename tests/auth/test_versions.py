"""Versions of the protocol: clients hear what the servers' own answer would be, and 3.2 is spoken where both do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import gevent
import psycopg
import pytest
from gevent import socket as gsocket

from pgsplit.demo import installation
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.errors import ProtocolViolation
from pgsplit.session.cancel import cancel_upstream
from pgsplit.session.login import Login
from pgsplit.topology.host import Host
from pgsplit.upstream.connection import UpstreamConnection
from pgsplit.upstream.stream import Stream
from pgsplit.wire import build, parse, startup
from pgsplit.wire.startup import PROTOCOL_3_0, PROTOCOL_3_2, CancelRequest, StartupMessage
from tests.auth.front import Manager, close, listen, listener, read_first
from tests.hostile.health import SAYS_WHICH
from tests.integration.raw import send_cancel
from tests.needs import missing

NEVER_MADE = PROTOCOL_3_0 + 9999
OPTIONS = {"_pq_.compression": "on", "_pq_.x": "1"}


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with gevent.Timeout(120):
        yield


def welcome(port: int, protocol: int, options: dict[str, str]) -> tuple[bytes | None, int, socket.socket]:
    """(the body of NegotiateProtocolVersion, how long the cancel key is, the session) of a login at *port*."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.sendall(build.startup({"user": "trust_user", "database": "postgres", **options}, protocol))
    file = sock.makefile("rb")
    negotiated, key = None, 0
    while (header := file.read(5))[:1] != b"Z":
        body = file.read(int.from_bytes(header[1:], "big") - 4)
        assert header[:1] in b"vRSK", body
        if header[:1] == b"v":
            negotiated = body
        elif header[:1] == b"K":
            key = len(parse.backend_key_data(body)[1])
    return negotiated, key, sock


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["", "options"])
@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_0 + 1, PROTOCOL_3_2, NEVER_MADE])
def test_a_client_hears_what_its_servers_would_say(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy],
                                                  protocol: int, options: dict[str, str]):
    proxy = pgsplit_server(tls=None)
    told = []
    for port in (cluster.primary.port, proxy.port):
        negotiated, key, sock = welcome(port, protocol, options)
        told.append((negotiated, key))
        sock.sendall(build.query("select 1"))
        assert sock.recv(1) == b"T"
        sock.close()
    assert told[0] == told[1]
    assert told[0][0] is not None or not options


@pytest.mark.parametrize("asked", ["3.0", "3.2", "latest"])
def test_libpq_connects_and_cancels_whatever_it_asks_for(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy], asked: str):
    if psycopg.pq.version() < 180000:
        missing(f"libpq {psycopg.pq.version()} has no max_protocol_version")
    proxy = pgsplit_server(pgsplit={"workers": 2})
    for sslmode in ("disable", "require"):
        with psycopg.connect(host="127.0.0.1", port=proxy.port, user="scram_user", password="scram-secret",
                             dbname="postgres", sslmode=sslmode, max_protocol_version=asked) as connection:
            assert connection.execute("select 7").fetchone() == (7,)
            timer = threading.Timer(0.5, connection.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("select pg_sleep(60)")
            timer.join()


def test_only_a_server_that_speaks_3_2_satisfies_who_needs_it(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    if psycopg.pq.version() < 180000:
        missing(f"libpq {psycopg.pq.version()} has no min_protocol_version")
    proxy = pgsplit_server(tls=None)
    said = []
    for port in (cluster.primary.port, proxy.port):
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="trust_user", dbname="postgres", sslmode="disable",
                            gssencmode="disable", min_protocol_version="3.2", max_protocol_version="3.2").close()
            said.append("")
        except psycopg.OperationalError as error:
            said.append(str(error).rpartition("failed: ")[2])
    assert said[0] == said[1]
    assert bool(said[0]) == (installation.find().major < 18)


def test_a_cancel_with_a_guessed_key_ends_nothing(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    proxy = pgsplit_server(pgsplit={"workers": 2})
    with psycopg.connect(host="127.0.0.1", port=proxy.port, user="scram_user", password="scram-secret",
                         dbname="postgres") as connection:
        for size in (1, 4, 32, 256):
            send_cancel(proxy.port, connection.info.backend_pid, bytes(size))
        assert connection.execute("select pg_sleep(0.2)").fetchone() == ("",)


# --- servers that are played ----------------------------------------------------------------------------------------

class Newer:
    """A server of *version* that speaks protocols up to *newest*; ``asked`` are the packets that it was sent."""

    KEY = bytes(range(256))

    def __init__(self, newest: int = PROTOCOL_3_2, version: str = "18.0 (Debian)") -> None:
        self._newest = newest
        self._version = version
        self._socket = listen()
        self.port: int = self._socket.getsockname()[1]
        self.asked: list[startup.Startup] = []
        self._greenlet = gevent.spawn(self._run)

    def __enter__(self) -> Newer:
        return self

    def __exit__(self, *_: object) -> None:
        self._greenlet.kill()
        self._socket.close()

    def _run(self) -> None:
        while True:
            stream = Stream(self._socket.accept()[0], "pgsplit")
            request = startup.parse(stream.read_exact(int.from_bytes(stream.read_exact(4), "big") - 4))
            self.asked.append(request)
            if isinstance(request, StartupMessage):
                agreed = min(request.protocol, self._newest)
                if agreed < request.protocol:
                    stream.queue(build.negotiate_protocol_version(agreed, []))
                stream.write(build.authentication(0) + build.parameter_status("server_version", self._version)
                             + build.backend_key_data(7, self.KEY if agreed >= PROTOCOL_3_2 else b"four")
                             + build.ready_for_query(ord("I")) + SAYS_WHICH)
            else:
                stream.close()

    @property
    def protocols(self) -> list[int]:
        return [request.protocol for request in self.asked if isinstance(request, StartupMessage)]


@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_2])
@pytest.mark.parametrize("fresh", [True, False])
def test_servers_are_asked_for_what_the_client_has_asked_for(protocol: int, fresh: bool):
    near, far = gsocket.socketpair()
    with Newer() as primary, Newer(PROTOCOL_3_0, "17.2") as replica:
        manager = Manager(replica.port, primary.port)
        logged_in = Login(Stream(near, "client"), StartupMessage(3, protocol & 0xFFFF, {"user": "app"}),
                          listener({"app": "secret"}), manager,
                          lambda: manager.replica if fresh else None, None).run()
        if fresh:
            read_first(logged_in, listener({"app": "secret"}), manager)
        assert primary.protocols == [protocol]
        assert replica.protocols == [protocol] * fresh
        assert logged_in.main.protocol == protocol
        key = Newer.KEY if protocol == PROTOCOL_3_2 else b"four"
        assert logged_in.main.session.key == key
        cancel_upstream(manager, logged_in.main)
        assert primary.asked[-1] == CancelRequest(7, key)
        close(logged_in)
    near.close()
    far.close()


def test_what_a_host_speaks_is_learnt_from_its_logins():
    host = Host("read", ("127.0.0.1", 1))
    assert host.protocol == PROTOCOL_3_0
    for version, newest in (("17.2", PROTOCOL_3_0), ("18beta1", PROTOCOL_3_2), ("18.6 (Debian 18.6-1)", PROTOCOL_3_2),
                            ("", PROTOCOL_3_0), ("19devel", PROTOCOL_3_2), ("x", PROTOCOL_3_0)):
        host.logged_in(version, PROTOCOL_3_0, PROTOCOL_3_0)
        assert host.protocol == newest, version
    host.logged_in("18.6", PROTOCOL_3_2, PROTOCOL_3_2)
    assert host.protocol == PROTOCOL_3_2
    host.logged_in("18.6", PROTOCOL_3_2, PROTOCOL_3_0)      # a pooler stands before it
    host.logged_in("18.6", PROTOCOL_3_0, PROTOCOL_3_0)
    assert host.protocol == PROTOCOL_3_0


@pytest.mark.parametrize("newest", [PROTOCOL_3_0, PROTOCOL_3_2])
def test_a_connection_tells_its_host_what_was_agreed(newest: int):
    with Newer(newest) as server:
        manager = Manager(server.port, server.port)
        connection = UpstreamConnection(manager, "write", tls=False, protocol=PROTOCOL_3_2)
        connection.connect()
        assert connection.start({"user": "app"}) == (0, b"")
        connection.finish()
        connection.close()
        assert manager.primary.logins == [("18.0 (Debian)", PROTOCOL_3_2, newest)]


def test_a_negotiation_that_is_cut_off_is_no_negotiation():
    with pytest.raises(ProtocolViolation, match="NegotiateProtocolVersion"):
        parse.negotiate_protocol_version(b"\0\3\0\0")
