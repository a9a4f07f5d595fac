"""The login as clients of the whole product meet it: through `app.py serve`."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import psycopg
import pytest

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.wire import build
from tests.conftest import ROLES
from tests.waiting import eventually


@pytest.fixture
def proxy(pgsplit_server: Callable[..., Proxy]) -> Proxy:
    return pgsplit_server()


def connect(proxy: Proxy, cluster: PrimaryAndStandbys, user: str, **over: object) -> psycopg.Connection:
    arguments = {"host": "127.0.0.1", "port": proxy.port, "user": user, "password": cluster.roles[user].password,
                 "dbname": "postgres", "connect_timeout": 30, "autocommit": True}
    return psycopg.connect(**arguments | over)


def test_to_the_client_the_session_is_one_on_the_primary(proxy: Proxy, cluster: PrimaryAndStandbys):
    for role in ROLES:
        for sslmode in ("disable", "require"):
            with connect(proxy, cluster, role.name, sslmode=sslmode) as connection:
                [(user, pid)] = connection.execute("select current_user, pg_backend_pid()")
                assert (user, pid) == (role.name, connection.info.backend_pid)
                [(found,)] = cluster.primary.query("select usename from pg_stat_activity where pid = %s", [pid])
                assert found == role.name
                for name in ("in_hot_standby", "default_transaction_read_only"):
                    assert connection.info.parameter_status(name) == "off"


def test_nothing_stays_open_behind_logins_that_fail(proxy: Proxy, cluster: PrimaryAndStandbys):
    def backends() -> int:
        query = "select count(*) from pg_stat_activity where usename = 'scram_user'"
        return sum(server.query(query)[0][0] for server in (cluster.primary, cluster.standbys[0]))

    for sslmode in ("disable", "require"):
        for over in ({"password": "guess"}, {"dbname": "nowhere"}):
            for _ in range(10):
                with pytest.raises(psycopg.OperationalError, match="FATAL"):
                    connect(proxy, cluster, "scram_user", sslmode=sslmode, **over)
    eventually(lambda: backends() == 0)


def test_nothing_stays_open_behind_clients_that_vanish_during_their_login(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    """At whatever point: the last one is when both servers have let the session in and its welcome is sent."""
    proxy = pgsplit_server(tls=None, upstream_tls="disable", pgsplit={"workers": 1})
    startup = build.startup({"user": "trust_user", "database": "postgres"})

    def backends() -> int:
        query = "select count(*) from pg_stat_activity where usename = 'trust_user' and backend_type = 'client backend'"
        return sum(server.query(query)[0][0] for server in (cluster.primary, cluster.standbys[0]))

    def log_in(sock: socket.socket, until: Callable[[bytes], bool]) -> None:
        sock.sendall(startup)
        got = b""
        while not until(got):
            got += sock.recv(65536)

    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        began = time.monotonic()
        log_in(sock, lambda got: got.endswith(build.ready_for_query(ord("I"))))
        took = time.monotonic() - began
    for number in range(300):
        with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
            if number % 30:
                sock.sendall(startup)
                time.sleep(number % 30 / 20 * took)
            else:
                log_in(sock, bool)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))       # ends in a reset
    eventually(lambda: backends() == 0)
    totals = eventually(lambda: (found := proxy.client.arbiter("totals"))["postgres.postgres.sessions_active"] == 0
                        and found)
    eventually(lambda: not any(count for name, count in proxy.client.arbiter("totals").items()
                               if name.endswith("upstream_cx_active")))
    assert totals["postgres.postgres.sessions"] > 0


def test_no_secret_is_in_the_log(proxy: Proxy, cluster: PrimaryAndStandbys):
    for role in ROLES:
        connect(proxy, cluster, role.name, sslmode="require").close()
        with pytest.raises(psycopg.OperationalError):
            connect(proxy, cluster, role.name, dbname="nowhere", sslmode="require")
    log = proxy.log.read_text()
    assert "login" in log
    assert not any(role.password and role.password in log for role in ROLES)


def test_a_session_is_given_a_replica_when_a_read_wants_it(proxy: Proxy, cluster: PrimaryAndStandbys):
    """And again when it has lost that."""
    [standby] = cluster.standbys[:1]

    def backends() -> list[tuple[int]]:
        return standby.query("select pid from pg_stat_activity where usename = 'scram_user'")

    with connect(proxy, cluster, "scram_user", sslmode="require") as connection:
        connection.execute("select txid_current()")
        assert not backends()

        def after_a_read() -> list[tuple[int]]:
            assert connection.execute("select 1").fetchall() == [(1,)]
            return backends()

        [first] = eventually(after_a_read)
        standby.query("select pg_terminate_backend(%s)", first)
        eventually(lambda: [pid for pid in after_a_read() if pid != first])
