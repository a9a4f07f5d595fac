"""Logging in to an upstream over a stream, as a user whose secret pgsplit has (PostgreSQL manual 55.2.1)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..auth import scram
from ..auth.allowed import Allowed
from ..auth.scram import SCRAM
from ..auth.secret import Kind, Secret, md5_response
from ..errors import ConnectionLost, ProtocolViolation, ServerError
from ..wire import build, parse
from ..wire.parse import ParameterStatuses, parameter_statuses
from . import certificate, passwords
from .stream import ALPN, Stream

OK: Final = 0
CLEARTEXT: Final = 3
MD5: Final = 5
SASL: Final = 10
SASL_CONTINUE: Final = 11
SASL_FINAL: Final = 12

AUTHENTICATION: Final = ord("R")
NEGOTIATE_PROTOCOL_VERSION: Final = ord("v")
BACKEND_KEY_DATA: Final = ord("K")
ERROR_RESPONSE: Final = ord("E")
PARAMETER_STATUS: Final = ord("S")
READY_FOR_QUERY: Final = ord("Z")
NO_MATTER: Final = b"Nv"        # NoticeResponse, NegotiateProtocolVersion

NONE_SAID: Final = parameter_statuses(b"")

# The authentication requests that pgsplit cannot answer (PostgreSQL manual 55.7).
UNSUPPORTED: Final = {2: "KerberosV5", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}


@dataclass(slots=True, repr=False)
class Credentials:
    """All that pgsplit knows to log a user in: the list's secret, and what the client's own login showed."""

    user: str
    secret: Secret | None = None
    keys: scram.Keys | None = None          # recovered from the client's proof
    seen_password: Secret | None = None     # sent in clear by the client
    kind: Kind | None = None                # of the list's entry, which stays, whatever becomes of `secret`

    def __post_init__(self) -> None:
        if self.kind is None and self.secret is not None:
            self.kind = self.secret.kind

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, ***)"

    @property
    def clear(self) -> Secret | None:
        if self.secret is not None and self.secret.kind is Kind.CLEAR:
            return self.secret
        return self.seen_password


@dataclass(slots=True)
class ServerSession:
    """What a server said when a login was done."""

    statuses: ParameterStatuses = NONE_SAID
    pid: int = 0
    key: bytes = field(default=b"", repr=False)

    @property
    def parameters(self) -> Mapping[str, str]:
        return self.statuses.values


def start_tls(stream: Stream, context: ssl.SSLContext, server_hostname: str | None) -> None:
    """SSLRequest, and the handshake on ``S``.

    :raises ServerError: 08001 when the server does not do TLS.
    """
    stream.write(build.untyped(80877103))
    answer = stream.read_exact(1)
    if answer == b"S":
        stream.start_tls(context, server_side=False, server_hostname=server_hostname)
    elif answer == b"N":
        raise ServerError("08001", f"{stream.name} does not support TLS, which upstream_ssl: REQUIRE asks for",
                          severity="FATAL")
    else:
        raise ProtocolViolation(f"{stream.name} answered SSLRequest with {answer!r}")


def direct_tls(stream: Stream, context: ssl.SSLContext, server_hostname: str | None) -> None:
    """The handshake at once, as PostgreSQL 17 takes it: *context* offers ALPN, which the server must choose.

    :raises ServerError: 08001 when it does not; ConnectionLost when it is older and takes the first bytes for a length.
    """
    try:
        stream.start_tls(context, server_side=False, server_hostname=server_hostname)
    except ConnectionLost as lost:
        raise ConnectionLost(lost.where, f"{lost.why} (sslnegotiation: direct takes PostgreSQL 17)") from None
    if stream.tls is None or stream.tls.ssl.selected_alpn_protocol() != ALPN:
        raise ServerError("08001", f"{stream.name} does direct TLS without ALPN: it may speak another protocol",
                          severity="FATAL")


def authenticate(stream: Stream, credentials: Credentials, allowed: Allowed,
                 first: tuple[int, bytes]) -> tuple[int, bytes]:
    """Answer the server's authentication requests, of which *first* was read already, up to AuthenticationOk, which is
    returned.

    :raises NotAllowed: at the first request that is none of *allowed*, AuthenticationOk without another among them.
    """
    code, data = first
    allowed.check(stream.name, code)
    while code != OK:
        answer = _ANSWERS.get(code)
        if answer is None:
            raise ServerError("28000", f"{stream.name} asks for {UNSUPPORTED.get(code, f'authentication {code}')}, "
                              "which pgsplit cannot do", severity="FATAL")
        answer(stream, credentials, data)
        code, data = read_request(stream)
        if code != OK:
            allowed.check(stream.name, code)
    return code, data


def read_request(stream: Stream) -> tuple[int, bytes]:
    """The next Authentication message: (code, data)."""
    while True:
        kind, body = stream.read_message()
        if kind == AUTHENTICATION and len(body) >= 4:
            return int.from_bytes(body[:4], "big"), body[4:]
        if kind == ERROR_RESPONSE:
            raise parse.server_error(body)
        if kind not in NO_MATTER:
            raise ProtocolViolation(f"{stream.name} sent message type {kind} during authentication")


def finish(stream: Stream) -> ServerSession:
    """From AuthenticationOk to ReadyForQuery."""
    session = ServerSession()
    while True:
        if statuses := stream.take_all(PARAMETER_STATUS):
            session.statuses = parameter_statuses(session.statuses.messages + statuses)
        kind, body = stream.read_message()
        if kind == BACKEND_KEY_DATA:
            session.pid, session.key = parse.backend_key_data(body)
        elif kind == READY_FOR_QUERY:
            return session
        elif kind == ERROR_RESPONSE:
            raise parse.server_error(body)
        elif kind not in NO_MATTER:
            raise ProtocolViolation(f"{stream.name} sent message type {kind} before ReadyForQuery")


def wrong_password(user: str, for_log: str = "") -> ServerError:
    """In PostgreSQL's words (auth.c: auth_failed): a client is told no more, whatever is the reason."""
    return ServerError("28P01", f'password authentication failed for user "{user}"', severity="FATAL", for_log=for_log)


