"""The login: the client's, relayed so that PostgreSQL decides, and pgsplit's own at the other upstream (S7 to S11).

It runs on the primary; of a user who may only read, on a replica that is fresh as of the StartupMessage. What the
server asks for decides how it goes on: see docs/login.md for the matrix of entry, method and TLS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from .. import log
from ..auth.secret import Kind, Secret, parse
from ..config.model import Listener
from ..errors import PgSplitError, ServerError
from ..split.settings import RESULT_SETTINGS
from ..upstream.connection import ClusterManagerLike, Judged, UpstreamConnection
from ..upstream.login import OK, Credentials
from ..upstream.stream import Stream
from ..wire import build
from ..wire.startup import StartupMessage
from . import client_certificate
from .exchange import Exchange
from .refusal import Refusal

logger = log.get("pgsplit.login")

AUTHENTICATION_OK: Final = build.authentication(OK)
READY: Final = build.ready_for_query(ord("I"))
UNLISTED: Final = "not in the user_list"
READ_ONLY: Final = {"default_transaction_read_only": "on"}

# What no SET can make equal.
FIXED: Final = ("integer_datetimes", "server_encoding")

FreshReplica = Callable[[], Judged | None]
"""A host of the read cluster that is fresh as of the StartupMessage and alone at its address, or None."""
AGAIN: Final = 0.1        # seconds at most between two attempts while the primary is away
TRIES: Final = 4          # connections to a balancer until one reaches a server that is known to be fresh


@dataclass(slots=True)
class LoggedIn:
    """A login that is done. *additional* is absent for a session that may only read and where reads and writes are
    not split; *default* until a read wants it, and when no replica can be had. One of them is there.
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

    def close(self) -> None:
        for connection in (self.default, self.additional):
            if connection is not None:
                connection.close()


def is_replication(parameters: Mapping[str, str]) -> bool:
    """Whether a startup asks for a replication connection (PostgreSQL manual 55.4)."""
    return parameters.get("replication", "false").lower() not in ("false", "off", "no", "0")


