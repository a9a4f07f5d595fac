"""Transactions that read on a replica until they write, by drivers as they are (docs/routing.md)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.integration.conftest import Connect, counters, value
from tests.waiting import eventually

Traced = psycopg.Connection[Any]

HELD = "pgsplit: pgsplit: begin_held"
ENDED = "pgsplit: pgsplit: transaction_ended"
READ = "pgsplit: replica: read"
OPEN = "pgsplit: primary: transaction_open"


@pytest.fixture
def proxy(pgsplit_server):
    """One that waits for a fresh replica for as long as it takes, so that only the transaction decides."""
    return pgsplit_server(pgsplit={"workers": 2, "fence_wait": "60s"})


@pytest.fixture
def routes() -> list[str]:
    """Where each statement of `session` went."""
    return []


@pytest.fixture
def session(cluster, connect: Connect, routes: list[str]) -> Traced:
    connect().execute("drop table if exists tx; create table tx (a int primary key); insert into tx values (1), (2)")
    cluster.catch_up()
    return traced(connect(), routes)


def traced(session: Traced, routes: list[str]) -> Traced:
    session.execute("set pgsplit.trace = on")
    session.add_notice_handler(lambda notice: routes.append(str(notice.message_primary).partition(" (")[0]))
    eventually(lambda: session.execute("select 1") and routes[-1] == READ)
    routes.clear()
    return session


def test_reads_ahead_of_the_first_write_are_the_replicas(session, routes):
    with session.transaction():
        assert value(session, "select count(*) from tx") == 2
        assert value(session, "select max(a) from tx") == 2
        session.execute("insert into tx values (3)")
        assert value(session, "select count(*) from tx") == 3
    assert routes == [HELD, READ, READ, "pgsplit: primary: write", OPEN, "pgsplit: primary: transaction_control"]
    assert value(session, "select count(*) from tx") == 3


def test_a_transaction_that_only_reads_ends_at_once(session, routes):
    for end in ("commit", "rollback"):
        session.execute("begin")
        assert session.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        assert value(session, "select count(*) from tx") == 2
        assert session.execute(end).statusmessage == end.upper()
        assert session.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert routes == [HELD, READ, ENDED] * 2
    routes.clear()
    assert value(session, "select count(*) from tx") == 2
    assert routes == [READ]


def test_nothing_between_begin_and_commit_asks_no_server(session, routes, cluster):
    before = cluster.primary.query("select xact_commit from pg_stat_database where datname = 'postgres'")
    for sql, tag in (("begin", "BEGIN"), ("commit", "COMMIT"), ("start transaction", "START TRANSACTION"),
                     ("abort", "ROLLBACK"), ("begin work;", "BEGIN"), ("end transaction", "COMMIT")):
        assert session.execute(sql).statusmessage == tag
    assert routes == [HELD, ENDED] * 3
    assert before


@pytest.mark.parametrize("sql, sqlstate", [("begin", "25001"), ("commit and chain", ""), ("lock table tx", ""),
                                           ("set transaction isolation level read uncommitted", "")])
def test_what_else_comes_first_opens_it_on_the_primary(session, routes, sql, sqlstate):
    warnings = []
    session.add_notice_handler(lambda notice: warnings.append(notice.sqlstate))
    session.execute("begin")
    session.execute(sql)
    assert session.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    session.execute("select 1")
    assert routes[-1] == OPEN
    session.execute("rollback")
    assert [state for state in warnings if state != "00000"] == ([sqlstate] if sqlstate else [])


STAGE = "pgsplit: replica: sets_the_stage"


@pytest.fixture
def tenants(session, connect, cluster):
    """Rows that a policy shows to whom an option names, and to a role by its name."""
    connect().execute("""
        drop table if exists tx_tenants;
        do $$ begin create role tx_tenant; exception when duplicate_object then null; end $$;
        create table tx_tenants (owner text, n int);
        insert into tx_tenants values ('a', 1), ('b', 2), ('tx_tenant', 3);
        alter table tx_tenants enable row level security;
        create policy own on tx_tenants using (owner = current_user or owner = current_setting('tx.tenant', true));
        grant select, insert on tx_tenants to tx_tenant""")
    cluster.catch_up()
    yield session
    session.execute("rollback")
    connect().execute("drop table tx_tenants; drop role tx_tenant")


@pytest.mark.parametrize("option, role", [
    ("set local tx.tenant = 'a'", "set local role tx_tenant"),
    ("select set_config('tx.tenant', 'a', true)", "select set_config('role', 'tx_tenant', true)"),
])
def test_row_security_by_options_of_the_transaction_reads_from_the_replica(tenants, routes, connect, option, role):
    """PostgREST's, Hasura's and Supabase's way."""
    rows = "select n from tx_tenants order by n"
    for ends in ("commit", "rollback"):
        tenants.execute("begin")
        tenants.execute(option)
        tenants.execute(role)
        assert tenants.execute(rows).fetchall() == [(1,), (3,)]
        tenants.execute(ends)
        assert tenants.execute(rows).fetchall() == [(1,), (2,), (3,)]
    assert routes == [HELD, STAGE, STAGE, READ, ENDED, READ] * 2
    # behind it the option is empty, and not unknown, wherever one looks
    for server in ("primary", "replica"):
        assert value(tenants, f"/* pgsplit: {server} */ select current_setting('tx.tenant', true)") == ""
    with tenants.transaction():         # and it moves with all of it
        tenants.execute(option)
        tenants.execute(role)
        assert tenants.execute(rows).fetchall() == [(1,), (3,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege), tenants.transaction():
            tenants.execute("insert into tx_tenants values ('b', 4)")
        tenants.execute("insert into tx_tenants values ('a', 5)")
        assert value(tenants, "/* pgsplit: primary */ select current_setting('tx.tenant')") == "a"
        assert tenants.execute(rows).fetchall() == [(1,), (3,), (5,)]
    assert tenants.execute("select current_user, n from tx_tenants where n = 5").fetchall() == [("postgres", 5)]


@pytest.mark.parametrize("option", ["set local tx.tenant = '%s'", "select set_config('tx.tenant', '%s', true)"])
def test_what_a_transaction_sets_is_set_where_it_writes_though_earlier_ones_only_read(tenants, option, proxy):
    """And behind it the option is known to be empty: nobody is asked for it."""
    for number in range(6):
        if number == 3:
            before = questions(proxy)
        tenant = "ab"[number % 2]
        with tenants.transaction():
            tenants.execute(option % tenant)
            assert tenants.execute("select owner from tx_tenants where owner = 'tx_tenant' or "
                                   "owner = current_setting('tx.tenant', true)").fetchall()
            if number % 3 == 2:
                tenants.execute("insert into tx_tenants values (current_setting('tx.tenant'), %s)", [10 + number])
    found = tenants.execute("select owner, n from tx_tenants where n >= 10 order by n").fetchall()
    assert found == [("a", 12), ("b", 15)]
    assert value(tenants, "select current_setting('tx.tenant', true)") == ""
    assert questions(proxy) == before


def questions(proxy):
    """About sessions' settings, that pgsplit has asked the primary."""
    totals = [proxy.client.worker(number, "totals") for number in proxy.client.workers()]
    return sum(total.get("cluster.primary.own.primary.settings", 0) for total in totals)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_what_a_transaction_sets_for_the_session_is_known_when_it_ends(tenants, proxy, ends):
    before = questions(proxy)
    for number in range(4):
        with tenants.transaction(force_rollback=ends == "rollback"):
            tenants.execute(f"set tx.tenant = '{number}'")
            assert value(tenants, "select current_setting('tx.tenant')") == str(number)
        tenants.execute("select 1 /* pgsplit: replica */")
        assert value(tenants, "select current_setting('tx.tenant', true)") == (str(number) if ends == "commit" else "")
        assert value(tenants, "show pgsplit.last_route") == "replica: read"
    assert questions(proxy) == before


def test_bound_values_set_the_stage_too(tenants, routes):
    with tenants.transaction():
        tenants.execute("select set_config('tx.tenant', %s, true), set_config('role', %s, true)", ["b", "tx_tenant"])
        assert tenants.execute("select n from tx_tenants order by n").fetchall() == [(2,), (3,)]
        tenants.execute("insert into tx_tenants values (%s, 6)", ["b"])
        assert tenants.execute("select n from tx_tenants order by n").fetchall() == [(2,), (3,), (6,)]
    assert routes[:3] == [HELD, STAGE, READ]


def test_savepoints_on_the_replica_and_on_the_primary(session, routes):
    with session.transaction():
        with session.transaction():
            assert value(session, "select count(*) from tx") == 2
        with pytest.raises(psycopg.errors.UndefinedTable), session.transaction():
            session.execute("select * from nothing")
        session.execute("insert into tx values (3)")
        with session.transaction(force_rollback=True):
            session.execute("insert into tx values (4)")
        assert value(session, "select count(*) from tx") == 3
    assert routes[:4] == [HELD, STAGE, READ, STAGE]
    assert value(session, "select count(*) from tx") == 3


def test_a_read_that_is_cancelled_in_a_savepoint(session):
    with session.transaction():
        with pytest.raises(psycopg.errors.QueryCanceled), session.transaction():
            timer = threading.Timer(0.5, session.cancel)
            timer.start()
            session.execute("select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b")
        timer.join()
        session.execute("insert into tx values (3)")
    assert value(session, "select count(*) from tx") == 3


def test_what_the_stage_was_set_with_is_not_lost_with_the_replica(tenants, routes, cluster):
    tenants.execute("begin")
    tenants.execute("set local tx.tenant = 'b'")
    tenants.execute("set local role tx_tenant")
    for standby in cluster.standbys:
        standby.stop()
    try:
        assert tenants.execute("select n from tx_tenants order by n").fetchall() == [(2,), (3,)]
        tenants.execute("commit")
    finally:
        for standby in cluster.standbys:
            standby.start()
    assert len(tenants.execute("select n from tx_tenants").fetchall()) == 3


def test_what_the_primary_does_not_repeat_ends_in_40001(session, routes, connect, cluster):
    """A role that is dropped between its use on the replica and the move."""
    connect().execute("drop role if exists tx_gone; create role tx_gone; grant select, insert on tx to tx_gone")
    cluster.catch_up()
    session.execute("begin")
    session.execute("set local role tx_gone")
    assert value(session, "select count(*) from tx") == 2
    connect().execute("drop owned by tx_gone; drop role tx_gone")
    with pytest.raises(psycopg.errors.SerializationFailure) as told:
        session.execute("insert into tx values (3)")
    assert told.value.diag.message_detail == (
        'The primary gave 22023 to SET: role "tx_gone" does not exist')
    assert session.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute("select 1")
    assert session.execute("rollback").statusmessage == "ROLLBACK"
    with session.transaction():
        session.execute("insert into tx values (4)")
    assert session.execute("select a, current_user from tx where a > 2").fetchall() == [(4, "postgres")]
    assert routes[1:3] == [STAGE, READ]


@pytest.mark.parametrize("sql, read_only", [
    ("set transaction read only", "on"), ("set transaction isolation level read committed", "off"),
    ("set transaction isolation level read committed, read only", "on"),
])
def test_set_transaction_does_not_move_it(session, routes, sql, read_only):
    session.execute("begin")
    session.execute(sql)
    assert value(session, "select count(*) from tx") == 2
    assert routes == [HELD, STAGE, READ]
    assert value(session, "show transaction_read_only") == read_only        # on the primary
    if read_only == "on":
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.execute("insert into tx values (9)")
    session.execute("rollback")
    session.execute("begin")
    session.execute(sql)
    session.execute("set transaction read write")           # ahead of any read it may be taken back
    session.execute("insert into tx values (9)")
    session.execute("rollback")
    session.execute("begin")
    session.execute(sql)
    session.execute("select 1 from tx")
    if read_only == "on":
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            session.execute("set transaction read write")
    else:
        session.execute("set transaction read write")
        assert routes[-1] == "pgsplit: pgsplit: read_write_anyway"
        session.execute("insert into tx values (9)")
    session.execute("rollback")
    assert value(session, "select count(*) from tx") == 2


def test_set_constraints_goes_along(session, routes, connect, cluster):
    connect().execute("""drop table if exists tx_late; create table tx_late (
        a int references tx deferrable initially immediate)""")
    cluster.catch_up()
    with session.transaction():
        session.execute("set constraints all deferred")
        assert value(session, "select count(*) from tx") == 2
        session.execute("insert into tx_late values (3)")
        session.execute("insert into tx values (3)")
    with pytest.raises(psycopg.errors.ForeignKeyViolation), session.transaction():
        session.execute("set constraints all deferred")
        session.execute("set constraints tx_late_a_fkey immediate")
        session.execute("insert into tx_late values (4)")
    with pytest.raises(psycopg.errors.UndefinedObject), session.transaction():
        session.execute("set constraints nothing deferred")
    assert routes[:4] == [HELD, STAGE, READ, "pgsplit: primary: write"]
    assert value(session, "select count(*) from tx_late") == 1
    connect().execute("drop table tx_late")


def test_set_local_that_changes_how_texts_are_read_is_the_primarys(session, routes):
    with session.transaction():
        session.execute("set local standard_conforming_strings = off")
        assert routes[-1] == "pgsplit: primary: session_setting"


def test_set_transaction_behind_set_local(session):
    with session.transaction():
        session.execute("set local work_mem = '5MB'")
        session.execute("set transaction isolation level serializable")
        assert value(session, "show transaction_isolation") == "serializable"
        assert value(session, "show work_mem") == "5MB"
    with session.transaction(), pytest.raises(psycopg.errors.ActiveSqlTransaction):
        session.execute("select set_config('work_mem', '5MB', true)")
        session.execute("set transaction isolation level serializable")


def test_set_transaction_comes_first_in_each_transaction(session, connect):
    """Also where a relay has ended the one before it, and begun it."""
    plain = connect()
    eventually(lambda: plain.execute("select 1") and value(plain, "show pgsplit.last_route") == "replica: read")
    for number in range(5):
        plain.execute("begin")
        plain.execute(f"select {number} as fresh_{number}")     # a text that no relay knows
        plain.execute("commit")
        plain.execute("begin")
        plain.execute("set transaction isolation level serializable")
        assert value(plain, "show transaction_isolation") == "serializable"
        plain.execute("commit")


def test_commit_outside_a_transaction_is_the_servers(session):
    warnings = []
    session.add_notice_handler(lambda notice: warnings.append(notice.sqlstate))
    assert session.execute("commit").statusmessage == "COMMIT"
    assert "25P01" in warnings


def test_an_error_aborts_the_transaction_wherever_it_read_before(session, routes):
    session.execute("begin")
    session.execute("select 1")
    with pytest.raises(psycopg.errors.DivisionByZero):
        session.execute("select a / 0 from tx")
    assert session.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute("select 1")
    assert session.execute("commit").statusmessage == "ROLLBACK"
    assert value(session, "select count(*) from tx") == 2
    assert routes[-1] == READ


def test_another_sessions_write_is_seen_by_the_next_read_of_an_open_transaction(session, connect, routes):
    """READ COMMITTED: each statement has a snapshot of its own, and here a fence of its own."""
    other = connect()
    with session.transaction():
        for count in range(3, 10):
            other.execute("insert into tx values (%s)", [count])
            assert value(session, "select count(*) from tx") == count
    assert set(routes) == {HELD, READ, ENDED}


@pytest.mark.parametrize("begin", ["begin read only", "start transaction isolation level read committed, read only"])
def test_read_only_stays_read_only_when_it_moves(session, routes, begin):
    session.execute(begin)
    assert value(session, "select count(*) from tx") == 2
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        session.execute("insert into tx values (9)")
    session.execute("rollback")
    session.execute(begin)
    session.execute("select 1 from tx")
    with pytest.raises(psycopg.errors.ActiveSqlTransaction):        # as on one server, behind a read
        session.execute("set transaction read write")
    session.execute("rollback")
    session.execute(begin)
    session.execute("set transaction read write")
    session.execute("insert into tx values (9)")
    session.execute("commit")
    assert value(session, "select count(*) from tx") == 3


@pytest.mark.parametrize("begin", ["begin isolation level repeatable read", "begin isolation level serializable",
                                   "begin deferrable", "/* pgsplit: primary */ begin", "begin; select 1"])
def test_what_is_not_held(session, routes, begin):
    session.execute(begin)
    session.execute("select 1")
    assert routes[-1] == OPEN
    session.execute("rollback")


@pytest.mark.parametrize("setting, reset", [
    ("set default_transaction_isolation = 'repeatable read'", "reset default_transaction_isolation"),
    ("set session characteristics as transaction isolation level repeatable read", "reset all; set pgsplit.trace = on"),
    ("set idle_in_transaction_session_timeout = '1h'", "set idle_in_transaction_session_timeout = 0"),
    ("set default_transaction_deferrable = on", "set default_transaction_deferrable = off"),
    ("create temp table tx_temp (a int)", "drop table tx_temp"),
    ("set pgsplit.route = 'primary'", "reset pgsplit.route"),
])
def test_what_the_session_sets_decides_about_its_transactions(session, routes, setting, reset):
    def first_read() -> str:
        with session.transaction():
            session.execute("select 1")
            return routes[-1]

    session.execute(setting)
    assert first_read().startswith("pgsplit: primary")
    session.execute(reset)
    assert first_read() == READ


def test_a_role_whose_transactions_are_otherwise(connect, cluster, routes):
    connect().execute("""do $$ begin create role tx_role superuser login password 'postgres-secret';
                         exception when duplicate_object then null; end $$;
                         alter role postgres set default_transaction_isolation = 'repeatable read'""")
    try:
        cluster.catch_up()
        session = traced(connect(), routes)
        with session.transaction():
            session.execute("select 1")
        assert routes[-2] == OPEN
    finally:
        connect().execute("alter role postgres reset all; drop role tx_role")


def test_settings_follow_into_a_transaction_and_out_of_it(session, routes):
    session.execute("set timezone = 'Asia/Tokyo'")
    question = "select timestamptz '2024-01-01 00:00+00'::text"
    for end in ("commit", "rollback"):
        session.execute("begin")
        assert value(session, question).endswith("+09")
        session.execute(end)
        assert value(session, question).endswith("+09")
    session.execute("set timezone = 'UTC'")
    session.execute("begin")
    assert value(session, question).endswith("+00")
    with pytest.raises(psycopg.errors.DivisionByZero):
        session.execute("select a / 0 from tx")
    session.execute("rollback")
    assert value(session, question).endswith("+00")
    assert routes[-1] == READ


@pytest.mark.parametrize("sql", [
    "select pg_advisory_xact_lock(7)", "select pg_advisory_lock(7)", "listen tx_l", "select pg_export_snapshot()",
    "select txid_current() > 0", "insert into pg_temp.tx_t values (1)", "select now()", "lock table tx in share mode",
    "select * from tx for update", "set transaction snapshot '00000003-0000001B-1'", "notify tx_l",
    "create table tx_c ()", "declare c cursor with hold for select 1", "do $$ begin perform 1; end $$",
    "select nextval('tx_s')",
])
@pytest.mark.parametrize("read", ["", "select count(*) from tx"])
def test_what_a_read_only_transaction_may_do_on_the_primary(session, routes, connect, cluster, sql, read):
    """Or may not: the answer is what it is there, whether it has read on the replica or not."""
    connect().execute("drop sequence if exists tx_s; create sequence tx_s")
    cluster.catch_up()
    answers = []
    with cluster.primary.connect("postgres", autocommit=True) as direct:
        for each in (direct, session):
            if "pg_temp" in sql:
                each.execute("create temp table tx_t (a int)")
            each.execute("begin read only")
            if read:
                each.execute(read)
            try:
                answers.append((each.execute(sql).statusmessage, None))
            except psycopg.Error as error:
                answers.append((error.sqlstate, str(error)))
            answers[-1] += (each.info.transaction_status,)
            each.execute("rollback")
            each.execute("discard all")
    assert answers[0] == answers[1]
    assert (READ in routes) == bool(read and "pg_temp" not in sql)


def test_the_clock_of_a_transaction_stands_still(session, routes):
    with session.transaction():
        assert value(session, "select count(*) from tx") == 2
        began = session.execute("select now(), transaction_timestamp(), current_timestamp").fetchone()
        assert value(session, "select count(*) from tx") == 2
        assert session.execute("select now(), transaction_timestamp(), current_timestamp").fetchone() == began
        assert set(began) == {began[0]}
    assert routes[:4] == [HELD, READ, "pgsplit: primary: clock", OPEN]


@pytest.mark.parametrize("mode, waits", [("until_write", False), ("primary", True)])
def test_who_waits_for_what_a_transaction_has_read(pgsplit_server, cluster, connect, mode, waits):
    """Its ACCESS SHARE lock lies where it reads: `transactions: primary` is the strict form (docs/guarantees.md)."""
    connect().execute("drop table if exists tx; create table tx (a int primary key); insert into tx values (1), (2)")
    cluster.catch_up()
    proxy = pgsplit_server(pgsplit={"workers": 1, "fence_wait": "60s", "transactions": mode})
    with psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password="postgres-secret",
                         dbname="postgres", sslmode="disable", autocommit=True) as session:
        traced(session, [])
        session.execute("begin")
        assert value(session, "select count(*) from tx") == 2
        locks = cluster.primary.query("""select count(*) from pg_locks where relation = 'tx'::regclass
                                         and mode = 'AccessShareLock'""")
        assert locks == [(1 if waits else 0,)]
        session.execute("rollback")


