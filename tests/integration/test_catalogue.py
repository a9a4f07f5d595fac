"""What a database's definitions do, which no text shows, decides where a statement goes (DESIGN section 5).

Real definitions on a real primary and standby: what leads to something that only the primary may do goes there, what
does not reads from the replica, and a change of a definition counts at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from pgsplit.demo.replication import PrimaryAndStandbys
from tests.integration.conftest import PATIENT, value
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
pytestmark = PATIENT
PATH = "-c search_path=cat,public"
SETUP = """
create schema cat; grant usage on schema cat to public; set search_path = cat;
create table plain (a int, b text); insert into plain values (1, 'one'), (2, 'two');
create view simple as select a, lower(b) as l from plain where a > 0;
create view locks as select locktype from pg_locks;
create view twice as select l.locktype, p.a from locks l, simple p;
create materialized view stored as select locktype from pg_locks;
create unlogged table unlogged_ones (a int);
create sequence numbers;
create function total(int) returns bigint stable language sql as 'select $1 + sum(a) from plain';
create function loops(n int) returns int immutable language plpgsql as $$
declare i int; found int := 0;
begin
  for i in 1 .. n loop
    if i % 2 = 0 then found := found + i; elsif total(i) > 3 then found := found + 1; end if;
  end loop;
  return found;
