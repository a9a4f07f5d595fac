"""Serving the clients of one listener: startup, login, session, and the ends of all three."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any

import gevent

from .. import log
from ..auth.secret import Kind, Secret, parse
from ..config.model import Config, Listener, Process
from ..errors import ConnectionLost, ServerError, Unanswered
from ..topology.host import Host
from ..topology.sampler import Sampler
from ..upstream import auth_query
from ..upstream.login import OK, Credentials
from ..upstream.stream import Stream
from ..wire import build
from ..wire.startup import PROTOCOL_3_0, CancelRequest, StartupMessage
from . import client_certificate
from .active import ActiveSession
from .asked_users import AskedUsers
from .console import Console
from .console_tables import Known
from .exchange import Exchange
from .handshake import accept_startup
from .limits import Key as LimitKey
from .login import LoggedIn, Login
from .refusal import Refusal
from .replica import pick_fresh
from .shared import Shared

logger = log.get("pgsplit.session")

CONSOLE_PARAMETERS = {"server_version": "15.0 (pgsplit console)", "server_encoding": "UTF8", "client_encoding": "UTF8",
                      "DateStyle": "ISO", "TimeZone": "UTC", "standard_conforming_strings": "on",
                      "integer_datetimes": "on"}


@dataclass
class Server:
    """One listener's part. A reload replaces *listener* and the rest; sessions keep what they began with."""

    listener: Listener
    shared: Shared
    stats: Any
    sampler: Sampler | None                      # None where reads and writes are not split
    tls: ssl.SSLContext | None = None
    binding: bytes | None = None                 # of our certificate (RFC 5929)
    sessions: set[ActiveSession] = field(default_factory=set)
    asked_users: AskedUsers | None = field(init=False, default=None)     # where auth_user may be asked for users

    def __post_init__(self) -> None:
        listener, manager = self.listener, self.shared.manager
        entry = listener.listed(listener.auth_user) if listener.split_rw and listener.auth_user else None
        if entry is not None:
            secret = client_certificate.own_secret(entry)
            self.asked_users = AskedUsers(lambda user: auth_query.ask(manager, listener, secret, user),
                                          self.shared.board.latest_write_ns)

    def handle(self, sock: socket.socket, peer: str) -> None:
        """Serve one client from its first byte to its last. Runs in a greenlet of its own; raises nothing."""
        stream = Stream(sock, "client")
        logged_in = None
        held: list[LimitKey] = []     # its places under the limits
        try:
            too_long = ConnectionLost("client", "did not log in within client_login_timeout")
            with gevent.Timeout(self.listener.client_login_timeout, too_long):
                logged_in = self._log_in(stream, held)
            if isinstance(logged_in, LoggedIn):
                self._session(stream, logged_in, peer).run()
            elif logged_in is not None:
                logged_in.run()
        except ServerError as error:
            self.stats.logins_failed += 1
            logger.info("%s: login refused: %s%s", peer, error.message, f" ({error.for_log})" if error.for_log else "")
            _tell(stream, error)
        except Unanswered as error:
            self.stats.logins_failed += 1
            logger.info("%s: closed without an answer: %s", peer, error)
        except ConnectionLost as lost:
            logger.debug("%s: %s", peer, lost)
        except Exception:
            logger.exception("%s: the session failed", peer)
        finally:
            for key in held:
                self.shared.limits.give_back(key)
            stream.close()

    def _session(self, stream: Stream, logged_in: LoggedIn, peer: str) -> ActiveSession:
        try:
            return ActiveSession(self, stream, logged_in, peer)
        except BaseException:       # the client may be gone before it is let in
            logged_in.close()
            raise

    def _log_in(self, stream: Stream, held: list[LimitKey]) -> LoggedIn | Console | None:
        """None when the client only wanted to cancel."""
        request = accept_startup(stream, self.listener.downstream_ssl, self.tls, self._newest_protocol())
        if isinstance(request, CancelRequest):
            self._cancel(request)
            return None
        client_certificate.insist(stream, self.listener)
        config = self.shared.config()
        if config is not None and is_console(config.process, request):
            return self._console(stream, request, config)
        held.append(self.shared.limits.take_listener(self.listener))
        started = time.monotonic_ns()

        def fresh_replica() -> Host | None:
            host = pick_fresh(self, started)
            return None if host is not None and host.balanced else host

        asked = self._ask_for(request.user)
        try:
            logged_in = Login(stream, request, self.listener, self.shared.manager, fresh_replica, self.binding,
                              started, asked).run()
        except ServerError:
            if asked is not None and self.asked_users is not None:
                self.asked_users.doubt(request.user)
            raise
        try:
            held.append(self.shared.limits.take_user(self.listener, request.user))
        except ServerError:
            logged_in.close()
            raise
        return logged_in

    def _ask_for(self, user: str) -> Secret | None:
        """The secret of one who is in no list, where the primary may be asked and has one."""
        if self.asked_users is None or self.listener.listed(user) is not None:
            return None
        return self.asked_users.find(user)

    def _newest_protocol(self) -> int:
        """What every host that a session may be given now is known to speak."""
        clusters = {self.listener.read_cluster, self.listener.write_cluster}
        return min((host.protocol for name in clusters for host in self.shared.manager.cluster(name).usable()),
                   default=PROTOCOL_3_0)

    def _console(self, stream: Stream, request: StartupMessage, config: Config) -> Console:
        """The SQL console, instead of a session: pgsplit itself asks for SCRAM."""
        process, user = config.process, request.user
        entry = self.listener.listed(user)
        secret = parse(entry.secret) if entry is not None else None
        if entry is None or secret is None or secret.kind is Kind.MD5:
            Refusal(stream, user, self.binding).refuse("no password or SCRAM verifier for the console in the user_list")
        if secret.kind is Kind.CERT:
            client_certificate.prove(stream, entry)
        else:
            Exchange(stream, Credentials(user, secret), self.binding).prove(secret)
        if user not in (*process.admin_users, *process.stats_users):
            raise ServerError("28000", f'user "{user}" may not use the console', severity="FATAL",
                              detail="It is neither in admin_users nor in stats_users.")
        stream.write(build.authentication(OK) + b"".join(
            build.parameter_status(name, value) for name, value in CONSOLE_PARAMETERS.items()))
        may_order = user in process.admin_users
        return Console(stream, Known(config, self.shared.ask_all), self.shared.reload if may_order else None,
                       (lambda cluster: self.shared.forget_term(cluster, user)) if may_order else None)

    def _cancel(self, request: CancelRequest) -> None:
        self.stats.cancels += 1
        key = (request.pid, request.key)
        if not self.shared.registry.cancel(key):
            self.shared.cancel_elsewhere(key)

    def drain(self) -> None:
        for active in list(self.sessions):
            active.session.drain()


def is_console(process: Process, request: StartupMessage) -> bool:
    """Whether a startup asks for the SQL console: its name is a database's where nobody may use it."""
    return bool(process.admin_users or process.stats_users) and (
        request.parameters.get("database", request.user) == process.console_database)


def _tell(stream: Stream, error: ServerError) -> None:
    if error.raw is not None:
        data = build.message(b"E", error.raw)
    else:
        data = build.error_response("FATAL", error.sqlstate, error.message, detail=error.detail, hint=error.hint)
    try:
        with gevent.Timeout(5, TimeoutError()):
            stream.write(data)
    except (ConnectionLost, TimeoutError):
        pass
