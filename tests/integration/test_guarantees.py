"""The guarantees on a real primary and standby: re-ask (G2), fresh reads (G3), doubt (G5), nothing in secret (G6)."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import psycopg
import pytest

from tests.integration.conftest import PATIENT, counters, value
from tests.waiting import eventually


@PATIENT
def test_reads_go_to_the_standby_and_writes_to_the_primary(cluster, proxy, connect):
    session = connect()
    session.execute("create table split_a (a int)")
    eventually(lambda: session.execute("select 1") and sum(counters(proxy, "statements_replica").values()))
    before = counters(proxy, "statements_replica")
    for number in range(20):
        session.execute("insert into split_a values (%s)", [number])
        assert value(session, "select count(*) from split_a") == number + 1
    session.execute("drop table split_a")
    eventually(lambda: sum(counters(proxy, "statements_replica").values()) - sum(before.values()) >= 10)
    standby = cluster.standbys[0]
    assert eventually(lambda: standby.query("select count(*) from pg_stat_activity where usename = 'postgres' "
                                            "and application_name not like 'pgsplit%'"))


@pytest.mark.parametrize("catalogue", [False])
def test_no_error_of_a_replica_reaches_the_client(connect, cluster, proxy):
    """A view that hides nextval() is a read to the eye; the standby answers 25006, the primary is asked."""
    session = connect()
    session.execute("create sequence reask_s; create view reask_v as select nextval('reask_s') as n")
    for cursor in (session.cursor(), session.cursor(binary=True)):
        cluster.catch_up()
        numbers = [cursor.execute("select n from reask_v").fetchone()[0] for _ in range(3)]
        assert numbers == sorted(set(numbers))
    assert value(session, "select n from reask_v where n > 0") is not None
    with pytest.raises(psycopg.errors.DivisionByZero):
        session.execute("select 1 / (n - n) from reask_v")
    eventually(lambda: value(session, "select n from reask_v") and sum(counters(proxy, "reasks.25006").values()))
    session.execute("drop view reask_v; drop sequence reask_s")


def test_a_table_made_a_moment_ago_is_there_in_every_session(connect):
    one, other = connect(), connect()
    for number in range(20):
        one.execute(f"create table moment_{number} as select {number} as n")
        assert value(other, f"select n from moment_{number}") == number
        one.execute(f"drop table moment_{number}")
        with pytest.raises(psycopg.errors.UndefinedTable):
            other.execute(f"select n from moment_{number}")


def test_no_read_is_stale_while_replay_is_paused_and_resumed(cluster, connect):
    """Within a session, and across sessions and workers, under `global`."""
    setup = connect()
    setup.execute("create table fresh (id int primary key, n int)")
    setup.execute("insert into fresh select g, 0 from generate_series(1, 4) g")
    stale: list[Any] = []
    over = threading.Event()
    told = [0] * 5                      # the greatest value of each row that somebody was told committed

    def write(row: int) -> None:
        with connect() as session:
            number = 0
            while not over.is_set():
                number += 1
                session.execute("update fresh set n = %s where id = %s", [number, row])
                told[row] = number
                if value(session, f"select n from fresh where id = {row}") != number:
                    stale.append(("own", row, number))

    def read() -> None:
        with connect() as session:
            seen = [0] * 5
            while not over.is_set():
                least = told[:]
                for row in range(1, 5):
                    number = value(session, f"select n from fresh where id = {row}")
                    if number < least[row] or number < seen[row]:
                        stale.append(("other", row, number, least[row], seen[row]))
                    seen[row] = number

    threads = [threading.Thread(target=write, args=(row,)) for row in range(1, 5)]
    threads += [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    standby = cluster.standbys[0]
    for _ in range(6):
        standby.pause_replay()
        time.sleep(0.3)
        standby.resume_replay()
        time.sleep(0.4)
    over.set()
    for thread in threads:
        thread.join()
    setup.execute("drop table fresh")
    assert not stale, stale[:5]
    assert min(told[1:]) > 20


def test_what_vacuum_changes_in_place_is_seen(connect):
    """VACUUM is acknowledged before its changes of pg_class are flushed: nothing is committed by them."""
    with connect() as one, connect() as other:
        one.execute("create table vacuumed (a int) with (autovacuum_enabled = off)")
        for number in range(1, 6):
            one.execute("insert into vacuumed values (1)")
            one.execute("vacuum vacuumed")
            for session in (one, other):
                assert value(session, "select reltuples from pg_class where relname = 'vacuumed'") == number
        one.execute("drop table vacuumed")


def test_a_replica_that_dies_is_not_noticed_and_is_taken_back(cluster, connect, proxy):
    sessions = [connect() for _ in range(4)]
    standby = cluster.standbys[0]
    over = threading.Event()
    failures: list[Exception] = []

    def read(session: psycopg.Connection[Any]) -> None:
        while not over.is_set():
            try:
                assert value(session, "select sum(g) from generate_series(1, 200) g") == 20100
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=read, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    try:
        cluster.primary.query("checkpoint")
        cluster.catch_up()
        standby.query("checkpoint")         # then its recovery is short
        time.sleep(0.3)
        standby.kill()
        time.sleep(0.5)
    finally:
        standby.start()
    before = sum(counters(proxy, "statements_replica").values())
    eventually(lambda: sum(counters(proxy, "statements_replica").values()) > before + 50, timeout=150)
    over.set()
    for thread in threads:
        thread.join()
    assert not failures, failures


@PATIENT
@pytest.mark.parametrize("where, sql", [("replica", "select count(*) from generate_series(1, 10000000000) g"),
                                        ("replica", "/* pgsplit: replica */ select pg_sleep(600)"),
                                        ("primary", "select pg_sleep(600)"),
                                        ("primary", "select pg_sleep(600) for update")])
def test_a_cancel_reaches_the_statement_wherever_it_runs(connect, cluster, where, sql):
    sessions = [connect() for _ in range(6)]       # on both workers
    for session in sessions:
        value(session, "select 1")
        server = cluster.standbys[0] if where == "replica" else cluster.primary

        def running(server=server, sql=sql) -> bool:
            return bool(server.query("select 1 from pg_stat_activity where state = 'active' and query = %s", [sql]))

        result: list[Any] = []

        def run(session=session, result=result, sql=sql) -> None:
            try:
                result.append(session.execute(sql))
            except psycopg.Error as error:
                result.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        eventually(running)
        session.cancel()
        thread.join(30)
        assert isinstance(result[0], psycopg.errors.QueryCanceled), result
        assert value(session, "select 2") == 2
    assert not cluster.standbys[0].query("select 1 from pg_stat_activity where state = 'active' and query = %s", [sql])


def test_who_sleeps_is_seen_and_ended_on_the_primary(connect, cluster):
    """As tests do, and people: by what pg_stat_activity shows of it."""
    session, other = connect(), connect()
    for sql in ("select pg_sleep(600)", "select pg_sleep_for('10 minutes')", "select pg_sleep_until('tomorrow')"):
        result: list[Any] = []

        def run(sql=sql, result=result) -> None:
            with contextlib.suppress(psycopg.Error):
                session.execute(sql)
            result.append(True)

        thread = threading.Thread(target=run)
        thread.start()
        pid = eventually(lambda sql=sql: value(other, "select pid from pg_stat_activity where state = 'active' and "
                                                      f"query = $q${sql}$q$"))
        assert pid == session.info.backend_pid
        assert value(other, f"select pg_cancel_backend({pid})")
        thread.join(30)
        assert result == [True]


def test_a_wrong_key_cancels_nothing(connect, proxy):
    from tests.integration.raw import send_cancel

    session = connect()
    pid = session.info.backend_pid
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(value(session, "select pg_sleep(1.5)")))
    thread.start()
    for key in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        send_cancel(proxy.port, pid, key)
    thread.join()
    assert result == [""] or result == [None]


def test_to_sql_the_session_is_one_on_the_primary(cluster, connect):
    session = connect()
    pid = value(session, "select pg_backend_pid()")
    assert pid == session.info.backend_pid
    assert not value(session, "select pg_is_in_recovery()")
    assert value(session, "show transaction_read_only") == "off"
    assert session.info.parameter_status("in_hot_standby") == "off"
    assert session.info.parameter_status("default_transaction_read_only") == "off"


def test_a_session_that_has_changed_its_state_stays_on_the_primary(connect):
    session = connect()
    session.execute("create temp table only_here as select 1 as a")
    assert value(session, "select a from only_here") == 1
    session.execute("set search_path to pg_catalog")
    assert value(session, "select current_schema()") == "pg_catalog"
    session.execute("discard all")
    assert value(session, "select current_schema()") == "public"


def test_roles_and_row_level_security(connect):
    admin = connect()
    admin.execute("""create role tenant_reader; grant tenant_reader to scram_user;
        create table tenants (tenant text, v int); insert into tenants values ('a', 1), ('b', 2);
        alter table tenants enable row level security;
        create policy p on tenants using (tenant = current_setting('app.tenant', true));
        grant select on tenants to tenant_reader""")
    session = connect("scram_user", "scram-secret")
    session.execute("set role tenant_reader")
    for tenant, expected in (("a", 1), ("b", 2)):
        session.execute("select set_config('app.tenant', %s, false)", [tenant])
        assert [row[0] for row in session.execute("select v from tenants").fetchall()] == [expected]
    session.close()
    admin.execute("drop table tenants; drop role tenant_reader")


def test_the_primary_vanishing_is_reported_as_unknown(connect, cluster):
    session = connect()
    pid = value(session, "select pg_backend_pid()")
    cluster.primary.query("select pg_terminate_backend(%s)", [pid])
    with pytest.raises(psycopg.errors.AdminShutdown):
        session.execute("insert into nowhere values (1)")
    with contextlib.suppress(psycopg.Error):
        session.execute("select 1")
    assert session.closed


def test_a_long_result_from_the_replica_and_wide_rows(connect):
    session = connect()
    rows = session.execute("select g, repeat('x', 1000) from generate_series(1, 20000) g").fetchall()
    assert len(rows) == 20000 and rows[-1] == (20000, "x" * 1000)
    for size in (65_000, 65_536, 66_000, 3_000_000):
        assert value(session, f"select repeat('y', {size})") == "y" * size
    with session.cursor().copy("copy (select g from generate_series(1, 100000) g) to stdout") as copy:
        assert sum(len(bytes(block)) for block in copy) == 588895


def test_an_error_behind_many_rows_comes_as_the_statement_s_own(connect):
    session = connect()
    for _ in range(3):
        with pytest.raises(psycopg.errors.DivisionByZero):
            session.execute("select repeat('x', 500), 1 / (g - 5000) from generate_series(1, 6000) g")
        assert value(session, "select 1") == 1


def test_large_messages_and_copy_in(connect):
    session = connect()
    session.execute("create table large (t text)")
    session.execute("insert into large values (%s)", ["z" * 5_000_000])
    assert value(session, "select length(t) from large") == 5_000_000
    with session.cursor().copy("copy large from stdin") as copy:
        for _ in range(200):
            copy.write("line\n" * 10_000)
    assert value(session, "select count(*) from large") == 2_000_001
    with pytest.raises(psycopg.errors.BadCopyFileFormat), session.cursor().copy("copy large from stdin") as copy:
        for _ in range(100):
            copy.write("a\tb\n" * 1000)
    assert value(session, "select count(*) from large") == 2_000_001
    session.execute("drop table large")
