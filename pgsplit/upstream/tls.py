"""TLS towards upstreams."""

from __future__ import annotations

import ssl

from ..config.model import UpstreamTls
from . import tls_context
from .stream import ALPN
from .tls_params import apply, trust


def client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """For upstreams: without a CA the certificate is not checked, as with libpq's sslmode=require.

    :raises OSError: (ssl.SSLError among them) when a file cannot be used.
    """
    context = tls_context.make(ssl.PROTOCOL_TLS_CLIENT)
    apply(context, tls.params)
    context.check_hostname = False
    context.set_alpn_protocols([ALPN])
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    if tls.ca is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        trust(context, tls.ca, tls.crl)
        context.check_hostname = bool(tls.san)
    return context
