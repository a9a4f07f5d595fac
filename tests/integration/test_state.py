"""One session state on two servers (G4): settings, role, options, what ties a session to the primary, and its end."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest

from tests.integration.conftest import value
from tests.waiting import eventually


def route(session: psycopg.Connection[Any]) -> str:
    """Where the statement before went, and why: the session's own word."""
    return str(value(session, "show pgsplit.last_route"))


def reads_on_replica(session: psycopg.Connection[Any], sql: str = "select 1") -> bool:
    session.execute(sql)
    return route(session).startswith("replica")


@pytest.fixture
def proxy(pgsplit_server):
    """One that waits for a fresh replica for as long as it takes, so that only the session decides."""
    return pgsplit_server(consistency="session", pgsplit={"workers": 2, "fence_wait": "60s"})


@pytest.fixture
def session(cluster, connect):
    cluster.catch_up()
    session = connect()
    eventually(lambda: reads_on_replica(session))
    return session


def test_the_last_route_is_told(session):
    session.execute("select 1")
    assert route(session) == "replica: read"
    session.execute("create temp table route_t (a int)")
    assert route(session) == "primary: ddl (CREATE TEMPORARY)"
    session.execute("select 1")
    assert route(session) == "primary: pinned_temporary_object (CREATE TEMPORARY)"
    with pytest.raises(psycopg.errors.UndefinedTable):
        session.execute("select * from nothing")
    with session.transaction(force_rollback=True):
        session.execute("select 1")
        assert route(session) == "primary: transaction_open"


def test_trace_is_a_notice_for_each_statement(session):
    heard = []
    session.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary))
    session.execute("set pgsplit.trace = on")
    session.execute("create table if not exists trace_t (a int)")
    session.execute("select 1")
    session.execute("set pgsplit.trace = off")
    session.execute("select 1")
    assert [line for line in heard if line.startswith("pgsplit")] == [
        "pgsplit: primary: ddl", "pgsplit: replica: read", "pgsplit: primary: session_setting (pgsplit)"]
    session.execute("drop table trace_t")


def test_the_route_may_be_set(session):
    session.execute("set pgsplit.route = 'primary'")
    assert not reads_on_replica(session)
    session.execute("set pgsplit.route = 'replica'")
    assert value(session, "select pg_is_in_recovery()")
    session.execute("reset pgsplit.route")
    assert reads_on_replica(session)
    assert not value(session, "select pg_is_in_recovery()")


@pytest.mark.parametrize("sql, question, answer", [
    ("set timezone = 'Asia/Tokyo'", "select timestamptz '2024-01-01 00:00+00'::text", "2024-01-01 09:00:00+09"),
    ("set datestyle = 'German'", "select date '2024-02-29'::text", "29.02.2024"),
    ("set session intervalstyle to iso_8601", "select interval '1 day'::text", "P1D"),
    ("set time zone interval '+02:00' hour to minute", "select timestamptz '2024-01-01 00:00+00'::text",
     "2024-01-01 02:00:00+02"),
    ("set extra_float_digits = -10", "select (0.1::float8 / 3)::text", "0.033333"),
    ("set bytea_output = 'escape'", "select 'a'::bytea::text", "a"),
    ("set search_path = state_other, pg_catalog", "select a from state_where", 2),
    ("select set_config('search_path', 'state_other', false)", "select a from state_where", 2),
    ("do $$ begin perform set_config('search_path', 'state_other', false); end $$", "select a from state_where", 2),
    ("begin; set search_path = state_other; commit", "select a from state_where", 2),
    ("begin; set search_path = state_other; rollback", "select a from state_where", 1),
    ("begin; set search_path = public; savepoint s; set search_path = state_other; rollback to s; commit",
     "select a from state_where", 1),
    ("begin; set local search_path = state_other; commit", "select a from state_where", 1),
    ("set search_path = state_other; reset search_path", "select a from state_where", 1),
    ("set search_path = state_other; reset all", "select a from state_where", 1),
    ("select state_function()", "select a from state_where", 2),
    ("set role state_role", "select current_user::text", "state_role"),
    ("set role state_role; reset role", "select current_user::text", "postgres"),
    ("set session authorization state_role", "select session_user::text", "state_role"),
    ("set session authorization state_role; set role none; reset session authorization", "select session_user::text",
     "postgres"),
])
def test_a_read_sees_the_session_as_it_is(session, connect, sql, question, answer):
    setup = connect()
    setup.execute("""
        do $$ begin create role state_role; exception when duplicate_object then null; end $$;
        create schema if not exists state_other;
        create table if not exists state_where (a int primary key);
        create table if not exists state_other.state_where (a int primary key);
        insert into state_where values (1) on conflict do nothing;
        insert into state_other.state_where values (2) on conflict do nothing;
        create or replace function state_function() returns void language plpgsql as
            $$ begin perform set_config('search_path', 'state_other', false); end $$""")
    session.execute(sql)
    for _ in range(2):
        assert value(session, question) == answer
    assert route(session) == "replica: read"
    session.execute("discard all")
    assert value(session, "select a from public.state_where") == 1
    assert route(session) == "replica: read"