end $$;
create function again(n int) returns int stable language plpgsql as $$
begin if n = 0 then return 1; end if; return n * again(n - 1); end $$;
create function atomic(int) returns bigint stable language sql begin atomic select total($1); end;
create function try_lock(int) returns boolean stable language sql as 'select pg_try_advisory_lock($1)';
create function performs(int) returns boolean stable language plpgsql as $$
begin perform try_lock($1); return true; end $$;
create function asks_the_time() returns timestamptz stable language sql as 'select now()';
create function at_run_time(text) returns int stable language plpgsql as $$
declare n int; begin execute $1 into n; return n; end $$;
create function of_default(a int default try_lock(1)::int) returns int stable language sql as 'select $1';
create function anything() returns int language sql as 'select 1';
create function adds(int) returns int language sql as $$ insert into plain values ($1, 'added') returning a $$;
create function renamed_lock(bigint) returns boolean stable language internal as 'pg_try_advisory_lock_int8';
create function renamed_abs(int) returns int immutable language internal as 'int4abs';
create function opens() returns refcursor stable language plpgsql as $$
declare c cursor for select 1; begin open c; return c; end $$;
create function of_row(plain) returns boolean stable language sql as 'select pg_try_advisory_lock(($1).a)';
create aggregate sum_of(int) (sfunc = int4pl, stype = int, initcond = '0');
create function step(int, int) returns int stable language sql as 'select $1 + try_lock($2)::int';
create aggregate locks_of(int) (sfunc = step, stype = int, initcond = '0');
create function both_of(int, int) returns boolean stable language sql as 'select try_lock($1) and try_lock($2)';
create operator <&&> (leftarg = int, rightarg = int, function = both_of);
create function positive(int) returns boolean immutable language sql as 'select $1 > 0';
create operator <++> (leftarg = int, rightarg = int, function = int4pl);
create domain plain_domain as int check (positive(value));
create domain locking_domain as int check (try_lock(value));
create type pair as (x int, y plain_domain);
create table typed (d plain_domain, p pair);
create table locking_typed (d locking_domain);
create table rows_of (owner text, a int); insert into rows_of values ('me', 1), ('you', 2);
alter table rows_of enable row level security;
create policy own on rows_of using (owner = current_setting('cat.owner', true));
create table locked_rows (a int); alter table locked_rows enable row level security;
create policy locked on locked_rows using (try_lock(a));
create table parent (a int); create unlogged table child () inherits (parent);
"""

REPLICA = [
    "select * from cat.plain", "select * from cat.simple", "select s.l from cat.simple s join cat.plain p using (a)",
    "select cat.total(1)", "select cat.loops(3)", "select cat.again(4)", "select cat.atomic(2)",
    "select cat.renamed_abs(-1)", "select cat.sum_of(a) from cat.plain", "select * from cat.stored",
    "select 1 operator(cat.<++>) 2", "select 5::cat.plain_domain", "select * from cat.typed", "table cat.simple",
    "with cat_w(n) as (select a from cat.plain) select * from cat_w", "copy (select * from cat.simple) to stdout",
    "select a from cat.plain where exists (select from cat.simple s where s.a = plain.a)",
    "select * from pg_catalog.pg_class limit 1", "select table_name from information_schema.tables limit 1",
    "select information_schema._pg_expandarray(array[1, 2])", "select * from cat.rows_of",
    "select current_setting('cat.owner', true)", "explain select * from cat.simple",
]
PRIMARY = {
    "select * from cat.locks": "hidden_doubt (view locks: server_local_relation: pg_locks)",
    "select * from cat.twice": "hidden_doubt (view twice, by view locks: server_local_relation: pg_locks)",
    "explain select * from cat.locks": "hidden_doubt (view locks: server_local_relation: pg_locks)",
    "copy (table cat.locks) to stdout": "hidden_doubt (view locks: server_local_relation: pg_locks)",
    "select * from cat.unlogged_ones": "relation_kind (unlogged_ones: an unlogged table)",
    "select * from cat.parent": "hidden_doubt (relation parent, by relation child: an unlogged table)",
    "select * from cat.numbers": "relation_kind (numbers: a sequence)",
    "select cat.try_lock(901)": "unknown_function (try_lock: function: pg_try_advisory_lock)",
    "select cat.performs(902)": "unknown_function (performs, by try_lock: function: pg_try_advisory_lock)",
    "select cat.asks_the_time()": "unknown_function (asks_the_time: clock: now)",
    "select cat.at_run_time('select 1')": "unknown_function (at_run_time: EXECUTE)",
    "select cat.of_default()": "unknown_function (of_default, by try_lock: function: pg_try_advisory_lock)",
    "select cat.anything()": "unknown_function (anything: volatile)",
    "select cat.renamed_lock(903)": "unknown_function (renamed_lock: a built-in one by another name)",
    "select cat.opens()": "unknown_function (opens: gives a cursor)",
    "select cat.locks_of(a) from cat.plain":
        "unknown_function (locks_of, by try_lock: function: pg_try_advisory_lock)",
    "select p.of_row from cat.plain p": "hidden_doubt (of_row: function: pg_try_advisory_lock)",
    "select 904 operator(cat.<&&>) 905": "hidden_doubt (operator <&&>, by try_lock: function: pg_try_advisory_lock)",
    "select 906::cat.locking_domain": "hidden_doubt (type locking_domain, by try_lock: function: pg_try_advisory_lock)",
    "select * from cat.locking_typed":
        "hidden_doubt (relation locking_typed, by try_lock: function: pg_try_advisory_lock)",
    "select * from cat.locked_rows":
        "hidden_doubt (relation locked_rows, by try_lock: function: pg_try_advisory_lock)",
}


@pytest.fixture(scope="module", autouse=True)
def definitions(cluster: PrimaryAndStandbys) -> Iterator[None]:
    cluster.primary.query(SETUP)
    cluster.catch_up()
    yield
    cluster.primary.query("drop schema cat cascade")


@pytest.fixture
def session(connect, definitions):
    found = connect(options=PATH)
    # Defined beside pgsplit a moment ago: a read of it is waited for.
    eventually(lambda: found.execute("select a from cat.plain") and told(found) == "replica: read")
    return found


def told(session: psycopg.Connection) -> str:
    return value(session, "show pgsplit.last_route")


def run(session: psycopg.Connection, sql: str) -> None:
    if sql.startswith("copy"):
        with session.cursor().copy(sql) as copy:
            for _ in copy:
                pass
    else:
        session.execute(sql)


def test_what_leads_to_nothing_but_reads_reads_from_the_replica_and_all_else_does_not(session):
    expected = {**dict.fromkeys(REPLICA, "replica: read"), **{sql: f"primary: {why}" for sql, why in PRIMARY.items()}}
    for _ in range(2):          # the second time the relay may know the text
        found = {}
        for sql in expected:
            run(session, sql)
            found[sql] = told(session)
            session.execute("select pg_advisory_unlock_all()")
        assert found == expected


def test_what_a_function_does_by_another_name_is_looked_at_where_a_built_in_one_has_it_too(session, connect):
    other = connect()
    assert value(session, "select lower('X')") == "x"
    assert told(session) == "replica: read"
    other.execute("create function cat.lower(cat.plain) returns text volatile language sql as $$ select 'v' $$")
    try:
        eventually(lambda: value(session, "select lower('X')") == "x" and "lower: volatile" in told(session))
    finally:
        other.execute("drop function cat.lower(cat.plain)")
    eventually(lambda: value(session, "select lower('X')") == "x" and told(session) == "replica: read")


CHANGES = {
    "a function": ("create or replace function cat.total(int) returns bigint stable language sql as 'select {}'",
                   "$1 + pg_backend_pid()", "$1 + sum(a) from cat.plain", "select cat.total(1)"),
    "a view": ("create or replace view cat.simple as select a, {} as l from cat.plain", "pg_backend_pid()::text",
               "lower(b)", "select * from cat.simple"),
}


def alone(writer: psycopg.Connection, change: str) -> None:
    writer.execute(change)


def in_a_transaction(writer: psycopg.Connection, change: str) -> None:
    with writer.transaction():
        writer.execute(change)
        writer.execute("insert into cat.plain values (3, 'x')")


def in_a_block(writer: psycopg.Connection, change: str) -> None:
    writer.execute(f"do $do$ begin execute $x${change}$x$; end $do$")


def in_a_function(writer: psycopg.Connection, change: str) -> None:
    writer.execute("create or replace function cat.defines() returns void language plpgsql as "
                   f"$do$ begin execute $x${change}$x$; end $do$")
    eventually(lambda: writer.execute("select cat.defines() where false") and "volatile" in told(writer))
    writer.execute("select cat.defines()")


@pytest.mark.parametrize("what, ways", [
    ("a view", (in_a_transaction,)), *(pytest.param(what, ways, marks=pytest.mark.slow) for what, ways in (
        ("a view", (alone, in_a_block, in_a_function)),
        ("a function", (alone, in_a_transaction, in_a_block, in_a_function))))])
def test_a_change_of_a_definition_counts_at_once_in_every_session(session, connect, what, ways):
    """Not one read by the definitions of before is answered behind the change's acknowledgement."""
    template, bad, good, look = CHANGES[what]
    sessions = [session, *(connect(options=PATH) for _ in range(8))]      # in each worker one at least
    writer = connect(options=PATH)
    try:
        for way in ways:
            for each in sessions:
                eventually(lambda each=each: each.execute(look) and told(each) == "replica: read")
            way(writer, template.format(bad))
            for each in sessions:
                each.execute(look)
                assert told(each).startswith("primary: "), (way, told(each))
            way(writer, template.format(good))
    finally:
        writer.execute(template.format(good))
        writer.execute("delete from cat.plain where a = 3")


