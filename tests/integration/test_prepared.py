"""Prepared statements and pipelines on two servers, by drivers as they are."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
import pg8000.native
import psycopg
import pytest

from tests.integration.conftest import value
from tests.integration.test_state import proxy, reads_on_replica, route  # noqa: F401 - a fixture
from tests.waiting import eventually


@pytest.fixture
def prepared(cluster, connect):
    """A session of psycopg's that prepares at the second execution of a text."""
    cluster.catch_up()
    session = connect(prepare_threshold=1)
    eventually(lambda: reads_on_replica(session, "select 'ready'"))
    return session


def names(session: psycopg.Connection[Any]) -> list[str]:
    return [row[0] for row in session.execute("select name from pg_prepared_statements order by prepare_time",
                                              prepare=False)]


def test_a_named_statement_is_read_on_the_replica_and_known_on_the_primary(prepared):
    for number in range(6):
        assert prepared.execute("select %s::int + 1", [number]).fetchone() == (number + 1,)
    assert route(prepared) == "replica: read"
    assert len(names(prepared)) >= 1


def test_a_statement_whose_result_changed_is_0a000_as_on_one_server(prepared, connect):
    setup = connect()
    setup.execute("drop table if exists late; create table late (a int, b int); insert into late values (1, 2)")
    cursor = prepared.cursor()
    for _ in range(4):
        assert cursor.execute("select b from late where a = %s", [1], prepare=True).fetchone() == (2,)
    assert route(prepared) == "replica: read"
    setup.execute("alter table late alter b type text")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan must not change result type"):
        cursor.execute("select b from late where a = %s", [1], prepare=True)
    setup.execute("drop table late")


def test_a_statement_first_used_behind_a_change_of_definitions(connect, prepared):
    """Parsed on the primary before, on the replica after: the same statement it is not."""
    setup = connect()
    setup.execute("drop table if exists later; create table later (a int, b int); insert into later values (1, 2)")
    with prepared.transaction():
        prepared.execute("select b from later where a = %s", [1], prepare=True)
    setup.execute("alter table later alter b type text, alter a type bigint")
    for _ in range(2):
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            prepared.execute("select b from later where a = %s", [1], prepare=True)
    setup.execute("drop table later")


def test_sql_prepare_execute_deallocate(prepared):
    execute = lambda sql: prepared.execute(sql, prepare=False)      # noqa: E731
    execute("prepare sql_p (int) as select $1 + 1")
    assert execute("execute sql_p (41)").fetchone() == (42,)
    assert route(prepared) == "replica: read"
    assert "Result" in execute("explain (costs off) execute sql_p (1)").fetchone()[0]
    assert route(prepared) == "replica: read"
    with pytest.raises(psycopg.errors.DuplicatePreparedStatement):
        execute("prepare sql_p as select 1")
    execute("deallocate sql_p")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        execute("execute sql_p (1)")
    execute("prepare sql_p as select 'other'")
    assert execute("execute sql_p").fetchone() == ("other",)
    assert route(prepared) == "replica: read"
    execute("create table if not exists sql_t (a int)")
    execute("prepare sql_w as insert into sql_t values (1) returning a")
    assert execute("execute sql_w").fetchone() == (1,)
    assert route(prepared).startswith("primary: write")
    execute("discard all")
    for name in ("sql_p", "sql_w"):
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            execute(f"execute {name}")
    execute("drop table sql_t")


def test_pipelines_to_both_servers_in_any_mixture(prepared):
    prepared.execute("drop table if exists piped; create table piped (a int)")
    with prepared.pipeline() as pipeline:
        cursors = []
        for number in range(30):
            cursors.append(prepared.execute("select %s::int", [number]))
            if number % 3 == 0:
                cursors.append(prepared.execute("insert into piped values (%s) returning a", [number]))
            if number % 7 == 0:
                pipeline.sync()
        results = [cursor.fetchone()[0] for cursor in cursors]
    expected = [each for number in range(30) for each in ([number, number] if number % 3 == 0 else [number])]
    assert results == expected
    with pytest.raises(psycopg.errors.DivisionByZero), prepared.pipeline():
        prepared.execute("select 1")
        prepared.execute("select 1 / 0")
        prepared.execute("insert into piped values (99)")
    assert value(prepared, "select count(*) from piped where a = 99") == 0
    prepared.execute("drop table piped")


def test_pg8000_binds_with_flushes_and_reads_on_the_replica(proxy):  # noqa: F811
    with contextlib.closing(pg8000.native.Connection("postgres", password="postgres-secret", host="127.0.0.1",
                                                     port=proxy.port, database="postgres")) as session:
        statement = session.prepare("select cast(:n as int) + 1")
        assert [statement.run(n=number) for number in range(5)] == [[[number + 1]] for number in range(5)]
        for _ in range(200):
            assert statement.run(n=1) == [[2]]
            if session.run("show pgsplit.last_route") == [["replica: read"]]:
                break
        assert session.run("show pgsplit.last_route") == [["replica: read"]]
        statement.close()


def test_asyncpg_reads_on_the_replica(proxy, cluster):  # noqa: F811
    cluster.catch_up()

    async def run() -> None:
        session = await asyncpg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password="postgres-secret",
                                        database="postgres", ssl=False)
        show = "show pgsplit.last_route"
        for _ in range(200):
            assert await session.fetchval("select $1::int + 1", 41) == 42
            if await session.fetchval(show) == "replica: read":
                break
        assert await session.fetchval("select $1::int + 1", 41) == 42
        assert await session.fetchval(show) == "replica: read"
        await session.execute("drop table if exists many; create table many (a int, b text)")
        await session.executemany("insert into many values ($1, $2)", [(n, str(n)) for n in range(1000)])
        assert await session.fetchval("select count(*) from many") == 1000
        statement = await session.prepare("select b from many where a = $1")
        assert [await statement.fetchval(n) for n in (1, 500, 999)] == ["1", "500", "999"]
        assert await session.fetchval(show) == "replica: read"
        await session.execute("drop table many")
        await session.reset()
        assert await session.fetchval("select $1::int + 1", 1) == 2
        await session.close()

    asyncio.run(run())
