"""psycopg2: server-side cursors, COPY, notifications, large objects, two phases, its own asynchronous mode."""

from __future__ import annotations

import io
import select
import threading
from typing import Any

import psycopg2
import psycopg2.extensions as ext
import psycopg2.extras

from tests.drivers.common import add_tables
from tests.drivers.record import Connect, Driver, Script, Target, known, short

script = Script()


def open_(target: Target, *, autocommit: bool = True, **arguments: Any) -> Any:
    connection = psycopg2.connect(host=target.host, port=target.port, user=target.user, password=target.password,
                                  dbname=target.dbname, sslmode="require" if target.tls else "disable", **arguments)
    if not connection.async_:
        connection.autocommit = autocommit
    return connection


def state(connection: Any) -> Any:
    if connection.closed:
        return "closed", connection.closed
    names = ("client_encoding", "application_name", "TimeZone", "DateStyle", "is_superuser", "server_version",
             "session_authorization", "in_hot_standby", "default_transaction_read_only", "standard_conforming_strings")
    return (connection.notices, connection.closed, connection.status, connection.info.transaction_status,
            connection.encoding, [(name, connection.info.parameter_status(name)) for name in names])


def error(raised: BaseException) -> Any:
    if not isinstance(raised, psycopg2.Error):
        return type(raised).__name__, str(raised)
    names = [name for name in dir(raised.diag) if not name.startswith("_")]
    return (type(raised).__name__, str(raised), raised.pgcode, raised.pgerror,
            [(name, getattr(raised.diag, name)) for name in names])


def result(cursor: Any) -> Any:
    columns = [(column.name, known(column.type_code), *tuple(column)[2:]) for column in cursor.description or []]
    rows = [[bytes(value) if isinstance(value, memoryview) else value for value in row] for row in cursor.fetchall()
            ] if columns else None
    return columns, cursor.statusmessage, cursor.rowcount, short(rows)


def run(connection: Any, text: str, values: Any = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(text, values)
        return result(cursor)


def each(connect: Connect, texts: list[str]) -> list[Any]:
    with connect() as c:
        return [(text, connect.refused(lambda text=text: run(c, text)),
                 c.info.transaction_status) for text in texts]


driver = Driver(script, open_, state, lambda connection: connection.close(), error)
add_tables(script, each)


@script
def parameterised(connect):
    with connect() as c:
        values = (1, 2**40, 1.5, "text\n'\"\\%", None, True, memoryview(b"\0\xff"), [1, None], ["a", "b'"], (1, 2))
        return [run(c, f"select {', '.join(['%s'] * 9)}, 1 in %s", values),
                run(c, "select %(a)s + %(b)s, %(a)s", {"a": 1, "b": 2})]


@script
def transactions_of_its_own(connect):
    with connect(autocommit=False) as c:
        found = [run(c, "create table own (a int)"), c.commit(), run(c, "select count(*) from own")]
        found += [run(c, "insert into own values (1)"), c.rollback(), run(c, "select count(*) from own")]
        found.append(connect.refused(lambda: run(c, "select 1 / 0")))
        found += [connect.refused(lambda: run(c, "select 1")), c.rollback(), run(c, "drop table own"), c.commit()]
        return found


@script
def isolation_levels(connect):
    with connect(autocommit=False) as c:
        found = []
        for level in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "DEFAULT"):
            for readonly in (True, False):
                c.set_session(isolation_level=level, readonly=readonly)
                found += [run(c, "show transaction_isolation"), run(c, "show transaction_read_only"),
                          connect.refused(lambda: run(c, "create temp table iso (a int)")), c.rollback()]
        c.set_session(deferrable=True, readonly=True, isolation_level="SERIALIZABLE")
        return [*found, run(c, "show transaction_deferrable")]


@script
def session_autocommit(connect):
    with connect() as c:
        c.set_session(readonly=True, autocommit=True)
        found = [run(c, "show default_transaction_read_only"),
                 connect.refused(lambda: run(c, "create table readonly (a int)")), run(c, "select 5")]
        c.set_session(readonly=False, autocommit=True)
        return [*found, run(c, "create table readonly (a int)"), run(c, "drop table readonly")]


