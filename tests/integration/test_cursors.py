"""Cursors, portals and COPY in READ ONLY transactions on a real standby (docs/routing.md has the table)."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.integration.conftest import Connect, value
from tests.waiting import eventually

Traced = psycopg.Connection[Any]

HELD = "pgsplit: pgsplit: begin_held"
ENDED = "pgsplit: pgsplit: transaction_ended"
READ = "pgsplit: replica: read"
CURSOR = "pgsplit: replica: cursor"
STAGE = "pgsplit: replica: sets_the_stage"
OPEN = "pgsplit: primary: transaction_open"
NUMBERS = "select a from cur order by a"


@pytest.fixture
def proxy(pgsplit_server):
    return pgsplit_server(pgsplit={"workers": 1, "fence_wait": "60s"})


@pytest.fixture
def routes() -> list[str]:
    return []


@pytest.fixture
def session(cluster, connect: Connect, routes: list[str]) -> Traced:
    connect().execute("drop table if exists cur; create table cur as select g as a from generate_series(1, 20) g")
    cluster.catch_up()
    session = connect()
    session.execute("set pgsplit.trace = on")
    session.add_notice_handler(lambda notice: routes.append(str(notice.message_primary).partition(" (")[0]))
    eventually(lambda: session.execute("select 1") and routes[-1] == READ)
    routes.clear()
    return session


def fetched(session: Traced, sql: str) -> list[int]:
    return [row[0] for row in session.execute(sql).fetchall()]


@pytest.mark.parametrize("begin, opened", [("begin read only", [HELD]),
                                           ("begin", [HELD, STAGE])])
def test_a_cursor_stays_on_the_replica(session, routes, begin, opened):
    session.execute(begin)
    if opened[-1] == STAGE:
        session.execute("set transaction read only")
    session.execute(f"declare c scroll cursor for {NUMBERS}")
    assert fetched(session, "fetch 3 from c") == [1, 2, 3]
    assert session.execute("move 5 in c").statusmessage == "MOVE 5"
    assert value(session, "select count(*) from cur") == 20
    assert fetched(session, "fetch backward 1 c") == [7]
    session.execute("close c")
    with pytest.raises(psycopg.errors.InvalidCursorName):
        session.execute("fetch c")
    session.execute("rollback")
    assert routes[:-2] == [*opened, CURSOR, CURSOR, CURSOR, READ, CURSOR, CURSOR]


def test_in_a_transaction_that_may_write_it_is_the_primarys(session, routes):
    session.execute("begin")
    assert value(session, "select count(*) from cur") == 20
    session.execute(f"declare c cursor for {NUMBERS}")
    session.execute("update cur set a = a where a = 1")
    assert fetched(session, "fetch 2 c") == [1, 2]
    session.execute("commit")
    assert routes[:3] == [HELD, READ, "pgsplit: primary: cursor"]


@pytest.mark.parametrize("sql", ["select now()", "show work_mem", "lock table cur in access share mode",
                                 "select pg_backend_pid() > 0", "do $$ begin perform 1; end $$",
                                 "declare h cursor with hold for select 1", "prepare cur_p as select 1", "listen cur_l",
                                 "set work_mem = '5MB'", "select set_config('work_mem', '6MB', false)"])
def test_what_needs_the_primary_runs_beside_it(session, routes, sql):
    session.execute("begin read only")
    session.execute("savepoint a")
    session.execute(f"declare c cursor for {NUMBERS}")
    assert fetched(session, "fetch 2 c") == [1, 2]
    session.execute(sql)
    assert fetched(session, "fetch 2 c") == [3, 4]
    assert value(session, "select count(*) from cur") == 20
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        session.execute("insert into cur values (0)")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute("fetch c")
    session.execute("rollback to a")
    with pytest.raises(psycopg.errors.InvalidCursorName):         # it was opened behind the savepoint
        session.execute("fetch c")
    session.execute("rollback")
    assert session.execute("select 1").fetchone() == (1,)
    reads = [route for route in routes if route.startswith("pgsplit: replica")]
    assert reads[:4] == [STAGE, CURSOR, CURSOR, CURSOR]
    session.execute("discard all")


@pytest.mark.parametrize("sql", ["declare c cursor for select 2", "declare C scroll cursor for select a from cur"])
@pytest.mark.parametrize("beside", ["select 1", "lock table cur in access share mode"])
def test_a_second_cursor_of_its_name_is_refused(session, beside, sql):
    session.execute("begin read only")
    session.execute(f"declare c cursor for {NUMBERS}")
    session.execute(beside)
    with pytest.raises(psycopg.errors.DuplicateCursor):
        session.execute(sql)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute("fetch c")
    session.execute("rollback")
    assert session.execute("select 1").fetchone() == (1,)


def test_both_sides_of_it_are_one_transaction(session, routes):
    session.execute("set timezone = 'UTC'")
    session.execute("begin read only")
    session.execute("set local bytea_output = 'escape'")
    session.execute("declare c cursor for select 'abc'::bytea::text || timestamptz '2024-01-01 00:00+00' from cur")
    assert value(session, "fetch c") == "abc2024-01-01 00:00:00+00"
    assert value(session, "show bytea_output") == "escape"
    session.execute("savepoint a")
    with pytest.raises(psycopg.errors.UndefinedObject):
        session.execute("show nothing")
    session.execute("rollback to a")
    assert value(session, "fetch c") == "abc2024-01-01 00:00:00+00"
    session.execute("set timezone = 'Asia/Kolkata'")        # of the session, and so of the rows that come
    assert value(session, "fetch c") == "abc2024-01-01 05:30:00+05:30"
    assert value(session, "show timezone") == "Asia/Kolkata"
    assert session.execute("commit").statusmessage == "COMMIT"
    assert value(session, "show timezone") == "Asia/Kolkata"
    assert value(session, "select timestamptz '2024-01-01 00:00+00'::text") == "2024-01-01 05:30:00+05:30"
    assert routes.count(CURSOR) == 4
    session.execute("reset timezone")


def test_a_lost_replica_takes_its_cursors_along(session, cluster):
    session.execute("begin read only")
    session.execute(f"declare c cursor for {NUMBERS}")
    for standby in cluster.standbys:
        standby.stop()
    try:
        with pytest.raises(psycopg.errors.SerializationFailure):
            session.execute("fetch c")
        assert session.execute("commit").statusmessage == "ROLLBACK"
        with session.transaction():
            assert value(session, "select count(*) from cur") == 20
    finally:
        for standby in cluster.standbys:
            standby.start()


def test_psycopgs_server_side_cursors(session, connect, routes):
    session.read_only = True
    with session.transaction(), session.cursor("named", scrollable=True) as cursor:
        cursor.execute("select a from cur where a > %s order by a", [5])
        assert cursor.fetchmany(3) == [(6,), (7,), (8,)]
        assert session.execute("select now()").fetchone()
        cursor.scroll(2)
        assert cursor.fetchone() == (11,)
    session.read_only = None
    assert routes.count(CURSOR) >= 5
    assert "pgsplit: primary: clock" in routes


def test_what_uses_a_cursor_may_be_prepared_by_name(session, connect, routes):
    """A driver that prepares what is run often comes to it in the midst, and to other cursors of the name behind it."""
    session.execute("begin read only")
    session.execute(f"declare c scroll cursor for {NUMBERS}")
    for number in range(1, 4):
        assert session.execute("fetch 1 from c", prepare=True).fetchall() == [(number,)]
        assert session.execute("move 0 in c", prepare=True).statusmessage == "MOVE 1"
    session.execute("close c", prepare=True)
    session.execute("commit")
    assert routes.count(CURSOR) >= 8
    with session.transaction():
        session.execute("declare c cursor for select 'a', a from cur order by a")
        session.execute("update cur set a = a")
        assert session.execute("fetch 1 from c", prepare=True).fetchall() == [("a", 1)]
    session.execute("begin read only")
    session.execute("declare c cursor for select 'b'")
    assert session.execute("fetch 1 from c", prepare=True).fetchall() == [("b",)]
    session.execute("close c", prepare=True)
    with pytest.raises(psycopg.errors.InvalidCursorName):
        session.execute("fetch 1 from c", prepare=True)
    session.execute("rollback")


def test_asyncpgs_cursors(session, proxy):
    routes: list[str] = []

    async def main() -> None:
        session = await asyncpg.connect(host="127.0.0.1", port=proxy.port, user="postgres", database="postgres",
                                        password="postgres-secret", ssl=False)
        session.add_log_listener(lambda _, notice: routes.append(notice.message.partition(" (")[0]))
        await session.execute("set pgsplit.trace = on")
        for number in range(2):
            async with session.transaction(readonly=True):
                rows = [row["a"] async for row in session.cursor("select a from cur order by a", prefetch=7)]
                assert rows == list(range(1, 21))
                cursor = await session.cursor("select a from cur order by a")
                assert [row["a"] for row in await cursor.fetch(2)] == [1, 2]
                if number:
                    assert await session.fetchval("select now()")
                assert [row["a"] for row in await cursor.fetch(2)] == [3, 4]
                assert await session.fetchval("select count(*) from cur where a > $1", 10) == 10
        await session.close()

    asyncio.run(main())
    assert "pgsplit: replica: portal_elsewhere" in routes
    assert "pgsplit: primary: portal_kept" not in routes


def test_copy_to_stdout(session, routes):
    session.execute("begin read only")
    with session.cursor().copy(f"copy ({NUMBERS}) to stdout") as copy:
        assert len(list(copy.rows())) == 20
    session.execute("commit")
    assert routes == [HELD, READ, ENDED]
