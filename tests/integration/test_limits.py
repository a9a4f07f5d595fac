"""Limits on sessions: over all workers, for a listener and for each of its users, with PostgreSQL's own 53300."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from pgsplit.config.loader import load
from pgsplit.config.model import Config
from pgsplit.errors import ConfigError
from pgsplit.process import descriptors
from pgsplit.process.client import Client
from tests.conftest import default_configuration
from tests.waiting import eventually


def connect(proxy: Any, user: str = "scram_user", password: str = "scram-secret", **more: Any) -> psycopg.Connection:
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user=user, password=password, dbname="postgres",
                           sslmode="disable", **more)


def refusal(proxy: Any, *arguments: str, **more: Any) -> str:
    with pytest.raises(psycopg.OperationalError) as refused:
        connect(proxy, *arguments, **more)
    return str(refused.value).partition("FATAL:  ")[2].strip()


def test_a_listener_takes_so_many_sessions_and_no_more(pgsplit_server):
    proxy = pgsplit_server(pgsplit={"workers": 2, "max_connections": 3})
    with ExitStack() as stack:
        sessions = [stack.enter_context(connect(proxy)) for _ in range(3)]
        assert refusal(proxy) == "sorry, too many clients already\nDETAIL:  max_connections of listener postgres is 3."
        for session in sessions:
            assert session.execute("select 1").fetchone() == (1,)
            session.cancel()                        # a cancel is no session
            session.rollback()
        sessions[0].close()
        eventually(lambda: stack.enter_context(connect(proxy)))
        assert refusal(proxy).startswith("sorry")


def test_each_user_has_a_limit_of_his_own(pgsplit_server):
    proxy = pgsplit_server(pgsplit={"workers": 2, "max_user_connections": 2, "unlisted_users": "read_only"},
                           users={"scram_user": "scram-secret", "password_user": "password-secret"},
                           monitor="password_user")
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(proxy))
        assert refusal(proxy) == ('too many connections for role "scram_user"\n'
                                  "DETAIL:  max_user_connections of listener postgres is 2.")
        assert "password authentication failed" in refusal(proxy, "scram_user", "guess")       # says nothing before
        for _ in range(2):
            stack.enter_context(connect(proxy, "password_user", "password-secret"))
            stack.enter_context(connect(proxy, "md5_user", "md5-secret"))       # not in the list
        assert refusal(proxy, "trust_user", "") == (                            # nor is this one
            'too many connections for role "trust_user"\nDETAIL:  max_user_connections of listener postgres is 2.')


def reconfigure(proxy: Any, cluster: Any, **settings: int) -> None:
    proxy.write(default_configuration(cluster) | {"pgsplit": {"workers": 2, **settings}})
    proxy.signal(signal.SIGHUP)


def test_a_reload_changes_the_limits_and_counts_who_is_there(pgsplit_server, cluster):
    proxy = pgsplit_server(pgsplit={"workers": 2})
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(proxy))
        reconfigure(proxy, cluster, max_connections=3, max_user_connections=9)
        eventually(lambda: "too many clients" in tried(proxy))
        reconfigure(proxy, cluster, max_user_connections=3)
        eventually(lambda: "too many connections for role" in tried(proxy))
        reconfigure(proxy, cluster)
        eventually(lambda: tried(proxy) == "")


def test_a_worker_that_dies_takes_its_count_along(pgsplit_server):
    proxy = pgsplit_server(pgsplit={"workers": 1, "max_connections": 2})
    sessions = [connect(proxy) for _ in range(2)]
    assert "too many clients" in tried(proxy)
    [worker] = Client(str(proxy.run_dir)).arbiter("workers")
    os.kill(worker["pid"], signal.SIGKILL)
    eventually(lambda: tried(proxy) == "")
    for session in sessions:
        session.close()


def tried(proxy: Any) -> str:
    try:
        connect(proxy).close()
    except psycopg.OperationalError as error:
        return str(error)
    return ""


SHORT = """\
listen: 127.0.0.1:6432
primary: db1:5432
replicas: [db2:5432]
users: {app: secret}
pgsplit: {run_dir: /tmp/x, %s}
"""


def config(setting: str, users: str = "app: secret") -> Config:
    return load((SHORT % setting).replace("app: secret", users), "x.yaml", lambda name: "").config


def test_what_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    descriptors.check(config("max_connections: 1322"))
    with pytest.raises(ConfigError) as refused:
        descriptors.check(config("max_connections: 1323"))
    assert str(refused.value) == (
        "max_connections: 1323 sessions take 4097 file descriptors, and a process may have 4096: "
        "allow more (ulimit -n, systemd's LimitNOFILE), or at most 1322")
    many = ", ".join(f"u{number}: x" for number in range(4096))
    descriptors.check(config("workers: 1", many))
    with pytest.raises(ConfigError, match="max_user_connections: 4097 users are to be counted, and 4096 can be"):
        descriptors.check(config("max_user_connections: 5", many))