@script
def with_blocks(connect):
    with connect(autocommit=False) as c:
        with c, c.cursor() as cursor:
            cursor.execute("create table withs (a int)")

        def fails():
            with c, c.cursor() as cursor:
                cursor.execute("insert into withs values (1)")
                cursor.execute("select 1 / 0")

        found = [connect.refused(fails)]
        with c:
            found += [run(c, "select count(*) from withs"), run(c, "drop table withs")]
        return found


@script
def named_cursors(connect):
    with connect(autocommit=False) as c:
        with c.cursor("named") as cursor:
            cursor.itersize = 7
            cursor.execute("select g, repeat('x', g) from generate_series(1, 50) g")
            rows = [row[0] for row in cursor]
        with c.cursor("scrolled", scrollable=True) as cursor:
            cursor.execute("select g from generate_series(1, 20) g")
            found = [cursor.fetchmany(3), cursor.scroll(-2), cursor.fetchone(), cursor.scroll(15, mode="absolute"),
                     cursor.fetchall(), connect.refused(lambda: cursor.scroll(100))]
        return rows, found


@script
def cursor_with_hold(connect):
    with connect(autocommit=False) as c:
        cursor = c.cursor("held", withhold=True)
        cursor.execute("select g from generate_series(1, 10) g")
        found = [cursor.fetchmany(2), c.commit(), cursor.fetchmany(3), run(c, "select count(*) from pg_cursors")]
        cursor.close()
        return [*found, c.commit(), run(c, "select count(*) from pg_cursors")]


@script
def cursor_factories(connect):
    with connect() as c:
        found = []
        for factory in (psycopg2.extras.DictCursor, psycopg2.extras.RealDictCursor, psycopg2.extras.NamedTupleCursor):
            with c.cursor(cursor_factory=factory) as cursor:
                cursor.execute("select 1 as one, 'b' as two")
                found.append(repr(cursor.fetchall()))
        return found


@script
def copy(connect):
    with connect() as c, c.cursor() as cursor:
        cursor.execute("create table copied (a int, b text)")
        cursor.copy_expert("copy copied from stdin", io.StringIO("".join(f"{n}\ttext {n}\n" for n in range(3000))))
        found = [cursor.rowcount, cursor.statusmessage]
        out = io.StringIO()
        cursor.copy_expert("copy (select * from copied order by a) to stdout with csv header", out)
        found += [short(out.getvalue()), cursor.rowcount]
        cursor.copy_from(io.StringIO("1|x\n"), "copied", sep="|", columns=("a", "b"))
        out = io.StringIO()
        cursor.copy_to(out, "copied", null="NULL")
        found.append(short(out.getvalue()))
        cursor.execute("select count(*) from copied")
        return [*found, cursor.fetchall(), run(c, "drop table copied")]


@script
def copy_that_fails(connect):
    with connect() as c, c.cursor() as cursor:
        cursor.execute("create table copy_fails (a int)")
        found = [connect.refused(lambda: cursor.copy_expert("copy copy_fails from stdin", io.StringIO("1\nx\n")))]

        class Broken(io.StringIO):
            def read(self, size=-1):
                raise RuntimeError("broken")

        found.append(connect.refused(lambda: cursor.copy_expert("copy copy_fails from stdin", Broken())))
        found.append(connect.refused(lambda: cursor.copy_expert("copy nothing to stdout", io.StringIO())))
        return [*found, run(c, "select count(*) from copy_fails"), run(c, "drop table copy_fails")]


@script
def notifications(connect):
    with connect() as listener, connect() as other:
        run(listener, "listen psycopg2_channel")
        for payload in ("one", "two"):
            run(other, "select pg_notify('psycopg2_channel', %s)", [payload])
        while len(listener.notifies) < 2:
            assert select.select([listener], [], [], 30)[0]
            listener.poll()
        heard = [(notify.channel, notify.payload, notify.pid == other.info.backend_pid)
                 for notify in listener.notifies]
        return heard, run(listener, "unlisten *"), run(listener, "select pg_listening_channels()")


@script
def large_objects(connect):
    with connect(autocommit=False) as c:
        large = c.lobject(0, "wb")
        oid = large.oid
        found = [large.write(b"x" * 100000), large.tell(), large.close(), c.commit()]
        large = c.lobject(oid, "rb")
        found += [large.seek(99990), large.read(), large.seek(0), large.read(3), large.close()]
        large = c.lobject(oid, "rwb")
        found += [large.truncate(5), large.read(), large.unlink(), c.commit()]
        return found, connect.refused(lambda: c.lobject(oid))


