"""The client's side of a connection up to its StartupMessage (PostgreSQL manual 55.2.1, 55.2.9 to 55.2.11)."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Final

from ..config.model import TlsMode
from ..errors import ProtocolViolation, ServerError, Unanswered
from ..upstream.stream import ALPN, Stream
from ..wire import build, startup
from ..wire.startup import PROTOCOL_3_0, CancelRequest, GSSENCRequest, SSLRequest, StartupMessage

TLS_HANDSHAKE: Final = 0x16       # the first byte of a TLS ClientHello: PostgreSQL 17's direct negotiation
WORDS: Final[dict[type, str]] = {SSLRequest: "SSL", GSSENCRequest: "GSSAPI encryption"}


def accept_startup(stream: Stream, mode: TlsMode, context: ssl.SSLContext | None,
                   newest: int = PROTOCOL_3_0) -> StartupMessage | CancelRequest:
    """Answer SSLRequest and GSSENCRequest as they come, until the client says what it wants.

    *newest* is the version of the protocol up to which clients are taken at their word.

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
            if request.major != 3:
                raise _unsupported(request.protocol, newest)
            request = _negotiate(stream, request, newest)
            _check(request, stream, mode)
            return request
        if type(request) in done:
            raise _unsupported(startup.CODES[type(request)], newest)
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


def _unsupported(asked: int, newest: int) -> ServerError:
    return ServerError("0A000", f"unsupported frontend protocol {_words(asked)}: server supports 3.0 to "
                       f"{_words(newest)}", severity="FATAL")


def _words(protocol: int) -> str:
    return f"{protocol >> 16}.{protocol & 0xFFFF}"


def _check(request: StartupMessage, stream: Stream, mode: TlsMode) -> None:
    if not request.user:
        raise ServerError("28000", "no PostgreSQL user name specified in startup packet", severity="FATAL")
    if mode == "REQUIRE" and stream.tls is None:
        raise ServerError("28000", "this listener takes TLS connections only", severity="FATAL",
                          hint="Use sslmode=require.")


def _negotiate(stream: Stream, request: StartupMessage, newest: int) -> StartupMessage:
    """A newer version, and protocol options, are answered by what is supported, ahead of what is said next."""
    agreed = min(request.protocol, newest)
    options = [name for name in request.parameters if name.startswith("_pq_.")]
    if agreed < request.protocol or options:
        stream.queue(build.negotiate_protocol_version(agreed, options))
    return replace(request, minor=agreed & 0xFFFF,
                   parameters={name: value for name, value in request.parameters.items() if name not in options})
