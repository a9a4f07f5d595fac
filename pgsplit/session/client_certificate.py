"""Certificates that clients show: the TLS handshake has checked them when they are looked at here."""

from __future__ import annotations

from ..config.model import Listener
from ..errors import ServerError
from ..upstream.stream import Stream


def insist(stream: Stream, listener: Listener) -> None:
    """As pg_hba.conf's clientcert=verify-ca. One that the listener's CA has not signed has ended the handshake.

    :raises ServerError: where the listener requires a certificate, and the client has shown none.
    """
    if listener.tls is not None and listener.tls.require_client_certificate and stream.peer_certificate() is None:
        raise ServerError("28000", "connection requires a valid client certificate", severity="FATAL")