IN_THE_SESSION = """select name, setting from pg_settings where source = 'session' and name <> 'transaction_read_only'
    union all select 'role', current_setting('role') union all select 'user', session_user
    union all select 'option', current_setting('known.option', true) order by 1"""


KNOWN = (
    "set timezone = 'Asia/Tokyo'", "set time zone 'utc'", "set session work_mem to 128", "set work_mem = '1MB'",
    "set extra_float_digits = -1", "set bytea_output = escape", "set lc_monetary = 'C'", "set enable_sort = off",
    "set search_path = known_s, public", """set search_path = "User", 'a b', "$user", "user\"""",
    "set search_path = 'known_s'", "reset search_path", "set known.option = 'a'", "set known.option to 7",
    "reset known.option", "select set_config('known.option', 'x', false), set_config('work_mem', '2MB', false)",
    'set role "Known"', "set role none", "set timezone to default", "set client_encoding = latin1",
    "set datestyle = 'German'", 'set session authorization "Known"', "reset session authorization", "reset work_mem",
    "set a.b = '1'; set timezone = 'UTC'; set a.b = '2'", "reset all", "set known.option = 'b'", "discard all",
    "select pg_advisory_unlock_all(); close all; unlisten *; reset all;",
)


WAYS = {
    "alone": "{}",
    "committed": "begin; {}; commit",
    "rolled back": "begin; {}; rollback",
    "undone to a savepoint": "begin; savepoint s; {}; rollback to s; commit",
    "released": "begin; savepoint s; {}; release s; commit",
    "failed": "begin; {}; select 1/0; commit",
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_a_text_tells_of_the_session_is_what_the_primary_makes_of_it(session, connect, cluster, way):
    """Each change is read from its text; the session is the same on both servers behind each of them."""
    connect().execute("""do $$ begin create role "Known"; exception when duplicate_object then null; end $$;
                         create schema if not exists known_s; create schema if not exists "User" """)
    cluster.catch_up()
    for sql in KNOWN:
        for part in way.split("; "):
            with suppress(psycopg.errors.ActiveSqlTransaction, psycopg.errors.DivisionByZero,
                          psycopg.errors.InFailedSqlTransaction):
                session.execute(part.format(sql))
        ours, theirs = (session.execute(f"/* pgsplit: {server} */ {IN_THE_SESSION}").fetchall()
                        for server in ("replica", "primary"))
        assert ours == theirs, sql
        session.execute(f"/* pgsplit: replica */ {IN_THE_SESSION}")
        assert route(session) .startswith("replica: hint_replica"), sql


def test_row_security_by_role_and_by_option(session, connect, cluster):
    """The classic: a tenant's rows by current_user, or by a customized option that a policy reads."""
    connect().execute("""
        drop table if exists tenants;
        do $$ begin create role tenant_a; create role tenant_b; exception when duplicate_object then null; end $$;
        create table tenants (owner text, n int);
        insert into tenants values ('tenant_a', 1), ('tenant_b', 2), ('7', 7);
        alter table tenants enable row level security;
        create policy own on tenants using (owner = current_user or owner = current_setting('app.tenant', true));
        grant select on tenants to tenant_a, tenant_b""")
    cluster.catch_up()              # another session made the table: `session` does not wait for it
    rows = "select n from tenants order by n"

    def seen() -> list[int]:
        found = [row[0] for row in session.execute(rows).fetchall()]
        assert route(session).startswith("replica")
        return found

    assert seen() == [1, 2, 7]
    session.execute("set role tenant_a")
    assert seen() == [1]
    session.execute("set app.tenant = '7'")
    assert seen() == [1, 7]
    session.execute("begin")
    session.execute("select set_config('app.tenant', 'tenant_b', true)")
    assert [row[0] for row in session.execute(rows)] == [1, 2]
    session.execute("rollback")
    assert seen() == [1, 7]
    session.execute("set role tenant_b")
    assert seen() == [2, 7]
    session.execute("reset app.tenant")
    assert seen() == [2]
    session.execute("reset role")
    assert seen() == [1, 2, 7]


def test_an_option_that_was_touched_is_empty_and_not_null(session, connect, cluster):
    connect().execute("""create or replace view touched as
        select coalesce(current_setting('touched.by', true), 'null') as v""")
    cluster.catch_up()
    look = "select v from touched"
    assert value(session, look) == "null" and route(session) == "replica: read"
    session.execute("begin; set local touched.by = 'x'; commit")
    assert value(session, look) == "" and route(session) == "replica: read"


@pytest.mark.parametrize("block", [
    "begin perform set_config('inside.block', 'x', false); end", "begin set inside.block = 'x'; end",
    "begin execute 'set inside.block = ' || quote_literal('x'); end"])
def test_an_option_that_a_block_sets_is_the_session_s_wherever_it_is_read(session, block):
    session.execute(f"do $do$ {block} $do$")
    assert value(session, "select current_setting('inside.block', true)") == "x"
    where = route(session)
    assert where == ("primary: pinned_unknown_settings (DO)" if "execute" in block else "replica: read")


def test_settings_follow_to_a_new_replica(session, cluster):
    session.execute("set timezone = 'Asia/Tokyo'")
    cluster.standbys[0].stop()
    question = "select timestamptz '2024-01-01 00:00+00'::text"
    try:
        assert value(session, question).endswith("+09")
    finally:
        cluster.standbys[0].start()
    eventually(lambda: reads_on_replica(session, question))
    assert value(session, question).endswith("+09")


OTHERWISE = {"datestyle": "German", "extra_float_digits": "-5", "bytea_output": "escape"}


def test_a_replica_that_is_configured_otherwise_answers_as_the_primary_would(session, cluster):
    """ALTER SYSTEM works on a standby; what PostgreSQL reports of it and what it does not."""
    standby = cluster.standbys[0]
    question = "select date '2024-02-29'::text, (1 / 3.0::float8)::text, '\\x41'::bytea::text"
    expected = session.execute(question).fetchone()
    try:
        for name, setting in OTHERWISE.items():
            standby.query(f"alter system set {name} = '{setting}'")
        standby.query("select pg_reload_conf()")
        eventually(lambda: standby.query("show bytea_output") == [("escape",)])
        assert session.execute(question).fetchone() == expected      # DateStyle is reported with the answer
        eventually(lambda: session.execute(question).fetchone() == expected and route(session) == "replica: read")
        assert session.execute(question).fetchone() == expected
        assert route(session) == "replica: read"
        session.execute("set datestyle = 'SQL'")
        assert session.execute(question).fetchone() == ("02/29/2024", *expected[1:])
    finally:
        for name in OTHERWISE:
            standby.query(f"alter system reset {name}")
        standby.query("select pg_reload_conf()")


@pytest.mark.parametrize("begin, reason, end", [
    ("create temp table pin_t (a int)", "temporary_object", "drop table pin_t"),
    ("create temp view pin_v as select 1", "temporary_object", "discard temp"),
    ("create temp sequence pin_s", "temporary_object", "discard all"),
    ("select 1 as a into temp pin_i", "temporary_object", "drop table pin_i"),
    ("select pin_function()", "temporary_object", "drop table pin_f"),
    ("select pg_advisory_lock(77)", "advisory_lock", "select pg_advisory_unlock(77)"),
    ("select pg_advisory_lock(77), pg_advisory_lock(77)", "advisory_lock", "select pg_advisory_unlock_all()"),
    ("listen pin_channel", "listen", "unlisten pin_channel"),
    ("listen pin_channel", "listen", "discard all"),
    ("begin; declare pin_c cursor with hold for select 1; commit", "hold_cursor", "close pin_c"),
    ("begin; declare pin_c cursor with hold for select 1; commit", "hold_cursor", "close all"),
    ("set default_transaction_isolation = 'serializable'", "serializable", "reset default_transaction_isolation"),
    ("set session characteristics as transaction isolation level serializable", "serializable", "reset all"),
])
def test_what_only_the_primary_has_keeps_the_session_there_until_it_ends(session, connect, begin, reason, end):
    connect().execute("create or replace function pin_function() returns void language plpgsql as "
                      "$$ begin create temp table pin_f (a int); end $$")
    session.execute(begin)
    for _ in range(2):
        session.execute("select 1")
        assert route(session).startswith(f"primary: pinned_{reason}")
    session.execute(end)
    assert reads_on_replica(session)


def test_a_lock_taken_twice_is_held_until_it_is_given_back_twice(session):
    session.execute("select pg_advisory_lock(78)")
    session.execute("select pg_advisory_lock(78)")
    session.execute("select pg_advisory_unlock(78)")
    assert not reads_on_replica(session)
    session.execute("select pg_advisory_unlock(78)")
    assert reads_on_replica(session)


@pytest.mark.parametrize("sql", [
    "begin; create temp table gone_t (a int) on commit drop; commit", "begin; create temp table gone (a int); rollback",
    "begin; declare gone_c cursor with hold for select 1; rollback", "begin; listen gone; rollback",
    "do $$ begin perform 1; end $$", "begin; select pg_advisory_xact_lock(79); commit",
])
def test_what_left_nothing_behind_keeps_nothing_on_the_primary(session, sql):
    session.execute(sql)
    assert reads_on_replica(session)


POOLS = {
    "asyncpg": "select pg_advisory_unlock_all(); close all; do $$ begin perform 1; end $$; unlisten *; reset all;",
    "PgBouncer": "discard all",
    "Npgsql": "reset session authorization; reset all; close all; unlisten *; select pg_advisory_unlock_all(); "
              "discard plans; discard sequences; discard temp",
}


@pytest.mark.parametrize("sql", POOLS.values(), ids=POOLS)
def test_the_resets_of_pools_clean_both_servers(session, sql):
    session.execute("set timezone = 'Asia/Tokyo'; listen reset_channel; select pg_advisory_lock(80)")
    if "discard" in sql:
        session.execute("create temp table reset_t (a int); set role pg_monitor")
    session.execute(sql)
    assert value(session, "select current_user::text || (timestamptz '2024-01-01 00:00+00')::text") == (
        "postgres2024-01-01 00:00:00+00")
    assert route(session) == "replica: read"


def test_what_one_session_asks_for_holds_for_no_other(connect):
    """Nor do relays learn from it where a text goes."""
    asking, other = connect(), connect()
    asking.execute("set pgsplit.route = 'replica'")
    for _ in range(3):
        asking.execute("select now()")
        assert route(asking) == "replica: route_setting (now)"
    for _ in range(3):
        other.execute("select now()")
        assert route(other) == "primary: clock (now)"