def test_a_replica_that_is_lost_in_a_transaction_is_not_missed(session, routes, cluster):
    session.execute("begin")
    assert value(session, "select count(*) from tx") == 2
    for standby in cluster.standbys:
        standby.stop()
    try:
        assert value(session, "select count(*) from tx") == 2
        session.execute("insert into tx values (3)")
        session.execute("commit")
    finally:
        for standby in cluster.standbys:
            standby.start()
    assert value(session, "select count(*) from tx") == 3


def test_a_cancelled_read_aborts_the_transaction(session):
    session.execute("begin")
    session.execute("select 1")
    timer = threading.Timer(0.5, session.cancel)
    timer.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        session.execute("select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b")
    timer.join()
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute("select 1")
    assert session.execute("rollback").statusmessage == "ROLLBACK"
    assert value(session, "select 1") == 1


def test_psycopg_with_its_defaults(connect, cluster, proxy, routes):
    """A transaction around everything, parameters, statements prepared at their fifth execution."""
    connect().execute("drop table if exists tx; create table tx (a int primary key); insert into tx values (1), (2)")
    cluster.catch_up()
    session = traced(connect(prepare_threshold=5), routes)
    session.autocommit = False
    for number in range(12):
        for _ in range(2):
            assert session.execute("select a from tx where a = %s", [1]).fetchone() == (1,)
        if number % 3 == 2:
            session.execute("update tx set a = a where a = %s", [2])
        session.commit()
    reads = [route for route in routes if route == READ]
    assert len(reads) == 24
    assert OPEN not in routes