class Login:
    """*binding* is the listener certificate's tls-server-end-point data, *fresh_replica* the read cluster's answer as
    of *began_ns*, when the StartupMessage came. *asked*: the secret that the primary has for a user who is in no list.
    """

    def __init__(self, client: Stream, startup: StartupMessage, listener: Listener, manager: ClusterManagerLike,
                 fresh_replica: FreshReplica, binding: bytes | None, began_ns: int = 0,
                 asked: Secret | None = None) -> None:
        self._parameters = dict(startup.parameters)
        self._protocol = startup.protocol
        self._listener = listener
        self._manager = manager
        self._fresh_replica = fresh_replica
        self._began_ns = began_ns
        entry = listener.listed(startup.user)
        unlisted = listener.split_rw and entry is None and asked is None
        self._replication = is_replication(startup.parameters)
        self._refusal = (Refusal(client, startup.user, binding, listener.users)
                         if unlisted and (listener.unlisted_users == "reject" or self._replication) else None)
        self._exchange = self._refusal or Exchange(
            client, Credentials(startup.user, client_certificate.own_secret(entry) if entry else asked), binding)
        self._credentials = self._exchange.credentials
        self._read_only = unlisted and self._refusal is None
        self._client = client
        self._cert = entry if entry is not None and parse(entry.secret).kind is Kind.CERT else None
        patience = 0.0 if listener.login_without_primary else listener.login_wait
        self._wait_until = time.monotonic() + patience      # for a primary that is away
        self._proved = False        # to pgsplit: by a certificate, or in the place of a replica that was lost

    def run(self) -> LoggedIn:
        """Log the client in.

        :raises ServerError: what the client is to be told; `raw` holds a server's own words.
        :raises ConnectionLost: when the client goes away.
        """
        if self._refusal is not None:
            self._refuse(self._refusal)
        if self._cert is not None:
            client_certificate.prove(self._client, self._cert)
            self._proved = True
        return self._run()

    def _refuse(self, refusal: Refusal) -> NoReturn:
        try:
            self._run().close()
        except ServerError as error:
            error.for_log = UNLISTED
            raise
        refusal.refuse(UNLISTED)

    def _run(self) -> LoggedIn:
        if not self._listener.split_rw:
            return LoggedIn(self._credentials, self._parameters, self._on_primary(), None)
        if self._read_only:
            host = None if self._replication or self._listener.observes else self._fresh_replica()
            replica = self._on_replica(host) if host is not None else None
            return self._alone(replica or self._read_elsewhere())
        try:
            return LoggedIn(self._credentials, self._parameters, None, self._on_primary())
        except ServerError as error:
            return self._alone(self._without_primary(error))

    # --- the client's login ---------------------------------------------------------------------------------

    def _on_replica(self, host: Judged | None) -> UpstreamConnection | None:
        """None when the replica gave up: the primary may know better. *No* to the client's proof is final; *yes* by
        another server than the one that is fresh is none.
        """
        connection = self._connection(self._listener.read_cluster)
        try:
            connection.connect(host)
            if self._proved:
                with connection.logging_in():
                    connection.log_in(self._credentials, connection.start(read_only(self._parameters)))
            else:
                self._exchange.run(connection, read_only(self._parameters))
        except ServerError as error:
            if self._exchange.asked:
                self._end_without(error)
            logger.info("login of %s at a replica: %s", self._credentials.user, error)
            return None
        server = self._manager.server_of(connection)
        if host is not None and server is not host:
            try:
                server = self._another(connection)
            except BaseException:
                connection.close()
                raise
            if server is None:
                connection.close()
                return None
        if server is not None:
            connection.belongs_to(server)
        return connection

    def _another(self, connection: UpstreamConnection) -> Judged | None:
        """The server that has answered in the place of the one that is fresh, once it is known to be fresh itself; None
        where its word is not needed: nobody was asked, or another one can judge the client's proof.

        :raises ServerError: where only that server could, and is not known to be fresh in time.
        """
        if not self._exchange.asked:
            return None
        if self._exchange.can_be_judged_elsewhere:
            self._proved = True
            return None
        server = self._manager.await_server(connection, self._began_ns)
        if server is None:
            raise ServerError("57P03", "another server than expected has answered the login; try again",
                              severity="FATAL")
        return server

    def _end_without(self, error: ServerError) -> None:
        """A replica that asked the client is lost, or full: what the client was asked is to be ended without it.

        :raises ServerError: *error*, where that cannot be.
        """
        if error.sqlstate.startswith("28") or not self._exchange.can_be_judged_elsewhere:
            raise error
        self._proved = True

    def _on_primary(self, parameters: Mapping[str, str] | None = None) -> UpstreamConnection:
        parameters = parameters or self._parameters
        if self._proved:
            return self._log_in_at_primary(parameters)
        return self._when_there(lambda: self._let_in_by_primary(parameters))

    def _let_in_by_primary(self, parameters: Mapping[str, str]) -> UpstreamConnection:
        connection = self._connect_primary()
        self._exchange.run(connection, parameters)
        return self._judged(connection)

    def _when_there(self, attempt: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """What *attempt* makes. While the primary is away it is made again, up to `login_wait`, unless it has asked the
        client for something: no other server can go on with that.
        """
        asked = self._exchange.asked
        while True:
            try:
                return attempt()
            except ServerError as error:
                left = self._wait_until - time.monotonic()
                if left <= 0 or not is_away(error) or self._exchange.asked != asked:
                    raise
            self._manager.await_change(min(left, AGAIN))

    def _judged(self, primary: UpstreamConnection) -> UpstreamConnection:
        """A connection to the primary, unless it has turned out to be none.

        :raises ServerError: then; it is closed.
        """
        if not primary.in_recovery:
            why = self._manager.why_not_write(self._listener.write_cluster, primary.reached)
        else:
            why = "the server that was reached is in recovery" if self._listener.split_rw else ""
        if why:
            primary.close()
            logger.warning("login of %s: %s: %s", self._credentials.user, primary.name, why)
            raise self._unreachable(why)
        return primary

    def _read_elsewhere(self) -> UpstreamConnection:
        """A user who may only read, and no replica that is fresh: the primary, where the listener allows that."""
        if self._listener.read_fallback == "error" and not self._listener.observes:
            raise ServerError("57P03", "no replica can take this login now", severity="FATAL",
                              detail="None is fresh as of now and lets it in, and read_fallback is 'error'.")
        return self._on_primary(read_only(self._parameters))

    def _without_primary(self, error: ServerError) -> UpstreamConnection:
        """While the primary is away nobody can tell how fresh a replica is; `login_without_primary` takes that on."""
        listener = self._listener
        allowed = (listener.login_without_primary and not listener.observes
                   and not (self._replication or self._exchange.asked))
        connection = self._on_replica(None) if allowed and is_away(error) else None
        if connection is None:
            raise error
        return connection

    # --- pgsplit's own --------------------------------------------------------------------------------------

    def _log_in_at_primary(self, parameters: Mapping[str, str]) -> UpstreamConnection:
        return self._when_there(lambda: self._log_in_itself(parameters))

    def _log_in_itself(self, parameters: Mapping[str, str]) -> UpstreamConnection:
        connection = self._connect_primary()
        with connection.logging_in():
            connection.log_in(self._credentials, connection.start(parameters))
        return self._judged(connection)

    def _alone(self, connection: UpstreamConnection) -> LoggedIn:
        return LoggedIn(self._credentials, self._parameters, connection, None, read_only=True)

    def _connect_primary(self) -> UpstreamConnection:
        connection = self._connection(self._listener.write_cluster)
        try:
            connection.connect()
        except ServerError as error:
            raise self._unreachable(str(error)) from None
        return connection

    def _unreachable(self, why: str) -> ServerError:
        self._manager.hint(self._listener.write_cluster)
        what = "primary" if self._listener.split_rw else "server"
        return ServerError("57P03", f"the {what} cannot be reached", severity="FATAL", detail=why)

    def _connection(self, cluster: str) -> UpstreamConnection:
        return UpstreamConnection(self._manager, cluster, tls=self._listener.upstream_ssl == "REQUIRE",
                                  asks=not self._replication, protocol=self._protocol)


class NoReplica(PgSplitError):
    """A session gets no read connection; in words, why."""


def connect_replica(manager: ClusterManagerLike, listener: Listener, session: LoggedIn, host: Judged,
                    as_of_ns: int) -> UpstreamConnection:
    """A read connection for a session that is logged in.

    *host* is fresh as of *as_of_ns*, the session's login: one that lags would start with old settings of the role. So
    must be whichever other server answers at its address.

    :raises NoReplica: then the session does without.
    """
    for _ in range(TRIES if host.balanced else 1):
        connection = UpstreamConnection(manager, listener.read_cluster, tls=listener.upstream_ssl == "REQUIRE",
                                        asks=True, protocol=session.main.protocol)
        try:
            connection.connect(host)
            with connection.logging_in():
                connection.log_in(session.credentials, connection.start(read_only(session.parameters)))
        except ServerError as error:
            raise NoReplica(f"{connection.name}: {error.for_log or error}") from None
        server = manager.server_of(connection)
        if server is host or (server is not None and not server.why_not and server.fresh_ns > as_of_ns):
            connection.belongs_to(server)
            see_alike(connection, session.main)
            return connection
        connection.close()
    raise NoReplica(f"another server than {host.name}, which is fresh, answers at its address")


def read_only(parameters: Mapping[str, str]) -> dict[str, str]:
    """A read connection's startup parameters; the server compares names without case, and the last one counts."""
    return {name: value for name, value in parameters.items() if name.lower() not in READ_ONLY} | READ_ONLY


def is_away(error: ServerError) -> bool:
    """Whether the primary could not be asked, rather than said no."""
    return error.sqlstate in ("08001", "08006", "57P01", "57P02", "57P03")


def see_alike(replica: UpstreamConnection, primary: UpstreamConnection) -> None:
    """:raises NoReplica: *replica*, which is closed then, differs from the primary in what no SET can make equal."""
    ours, theirs = primary.session.parameters, replica.session.parameters
    names = [name for name in FIXED if ours.get(name) != theirs.get(name)]
    if names:
        replica.close()
        raise NoReplica(f"{replica.name} differs from the primary in {', '.join(names)}")


def differing(replica: UpstreamConnection, primary: UpstreamConnection) -> set[str]:
    """Settings that the two connections report with other values."""
    ours, theirs = primary.session.parameters, replica.session.parameters
    return {name for name in RESULT_SETTINGS if ours.get(name) != theirs.get(name)}


def welcome(client: Stream, statuses: bytes, pid: int, key: bytes) -> None:
    """AuthenticationOk to ReadyForQuery, with the identity of the session's main upstream and our own cancel key.

    *statuses*: that upstream's ParameterStatus messages.
    """
    client.write(AUTHENTICATION_OK + statuses + build.backend_key_data(pid, key) + READY)
