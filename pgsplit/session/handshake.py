"""The client's side of a connection up to its StartupMessage (PostgreSQL manual 55.2.1, 55.2.9 to 55.2.11)."""

from __future__ import annotations

import ssl
from typing import Final

from ..config.model import TlsMode
from ..errors import ProtocolViolation, ServerError, Unanswered
from ..upstream.stream import Stream
from ..wire import build, startup
from ..wire.startup import CancelRequest, GSSENCRequest, SSLRequest, StartupMessage

TLS_HANDSHAKE: Final = 0x16       # the first byte of a TLS ClientHello: PostgreSQL 17's direct negotiation
ALPN: Final = "postgresql"
WORDS: Final[dict[type, str]] = {SSLRequest: "SSL", GSSENCRequest: "GSSAPI encryption"}


def accept_startup(stream: Stream, mode: TlsMode, context: ssl.SSLContext | None) -> StartupMessage | CancelRequest:
    """Answer SSLRequest and GSSENCRequest as they come, until the client says what it wants.

    What is told and what is met with silence is as in the server's ProcessSSLStartup and ProcessStartupPacket.

    :raises Unanswered: for the connection to be closed without a word.
    :raises ServerError: FATAL, for the client to be told; ProtocolViolation among them.
    """
    done: set[type] = set()
    if stream.peek()[0] == TLS_HANDSHAKE:
        _direct_tls(stream, mode, context)
    while True:
        request = _read(stream)
        if isinstance(request, CancelRequest):
            return request
        if isinstance(request, StartupMessage):
            _check(request, stream, mode)
            _negotiate(stream, request)
            return request
        if type(request) in done:
            raise _unsupported(*divmod(startup.CODES[type(request)], 1 << 16))
        done = {SSLRequest, GSSENCRequest} if _encrypt(stream, request, mode, context) else {type(request)}


def _read(stream: Stream) -> startup.Startup:
    length = int.from_bytes(stream.read_exact(4), "big")
    startup.check_length(length)
    return startup.parse(stream.read_exact(length - 4))


def _encrypt(stream: Stream, request: SSLRequest | GSSENCRequest, mode: TlsMode,
             context: ssl.SSLContext | None) -> bool:
    """Whether TLS is on now."""
    if isinstance(request, GSSENCRequest) or mode == "DISABLE" or context is None or stream.tls is not None:
        stream.write(b"N")
        if stream.unread:
            raise ProtocolViolation(f"received unencrypted data after {WORDS[type(request)]} request")
        return False
    stream.write(b"S")
    stream.start_tls(context, server_side=True)
    return True


def _direct_tls(stream: Stream, mode: TlsMode, context: ssl.SSLContext | None) -> None:
    if mode == "DISABLE" or context is None:
        raise Unanswered("direct TLS connection request, and TLS is not offered here")
    stream.start_tls(context, server_side=True, already_read=stream.read_exact(stream.unread))
    if stream.tls is None or stream.tls.ssl.selected_alpn_protocol() != ALPN:
        raise Unanswered("received direct SSL connection request without ALPN protocol negotiation extension")


def _unsupported(major: int, minor: int) -> ServerError:
    return ServerError("0A000", f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0",
                       severity="FATAL")


def _check(request: StartupMessage, stream: Stream, mode: TlsMode) -> None:
    if request.major != 3:
        raise _unsupported(request.major, request.minor)
    if not request.user:
        raise ServerError("28000", "no PostgreSQL user name specified in startup packet", severity="FATAL")
    if mode == "REQUIRE" and stream.tls is None:
        raise ServerError("28000", "this listener takes TLS connections only", severity="FATAL",
                          hint="Use sslmode=require.")


def _negotiate(stream: Stream, request: StartupMessage) -> None:
    """A newer minor version, and protocol options, are answered with what is supported: 3.0 without any."""
    options = [name for name in request.parameters if name.startswith("_pq_.")]
    if request.minor > 0 or options:
        stream.write(build.negotiate_protocol_version(0, options))
    for name in options:
        del request.parameters[name]