def test_psycopgs_pipelines(session, routes):
    with session.pipeline(), session.transaction():
        cursors = [session.execute("select a from tx where a = %s", [n]) for n in (1, 2, 1, 2)]
    assert [cursor.fetchone()[0] for cursor in cursors] == [1, 2, 1, 2]
    with session.pipeline(), session.transaction():
        cursor = session.execute("select count(*) from tx")
        session.execute("insert into tx values (%s)", [5])
        after = session.execute("select count(*) from tx")
    assert (cursor.fetchone()[0], after.fetchone()[0]) == (2, 3)


def test_asyncpgs_transactions(session, routes, proxy):
    """Statements that it parses with a Flush, a row limit for a single value, a portal that it goes on with."""
    async def main() -> None:
        session = await asyncpg.connect(host="127.0.0.1", port=proxy.port, user="postgres", database="postgres",
                                        password="postgres-secret", ssl=False)
        session.add_log_listener(lambda _, notice: routes.append(notice.message))
        await session.execute("set pgsplit.trace = on")
        try:
            for number in range(3):
                async with session.transaction():
                    assert await session.fetchval("select a from tx where a = $1", 1) == 1
                    assert len(await session.fetch("select a from tx where a < $1", 3)) == 2
                    if number == 1:
                        await session.execute("update tx set a = a where a = $1", 2)
                        assert await session.fetchval("select a from tx where a = $1", 1) == 1
            async with session.transaction():
                rows = [row["a"] async for row in session.cursor("select a from tx order by a", prefetch=1)]
                assert rows == [1, 2]
            async with session.transaction():
                with pytest.raises(asyncpg.UndefinedTableError):
                    await session.fetch("select a from nothing where a = $1", 1)
                with pytest.raises(asyncpg.InFailedSQLTransactionError):
                    await session.fetch("select a from tx where a < $1", 3)
                raise LookupError
        except LookupError:
            assert await session.fetchval("select a from tx where a = $1", 1) == 1
        finally:
            await session.close()

    asyncio.run(main())
    assert routes.count(READ) == 7
    assert routes.count("pgsplit: primary: write") == 1