def test_a_change_of_a_definition_in_a_transaction_that_is_rolled_back_changes_nothing(session, connect):
    writer = connect()
    with writer.transaction(force_rollback=True):
        writer.execute("create or replace view cat.simple as select a, pg_backend_pid()::text as l from cat.plain")
    eventually(lambda: session.execute("select * from cat.simple") and told(session) == "replica: read")


def test_what_is_defined_beside_pgsplit_is_seen_soon(session, cluster):
    look = "select * from cat.simple"
    session.execute(look)
    assert told(session) == "replica: read"
    cluster.primary.query("create or replace view cat.simple as select a, pg_backend_pid()::text as l from cat.plain")
    eventually(lambda: session.execute(look) and told(session).startswith("primary: hidden_doubt"), timeout=60)
    cluster.primary.query("create or replace view cat.simple as select a, lower(b) as l from cat.plain")
    cluster.primary.query("create table cat.later as select 1 as a")
    # A relation that is not known is asked for; its replica has it when it has replayed that.
    session.execute("select * from cat.later")
    assert told(session) == "replica: read"
    session.execute(look)
    assert told(session) == "replica: read"


def test_a_function_that_leaves_nothing_behind_is_not_asked_about(session, proxy):
    """What it wrote others see; the session's next read asks the primary nothing."""
    session.execute("select cat.adds(7)")
    assert "volatile" in told(session)
    before = asked(proxy)
    session.execute("select count(*) from cat.plain")
    assert told(session) == "replica: read"
    assert asked(proxy) == before
    session.execute("delete from cat.plain where a = 7")


