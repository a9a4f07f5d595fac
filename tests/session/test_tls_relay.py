"""Legs inside TLS, in both forms of the relay: records in pieces, answers longer than any buffer, the ends of TLS."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket as gsocket

from pgsplit.demo.certificates import Authority, KeyPair
from pgsplit.relay.leg import LIMIT
from pgsplit.upstream.stream import Stream, Tls
from tests import tls
from tests.session.relays import FORMS, make

pytestmark = pytest.mark.relay


@pytest.fixture(scope="module")
def key_pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return Authority(tmp_path_factory.mktemp("ca")).issue("server")


class Peer:
    """The far end of a leg: the ssl module, and the wire in the test's hand."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.sock = gsocket.socket(fileno=sock.detach())
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side)

    def shake(self) -> None:
        while True:
            try:
                self.ssl.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.incoming.write(self.sock.recv(65536))
        self.flush()

    def flush(self) -> None:
        if self.outgoing.pending:
            self.sock.sendall(self.outgoing.read())

    def wire(self, data: bytes) -> bytes:
        self.ssl.write(data)
        return self.outgoing.read()

    def send(self, data: bytes) -> None:
        for at in range(0, len(data), 16384):
            self.sock.sendall(self.wire(data[at:at + 16384]))

    def receive(self) -> bytes:
        """The next bytes; none at the end of TLS."""
        while True:
            try:
                return self.ssl.read(65536)
            except ssl.SSLWantReadError:
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError("cut") from None
                self.incoming.write(data)
            except ssl.SSLZeroReturnError:
                return b""

    def exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            got += self.receive()
        return got


def secured(form: str, pair: KeyPair, *, server_side: bool, version: ssl.TLSVersion) -> tuple[Any, Tls, Peer]:
    """A socket that has been logged in on, in the TLS that goes with the relay's *form*, and its far end."""
    near, far = socket.socketpair()
    ours = tls.make("compiled" if form == "compiled" else "ssl module",
                    ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if server_side else ssl.PROTOCOL_TLS_SERVER)
    for context in (ours, theirs):
        context.minimum_version = context.maximum_version = version
    (ours if server_side else theirs).load_cert_chain(pair.certificate, pair.key)
    client = theirs if server_side else ours
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    peer, stream = Peer(far, theirs, server_side=not server_side), Stream(near, "peer")
    both = [gevent.spawn(peer.shake), gevent.spawn(stream.start_tls, ours, server_side=server_side)]
    gevent.joinall(both, raise_error=True)
    sock, leftover, secure = stream.detach()
    assert not leftover and secure is not None
    return sock, secure, peer


class Ends:
    """A flow whose both legs are in TLS, pumped from each to the other, and the far ends of both."""

    def __init__(self, form: str, pair: KeyPair, version: ssl.TLSVersion) -> None:
        self.relay = make(form)
        sock, secure, self.client = secured(form, pair, server_side=True, version=version)
        self.left = self.relay.adopt("client", sock, b"", secure)
        sock, secure, self.server = secured(form, pair, server_side=False, version=version)
        self.right = self.relay.adopt("server", sock, b"", secure)
        self.flow = self.relay.open(self.left, None, self.right)
        self.pumping = gevent.spawn(self.pump)

    def pump(self) -> None:
        most = 0
        while True:
            for one, other in ((self.left, self.right), (self.right, self.left)):
                if one.inbox and not other.congested:
                    self.relay.forward(one, other, len(one.inbox))
                most = max(most, len(one.inbox))
            self.most = most
            for one, other in ((self.left, self.right), (self.right, self.left)):
                if one.eof and not one.inbox and not other.outbox:
                    self.relay.shut_down(other)
                    return
            self.relay.wait(self.flow)

    def close(self) -> None:
        self.pumping.kill()
        self.relay.close(self.flow)
        self.client.sock.close()
        self.server.sock.close()


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    with gevent.Timeout(60):
        yield request.param


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def ends(form: str, key_pair: KeyPair, request: pytest.FixtureRequest) -> Iterator[Ends]:
    made = Ends(form, key_pair, request.param)
    yield made
    made.close()


@pytest.mark.parametrize("way", ["client", "server"])
def test_records_arrive_whole_wherever_they_are_cut(ends: Ends, way: str):
    source, destination = (ends.client, ends.server) if way == "client" else (ends.server, ends.client)
    at = 1
    while True:
        message = b"d\0\0\0\x0c%08d" % at
        wire = source.wire(message)
        source.sock.sendall(wire[:at])
        gevent.sleep(0.001)
        source.sock.sendall(wire[at:])
        assert destination.exactly(len(message)) == message
        at += 1
        if at >= len(wire):
            break
    assert at > 20


@pytest.mark.parametrize("way", ["client", "server"])
def test_much_arrives_in_order_and_no_more_is_held_than_the_limits_allow(ends: Ends, way: str):
    source, destination = (ends.client, ends.server) if way == "client" else (ends.server, ends.client)
    data = os.urandom(1 << 20) * 8
    sending = gevent.spawn(source.send, data)
    gevent.sleep(0.05)
    assert not sending.ready()                  # whoever is not read from is made to wait
    assert max(len(ends.left.outbox), len(ends.right.outbox)) < 3 * LIMIT
    got = hashlib.sha256()
    left = len(data)
    while left:
        piece = destination.receive()
        got.update(piece)
        left -= len(piece)
    assert got.hexdigest() == hashlib.sha256(data).hexdigest()
    assert ends.most < 3 * LIMIT


def test_a_goodbye_is_an_end_and_is_answered_by_one(ends: Ends):
    ends.client.sock.sendall(ends.client.wire(b"last"))
    assert ends.server.exactly(4) == b"last"
    try:
        ends.client.ssl.unwrap()
    except ssl.SSLError:
        pass
    ends.client.flush()
    assert ends.server.receive() == b""
    assert ends.left.eof == "closed the connection"


def test_what_comes_with_the_goodbye_is_heard(ends: Ends):
    last = ends.client.wire(b"last")
    try:
        ends.client.ssl.unwrap()
    except ssl.SSLError:
        pass
    ends.client.sock.sendall(last + ends.client.outgoing.read())
    assert ends.server.exactly(4) == b"last"
    assert ends.server.receive() == b""


def test_a_cut_without_a_goodbye_is_an_end(ends: Ends):
    ends.client.sock.sendall(ends.client.wire(b"last"))
    ends.client.sock.shutdown(socket.SHUT_WR)
    assert ends.server.exactly(4) == b"last"
    assert ends.server.receive() == b""
    assert ends.left.eof == "closed the connection"


def test_a_forged_record_ends_the_leg_with_openssl_s_reason(ends: Ends):
    wire = bytearray(ends.client.wire(b"forged"))
    wire[-1] ^= 1
    ends.client.sock.sendall(wire)
    assert ends.server.receive() == b""         # the flow is ended in order, and nothing of it has come through
    assert "BAD_RECORD_MAC" in ends.left.eof
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        ends.client.receive()


def test_what_is_no_record_ends_the_leg(ends: Ends):
    ends.client.sock.sendall(b"Q\0\0\0\x0dselect 1\0")
    assert ends.server.receive() == b""
    assert ends.left.eof.startswith("TLS: ")