SNAPSHOT = "begin isolation level repeatable read, read only"


@pytest.fixture
def repeatable(pgsplit_server, cluster, routes, connect) -> Iterator[Traced]:
    """A session whose REPEATABLE READ READ ONLY transactions run on the replica."""
    connect().execute("drop table if exists tx; create table tx (a int primary key); insert into tx values (1), (2)")
    cluster.catch_up()
    proxy = pgsplit_server(pgsplit={"workers": 1, "fence_wait": "60s", "repeatable_read_only": "replica"})
    with psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password="postgres-secret",
                         dbname="postgres", sslmode="disable", autocommit=True, prepare_threshold=None) as session:
        yield traced(session, routes)


@pytest.mark.parametrize("before, begin, setting", [
    ("", SNAPSHOT, ""), ("", "begin", "set transaction isolation level repeatable read, read only"),
    ("set session characteristics as transaction isolation level repeatable read, read only", "begin", ""),
    ("set default_transaction_isolation = 'repeatable read'", "begin read only", ""),
])
def test_repeatable_read_only_has_one_snapshot_on_the_replica(repeatable, routes, connect, cluster, before, begin,
                                                              setting):
    session = repeatable
    if before:
        session.execute(before)
        routes.clear()
    session.execute(begin)
    if setting:
        session.execute(setting)
    connect().execute("insert into tx values (3)")                  # by another node
    cluster.catch_up()
    assert value(session, "select count(*) from tx") == 3           # as of its first statement, not of its BEGIN
    connect().execute("insert into tx values (4)")
    cluster.catch_up()
    assert value(session, "select count(*) from tx") == 3
    session.execute("commit")
    assert value(session, "select count(*) from tx") == 4
    assert routes == [HELD, *([STAGE] if setting else []), READ, READ, ENDED, READ]


