"""Each guarantee of docs/guarantees.md, seen from outside: real servers, real clients, two workers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import psycopg
import pytest
import yaml

from pgsplit.classify.rules import REASKED, RULES
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.process.client import Client
from tests.waiting import eventually

USER = "scram_user"
Connect = Callable[[], psycopg.Connection[Any]]


@pytest.fixture
def catalogue() -> bool:
    """Whether definitions are read."""
    return True


@pytest.fixture
def proxy(pgsplit_server: Callable[..., Proxy], catalogue: bool) -> Proxy:
    return pgsplit_server(pgsplit={"workers": 2, "log_level": "debug", "catalogue": catalogue})


@pytest.fixture
def connect(cluster: PrimaryAndStandbys, proxy: Proxy) -> Connect:
    """A session that has its replica, by a name that the servers know."""
    names = count()
    [standby] = cluster.standbys

    def connect() -> psycopg.Connection[Any]:
        name = f"guaranteed {next(names)}"
        connection = cluster.primary.connect(USER, port=proxy.port, autocommit=True, application_name=name)
        eventually(lambda: connection.execute("select 1")
                   and standby.query("select 1 from pg_stat_activity where application_name = %s", [name]))
        return connection

    return connect


@pytest.fixture
def table(cluster: PrimaryAndStandbys) -> Iterator[str]:
    cluster.primary.query(f"create table guaranteed (a int); grant all on guaranteed to {USER}")
    cluster.catch_up()
    yield "guaranteed"
    cluster.primary.query("drop table guaranteed cascade")


def counters(proxy: Proxy) -> dict[str, int]:
    """By name without Envoy's root; as of the workers' last heartbeat."""
    totals = Client(str(proxy.run_dir)).arbiter("totals")
    return {name.split(".", 2)[2]: value for name, value in totals.items() if name.startswith("postgres.")}


@contextmanager
def replay_paused(cluster: PrimaryAndStandbys) -> Iterator[None]:
    [standby] = cluster.standbys
    standby.pause_replay()
    try:
        yield
    finally:
        standby.resume_replay()


def test_g1_to_the_client_the_session_is_the_primarys(cluster: PrimaryAndStandbys, connect: Connect) -> None:
    with cluster.primary.connect(USER, autocommit=True) as direct, connect() as split:
        names = ("server_version", "in_hot_standby", "default_transaction_read_only", "TimeZone", "DateStyle")
        for name in names:
            assert split.info.parameter_status(name) == direct.info.parameter_status(name), name
        assert split.execute("show transaction_read_only").fetchone() == ("off",)
        assert split.execute("select pg_backend_pid()").fetchone() == (split.info.backend_pid,)


@pytest.mark.parametrize("catalogue", [False])
def test_g2_a_replicas_error_never_reaches_the_client(
        cluster: PrimaryAndStandbys, connect: Connect, proxy: Proxy, table: str) -> None:
    cluster.primary.query(f"create sequence guaranteed_s owned by {table}.a; grant all on guaranteed_s to {USER}; "
                          "create view guaranteed_v as select nextval('guaranteed_s') as n; "
                          f"grant select on guaranteed_v to {USER}")
    cluster.catch_up()
    with connect() as session:
        assert [session.execute("select n from guaranteed_v").fetchone() for _ in range(3)] == [(1,), (2,), (3,)]
    eventually(lambda: counters(proxy).get("reasks.25006") == 1)       # after the first, the text is known to write


def test_g2_ddl_that_the_replica_has_not_replayed(cluster: PrimaryAndStandbys, connect: Connect, table: str) -> None:
    with connect() as session, replay_paused(cluster):
        cluster.primary.query(f"alter table {table} add column b int default 7; insert into {table} values (1)")
        assert session.execute(f"select b from {table}").fetchall() == [(7,)]


@pytest.mark.parametrize("paused", [False, True])
def test_g3_a_read_sees_every_acknowledged_write(
        cluster: PrimaryAndStandbys, connect: Connect, proxy: Proxy, table: str, paused: bool) -> None:
    client = Client(str(proxy.run_dir))
    with ExitStack() as stack:
        sessions = [stack.enter_context(connect())]
        while not all(client.worker(number, "sessions") for number in client.workers()):
            sessions.append(stack.enter_context(connect()))
        if paused:
            stack.enter_context(replay_paused(cluster))
        for number in range(50):
            sessions[number % len(sessions)].execute(f"insert into {table} values (%s)", [number])
            for session in sessions:
                assert session.execute(f"select count(*) from {table}").fetchone() == (number + 1,)


def test_g3_no_session_reads_elsewhere_than_it_writes(
        cluster: PrimaryAndStandbys, connect: Connect, proxy: Proxy, table: str) -> None:
    """A reload names other servers: a session that writes on the old primary does not read from the new replica."""
    with (PrimaryAndStandbys(tuple(cluster.roles.values()), superuser_password="postgres-secret") as others,
          connect() as session):
        others.primary.query(f"create table {table} (a int); grant all on {table} to {USER}")
        [name] = session.execute("show application_name").fetchone() or ()
        configuration = yaml.safe_load(proxy.file.read_text())
        proxy.write({**configuration, "primary": others.primary.address, "replicas": [others.standbys[0].address]})
        proxy.signal(signal.SIGHUP)

        def has_new_replica() -> bool:
            session.execute(f"insert into {table} values (1)")
            assert session.execute(f"select count(*) from {table}").fetchone() == (
                cluster.primary.query(f"select count(*) from {table}")[0])
            return bool(others.standbys[0].query("select 1 from pg_stat_activity where application_name = %s", [name]))

        eventually(has_new_replica)
        assert session.execute(f"select true from {table} limit 1").fetchone() == (True,)


def test_g4_state_is_one(connect: Connect, table: str) -> None:
    with connect() as session:
        session.execute("set search_path to pg_temp, public")
        session.execute(f"create temporary table {table} (a text)")
        session.execute(f"insert into {table} values ('temporary')")
        session.execute("prepare reading as select current_setting('search_path')")
        assert session.execute(f"select a from {table}").fetchall() == [("temporary",)]
        assert session.execute("execute reading").fetchone() == ("pg_temp, public",)
        session.execute("discard all")
        assert session.execute(f"select a from {table}").fetchall() == []


def test_g5_what_a_standby_would_answer_differently_is_asked_of_the_primary(connect: Connect) -> None:
    with connect() as session:
        assert session.execute("select pg_is_in_recovery()").fetchone() == (False,)
        assert session.execute("select pg_try_advisory_lock(4711)").fetchone() == (True,)
        query = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711"
        assert session.execute(query).fetchone() == (1,)


def test_g6_an_outcome_that_is_unknown_is_no_success_and_nothing_runs_twice(
        cluster: PrimaryAndStandbys, connect: Connect, table: str) -> None:
    session = connect()
    cluster.primary.query(f"create function guaranteed_f() returns trigger language plpgsql as "
                          "'begin perform pg_terminate_backend(pg_backend_pid()); return new; end'; "
                          f"alter function guaranteed_f() owner to {USER}; create trigger guaranteed_t "
                          f"before insert on {table} for each row execute function guaranteed_f()")
    try:
        with pytest.raises(psycopg.OperationalError):
            session.execute(f"insert into {table} values (1)")
        assert session.closed
        assert cluster.primary.query(f"select count(*) from {table}") == [(0,)]
    finally:
        cluster.primary.query("drop function guaranteed_f() cascade")


def test_g7_every_decision_has_a_reason_of_the_rule_table(connect: Connect, proxy: Proxy, table: str) -> None:
    with connect() as session:
        eventually(lambda: session.execute("select 1") and counters(proxy).get("decisions.replica.read"))
        for sql in ("select 1", f"insert into {table} values (1)", f"select a from {table} for update", "begin",
                    "lock table pg_class in access share mode", "select 1", "commit", "begin", "commit",
                    "select pg_advisory_lock(1)", "select 1", "select", ""):
            session.execute(sql)
    eventually(lambda: counters(proxy)["sessions"] and not counters(proxy)["sessions_active"])
    decided = {name for name in counters(proxy) if name.startswith("decisions.")}
    prefix = REASKED.name.partition("<")[0]
    for name in decided:
        _, upstream, reason = name.split(".")
        assert reason in RULES or reason.startswith(prefix), reason
        assert RULES.get(reason, REASKED).upstream in (upstream, "either")
    assert {"decisions.replica.read", "decisions.primary.write", "decisions.primary.locking_clause",
            "decisions.pgsplit.begin_held", "decisions.primary.transaction_open",
            "decisions.primary.pinned_advisory_lock"} <= decided


def test_g8_no_secret_is_told(cluster: PrimaryAndStandbys, connect: Connect, proxy: Proxy) -> None:
    secrets = [role.password for role in cluster.roles.values() if role.password]
    with connect(), pytest.raises(psycopg.OperationalError):
        cluster.primary.connect("md5_user", port=proxy.port, password="not-the-secret")
    client = Client(str(proxy.run_dir))
    told = [proxy.log.read_text(), *(str(client.arbiter(what)) for what in ("totals", "workers", "last_reload")),
            *(str(client.worker(number, "sessions")) for number in client.workers())]
    assert "login refused" in told[0]
    for text in told:
        assert not any(secret in text for secret in (*secrets, "not-the-secret"))
