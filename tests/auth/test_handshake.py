"""What a client says before it logs in, and what it is told."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket
from hypothesis import given, settings
from hypothesis import strategies as st

from pgsplit.demo.certificates import Authority, KeyPair
from pgsplit.errors import ConnectionLost, ServerError, Unanswered
from pgsplit.session.handshake import accept_startup
from pgsplit.upstream.stream import ALPN, Stream
from pgsplit.wire import build
from pgsplit.wire.startup import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
    CancelRequest,
    StartupMessage,
)

STARTUP = build.startup({"user": "app", "database": "shop", "application_name": "é"})
SSL = build.untyped(SSL_REQUEST)
GSS = build.untyped(GSSENC_REQUEST)


@pytest.fixture(scope="module")
def key_pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return Authority(tmp_path_factory.mktemp("ca")).issue("server")


@pytest.fixture(scope="module")
def context(key_pair: KeyPair) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(key_pair.certificate, key_pair.key)
    made.set_alpn_protocols([ALPN])
    return made


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with gevent.Timeout(30):
        yield


class Client:
    """The other end of a handshake that runs in a greenlet."""

    def __init__(self, mode: str = "ALLOW", context: ssl.SSLContext | None = None,
                 newest: int = PROTOCOL_3_0) -> None:
        near, far = socket.socketpair()
        self.stream = Stream(near, "server")
        self.server = Stream(far, "client")
        self.greenlet = gevent.spawn(self._accept, mode, context, newest)

    def _accept(self, mode: str, context: ssl.SSLContext | None, newest: int) -> object:
        try:
            return accept_startup(self.server, mode, context, newest)
        except (ServerError, Unanswered, ConnectionLost) as error:
            return error

    def say(self, data: bytes, reply: bytes = b"") -> None:
        self.stream.write(data)
        assert self.stream.read_exact(len(reply)) == reply

    def start_tls(self, alpn: list[str] | None = None) -> None:
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        if alpn:
            trusting.set_alpn_protocols(alpn)
        self.stream.start_tls(trusting, server_side=False)

    @property
    def result(self) -> object:
        return self.greenlet.get()

    @property
    def error(self) -> ServerError:
        assert isinstance(self.result, ServerError), self.result
        return self.result

    @property
    def silence(self) -> str:
        """Why the client got no answer."""
        assert isinstance(self.result, Unanswered), self.result
        return str(self.result)


def test_a_startup_message_in_the_clear():
    client = Client()
    client.say(STARTUP)
    startup = client.result
    assert startup == StartupMessage(3, 0, {"user": "app", "database": "shop", "application_name": "é"})
    assert client.server.tls is None


@pytest.mark.parametrize("mode", ["ALLOW", "REQUIRE"])
@pytest.mark.parametrize("before", [b"", GSS])
def test_tls_where_it_is_offered(context: ssl.SSLContext, mode: str, before: bytes):
    client = Client(mode, context)
    if before:
        client.say(before, b"N")
    client.say(SSL, b"S")
    client.start_tls()
    client.say(STARTUP)
    assert isinstance(client.result, StartupMessage)
    assert client.server.tls is not None


@pytest.mark.parametrize("first, second", [(SSL, GSS), (GSS, SSL)])
def test_each_refused_request_is_followed_by_the_next(first: bytes, second: bytes):
    client = Client("DISABLE")
    client.say(first, b"N")
    client.say(second, b"N")
    client.say(STARTUP)
    assert isinstance(client.result, StartupMessage)


@pytest.mark.parametrize("request_", [SSL, GSS])
def test_no_request_comes_twice(request_: bytes):
    client = Client("DISABLE")
    client.say(request_, b"N")
    client.say(request_)
    assert client.error.sqlstate == "0A000"


@pytest.mark.parametrize("request_", [SSL, GSS])
def test_nothing_comes_with_a_request_that_is_refused(request_: bytes):
    client = Client("DISABLE")
    client.say(request_ + STARTUP, b"N")
    assert "received unencrypted data after" in client.error.message


def test_no_request_comes_inside_tls(context: ssl.SSLContext):
    client = Client("ALLOW", context)
    client.say(SSL, b"S")
    client.start_tls()
    client.say(GSS)
    assert (client.error.sqlstate, client.error.message) == (
        "0A000", "unsupported frontend protocol 1234.5680: server supports 3.0 to 3.0")


def test_clear_bytes_behind_an_ssl_request_are_refused(context: ssl.SSLContext):
    client = Client("ALLOW", context)
    client.say(SSL + STARTUP, b"S")
    assert "unencrypted data after SSL request" in client.error.message


def test_a_clear_client_is_told_that_tls_is_required(context: ssl.SSLContext):
    client = Client("REQUIRE", context)
    client.say(STARTUP)
    assert (client.error.sqlstate, client.error.severity) == ("28000", "FATAL")


def test_tls_from_the_first_byte(context: ssl.SSLContext):
    """PostgreSQL 17's sslnegotiation=direct, which needs ALPN."""
    client = Client("REQUIRE", context)
    client.start_tls([ALPN])
    client.say(STARTUP)
    assert isinstance(client.result, StartupMessage)
    client = Client("REQUIRE", context)
    client.start_tls([ALPN])
    client.say(SSL, b"N")
    client.say(STARTUP)
    assert isinstance(client.result, StartupMessage)
    client = Client("REQUIRE", context)
    client.start_tls()
    assert "without ALPN" in client.silence
    client = Client("DISABLE", context)
    client.stream.write(b"\x16\3\1\0\5")
    assert "TLS is not offered" in client.silence


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("key", [b"1", b"1234", b"k" * 256])
def test_a_cancel_request_is_handed_back(context: ssl.SSLContext, tls: bool, key: bytes):
    client = Client("ALLOW", context)
    if tls:
        client.say(SSL, b"S")
        client.start_tls()
    client.say(build.untyped(CANCEL_REQUEST, (4711).to_bytes(4, "big") + key))
    assert client.result == CancelRequest(4711, key)