@script
def two_phases(connect):
    with connect(autocommit=False) as c:
        def prepare():
            c.tpc_begin(c.xid(7, f"{connect.target.user}", "branch"))
            run(c, "create table two_phases (a int)")
            c.tpc_prepare()
            c.tpc_rollback()

        return connect.refused(prepare), c.status


@script
def cancelled(connect):
    with connect() as c:
        timer = threading.Timer(0.2, c.cancel)
        timer.start()
        found = connect.refused(lambda: run(c, "select pg_sleep(60)"))
        timer.join()
        return found, run(c, "select 1")


@script
def asynchronous(connect):
    with connect(async_=True) as c:
        wait(c)
        cursor = c.cursor()
        found = []
        for text in ("select 1", "create temp table asy (a int)", "insert into asy values (1) returning a",
                     "select count(*) from asy", "select 1 / 0", "select 'after'"):
            cursor.execute(text)
            found.append(connect.refused(lambda: (wait(c), result(cursor))))
        return found


def wait(connection):
    while (wanted := connection.poll()) != ext.POLL_OK:
        sides = ([connection], []) if wanted == ext.POLL_READ else ([], [connection])
        assert any(select.select(*sides, [], 30))


@script
def reset(connect):
    with connect() as c:
        run(c, "set timezone = 'Asia/Tokyo'")
        c.set_client_encoding("LATIN1")
        found = [run(c, "select 'ä', current_setting('timezone')"), c.encoding]
        c.reset()
        return [*found, c.encoding, run(c, "show timezone"), run(c, "show client_encoding")]


@script
def encodings(connect):
    with connect() as c:
        found = []
        for encoding in ("LATIN1", "WIN1252", "UTF8", "SQL_ASCII"):
            c.set_client_encoding(encoding)
            found.append((c.encoding, run(c, "select 'ä'::text, length('ä')"),
                          connect.refused(lambda: run(c, "select chr(8364)"))))
        return found


@script
def many(connect):
    with connect() as c, c.cursor() as cursor:
        cursor.execute("create table many (a int, b text)")
        cursor.executemany("insert into many values (%s, %s)", [(n, f"t{n}") for n in range(50)])
        psycopg2.extras.execute_values(cursor, "insert into many values %s", [(n, "v") for n in range(200)])
        psycopg2.extras.execute_batch(cursor, "insert into many values (%s, 'b')", [(n,) for n in range(200)])
        return run(c, "select b, count(*) from many group by b order by b limit 4"), run(c, "drop table many")


@script
def functions(connect):
    with connect() as c, c.cursor() as cursor:
        cursor.execute("create function plus(a int, b int) returns int language sql as 'select a + b'")
        cursor.callproc("plus", [1, 2])
        return cursor.fetchall(), run(c, "drop function plus(int, int)")


@script
def composite_types(connect):
    with connect() as c:
        run(c, f"create type {connect.target.user}.pair as (a int, b text)")
        psycopg2.extras.register_composite(f"{connect.target.user}.pair", c)
        return run(c, f"select (1, 'x')::{connect.target.user}.pair"), run(c, f"drop type {connect.target.user}.pair")


@script
def large_results(connect):
    with connect() as c:
        return [run(c, "select g, repeat('x', 100) from generate_series(1, 5000) g"),
                run(c, "select repeat('y', 300000)")]


@script
def startup_options(connect):
    with connect(options="-c timezone=Asia/Tokyo -c search_path=pg_catalog", application_name="started") as c:
        return [run(c, f"show {name}") for name in ("timezone", "search_path", "application_name")]


@script
def wrong_password(connect):
    return connect.refused(lambda: psycopg2.connect(
        host=connect.target.host, port=connect.target.port, user=connect.target.user, password="wrong",
        dbname=connect.target.dbname, sslmode="require" if connect.target.tls else "disable"))


@script
def wrong_database(connect):
    return connect.refused(lambda: psycopg2.connect(
        host=connect.target.host, port=connect.target.port, user=connect.target.user,
        password=connect.target.password, dbname="nowhere",
        sslmode="require" if connect.target.tls else "disable"))
