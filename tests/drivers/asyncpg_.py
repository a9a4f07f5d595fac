"""asyncpg: prepared statements and their cache, portals, executemany, COPY, listeners, its own reset."""

from __future__ import annotations

import asyncio
import io
import ssl
from typing import Any

import asyncpg

from tests.drivers.common import add_tables
from tests.drivers.record import Connect, Driver, Script, Target, known, short

script = Script()
TLS = ssl.create_default_context()
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
LOOP = asyncio.new_event_loop()


class Connection:
    """A connection and what it was told aside; ``c.run(coroutine)`` waits for one."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.heard: list[Any] = []
        raw.add_log_listener(lambda _, message: self.heard.append(message.as_dict() if hasattr(message, "as_dict")
                                                                  else str(message)))

    def run(self, work: Any) -> Any:
        return LOOP.run_until_complete(asyncio.wait_for(work, 60))


def open_(target: Target, **arguments: Any) -> Connection:
    return Connection(LOOP.run_until_complete(asyncpg.connect(
        host=target.host, port=target.port, user=target.user, password=target.password, database=target.dbname,
        ssl=TLS if target.tls else False, **arguments)))


def state(connection: Connection) -> Any:
    raw = connection.raw
    names = ("server_version", "client_encoding", "application_name", "timezone", "is_superuser", "in_hot_standby",
             "session_authorization", "default_transaction_read_only", "datestyle")
    settings = raw.get_settings() if not raw.is_closed() else None
    return (connection.heard, raw.is_closed(), raw.is_in_transaction() if not raw.is_closed() else None,
            [(name, getattr(settings, name, None)) for name in names])


def error(raised: BaseException) -> Any:
    fields = raised.as_dict() if isinstance(raised, asyncpg.PostgresError) else None
    return type(raised).__name__, str(raised), sorted(fields.items()) if fields else None


def close(connection: Connection) -> None:
    if not connection.raw.is_closed():
        connection.run(connection.raw.close(timeout=30))


def rows(found: list[Any]) -> Any:
    return short([list(row.items()) for row in found])


def each(connect: Connect, texts: list[str]) -> list[Any]:
    """What gives rows by the extended protocol, the rest by the simple one; no cache, whose names are counted on."""
    with connect(statement_cache_size=0) as c:
        def run(text: str) -> Any:
            if ";" in text or not text.startswith(("select", "show", "fetch", "execute", "values")):
                return c.run(c.raw.execute(text))
            return rows(c.run(c.raw.fetch(text)))

        return [(text, connect.refused(lambda text=text: run(text))) for text in texts]


driver = Driver(script, open_, state, close, error)
add_tables(script, each)


@script
def values_with_types(connect):
    with connect() as c:
        statement = c.run(c.raw.prepare("select 1::int2 a, 2.5::numeric b, 'x'::text c, '{1,2}'::int[] d"))
        return ([(a.name, known(a.type.oid), a.type.name) for a in statement.get_attributes()],
                [p.name for p in statement.get_parameters()], rows(c.run(statement.fetch())), statement.get_statusmsg())


@script
def parameters(connect):
    with connect() as c:
        return rows(c.run(c.raw.fetch("select $1::int a, $2::text b, $3::bytea c, $4::int[] d, $5::jsonb e, $6::float8 f",
                                      1, "ä\n'", b"\0\xff", [1, None], '{"a": 1}', 1.5)))


@script
def fetch_in_its_ways(connect):
    with connect() as c:
        return (c.run(c.raw.fetchval("select 7")), list(c.run(c.raw.fetchrow("select 1, 2"))),
                c.run(c.raw.fetchval("select 1 where false")), c.run(c.raw.fetchrow("select 1 where false")),
                c.run(c.raw.execute("select 1; select 2")))


@script
def the_cache_of_statements(connect):
    with connect(statement_cache_size=3) as c:
        c.run(c.raw.execute("create table cached (a int)"))
        found = []
        for number in range(4):
            for text in ("select $1::int", "select $1::int + 1", "select count(*), $1::int from cached",
                         "insert into cached values ($1) returning a", "select $1::int - 1"):
                found.append(rows(c.run(c.raw.fetch(text, number))))
        return found, c.run(c.raw.fetchval("select count(*) from pg_prepared_statements")), c.run(
            c.raw.execute("drop table cached"))


@script
def without_a_cache(connect):
    with connect(statement_cache_size=0) as c:
        return [rows(c.run(c.raw.fetch("select $1::int", number))) for number in range(4)]


@script
def a_table_changes_under_a_statement(connect):
    with connect() as c:
        c.run(c.raw.execute("create table changing (a int)"))
        statement = c.run(c.raw.prepare("select * from changing"))
        found = [rows(c.run(statement.fetch()))]
        c.run(c.raw.execute("alter table changing add b text default 'b'; insert into changing values (1)"))
        found.append(connect.refused(lambda: rows(c.run(statement.fetch()))))
        found.append(rows(c.run(c.raw.fetch("select * from changing"))))
        return found, c.run(c.raw.execute("drop table changing"))


@script
def transactions_and_savepoints(connect):
    async def work(raw):
        await raw.execute("create table saved (a int)")
        found = []
        try:
            async with raw.transaction():
                await raw.execute("insert into saved values (1)")
                try:
                    async with raw.transaction():
                        await raw.execute("insert into saved values (2)")
                        await raw.execute("select 1 / 0")
                except asyncpg.DivisionByZeroError:
                    found.append(await raw.fetchval("select count(*) from saved"))
                async with raw.transaction():
                    await raw.execute("insert into saved values (3)")
            async with raw.transaction():
                await raw.execute("insert into saved values (4)")
                raise KeyError
        except KeyError:
            found.append(rows(await raw.fetch("select a from saved order by a")))
        return found, await raw.execute("drop table saved")

    with connect() as c:
        return c.run(work(c.raw))


@script
def isolation(connect):
    async def work(raw):
        found = []
        for level in ("read_committed", "repeatable_read", "serializable"):
            for readonly in (True, False):
                async with raw.transaction(isolation=level, readonly=readonly):
                    found.append(await raw.fetchval("show transaction_isolation"))
                    found.append(await raw.fetchval("show transaction_read_only"))
        return found

    with connect() as c:
        return c.run(work(c.raw))


@script
def cursors(connect):
    async def work(raw):
        found = []
        async with raw.transaction():
            async for row in raw.cursor("select g from generate_series(1, 120) g", prefetch=7):
                found.append(row[0])
            cursor = await raw.cursor("select g from generate_series(1, 20) g")
            found += [await cursor.fetch(3), await cursor.forward(5), await cursor.fetchrow(), await cursor.fetch(50)]
        return found

    with connect() as c:
        return repr(c.run(work(c.raw))), connect.refused(lambda: c.run(outside_a_transaction(c.raw)))


async def outside_a_transaction(raw):
    async for _ in raw.cursor("select 1"):
        pass


@script
def portals_with_a_limit(connect):
    async def work(raw):
        statement = await raw.prepare("select g from generate_series(1, 100) g")
        async with raw.transaction():
            first = await statement.cursor()
            second = await statement.cursor()
            return [await first.fetch(2), await second.fetch(3), await first.fetch(2), await second.fetch(1)]

    with connect() as c:
        return repr(c.run(work(c.raw)))


@script
def execute_many(connect):
    with connect() as c:
        c.run(c.raw.execute("create table many (a int primary key, b text)"))
        found = [c.run(c.raw.executemany("insert into many values ($1, $2)", [(n, f"t{n}") for n in range(500)]))]
        found.append(c.run(c.raw.fetchval("select count(*) from many")))
        found.append(connect.refused(lambda: c.run(c.raw.executemany("insert into many values ($1, $2)",
                                                                     [(1000, "x"), (1, "y"), (1001, "z")]))))
        found.append(c.run(c.raw.fetchval("select count(*) from many")))
        found.append(rows(c.run(c.raw.fetchmany("insert into many values ($1, 'm') returning a", [(2000,), (2001,)]))
                          if hasattr(c.raw, "fetchmany") else []))
        return found, c.run(c.raw.execute("drop table many"))


@script
def copy(connect):
    async def work(raw):
        await raw.execute("create table copied (a int, b text)")
        found = [await raw.copy_records_to_table("copied", records=[(n, f"text {n}") for n in range(3000)])]
        out = io.BytesIO()
        found.append(await raw.copy_from_query("select * from copied where a < $1 order by a", 100, output=out))
        found.append(short(out.getvalue()))
        out = io.BytesIO()
        found.append(await raw.copy_from_table("copied", output=out, format="binary"))
        found.append(len(out.getvalue()))
        found.append(await raw.copy_to_table("copied", source=io.BytesIO(b"1,x\n2,y\n"), format="csv"))
        return found, await raw.fetchval("select count(*) from copied"), await raw.execute("drop table copied")

    with connect() as c:
        return c.run(work(c.raw))


@script
def copy_that_fails(connect):
    async def broken():
        yield b"1\n"
        raise RuntimeError("broken")

    with connect() as c:
        c.run(c.raw.execute("create table copy_fails (a int)"))
        found = [connect.refused(lambda: c.run(c.raw.copy_to_table("copy_fails", source=io.BytesIO(b"x\n")))),
                 connect.refused(lambda: c.run(c.raw.copy_to_table("copy_fails", source=broken()))),
                 connect.refused(lambda: c.run(c.raw.copy_from_table("nothing", output=io.BytesIO())))]
        return found, c.run(c.raw.fetchval("select count(*) from copy_fails")), c.run(
            c.raw.execute("drop table copy_fails"))


@script
def listeners(connect):
    async def work(raw, other):
        heard: asyncio.Queue[Any] = asyncio.Queue()
        await raw.add_listener("asyncpg_channel", lambda *told: heard.put_nowait(told))
        await other.execute("select pg_notify('asyncpg_channel', 'one'); notify asyncpg_channel, 'two'")
        found = [await asyncio.wait_for(heard.get(), 30) for _ in range(2)]
        pids = [pid == other.get_server_pid() for _, pid, _, _ in found]
        await raw.reset()
        return pids, [told[2:] for told in found], await raw.fetch("select pg_listening_channels()")

    with connect() as c, connect() as other:
        return c.run(work(c.raw, other.raw))


@script
def cancelled_by_its_timeout(connect):
    with connect() as c:
        found = [connect.refused(lambda: c.run(c.raw.execute("select pg_sleep(60)", timeout=0.2)))]
        return [*found, c.run(c.raw.fetchval("select 1"))]


@script
def reset(connect):
    async def work(raw):
        await raw.execute("set timezone = 'Asia/Tokyo'; select pg_advisory_lock(99); create temp table t (a int)")
        await raw.execute("listen reset_channel")
        before = [await raw.fetchval("show timezone"), await raw.fetchval("select count(*) from t")]
        await raw.reset()
        after = [await raw.fetchval("show timezone"),
                 await raw.fetchval("select count(*) from pg_locks where locktype = 'advisory'"),
                 await raw.fetchval("select count(*) from pg_listening_channels()")]
        return before, after, await raw.fetchval("select 8")

    with connect() as c:
        return c.run(work(c.raw))


@script
def a_pool(connect):
    async def work(target):
        async with asyncpg.create_pool(host=target.host, port=target.port, user=target.user, password=target.password,
                                       database=target.dbname, ssl=TLS if target.tls else False, min_size=2,
                                       max_size=4) as pool:
            await pool.execute("create table pooled (a int)")
            await asyncio.gather(*[pool.execute("insert into pooled values ($1)", n) for n in range(30)])
            counts = await asyncio.gather(*[pool.fetchval("select count(*) from pooled") for _ in range(12)])
            await pool.execute("drop table pooled")
            return counts

    return LOOP.run_until_complete(asyncio.wait_for(work(connect.target), 60))


@script
def composite_and_enum_types(connect):
    schema = connect.target.user
    with connect() as c:
        c.run(c.raw.execute(f"create type {schema}.pair as (a int, b text); create type {schema}.mood as enum ('ok', 'sad')"))
        found = [repr(c.run(c.raw.fetchval(f"select (1, 'x')::{schema}.pair"))),
                 repr(c.run(c.raw.fetchval(f"select $1::{schema}.pair", (2, "y")))),
                 c.run(c.raw.fetchval(f"select $1::{schema}.mood", "sad")),
                 c.run(c.raw.fetchval(f"select array[$1]::{schema}.mood[]", "ok"))]
        return found, c.run(c.raw.execute(f"drop type {schema}.pair; drop type {schema}.mood"))


@script
def codecs(connect):
    with connect() as c:
        c.run(c.raw.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=lambda text: f"<{text}>"))
        return c.run(c.raw.fetchval("select '[1]'::json")), c.run(c.raw.fetchval("select $1::json", "{}"))


@script
def introspection(connect):
    with connect() as c:
        c.run(c.raw.execute(f"create domain {connect.target.user}.small as int check (value < 10)"))
        found = c.run(c.raw.fetchval(f"select array[1, 2]::{connect.target.user}.small[]"))
        return found, c.run(c.raw.execute(f"drop domain {connect.target.user}.small"))


@script
def large_results(connect):
    with connect() as c:
        return (rows(c.run(c.raw.fetch("select g, repeat('x', 100) x from generate_series(1, 5000) g"))),
                short(c.run(c.raw.fetchval("select repeat('y', 300000)"))))


@script
def settings_at_the_start(connect):
    with connect(server_settings={"timezone": "Asia/Tokyo", "application_name": "started", "jit": "off"}) as c:
        return [c.run(c.raw.fetchval(f"show {name}")) for name in ("timezone", "application_name", "jit")]


@script
def wrong_password(connect):
    return connect.refused(lambda: LOOP.run_until_complete(asyncpg.connect(
        host=connect.target.host, port=connect.target.port, user=connect.target.user, password="wrong",
        database=connect.target.dbname, ssl=False)))
