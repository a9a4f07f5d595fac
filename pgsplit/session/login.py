"""The login: the client's, relayed so that PostgreSQL decides, and pgsplit's own at the other upstream (S7 to S11).

It runs on a replica that is fresh as of the StartupMessage, else on the primary. What the server asks for decides
how it goes on: see docs/login.md for the matrix of entry, method and TLS.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from .. import log
from ..auth import scram
from ..auth.secret import Kind, Secret, Verifier, parse
from ..config.model import Listener
from ..errors import ConnectionLost, ProtocolViolation, ServerError
from ..upstream import login, passwords
from ..upstream.connection import ClusterManagerLike, HostLike, UpstreamConnection
from ..upstream.login import CLEARTEXT, MD5, OK, SASL, SASL_CONTINUE, SASL_FINAL, Credentials, read_request
from ..upstream.stream import Stream
from ..wire import build
from ..wire.startup import StartupMessage

logger = log.get("pgsplit.login")

READ_ONLY: Final = {"default_transaction_read_only": "on"}
CLIENT_MESSAGE: Final = 1 << 16
_SALT_PEPPER: Final = os.urandom(32)

FreshReplica = Callable[[], HostLike | None]
"""A host of the read cluster that is fresh as of the StartupMessage, or None."""


@dataclass(slots=True)
class LoggedIn:
    """A login that is done. *additional* is absent for a session that may only read, *default* when no replica can
    be had now; one of them is there.
    """

    credentials: Credentials
    parameters: dict[str, str]
    default: UpstreamConnection | None
    additional: UpstreamConnection | None
    read_only: bool = False

    @property
    def main(self) -> UpstreamConnection:
        """The connection whose identity the session has."""
        connection = self.additional or self.default
        assert connection is not None
        return connection


class Login:
    """*binding* is the listener certificate's tls-server-end-point data, *fresh_replica* the read cluster's answer."""

    def __init__(self, client: Stream, startup: StartupMessage, listener: Listener, manager: ClusterManagerLike,
                 fresh_replica: FreshReplica, binding: bytes | None) -> None:
        self._client = client
        self._parameters = dict(startup.parameters)
        self._listener = listener
        self._manager = manager
        self._fresh_replica = fresh_replica
        self._binding = binding
        self._replication = startup.parameters.get("replication", "false").lower() not in ("false", "off", "no", "0")
        entry = next((user for user in listener.users if user.username == startup.user), None)
        self._credentials = Credentials(startup.user, parse(entry.secret) if entry else None)
        self._split = listener.split_rw
        self._read_only = self._split and entry is None
        self._asked_client = False

    def run(self) -> LoggedIn:
        """Log the client in.

        :raises ServerError: what the client is to be told; `raw` holds a server's own words.
        """
        if self._read_only and (self._listener.unlisted_users == "reject" or self._replication):
            raise ServerError("28000", f'user "{self._credentials.user}" is not in the user_list of pgsplit',
                              severity="FATAL")
        if not self._split or self._read_only:
            return self._one_upstream()
        host = None if self._replication else self._fresh_replica()
        if host is not None and (first := self._on_replica(host)) is not None:
            return self._primary_behind(first)
        return self._replica_behind(self._on_primary())

    # --- which upstream first ---------------------------------------------------------------------------

    def _one_upstream(self) -> LoggedIn:
        connection = self._connection(self._listener.read_cluster)
        connection.connect()
        self._relay(connection, READ_ONLY if self._read_only else {})
        return LoggedIn(self._credentials, self._parameters, connection, None, read_only=self._read_only)

    def _on_replica(self, host: HostLike) -> UpstreamConnection | None:
        """None when the replica gave up before the client was asked for anything: the primary may know better."""
        connection = self._connection(self._listener.read_cluster)
        try:
            connection.connect(host)
            self._relay(connection, READ_ONLY)
        except (ServerError, ConnectionLost) as error:
            connection.close()
            if self._asked_client:
                raise
            logger.debug("login of %s at replica %s: %s", self._credentials.user, host.name, error)
            return None
        return connection

    def _on_primary(self) -> UpstreamConnection:
        connection = self._connection(self._listener.write_cluster)
        try:
            connection.connect()
        except ServerError as error:
            raise self._away(error) from None
        self._relay(connection, {})
        return connection

    def _primary_behind(self, replica: UpstreamConnection) -> LoggedIn:
        """The additional connection: pgsplit logs in itself, and nothing of it reaches the client."""
        connection = self._connection(self._listener.write_cluster)
        try:
            connection.connect()
            connection.log_in(self._credentials, connection.start(self._parameters))
        except (ServerError, ConnectionLost) as error:
            connection.close()
            if self._listener.login_without_primary and getattr(error, "sqlstate", "08").startswith("08"):
                return LoggedIn(self._credentials, self._parameters, replica, None, read_only=True)
            replica.close()
            raise self._away(error) from None
        return LoggedIn(self._credentials, self._parameters, replica, connection)

    def _replica_behind(self, primary: UpstreamConnection) -> LoggedIn:
        replica = None
        if not self._replication:
            replica = connect_replica(self._manager, self._listener, self._parameters, self._credentials)
        return LoggedIn(self._credentials, self._parameters, replica, primary)

    def _away(self, error: ServerError | ConnectionLost) -> ServerError:
        if isinstance(error, ServerError) and not error.sqlstate.startswith("08"):
            return error
        return ServerError("57P03", "the primary cannot be reached", severity="FATAL", detail=str(error))

    def _connection(self, cluster: str) -> UpstreamConnection:
        return UpstreamConnection(self._manager, cluster, tls=self._listener.upstream_ssl == "REQUIRE")

    # --- the relayed exchange -----------------------------------------------------------------------------

    def _relay(self, connection: UpstreamConnection, extra: Mapping[str, str]) -> None:
        """The server asks, the client answers, until the server is content. Closes *connection* if that fails."""
        try:
            code, data = connection.start({**self._parameters, **extra})
            while code != OK:
                code, data = self._answer(connection, code, data)
            connection.finish()
        except BaseException:
            connection.close()
            raise

    def _answer(self, connection: UpstreamConnection, code: int, data: bytes) -> tuple[int, bytes]:
        """Answer one request of the server; returns its next."""
        upstream = connection.stream
        assert upstream is not None
        if code == SASL:
            return self._sasl(connection, upstream, data)
        if code not in (CLEARTEXT, MD5):
            login.authenticate(upstream, self._credentials, (code, data))     # says that it cannot
        self._ask(code, data)
        answer = self._read_password()
        if code == CLEARTEXT:
            text = answer.rstrip(b"\0").decode(errors="surrogateescape")
            self._credentials.seen_password = Secret(Kind.CLEAR, text)
        upstream.write(build.message(b"p", answer))
        return read_request(upstream)

    def _ask(self, code: int, data: bytes) -> None:
        self._asked_client = True
        self._client.write(build.authentication(code, data))

    def _read_password(self) -> bytes:
        kind, body = self._client.read_message(CLIENT_MESSAGE)
        if kind == ord("X"):
            raise ConnectionLost("client", "gave up during authentication")
        if kind != ord("p"):
            raise ProtocolViolation(f"expected password response, got message type {kind}")
        return body

    def _sasl(self, connection: UpstreamConnection, upstream: Stream, data: bytes) -> tuple[int, bytes]:
        secret = self._credentials.secret
        if self._client.tls is not None and secret is not None and secret.kind is not Kind.MD5:
            self._end_scram(secret)
            login.authenticate(upstream, self._credentials, (SASL, data))
            return OK, b""
        return self._relay_scram(connection, upstream, data)

    def _end_scram(self, secret: Secret) -> None:
        """pgsplit is the SCRAM server: two TLS legs cannot share one channel binding."""
        server = scram.ScramServer(secret.verifier or self._derived_verifier(secret), self._binding)
        self._ask(SASL, b"".join(name.encode() + b"\0" for name in server.mechanisms) + b"\0")
        mechanism, first = split_initial(self._read_password())
        self._ask(SASL_CONTINUE, server.first(mechanism, first))
        try:
            final, keys = server.final(self._read_password())
        except scram.ScramError as error:
            if error.sqlstate != "28P01":
                raise
            raise ServerError("28P01", f'password authentication failed for user "{self._credentials.user}"',
                              severity="FATAL") from None
        if secret.kind is Kind.SCRAM:
            self._credentials.keys = keys
        self._ask(SASL_FINAL, final)

    def _derived_verifier(self, secret: Secret) -> Verifier:
        salt = hashlib.blake2b(self._credentials.user.encode(errors="surrogateescape"), key=_SALT_PEPPER,
                               digest_size=16).digest()
        salted = passwords.salted(scram.normalise(secret.text), salt, scram.ITERATIONS)
        return scram.verifier_of(scram.keys_of(salted, salt, scram.ITERATIONS))

    def _relay_scram(self, connection: UpstreamConnection, upstream: Stream, data: bytes) -> tuple[int, bytes]:
        """The server's own exchange with the client. -PLUS is taken out of the offer: it binds to one TLS leg."""
        offered = [word for word in data.split(b"\0") if word]
        kept = [word for word in offered if word != scram.SCRAM_PLUS.encode()]
        secret = self._credentials.secret
        observer = scram.ScramObserver(secret.verifier) if secret and secret.verifier else None
        self._ask(SASL, b"".join(word + b"\0" for word in kept) + b"\0")
        initial = self._read_password()
        first = split_initial(initial)[1]
        if first.startswith(b"y") and len(kept) < len(offered):
            raise ServerError(
                "28000", "SCRAM cannot be relayed between two TLS connections to a client that binds to its channel",
                severity="FATAL", hint="Give the user's password or SCRAM verifier in user_list.")
        if observer:
            observer.client_first(first)
        upstream.write(build.message(b"p", initial))
        code, challenge = read_request(upstream)
        if code != SASL_CONTINUE:
            raise ProtocolViolation(f"{upstream.name} sent authentication request {code} instead of SASLContinue")
        if observer:
            observer.server_first(challenge)
        self._ask(code, challenge)
        final = self._read_password()
        if observer:
            self._credentials.keys = observer.client_final(final)
        upstream.write(build.message(b"p", final))
        code, data = read_request(upstream)
        if code == SASL_FINAL:
            self._ask(code, data)
            code, data = read_request(upstream)
        return code, data