@pytest.mark.parametrize("newest, asked, agreed", [
    (PROTOCOL_3_0, PROTOCOL_3_0, PROTOCOL_3_0),
    (PROTOCOL_3_0, PROTOCOL_3_0 + 1, PROTOCOL_3_0),
    (PROTOCOL_3_0, PROTOCOL_3_2, PROTOCOL_3_0),
    (PROTOCOL_3_2, PROTOCOL_3_0, PROTOCOL_3_0),
    (PROTOCOL_3_2, PROTOCOL_3_2, PROTOCOL_3_2),
    (PROTOCOL_3_2, PROTOCOL_3_0 + 9999, PROTOCOL_3_2),
])
@pytest.mark.parametrize("options", [[], ["_pq_.compression", "_pq_.x"]])
def test_versions_and_options_are_negotiated(newest: int, asked: int, agreed: int, options: list[str]):
    client = Client(newest=newest)
    client.stream.write(build.startup({"user": "app"} | dict.fromkeys(options, "on"), protocol=asked))
    assert client.result == StartupMessage(3, agreed & 0xFFFF, {"user": "app"})
    client.server.write(b"what comes next")
    if agreed < asked or options:
        assert client.stream.read_message() == (ord("v"), struct.pack("!II", agreed, len(options)) + b"".join(
            f"{option}\0".encode() for option in options))
    assert client.stream.read_exact(15) == b"what comes next"


@pytest.mark.parametrize("data, sqlstate", [
    (build.startup({"user": "app"}, protocol=2 << 16), "0A000"),
    (build.startup({"user": "app"}, protocol=4 << 16), "0A000"),
    (build.startup({}), "28000"),
    (build.startup({"database": "shop"}), "28000"),
    (build.untyped(3 << 16, b"user\0app"), "08P01"),
    (build.untyped(3 << 16, b"user\0app\0\0\0"), "08P01"),
    (build.untyped(3 << 16), "08P01"),
])
def test_what_makes_no_sense_is_fatal(data: bytes, sqlstate: str):
    client = Client()
    client.say(data)
    assert (client.error.sqlstate, client.error.severity) == (sqlstate, "FATAL")


@pytest.mark.parametrize("before", [b"", SSL, GSS])
@pytest.mark.parametrize("data", [
    build.TERMINATE,
    bytes(8),
    (7).to_bytes(4, "big"),
    (10_005).to_bytes(4, "big"),
    b"\xff\xff\xff\xff",
    b"GET / HTTP/1.1\r\n\r\n",
    build.untyped(CANCEL_REQUEST, b"1234"),
    build.untyped(CANCEL_REQUEST, b"1" * 261),
])
def test_what_is_no_startup_packet_gets_no_answer(before: bytes, data: bytes):
    client = Client("DISABLE")
    if before:
        client.say(before, b"N")
    client.say(data)
    assert "invalid length" in client.silence


def test_a_client_that_leaves_is_no_error_of_the_server_s():
    for data in (b"", b"\0\0", STARTUP[:-1], SSL):
        client = Client()
        client.stream.write(data)
        if data == SSL:
            client.stream.read_exact(1)
        client.stream.close()
        assert isinstance(client.result, ConnectionLost)


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(min_size=1, max_size=40),
                 st.binary(max_size=40).map(lambda body: build.untyped(3 << 16, body)),
                 st.lists(st.sampled_from([SSL, GSS, STARTUP, STARTUP[:9], b"\x16\3\1"]), max_size=4).map(b"".join)))
def test_no_bytes_do_worse_than_a_fatal(data: bytes):
    client = Client("DISABLE")
    client.stream.write(data)
    client.stream.close()
    assert isinstance(client.result, (StartupMessage, CancelRequest, ServerError, Unanswered, ConnectionLost))
