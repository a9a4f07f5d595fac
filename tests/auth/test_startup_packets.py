"""A connection's first bytes, good and bad: pgsplit answers what the server answers, and is silent where it is."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.wire import build
from pgsplit.wire.framing import messages
from pgsplit.wire.messages import BACKEND
from pgsplit.wire.parse import error_fields
from pgsplit.wire.startup import CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST
from tests.waiting import eventually

SSL = build.untyped(SSL_REQUEST)
STARTUP = build.startup({"user": "nobody"})
CUT_OFF = {"cut off": STARTUP[:-3], "half a length": STARTUP[:2]}      # behind these the client ends its side
PACKETS = {
    **CUT_OFF,
    "Terminate first": build.TERMINATE,
    "a Query first": build.query("select 1"),
    "zero bytes": bytes(8),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an SSH client": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "all bits set": b"\xff" * 8,
    "length 4": (4).to_bytes(4, "big") + bytes(4),
    "length 7": (7).to_bytes(4, "big") + bytes(3),
    "length 10,005": (10_005).to_bytes(4, "big") + bytes(10_001),
    "length 10,004, no terminator": build.untyped(3 << 16, b"x" * 9_996),
    "CancelRequest without a key": build.untyped(CANCEL_REQUEST, bytes(4)),
    "CancelRequest that is cut off": build.untyped(CANCEL_REQUEST, bytes(2)),
    "CancelRequest of nobody": build.untyped(CANCEL_REQUEST, bytes(8)),
    "CancelRequest with a key of 257 bytes": build.untyped(CANCEL_REQUEST, bytes(261)),
    "no parameters, no terminator": build.untyped(3 << 16),
    "no parameters": build.untyped(3 << 16, b"\0"),
    "no user": build.startup({"database": "postgres"}),
    "an empty user": build.startup({"user": ""}),
    "a name without a value": build.untyped(3 << 16, b"user\0\0"),
    "no terminator": build.untyped(3 << 16, b"user\0app"),
    "no second terminator": build.untyped(3 << 16, b"user\0app\0"),
    "more behind the terminator": build.untyped(3 << 16, b"user\0app\0\0\0"),
    "an unnamed parameter": build.untyped(3 << 16, b"\0value\0user\0app\0\0"),
}


INSIDE_TLS = {
    "SSLRequest": SSL,
    "GSSENCRequest": build.untyped(GSSENC_REQUEST),
    **PACKETS,
}


def talk(port: int, packet: bytes, *, tls: bool = False, direct: bool = False) -> list[object]:
    """What comes before the end of the connection: messages, an error as its three main fields."""
    got = b""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    try:
        if tls and not direct:
            sock.sendall(SSL)
            assert sock.recv(1) == b"S"
        if tls:
            sock = trusting(direct).wrap_socket(sock)
        sock.sendall(packet)
        if packet in CUT_OFF.values() and not tls:
            sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(65536):
            got += data
    except (ConnectionResetError, ssl.SSLEOFError):     # what the peer left unread decides how it ends
        pass
    finally:
        sock.close()
    return [(chr(kind), error_fields(body)[:3] if kind == ord("E") else body)
            for kind, body in messages(got, BACKEND)]


def trusting(direct: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if direct:
        context.set_alpn_protocols(["postgresql"])
    return context


def test_the_first_packet_is_answered_as_the_server_answers_it(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    proxy = pgsplit_server()
    server = cluster.primary.port
    assert ({name: talk(proxy.port, packet) for name, packet in PACKETS.items()}
            == {name: talk(server, packet) for name, packet in PACKETS.items()})
    inside = {name: packet for name, packet in INSIDE_TLS.items() if name not in CUT_OFF}
    assert ({name: talk(proxy.port, packet, tls=True) for name, packet in inside.items()}
            == {name: talk(server, packet, tls=True) for name, packet in inside.items()})


def test_silence_is_told_in_the_log_and_counted(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    proxy = pgsplit_server()
    assert talk(proxy.port, build.TERMINATE) == []
    assert "closed without an answer: invalid length of startup packet" in proxy.log.read_text()
    eventually(lambda: proxy.client.arbiter("totals")["postgres.postgres.logins_failed"] == 1)