def test_repeatable_read_only_that_needs_the_primary_ends_in_40001_once(repeatable, routes):
    session = repeatable
    session.execute(SNAPSHOT)
    session.execute("savepoint a")
    assert value(session, "select count(*) from tx") == 2
    with pytest.raises(psycopg.errors.UndefinedTable):
        session.execute("select * from nothing")
    session.execute("rollback to a")
    assert value(session, "select count(*) from tx") == 2
    with pytest.raises(psycopg.errors.SerializationFailure) as told:
        session.execute("lock table tx in access share mode")
    assert told.value.diag.message_detail == "Why the primary: lock."
    assert session.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute("rollback to a; select 1")
    assert session.execute("rollback").statusmessage == "ROLLBACK"
    session.execute(SNAPSHOT)               # another try
    assert value(session, "select count(*) from tx") == 2
    session.execute("lock table tx in access share mode")
    session.execute("commit")
    assert routes[-4:-1] == ["pgsplit: primary: transaction_control", OPEN, "pgsplit: primary: lock"]


@pytest.mark.parametrize("arguments", [[], *(pytest.param(more, marks=pytest.mark.slow) for more in (
    ["--jobs=2", "--format=directory", "--file=DIRECTORY"], ["--serializable-deferrable"], ["--inserts"]))])
