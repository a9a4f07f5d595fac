"""Errors that clients get of pgsplit in front of real servers are found on docs/troubleshooting.md, code and text."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

ROWS = re.findall(r"^\| (ERROR|FATAL) (\w{5}) \| `([^`]+)` \|",
                  (Path(__file__).resolve().parents[2] / "docs/troubleshooting.md").read_text(), re.MULTILINE)


def told(message: str) -> set[tuple[str, str]]:
    """The severities and codes with which the page has *message*; what is all placeholder is not looked at."""
    return {(severity, sqlstate) for severity, sqlstate, text in ROWS if not re.fullmatch(r"<[^>]*>", text)
            and re.fullmatch(".+".join(map(re.escape, re.split(r"<[^>]*>", text))), message)}


def refused(connect) -> str:
    """The text of the FATAL at a login, which stands on the page. libpq does not say its code."""
    with pytest.raises(psycopg.OperationalError) as caught:
        connect()
    [message] = re.findall(r"FATAL:  (.*)", str(caught.value))
    assert [severity for severity, _ in told(message)] == ["FATAL"], message
    return message


def failed(connection, sql: str) -> str:
    """The SQLSTATE of the error of *sql*, which stands on the page."""
    result = connection.pgconn.exec_(sql.encode())
    assert result.status == psycopg.pq.ExecStatus.FATAL_ERROR, sql
    severity, sqlstate, message = (result.error_field(field).decode() for field in (
        psycopg.pq.DiagnosticField.SEVERITY, psycopg.pq.DiagnosticField.SQLSTATE,
        psycopg.pq.DiagnosticField.MESSAGE_PRIMARY))
    assert (severity, sqlstate) in told(message), (severity, sqlstate, message)
    return sqlstate


def test_refused_logins_are_told(cluster, pgsplit_server):
    proxy = pgsplit_server(pgsplit={"workers": 1, "max_connections": 1, "stats_users": "md5_user"})

    def connect(user="scram_user", **arguments):
        return lambda: cluster.primary.connect(user, **{"port": proxy.port, "sslmode": "require"} | arguments)

    assert refused(connect(password="wrong")).startswith("password authentication failed")
    assert refused(connect(dbname="pgsplit")) == 'user "scram_user" may not use the console'
    with connect()():
        assert refused(connect()) == "sorry, too many clients already"


def test_errors_in_a_session_and_on_the_console_are_told(cluster, pgsplit_server):
    proxy = pgsplit_server(pgsplit={"workers": 1, "stats_users": "scram_user"})
    with cluster.primary.connect("scram_user", port=proxy.port, autocommit=True) as client:
        assert failed(client, "set pgsplit.min_lsn = 'nonsense'") == "22023"
        client.execute("begin; create temporary table t (a int)")
        assert failed(client, "show pgsplit.lsn") == "25001"
    with cluster.primary.connect("scram_user", port=proxy.port, dbname="pgsplit", autocommit=True) as console:
        assert failed(console, "reload") == "42501"
        assert failed(console, "select 1") == "42601"
    with cluster.primary.connect("scram_user", port=proxy.port, dbname="pgsplit", autocommit=True) as console:
        with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
            console.execute("show %s", ("version",))
        assert ("ERROR", "0A000") in told(caught.value.diag.message_primary)


def test_sessions_that_may_only_read_are_told(cluster, pgsplit_server):
    users = {role.name: role.password or "unused" for role in cluster.roles.values() if role.name != "trust_user"}
    proxy = pgsplit_server(users=users, pgsplit={"workers": 1, "unlisted_users": "read_only"})
    with cluster.primary.connect("trust_user", port=proxy.port, autocommit=True) as client:
        assert failed(client, "create table never (a int)") == "25006"