def split_initial(body: bytes) -> tuple[str, bytes]:
    """SASLInitialResponse: (mechanism, initial response)."""
    mechanism, found, rest = body.partition(b"\0")
    if not found or len(rest) < 4 or int.from_bytes(rest[:4], "big") != len(rest) - 4:
        raise ProtocolViolation("malformed SASLInitialResponse")
    return mechanism.decode(errors="replace"), rest[4:]


def connect_replica(manager: ClusterManagerLike, listener: Listener, parameters: Mapping[str, str],
                    credentials: Credentials, host: HostLike | None = None) -> UpstreamConnection | None:
    """A read connection for a session that is logged in, or None: then the session does without."""
    connection = UpstreamConnection(manager, listener.read_cluster, tls=listener.upstream_ssl == "REQUIRE")
    try:
        connection.connect(host)
        connection.log_in(credentials, connection.start({**parameters, **READ_ONLY}))
    except (ServerError, ConnectionLost) as error:
        connection.close()
        logger.debug("no read connection for %s: %s", credentials.user, error)
        return None
    return connection


def welcome(client: Stream, parameters: Mapping[str, str], pid: int, key: bytes) -> None:
    """AuthenticationOk to ReadyForQuery, with the identity of the session's main upstream and our own cancel key."""
    client.write(b"".join((
        build.authentication(OK),
        *(build.parameter_status(name, value) for name, value in parameters.items()),
        build.backend_key_data(pid, key),
        build.ready_for_query(ord("I")),
    )))