def test_pg_dump_reads_on_the_primary(pgsplit_server, cluster, connect, tmp_path, arguments):
    """It makes its settings ahead of BEGIN, and SET TRANSACTION cannot come behind what gives them to a replica."""
    if not os.path.exists(cluster.installation.program("pg_dump")):
        pytest.skip("this PostgreSQL comes without pg_dump")
    connect().execute("drop table if exists tx; create table tx (a int primary key); insert into tx values (1), (2)")
    cluster.catch_up()
    proxy = pgsplit_server(pgsplit={"workers": 1, "fence_wait": "60s", "repeatable_read_only": "replica"})
    dumps = []
    for number, port in enumerate((proxy.port, cluster.primary.port)):
        whole = [part.replace("DIRECTORY", str(tmp_path / str(number))) for part in arguments]
        done = subprocess.run([cluster.installation.program("pg_dump"), "-h", "127.0.0.1", "-p", str(port), *whole,
                               "-U", "postgres", "-t", "tx", "postgres"], env=os.environ | {
                                   "PGPASSWORD": "postgres-secret"}, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        dumps.append([line for line in done.stdout.splitlines() if "restrict" not in line])     # by a random key
    assert dumps[0] == dumps[1]
    eventually(lambda: counters(proxy, "decisions.primary.lock"))
    assert not any(counters(proxy, "decisions.replica").values())


def test_a_recovery_conflict_in_repeatable_read_only_is_the_clients_40001(repeatable, connect, cluster):
    """Rows that the snapshot sees are vacuumed away; the standby waits for no query."""
    standby = cluster.standbys[0]
    standby.query("alter system set max_standby_streaming_delay = '10ms'")
    standby.query("alter system set hot_standby_feedback = off")
    standby.query("select pg_reload_conf()")
    other, session = connect(), repeatable
    try:
        eventually(lambda: standby.query("show max_standby_streaming_delay") == [("10ms",)])
        session.execute(SNAPSHOT)
        assert value(session, "select count(*) from tx") == 2
        other.execute("delete from tx where a = 2")
        other.execute("vacuum tx")
        cluster.catch_up()

        with pytest.raises(psycopg.errors.SerializationFailure) as told:
            session.execute("select count(*) from tx")
        assert str(told.value.diag.message_detail).startswith("Why the primary: re")
        session.execute("rollback")
        session.execute(SNAPSHOT)
        assert value(session, "select count(*) from tx") == 1
        session.execute("commit")
    finally:
        standby.query("alter system reset max_standby_streaming_delay")
        standby.query("alter system reset hot_standby_feedback")
        standby.query("select pg_reload_conf()")


@pytest.mark.parametrize("begin", ["begin", "begin read only"])
def test_begin_at_once(pgsplit_server, cluster, routes, connect, begin):
    """now() is then the BEGIN's time: another session's clock lies between it and the first statement there."""
    connect().execute("drop table if exists tx; create table tx (a int primary key); insert into tx values (1), (2)")
    cluster.catch_up()
    proxy = pgsplit_server(pgsplit={"workers": 1, "fence_wait": "60s", "hold_begin": "false"})
    with psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password="postgres-secret",
                         dbname="postgres", sslmode="disable", autocommit=True, prepare_threshold=None) as session:
        traced(session, routes)
        for end in ("commit", "rollback"):
            for _ in range(3):          # and once a relay knows the texts
                session.execute(begin)
                between = value(connect(), "select clock_timestamp()")
                assert value(session, "select count(*) from tx") == 2
                session.execute("savepoint a")
                session.execute("set local work_mem = '5MB'")
                assert value(session, "select now()") < between
                assert value(session, "show work_mem") == "5MB"
                session.execute("rollback to a")
                assert value(session, "show work_mem") == "4MB"
                session.execute(end)
        assert routes == ["pgsplit: primary: transaction_control", READ, STAGE, STAGE, "pgsplit: primary: clock",
                          "pgsplit: primary: server_local_setting", "pgsplit: primary: transaction_control",
                          "pgsplit: primary: server_local_setting", "pgsplit: primary: transaction_control"] * 6
        with pytest.raises(psycopg.errors.DivisionByZero), session.transaction():
            assert value(session, "select count(*) from tx") == 2
            session.execute("select a / 0 from tx")
        assert value(session, "select count(*) from tx") == 2