def asked(proxy) -> int:
    """Questions about sessions' state."""
    return sum(count for name, count in proxy.client.arbiter("totals").items()
               if name.endswith((".own.primary.settings", ".own.primary.functions")))


def test_a_read_does_not_wait_for_ever_while_others_go_on_defining(pgsplit_server, fence_wait):
    """The catalogue is read once a second: each time a read finds that it has been, something else has been defined."""
    proxy = pgsplit_server(pgsplit={"workers": 1, "fence_wait": "3s"})
    place = {"host": "127.0.0.1", "port": proxy.port, "user": "postgres", "password": "postgres-secret",
             "dbname": "postgres", "autocommit": True}
    stop, begun = threading.Event(), threading.Event()

    def go_on_defining() -> None:
        with psycopg.connect(**place) as other:
            while not stop.is_set():
                other.execute("create or replace function often() returns int language sql as 'select 1'")
                begun.set()

    with psycopg.connect(**place) as session, ThreadPoolExecutor(1) as pool:
        session.execute("select 1")
        defining = pool.submit(go_on_defining)
        given_up = threading.Timer(25, session.cancel)
        given_up.start()
        try:
            assert begun.wait(20)
            for _ in range(2):
                assert session.execute("select 1").fetchone() == (1,)
        finally:
            stop.set()
            given_up.cancel()
        defining.result()
        session.execute("drop function often()")


def test_a_database_whose_definitions_cannot_be_read_is_the_primary_s(cluster, pgsplit_server, fence_wait):
    cluster.primary.query("create database unread")
    cluster.primary.query("revoke connect on database unread from public; create role unread_monitor login;"
                          "grant pg_monitor to unread_monitor; alter role unread_monitor password 'secret'")
    cluster.catch_up()
    try:
        users = {"postgres": "postgres-secret", "unread_monitor": "secret"}
        proxy = pgsplit_server(monitor="unread_monitor", users=users, pgsplit={"workers": 1, "fence_wait": "1s"})
        with psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password="postgres-secret",
                             dbname="unread", autocommit=True) as session:
            session.execute("select 1")
            assert told(session) == "primary: definitions_unknown"
            eventually(lambda: any(row["database"] == "unread" and "permission denied" in row["why_not"]
                                   for worker in proxy.client.workers()
                                   for row in proxy.client.worker(worker, "catalogues")))
    finally:
        cluster.primary.query("drop database unread with (force)")
        cluster.primary.query("drop role unread_monitor")


def test_a_database_that_nobody_uses_any_more_can_be_dropped(cluster, connect):
    """A server waits five seconds for others to leave it; pgsplit's own connection leaves behind the last session's."""
    cluster.primary.query("create database dropped")
    cluster.catch_up()
    for _ in range(2):
        with connect(dbname="dropped") as session:
            eventually(lambda session=session: session.execute("select 1") and told(session) == "replica: read")
    cluster.primary.query("drop database dropped")


def test_explain_reads_the_definitions(cluster, proxy):
    def explained(*arguments: str) -> str:
        done = subprocess.run([sys.executable, ROOT / "app.py", "explain", *arguments], capture_output=True, text=True,
                              check=True, timeout=60)
        return done.stdout

    config = ["--config", str(proxy.file), "--database", "postgres"]
    found = explained(*config, "select * from cat.twice")
    assert "reason:   hidden_doubt (view twice, by view locks: server_local_relation: pg_locks)" in found
    assert "upstream: replica" in explained(*config, "select cat.loops(3), * from cat.simple")
    assert "unknown_relation (nowhere)" in explained(*config, "select * from nowhere")
    assert "unknown_function" in explained("--config", str(proxy.file), "select cat.loops(3)")
    lines = subprocess.run([sys.executable, ROOT / "app.py", "explain", *config, "--jsonl", "-"], text=True, timeout=60,
                           input='{"sql": "select * from cat.locks"}\n', capture_output=True, check=True)
    assert json.loads(lines.stdout) == {"upstream": "primary", "reason": "hidden_doubt"}
    wrong = subprocess.run([sys.executable, ROOT / "app.py", "explain", "--config", str(proxy.file), "--database",
                            "nowhere", "select 1"], capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode == 1 and 'database "nowhere" does not exist' in wrong.stderr
