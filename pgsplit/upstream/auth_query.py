"""Asking the primary for the secret of a user who is in no list: PgBouncer's ``auth_query``.

On a connection of its own, whose every setting is pgsplit's: nothing that a client sends before it has proved itself
gets there but its name, and that as a parameter. (CVE-2025-12819 was a client's search_path.)
"""

from __future__ import annotations

import time
from typing import Final

from ..auth.secret import Secret
from ..config.model import Listener
from ..errors import ServerError
from ..wire import build
from .connection import ClusterManagerLike, UpstreamConnection
from .login import Credentials
from .rows import take_rows

PARAMETERS: Final = {"application_name": "pgsplit auth_query", "client_encoding": "UTF8", "search_path": "pg_catalog",
                     "statement_timeout": "10s"}
NOT_A_NAME: Final = ("22021", "22P05")      # bytes that are no text of the database's encoding


class CannotAsk(ServerError):
    """What a client is told that nobody can be asked about; the log has the reason."""

    def __init__(self, why: str) -> None:
        super().__init__("57P03", "the primary cannot be asked for users now", severity="FATAL", for_log=why)


def ask(manager: ClusterManagerLike, listener: Listener, secret: Secret, user: str) -> str | None:
    """What *listener*'s ``auth_query`` has for *user*: a password's hash, or None for a user who may not log in by one.

    *secret*: that of ``auth_user``.

    :raises CannotAsk: when the primary is away, does not let ``auth_user`` in, or does not answer as it should.
    :raises ConnectionLost: a deadline of the caller's own.
    """
    connection = UpstreamConnection(manager, listener.write_cluster, tls=listener.upstream_ssl == "REQUIRE",
                                    counts=False, asks=True)
    parameters = {"user": listener.auth_user, "database": listener.auth_dbname, **PARAMETERS}
    try:
        stream = connection.connect()
        with connection.logging_in():
            connection.log_in(Credentials(listener.auth_user, secret), connection.start(parameters))
            if connection.in_recovery:
                raise CannotAsk(f"{connection.name} is in recovery")
            if why := manager.why_not_write(listener.write_cluster, connection.reached):
                raise CannotAsk(f"{connection.name}: {why}")
            stream.be_patient(manager.cluster(listener.write_cluster).connect_timeout)
            sent_ns = time.monotonic_ns()
            stream.write(build.parse("", listener.auth_query)
                         + build.bind(values=[user.encode(errors="surrogateescape")]) + build.execute() + build.SYNC)
            rows, failure = take_rows(stream)
            manager.asked(listener.write_cluster, False, "users", time.monotonic_ns() - sent_ns)
            if failure is not None:
                raise failure
            return _secret_of(rows, user)
    except CannotAsk:
        raise
    except ServerError as error:
        if error.sqlstate in NOT_A_NAME:
            return None
        raise CannotAsk(f"auth_query as {listener.auth_user}: {error.message}") from None
    finally:
        connection.close()


def _secret_of(rows: list[list[bytes | None]], user: str) -> str | None:
    """None for another's, too: a name is cut to 63 bytes where it is compared with the catalogue's.

    :raises CannotAsk: for what is not one row of a name and a secret.
    """
    if not rows:
        return None
    if len(rows) > 1 or len(rows[0]) != 2:
        raise CannotAsk(f"auth_query gave {len(rows)} rows of {len(rows[0])} columns, instead of a name and a secret")
    name, secret = rows[0]
    if name != user.encode(errors="surrogateescape"):
        return None
    return secret.decode(errors="surrogateescape") if secret else None