@pytest.mark.parametrize("mode, expected", [("primary", OPEN), ("read_only", OPEN), ("until_write", READ)])
def test_the_setting(pgsplit_server, cluster, routes, mode, expected):
    proxy = pgsplit_server(pgsplit={"workers": 1, "fence_wait": "60s", "transactions": mode})
    with psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password="postgres-secret",
                         dbname="postgres", sslmode="disable", autocommit=True) as session:
        traced(session, routes)
        session.execute("begin")
        session.execute("select 1")
        assert routes[-1] == expected
        session.execute("commit")
        session.execute("begin read only")
        session.execute("select 1")
        assert routes[-1] == (OPEN if mode == "primary" else READ)
        session.execute("commit")


def test_what_a_transaction_has_set_holds_at_another_connection_to_a_replica(session, routes, cluster):
    """Which is given the session's settings first."""
    session.execute("set application_name = 'moves'")
    standby = cluster.standbys[0]

    def seen_there() -> str:
        """Nothing where the read came before the session had that connection, and was the primary's."""
        eventually(lambda: value(session, "select 1") and routes[-1] == READ)
        with session.transaction():
            session.execute("set local tx.tenant = 'a'")
            (pid,), = standby.query("select pid from pg_stat_activity where application_name = 'moves'")
            standby.query("select pg_terminate_backend(%s, 5000)", [pid])
            time.sleep(0.1)     # until a read may ask for another one
            tenant = value(session, "select current_setting('tx.tenant') || ' is set'")
            return tenant if routes[-1] == READ else ""

    assert eventually(seen_there) == "a is set"
