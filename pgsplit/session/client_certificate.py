"""Certificates that clients show: the TLS handshake has checked them when they are looked at here."""

from __future__ import annotations

from typing import Any, Final

from ..auth import user_map
from ..auth.secret import Secret, parse
from ..config.model import Listener, User
from ..errors import ServerError
from ..upstream.stream import Stream

SAN: Final = ("DNS", "email", "URI")        # the kinds of a subject's alternative names that name somebody


def insist(stream: Stream, listener: Listener) -> None:
    """As pg_hba.conf's clientcert=verify-ca. One that the listener's CA has not signed has ended the handshake.

    :raises ServerError: where the listener requires a certificate, and the client has shown none.
    """
    if listener.tls is not None and listener.tls.require_client_certificate:
        _be_shown(stream)


def prove(stream: Stream, entry: User) -> None:
    """As pg_hba.conf's method cert, for a user whom the list lets in by a certificate.

    :raises ServerError: 28000 where the client has shown none, or one that is not this user's.
    """
    _be_shown(stream)
    found = names(stream, entry.clientname)
    if not any(user_map.allows(entry.map, name, entry.username) for name in found):
        error = ServerError("28000", f'certificate authentication failed for user "{entry.username}"', severity="FATAL")
        error.for_log = f"the certificate's {entry.clientname} is {', '.join(map(repr, found)) or 'absent'}"
        raise error


def names(stream: Stream, which: str) -> list[str]:
    """*which*: CN, the first common name of the subject, or SAN, all alternative names."""
    shown: Any = stream.tls.ssl.getpeercert() if stream.tls is not None else None
    if not shown:
        return []
    if which == "SAN":
        found = [str(value) for kind, value in shown.get("subjectAltName", ()) if kind in SAN]
    else:
        subject = [pair for relative in shown.get("subject", ()) for pair in relative]
        found = [str(value) for kind, value in subject if kind == "commonName"][:1]
    return [name for name in found if name.isprintable()]


def own_secret(entry: User) -> Secret:
    """What pgsplit logs in to servers with as a listed user."""
    return parse(entry.upstream_secret or entry.secret)


def _be_shown(stream: Stream) -> None:
    if stream.peer_certificate() is None:
        raise ServerError("28000", "connection requires a valid client certificate", severity="FATAL")
