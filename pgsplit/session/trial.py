"""Trying a user's login at the write cluster: for the operator who has just changed a list."""

from __future__ import annotations

import base64

from ..auth.secret import Secret, parse
from ..config.model import Listener
from ..errors import ConnectionLost, ServerError
from ..topology.cluster import ClusterManager
from ..upstream.connection import UpstreamConnection
from ..upstream.login import SASL, Credentials
from .client_certificate import own_secret

Found = dict[str, str | int]

def test_login(manager: ClusterManager, listener: Listener, user: str, password: str | None, database: str) -> str:
    """Empty when *user* can log in at the write cluster by *password*, or by what the list has; else why not."""
    secret: Secret | None = None
    if password is not None:
        secret = parse(password)
    elif (entry := listener.listed(user)) is not None:
        secret = own_secret(entry)
    if secret is None:
        return f"{user} is not in the list of users"
    connection = _connection(manager, listener)
    try:
        connection.connect()
        with connection.logging_in():
            connection.log_in(Credentials(user, secret), connection.start({"user": user, "database": database}))
    except (ServerError, ConnectionLost) as error:
        return str(error)
    finally:
        connection.close()
    return ""

def scram_salt(manager: ClusterManager, listener: Listener, user: str, database: str) -> Found:
    """The salt (Base64) and the iterations that the primary has for *user*: a verifier made with others is none.

    :raises ServerError: when the primary does not ask this user for SCRAM, or cannot be asked.
    """
    connection = _connection(manager, listener)
    try:
        connection.connect()
        with connection.logging_in():
            kind, data = connection.start({"user": user, "database": database})
            connection.check(Credentials(user), kind)
            if kind != SASL:
                raise ServerError("28000", f"the primary does not ask {user} for SCRAM-SHA-256: store the password, "
                                  "or its md5 hash")
            salt, iterations = connection.server_salt(data)
    except ConnectionLost as lost:
        raise ServerError("08006", str(lost)) from None
    finally:
        connection.close()
    return {"salt": base64.b64encode(salt).decode(), "iterations": iterations}

def _connection(manager: ClusterManager, listener: Listener) -> UpstreamConnection:
    return UpstreamConnection(manager, listener.write_cluster, tls=listener.upstream_ssl == "REQUIRE")
