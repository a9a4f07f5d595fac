"""The demo's load counts and checks honestly: tried on a server without pgsplit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pgsplit.demo import load
from pgsplit.demo.counts import Counts, Tally, calls, forget_calls, lags
from pgsplit.demo.load import Client, Load, Plan
from pgsplit.demo.replication import PrimaryAndStandbys
from tests.waiting import eventually

USERS = ("scram_user", "md5_user")


@pytest.fixture
def logins(cluster: PrimaryAndStandbys) -> Iterator[list[dict[str, Any]]]:
    cluster.primary.query(load.prepare(len(USERS)))
    forget_calls(cluster)
    yield [{"host": "127.0.0.1", "port": cluster.primary.port, "user": user, "dbname": "postgres",
            "password": cluster.roles[user].password} for user in USERS]
    cluster.primary.query("drop table account, transfer")


def test_the_server_counts_what_the_clients_count(cluster: PrimaryAndStandbys, logins: list[dict[str, Any]]) -> None:
    traffic = Load(logins, cluster.guardian)
    traffic.start()
    eventually(lambda: all(calls(cluster.primary, [user]) > 20 for user in USERS))
    report = traffic.stop()
    assert report.errors == [] and report.stale == 0
    assert calls(cluster.primary, USERS) == report.statements
    assert calls(cluster.standbys[0], USERS) == 0
    [(deposits, transfers)] = cluster.primary.query(
        "select (select count(*) from account where balance <> 0), (select count(*) from transfer)")
    assert deposits > 0 and transfers > 0


def test_a_lost_write_is_seen(cluster: PrimaryAndStandbys, logins: list[dict[str, Any]]) -> None:
    client = Client(0, logins[0])
    enough = threading.Event()
    thread = threading.Thread(target=client.run, args=(200.0, enough))
    thread.start()
    eventually(lambda: client.report.statements > 20)
    cluster.primary.query("update account set balance = balance - 1")
    eventually(lambda: client.report.stale > 0)
    enough.set()
    thread.join()


def test_an_error_ends_the_load_and_is_told(cluster: PrimaryAndStandbys, logins: list[dict[str, Any]]) -> None:
    report = load.run(Plan([logins[0], {**logins[1], "password": "wrong"}]), threading.Event())
    assert len(report.errors) == 1
    assert "client 1" in report.errors[0] and "password authentication failed" in report.errors[0]


def test_no_password_is_shown(logins: list[dict[str, Any]]) -> None:
    assert "secret" not in repr(Plan(logins))


def test_lag_is_told_for_each_standby(cluster: PrimaryAndStandbys) -> None:
    assert list(lags(cluster)) == [standby.name for standby in cluster.standbys]
    standby = cluster.standbys[0]
    eventually(lambda: lags(cluster)[standby.name] != "not streaming")
    standby.stop()
    eventually(lambda: lags(cluster)[standby.name] == "not streaming")
    standby.start()
    eventually(lambda: lags(cluster)[standby.name].startswith("0 B"))


def test_counts_are_summed_over_listeners_and_must_agree() -> None:
    counts = Counts.of({"postgres.a.statements_primary": 2, "postgres.b.statements_primary": 3,
                        "postgres.a.statements_replica": 7, "cluster.x.statements_replica": 100,
                        "postgres.a.sessions_active": 1})
    assert counts == Counts(primary=5, replica=7, sessions=1)
    assert Tally(counts, {"primary": 5, "standby1": 3, "standby2": 4}).agrees
    assert not Tally(counts, {"primary": 4, "standby1": 4, "standby2": 4}).agrees