def _no_answer(stream: Stream, credentials: Credentials, method: str) -> ServerError:
    """Only SCRAM can be answered from a verifier, and only after the client has proved itself against it."""
    if credentials.secret is None:
        why = "the user_list has no entry for this user"
    elif credentials.secret.kind is Kind.SCRAM and method == SCRAM:
        why = "the user_list has a SCRAM verifier, which takes a client that was asked for SCRAM itself"
    else:
        why = f"the user_list has {credentials.secret.kind.value}, which cannot answer that"
    return ServerError("28000", f"{stream.name} asks for {method}: {why}", severity="FATAL")


def _cleartext(stream: Stream, credentials: Credentials, _data: bytes) -> None:
    secret = credentials.clear
    if secret is None:
        raise _no_answer(stream, credentials, "a clear password")
    stream.write(build.password(secret.text.encode(errors="surrogateescape")))


def _md5(stream: Stream, credentials: Credentials, data: bytes) -> None:
    secret = credentials.clear
    if secret is None and credentials.secret is not None and credentials.secret.kind is Kind.MD5:
        secret = credentials.secret
    if secret is None:
        raise _no_answer(stream, credentials, "an md5 password")
    stream.write(build.password(md5_response(secret, credentials.user, data[:4]).encode()))


def _sasl(stream: Stream, credentials: Credentials, data: bytes) -> None:
    binding = _binding(stream, data)
    if credentials.clear is None and credentials.keys is None:
        raise _no_answer(stream, credentials, SCRAM)
    client = scram.ScramClient(passwords.salted, secret=credentials.clear, binding=binding,
                               keys=credentials.keys if credentials.clear is None else None)
    stream.write(sasl_initial(client))
    try:
        proof = client.final(expect(stream, SASL_CONTINUE))
    except scram.StaleVerifier as stale:        # who is told that knows that the name is listed
        raise wrong_password(credentials.user, str(stale)) from None
    stream.write(build.message(b"p", proof))
    client.verify(expect(stream, SASL_FINAL))


def server_salt(stream: Stream, data: bytes) -> tuple[bytes, int]:
    """The salt and the iterations of the server whose SASL request has *data*, by an exchange that is not finished."""
    stream.write(sasl_initial(scram.ScramClient(passwords.salted, binding=_binding(stream, data))))
    _, salt, iterations = scram.parse_server_first(expect(stream, SASL_CONTINUE))
    return salt, iterations


def sasl_initial(client: scram.ScramClient) -> bytes:
    """SASLInitialResponse."""
    first = client.first()
    return build.message(b"p", build.cstring(client.mechanism) + len(first).to_bytes(4, "big") + first)


def _binding(stream: Stream, data: bytes) -> bytes | None:
    """The channel binding data for a SASL request that offers -PLUS, where the certificate defines any."""
    offered = [word.decode(errors="replace") for word in data.split(b"\0") if word]
    binding = None
    if scram.SCRAM_PLUS in offered and (der := stream.peer_certificate()) is not None:
        binding = certificate.end_point(der)
    if scram.SCRAM not in offered and binding is None:
        raise ServerError("28000", f"{stream.name} offers {', '.join(offered) or 'no mechanism'}, which pgsplit "
                          "cannot do", severity="FATAL")
    return binding


def expect(stream: Stream, code: int) -> bytes:
    """The data of the server's next request.

    :raises ProtocolViolation: when it is not *code*: an Ok that comes too early would let in a server that has not
        proved itself.
    """
    got, data = read_request(stream)
    if got != code:
        raise ProtocolViolation(f"{stream.name} sent authentication request {got} instead of {code}")
    return data


_ANSWERS: Final[dict[int, Callable[[Stream, Credentials, bytes], None]]] = {
    CLEARTEXT: _cleartext, MD5: _md5, SASL: _sasl,
}
