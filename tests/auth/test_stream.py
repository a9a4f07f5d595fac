"""The login phase's byte stream, in the clear and inside TLS, up to the moment the relay gets its socket."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket as gsocket

from pgsplit.demo.certificates import Authority, KeyPair
from pgsplit.errors import ConnectionLost, ProtocolViolation
from pgsplit.upstream.stream import Stream
from pgsplit.wire import build
from tests import tls


@pytest.fixture(scope="module")
def key_pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return Authority(tmp_path_factory.mktemp("ca")).issue("server")


@pytest.fixture(params=tls.FORMS)
def server_context(key_pair: KeyPair, request: pytest.FixtureRequest) -> Any:
    context = tls.make(request.param, ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(key_pair.certificate, key_pair.key)
    return context


@pytest.fixture
def client_context(key_pair: KeyPair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(key_pair.certificate.with_name("ca.crt"))
    return context


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with gevent.Timeout(20):
        yield


def both() -> tuple[Stream, Stream]:
    here, there = socket.socketpair()
    return Stream(here, "here"), Stream(there, "there")


def together(*functions: Callable[[], object]) -> list[object]:
    greenlets = [gevent.spawn(function) for function in functions]
    gevent.joinall(greenlets, raise_error=True)
    return [greenlet.value for greenlet in greenlets]


@pytest.fixture
def secured(server_context: Any, client_context: ssl.SSLContext) -> tuple[Stream, Stream]:
    client, server = both()
    together(lambda: server.start_tls(server_context, server_side=True),
             lambda: client.start_tls(client_context, server_side=False, server_hostname="localhost"))
    return client, server


# --- in the clear --------------------------------------------------------------------------------------------------

def test_messages_arrive_whole_however_they_are_cut():
    one, other = both()
    data = build.query("select 1") + build.SYNC

    def send() -> None:
        for index in range(len(data)):
            one.write(data[index:index + 1])
            gevent.sleep(0)

    def read() -> list[tuple[int, bytes]]:
        return [other.read_message(), other.read_message()]

    assert together(send, read)[1] == [(ord("Q"), b"select 1\0"), (ord("S"), b"")]


def test_what_is_queued_goes_with_the_next_write_or_before_the_next_read():
    one, other = both()
    one.queue(build.SYNC)
    other.be_patient(0.05)
    with pytest.raises(ConnectionLost, match=r"there: did not answer within 0\.05 s"):
        other.read_message()
    other.be_patient(None)
    one.write(build.FLUSH)
    assert other.peek() == build.SYNC + build.FLUSH
    other.write(build.TERMINATE)
    one.queue(build.SYNC)
    assert one.read_message() == (ord("X"), b"")
    assert other.read_exact(15) == build.SYNC + build.FLUSH + build.SYNC


def test_patience_begins_anew_with_each_answer():
    one, other = both()
    other.be_patient(2)

    def answer() -> None:
        for _ in range(50):
            gevent.sleep(0.05)
            one.write(b"x")

    assert together(answer, lambda: [other.read_exact(1) for _ in range(50)])[1] == [b"x"] * 50


def test_what_finds_no_room_at_once_is_sent_when_there_is_some():
    one, other = both()
    data = build.message(b"d", bytes(range(256)) * 10_000)
    assert together(lambda: one.write(data), lambda: other.read_message(1 << 22))[1] == (ord("d"), data[5:])


@pytest.mark.parametrize("length", [0, 3, 101, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_beyond_the_limit_is_refused_before_it_is_waited_for(length: int):
    one, other = both()
    one.write(b"p" + length.to_bytes(4, "big"))
    with pytest.raises(ProtocolViolation, match=f"invalid length {length}"):
        other.read_message(limit=100)


def test_the_end_of_the_peer_says_whose_it_is():
    one, other = both()
    one.write(b"p\0\0")
    one.close()
    with pytest.raises(ConnectionLost, match="there: closed the connection"):
        other.read_message()
    with pytest.raises(ConnectionLost):
        gevent.sleep(0)
        for _ in range(100):
            other.write(b"x" * 65536)
    with pytest.raises(ConnectionLost, match="here: is closed"):
        one.write(b"x")


def test_messages_of_one_kind_are_taken_as_they_are():
    for taken in (b"", build.parameter_status("a", "b"), build.parameter_status("a", "b") * 3):
        data = taken + build.ready_for_query(ord("I"))
        for cut in range(len(data) + 1):
            one, other = both()

            def send(one=one, data=data, cut=cut) -> None:
                one.write(data[:cut])
                gevent.sleep(0)
                one.write(data[cut:])

            def take(other=other) -> tuple[bytes, tuple[int, bytes]]:
                return other.take_all(ord("S")), other.read_message()

            assert together(send, take)[1] == (taken, (ord("Z"), b"I"))
    one, other = both()
    one.write(b"S" + (1 << 30).to_bytes(4, "big"))
    with pytest.raises(ProtocolViolation, match=f"invalid length {1 << 30} of message type 83 from there"):
        other.take_all(ord("S"))


def test_messages_of_one_kind_do_not_fill_the_memory():
    one, other = both()

    def send() -> None:
        with pytest.raises(ConnectionLost):
            while True:
                one.write(build.parameter_status("a", "b" * 10_000))

    def take() -> None:
        with pytest.raises(ProtocolViolation, match="invalid length"):
            other.take_all(ord("S"))
        other.close()

    together(send, take)


def test_who_waits_for_a_stream_that_another_closes_is_told():
    one, other = both()
    waiting = gevent.spawn(other.read_message)
    gevent.sleep(0)
    descriptor = other._socket.fileno()
    other.close()
    with pytest.raises(ConnectionLost, match="there: is closed"):
        waiting.get()
    gevent.sleep(0)
    with pytest.raises(OSError):
        os.fstat(descriptor)
    with pytest.raises(ConnectionLost, match="here: closed the connection"):
        one.read_message()


# --- to a server ---------------------------------------------------------------------------------------------------

def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(1)
    return sock


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_stream_to_a_server(host: str):
    with listening() as server:
        stream = Stream.to((host, server.getsockname()[1]), "server", 10)
        far, _ = server.accept()
        far.sendall(b"hello")
        assert stream.read_exact(5) == b"hello"
        far.close()
        stream.close()


def test_no_server_there():
    with listening() as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        Stream.to(("127.0.0.1", port), "server", 10)
    with pytest.raises(OSError):
        Stream.to(("no.such.host.invalid", port), "server", 10)


def test_a_server_that_does_not_take_the_connection_is_given_up():
    with listening() as server:
        taken = []
        with pytest.raises(ConnectionLost, match=r"server: did not answer within 0\.2 s"):
            for _ in range(10):             # what its queue has room for is connected by the kernel
                taken.append(Stream.to(server.getsockname(), "server", 0.2))
        for stream in taken:
            stream.close()


# --- TLS -----------------------------------------------------------------------------------------------------------

def test_large_messages_go_through_tls_both_ways(secured: tuple[Stream, Stream]):
    client, server = secured
    data = build.message(b"d", bytes(300_000))
    assert together(lambda: client.write(data), lambda: server.read_message())[1] == (ord("d"), bytes(300_000))
    assert together(lambda: server.write(data), lambda: client.read_message())[1] == (ord("d"), bytes(300_000))
    assert client.peer_certificate() is not None
    assert server.peer_certificate() is None


def test_a_message_that_comes_with_the_end_of_the_handshake_is_not_waited_for(server_context, client_context):
    """TLS 1.3: the client may send its first message right behind Finished."""
    here, there = gsocket.socketpair()
    server = Stream(there, "server")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def handshake() -> None:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                here.sendall(outgoing.read())
                incoming.write(here.recv(65536))
        client.write(build.SYNC)
        here.sendall(outgoing.read())

    assert together(handshake, lambda: (server.start_tls(server_context, server_side=True),
                                        server.read_message()))[1] == (None, (ord("S"), b""))


def test_the_last_words_of_a_peer_are_heard(secured: tuple[Stream, Stream]):
    client, server = secured
    server.write(build.error_response("FATAL", "28P01", "no"))
    server.close()
    gevent.sleep(0.01)
    assert client.read_message()[0] == ord("E")
    with pytest.raises(ConnectionLost):
        client.read_message()


def test_an_end_inside_tls_is_told_from_a_cut(secured: tuple[Stream, Stream]):
    client, server = secured
    server.close()
    server.close()
    plain, _, secure = client.detach()
    assert secure is not None
    plain.setblocking(True)
    secure.incoming.write(plain.recv(1000))
    try:
        assert secure.ssl.read() == b""
    except ssl.SSLZeroReturnError:
        pass
    plain.close()


def test_closing_does_not_wait_for_a_peer_that_does_not_read(secured: tuple[Stream, Stream]):
    _, server = secured
    server.be_patient(0.05)
    with pytest.raises(ConnectionLost):
        while True:
            server.write(b"x" * 100_000)
    server.close()


@pytest.mark.parametrize("server_side", [True, False])
def test_clear_bytes_ahead_of_the_handshake_are_refused(server_context, client_context, server_side: bool):
    """CVE-2021-23214 as a server, CVE-2021-23222 as a client."""
    one, other = both()
    one.write(b"S" + build.query("drop table t"))
    assert other.read_exact(1) == b"S"
    with pytest.raises(ProtocolViolation, match="unencrypted data after SSL request"):
        other.start_tls(server_context if server_side else client_context, server_side=server_side)


def test_a_handshake_that_fails_says_why(server_context: ssl.SSLContext):
    client, server = both()
    untrusting = ssl.create_default_context()

    def connect() -> str:
        with pytest.raises(ConnectionLost) as lost:
            client.start_tls(untrusting, server_side=False, server_hostname="localhost")
        return str(lost.value)

    def accept() -> str:
        with pytest.raises(ConnectionLost) as lost:
            server.start_tls(server_context, server_side=True)
            server.read_exact(1)
        return str(lost.value)

    ours, theirs = together(connect, accept)
    assert ours == "here: TLS: unable to get local issuer certificate"
    assert "UNKNOWN_CA" in str(theirs)


def test_nonsense_instead_of_a_handshake_is_refused(server_context: ssl.SSLContext):
    client, server = both()
    client.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionLost, match="there: TLS: "):
        server.start_tls(server_context, server_side=True)


# --- giving the socket away ------------------------------------------------------------------------------------------

def test_detach_gives_a_plain_socket_and_all_that_was_read():
    one, other = both()
    one.write(build.SYNC + b"rest")
    other.read_message()
    sock, leftover, tls = other.detach()
    assert type(sock) is socket.socket
    assert (sock.getblocking(), leftover, tls) == (False, b"rest", None)
    one.write(b"more")
    assert sock.recv(10) == b"more"
    other.close()                          # it owns nothing any more
    sock.send(b"still open")
    assert one.read_exact(10) == b"still open"
    sock.close()


def test_detach_under_tls_leaves_nothing_inside(secured: tuple[Stream, Stream]):
    client, server = secured
    client.write(build.SYNC)
    client.write(b"rest" * 10_000)
    server.read_message()
    sock, leftover, tls = server.detach()
    assert tls is not None
    while len(leftover) < 40_000:
        gevent.sleep(0)
        tls.incoming.write(sock.recv(65536))
        try:
            while True:
                leftover += tls.ssl.read(65536)
        except ssl.SSLWantReadError:
            pass
    assert leftover == b"rest" * 10_000
    sock.close()
