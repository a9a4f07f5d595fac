"""TLS towards clients: a listener's certificate and key, and what they bind to."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from ..config.model import Listener, ServerTls
from ..upstream import tls_context
from ..upstream.certificate import end_point
from ..upstream.stream import ALPN
from ..upstream.tls_params import apply, trust


def server_context(tls: ServerTls, make: Callable[[int], ssl.SSLContext] = ssl.SSLContext) -> ssl.SSLContext:
    """Made by *make*: whoever has the ssl module wrap a socket needs its own kind.

    :raises OSError: (ssl.SSLError among them) when the files cannot be used together.
    """
    context = make(ssl.PROTOCOL_TLS_SERVER)
    apply(context, tls.params)
    context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols([ALPN])
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL         # a bad one ends the handshake, that of others shows later
        trust(context, tls.client_ca, tls.crl)
    return context


def binding(tls: ServerTls) -> bytes | None:
    """The tls-server-end-point data of our own certificate (RFC 5929)."""
    with open(tls.certificate, encoding="ascii", errors="replace") as file:
        text = file.read()
    start, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = text[text.index(start):text.index(end) + len(end)]
    return end_point(ssl.PEM_cert_to_DER_cert(first))


def for_listener(listener: Listener) -> tuple[ssl.SSLContext | None, bytes | None]:
    if listener.tls is None or listener.downstream_ssl == "DISABLE":
        return None, None
    return server_context(listener.tls, tls_context.make), binding(listener.tls)
