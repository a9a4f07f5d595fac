"""psycopg 3: binary and text, prepared statements, pipelines, COPY, named cursors."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from tests.drivers import statements
from tests.drivers.record import Connect, Driver, Script, Target, short

script = Script()

PARAMETERS = [
    "server_version",
    "server_encoding",
    "client_encoding",
    "application_name",
    "default_transaction_read_only",
    "in_hot_standby",
    "is_superuser",
    "session_authorization",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "integer_datetimes",
    "standard_conforming_strings",
]


def open_(target: Target, **arguments: Any) -> psycopg.Connection[Any]:
    connection = psycopg.connect(
        **{
            "host": target.host,
            "port": target.port,
            "user": target.user,
            "password": target.password,
            "dbname": target.dbname,
            "sslmode": "require" if target.tls else "disable",
            "autocommit": True,
        }
        | arguments
    )
    connection.heard = []  # type: ignore[attr-defined]
    connection.add_notice_handler(lambda diagnostic: connection.heard.append(fields(diagnostic)))  # type: ignore[attr-defined]
    return connection


def state(connection: Any) -> Any:
    return (
        connection.heard,
        connection.info.transaction_status.name,
        connection.closed,
        connection.broken,
        [(name, connection.info.parameter_status(name)) for name in PARAMETERS],
    )


def fields(diagnostic: Any) -> list[Any]:
    return [
        getattr(diagnostic, name)
        for name in dir(diagnostic)
        if not name.startswith("_") and name != "encoding" and not callable(getattr(diagnostic, name))
    ]


def error(raised: BaseException) -> Any:
    return (type(raised).__name__, str(raised), fields(raised.diag) if isinstance(raised, psycopg.Error) else None)


def results(cursor: Any) -> list[Any]:
    """Of each result: its columns, status tag, count and rows."""
    found = []
    while True:
        columns = [(column.name, column.type_code, column.type_display) for column in cursor.description or []]
        found.append((columns, cursor.statusmessage, cursor.rowcount, short(cursor.fetchall()) if columns else None))
        if not cursor.nextset():
            return found


def each(connect: Connect, texts: list[str], *, binary: bool = False, **arguments: Any) -> list[Any]:
    """The results of *texts*, each with the transaction status after it."""
    with connect(**arguments) as connection:
        return [
            (
                text,
                connect.refused(lambda text=text: results(connection.cursor(binary=binary).execute(text))),  # type: ignore[misc]
                connection.info.transaction_status.name,
            )
            for text in texts
        ]


driver = Driver(script, open_, state, lambda connection: connection.close(), error)


@script
def simple(connect):
    return each(connect, [f"select {value} as v" for value in statements.VALUES])


@script
def binary(connect):
    return each(connect, [f"select {value} as v" for value in statements.VALUES], binary=True)


@script
def parameterised(connect):
    with connect() as c:
        values = (1, 2**40, 1.5, "text\n'\"\\", None, True, b"\0\xff", [1, None], ["a"], Jsonb({"a": [1]}))
        return [
            results(c.cursor(binary=binary).execute("select " + ", ".join(["%s"] * len(values)), values))
            for binary in (False, True)
        ] + [results(c.execute("select %(a)s::int + %(b)s", {"a": 1, "b": 2}))]


@script
def identity(connect):
    with connect() as c:
        [(pid,)] = c.execute("select pg_backend_pid()")
        return pid == c.info.backend_pid, results(
            c.execute("select current_user, session_user, current_database(), pg_is_in_recovery()")
        )


@script
def errors(connect):
    return each(
        connect,
        [
            text
            for statement in statements.ERRORS.values()
            for text in (statement, "select 1", "rollback", "discard all")
        ],
    )


@script
def settings(connect):
    return each(connect, statements.SETTINGS)


@script
def transactions(connect):
    return each(connect, statements.TRANSACTIONS)


@script
def temporary(connect):
    return each(connect, statements.TEMPORARY)


@script
def locks(connect):
    return each(connect, statements.LOCKS)


@script
def row_security(connect):
    return each(connect, [text.format(schema=connect.target.user) for text in statements.ROW_SECURITY])


@script
def sequences(connect):
    return each(connect, statements.SEQUENCES)


@script
def notices(connect):
    return each(connect, statements.NOTICES)


@script
def several(connect):
    return each(connect, statements.SEVERAL)


@script
def prepared_by_sql(connect):
    return each(connect, statements.PREPARED)


@script
def cursors_by_sql(connect):
    return each(connect, statements.CURSORS)


@script
def prepared(connect):
    with connect(prepare_threshold=0) as c:
        found = []
        for number in range(5):
            found += results(c.execute("select %s::int as n, 'x' as x", [number]))
            found.append(connect.refused(lambda number=number: results(c.execute("select 1 / %s::int", [number]))))
        c.execute("create table prep (a int)")
        for number in range(3):
            found += results(c.execute("insert into prep values (%s)", [number]))
            found += results(c.execute("select count(*) from prep"))
        found += results(c.execute("select count(*) from pg_prepared_statements"))
        c.execute("deallocate all")
        found += results(c.execute("select count(*) from prep"))
        c.execute("drop table prep")
        return found


@script
def pipeline(connect):
    with connect() as c:
        with c.pipeline() as pipe:
            c.execute("create table pipe (a int)")
            cursors = [c.execute("insert into pipe values (%s) returning a", [number]) for number in range(50)]
            reads = [c.execute("select count(*), %s::int from pipe", [number]) for number in range(50)]
            pipe.sync()
            found = [cursor.fetchall() for cursor in cursors + reads]
        return found, results(c.execute("select count(*) from pipe")), results(c.execute("drop table pipe"))


@script
def pipeline_with_error(connect):
    with connect() as c:
        c.execute("create table pipe_error (a int primary key)")

        def run():
            with c.pipeline():
                for number in (1, 2, 1, 3):
                    c.execute("insert into pipe_error values (%s)", [number])

        found = [connect.refused(run), c.info.transaction_status.name, results(c.execute("select a from pipe_error"))]
        reads = []
        with c.pipeline() as pipe:
            for divisor in (1, 0, 2):
                reads.append(c.execute("select 10 / %s::int", [divisor]))
                connect.refused(pipe.sync)
            found += [connect.refused(read.fetchall) for read in reads]
        return found, results(c.execute("drop table pipe_error"))


@script
def pipeline_of_messages(connect):
    """libpq's own: each query with its Sync, all sent before anything is read."""
    with connect() as c:
        raw = c.pgconn
        raw.enter_pipeline_mode()
        for number in range(40):
            raw.send_query_params(
                b"select $1::int" if number % 2 else b"select pg_backend_pid() > $1::int", [b"%d" % number]
            )
            raw.pipeline_sync()
        found = []
        while len([status for status, _ in found if status == pq.ExecStatus.PIPELINE_SYNC]) < 40:
            result = raw.get_result()
            if result is not None:
                found.append((result.status, result.get_value(0, 0) if result.ntuples else None))
        raw.exit_pipeline_mode()
        return found


@script
def copy_in(connect):
    with connect() as c:
        c.execute("create table copied (a int, b text)")
        cursor = c.cursor()
        with cursor.copy("copy copied from stdin") as copy:
            for number in range(5000):
                copy.write_row((number, f"row {number}\t\\" if number % 7 else None))
        found = [cursor.statusmessage, cursor.rowcount]
        with cursor.copy("copy copied from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((-1, "binary"))
        found.append(cursor.statusmessage)
        return (
            found,
            results(c.execute("select count(*), sum(a), count(b), max(length(b)) from copied")),
            results(c.execute("drop table copied")),
        )


@script
def copy_in_broken(connect):
    with connect() as c:
        c.execute("create table broken (a int)")

        def bad_row():
            with c.cursor().copy("copy broken from stdin") as copy:
                for number in range(20000):
                    copy.write(b"%d\n" % number if number != 10000 else b"x\n")

        def given_up():
            with c.cursor().copy("copy broken from stdin") as copy:
                copy.write(b"1\n")
                raise RuntimeError("given up")

        return (
            [(connect.refused(run), c.info.transaction_status.name) for run in (bad_row, given_up)]
            + [connect.refused(lambda: c.cursor().copy("copy nothing from stdin").__enter__())]
            + [results(c.execute("select count(*) from broken")), results(c.execute("drop table broken"))]
        )


@script
def copy_out(connect):
    with connect() as c:

        def out(text):
            with c.cursor().copy(text) as copy:
                return short(b"".join(bytes(piece) for piece in copy))

        texts = [
            "copy (select g, 'x' || g from generate_series(1, 20000) g) to stdout",
            "copy (select 1, null) to stdout (format binary)",
            "copy (select 1 where false) to stdout (format csv, header)",
            "copy (select 10 / (5000 - g) from generate_series(1, 9000) g) to stdout",
            "copy nothing to stdout",
        ]
        return [(connect.refused(lambda text=text: out(text)), c.info.transaction_status.name) for text in texts]


@script
def named_cursor(connect):
    with connect(autocommit=False) as c:
        with c.cursor("portal", scrollable=True) as cursor:
            cursor.itersize = 7
            cursor.execute("select g from generate_series(1, %s) g", [50])
            found = [cursor.fetchmany(3), cursor.fetchone(), list(cursor)[-1]]
            cursor.scroll(10, mode="absolute")
            found.append(cursor.fetchmany(2))
        c.commit()
        return found


@script
def named_cursor_with_hold(connect):
    with connect(autocommit=False) as c:
        cursor = c.cursor("held", withhold=True)
        cursor.execute("select g from generate_series(1, 20) g")
        found = [cursor.fetchmany(3)]
        c.commit()
        found += [cursor.fetchmany(3), c.info.transaction_status.name]
        c.rollback()
        found.append(cursor.fetchall())
        cursor.close()
        return found


@script
def listen_and_notify(connect):
    with connect() as one, connect() as other:
        one.execute("listen chan")
        other.execute("notify chan, 'from other'")
        found = [
            (note.channel, note.payload, note.pid == other.info.backend_pid)
            for note in one.notifies(timeout=20, stop_after=1)
        ]
        one.execute("select pg_notify('chan', 'own')")
        found += [
            (note.channel, note.payload, note.pid == one.info.backend_pid)
            for note in one.notifies(timeout=20, stop_after=1)
        ]
        return found, results(one.execute("select pg_listening_channels()")), results(one.execute("unlisten *"))


@script
def cancel(connect):
    """A cancel that comes before its statement has no effect, so it is repeated."""
    with connect() as c:
        found = []
        for text in ("select pg_sleep(30)", "select count(*) from generate_series(1, 1000000000)"):
            answers = set()
            ended = threading.Event()

            def cancel_soon():
                while not ended.wait(0.1):
                    answers.add(repr(connect.refused(c.cancel_safe)))

            thread = threading.Thread(target=cancel_soon)
            thread.start()
            found.append(connect.refused(lambda: results(c.execute(text))))
            ended.set()
            thread.join()
            found += [answers, results(c.execute("select 1"))]
        return found


@script
def terminated(connect):
    """The server's goodbye, and how the connection ends behind it."""
    with connect() as one, connect() as other:
        other.execute("select pg_terminate_backend(%s, 10000)", [one.info.backend_pid])
        return connect.refused(lambda: one.execute("select 1")), connect.refused(
            lambda: other.execute("select pg_terminate_backend(pg_backend_pid())")
        )


@script
def statement_timeout(connect):
    return each(
        connect,
        [
            "set statement_timeout = 100",
            "select pg_sleep(30)",
            "select count(*) from generate_series(1, 1000000000)",
            "select 1",
            "reset statement_timeout",
            "select 2",
        ],
    )


@script
def large_objects(connect):
    with connect(autocommit=False) as c:
        [(oid,)] = c.execute("select lo_create(0)")
        found = [
            oid > 0,
            results(c.execute("select lo_put(%s, 0, %s)", [oid, b"x" * 10000])),
            results(c.execute("select length(lo_get(%s)), lo_get(%s, 9990, 20)", [oid, oid])),
        ]
        c.commit()
        found += [
            results(c.execute("select length(lo_get(%s))", [oid])),
            results(c.execute("select lo_unlink(%s)", [oid])),
        ]
        c.commit()
        return found


@script
def wide_rows(connect):
    with connect() as c:
        return [
            results(c.execute("select repeat('x', 3000000), 1")),
            results(c.execute("select repeat('ab', %s), %s", [1000000, "y" * 2000000])),
            results(c.execute(sql.SQL("select length({})").format("z" * 3000000))),
        ]


@script
def many_rows(connect):
    with connect() as c:
        return (
            results(c.execute("select g, 'row ' || g from generate_series(1, 100000) g")),
            results(c.execute("select 100000 / (80000 - g) from generate_series(1, 1000) g order by 1 limit 3")),
            connect.refused(lambda: results(c.execute("select 1 / (80000 - g) from generate_series(1, 100000) g"))),
            c.info.transaction_status.name,
        )


@script
def streamed_rows(connect):
    with connect() as c:
        return [
            sum(row[0] for row in c.cursor().stream("select g from generate_series(1, %s) g", [number]))
            for number in (0, 1, 20000)
        ]


@script
def many_parameter_sets(connect):
    with connect() as c:
        c.execute("create table many (a int primary key, b text)")
        cursor = c.cursor()
        cursor.executemany(
            "insert into many values (%s, %s) returning a",
            [(number, f"b{number}") for number in range(200)],
            returning=True,
        )
        found = results(cursor)
        found.append(
            connect.refused(
                lambda: cursor.executemany("insert into many values (%s, %s)", [(900, ""), (1, ""), (901, "")])
            )
        )
        return found, results(c.execute("select count(*), max(a) from many")), results(c.execute("drop table many"))


@script
def ddl_seen_by_another_session(connect):
    with connect() as one, connect() as other:
        found = []
        for number in range(5):
            one.execute("create table ddl (a int)")
            one.execute("insert into ddl values (%s)", [number])
            found += results(other.execute("select * from ddl"))
            one.execute("alter table ddl add b text default 'b'")
            found += results(other.execute("select * from ddl"))
            one.execute("drop table ddl")
            found.append(connect.refused(lambda: other.execute("select * from ddl")))
        return found


@script
def own_writes(connect):
    with connect() as c:
        c.execute("create table own (a int)")
        found = []
        for number in range(20):
            c.execute("insert into own values (%s)", [number])
            found += c.execute("select count(*), max(a) from own").fetchall()
        c.execute("drop table own")
        return found


@script
def transaction_blocks(connect):
    with connect(autocommit=False) as c:
        found = [c.info.transaction_status.name]
        c.execute("create table block (a int)")
        for level in (psycopg.IsolationLevel.SERIALIZABLE, psycopg.IsolationLevel.REPEATABLE_READ):
            c.commit()
            c.isolation_level = level
            found += results(c.execute("show transaction_isolation"))
            with c.transaction(), c.transaction(force_rollback=True):
                c.execute("insert into block values (1)")
            found += results(c.execute("select count(*) from block"))
        c.commit()
        c.read_only = True
        found.append(connect.refused(lambda: c.execute("insert into block values (1)")))
        c.rollback()
        c.read_only = False
        c.execute("drop table block")
        c.commit()
        return found


@script
def conflicts(connect):
    """Two transactions that cannot both commit: 40001 of the second, serializable; 55P03 by nowait; a deadlock."""
    with connect() as one, connect() as other:
        one.execute("create table conf (a int primary key, n int); insert into conf values (1, 0), (2, 0)")
        found = []
        for c in (one, other):
            c.execute("begin isolation level repeatable read")
            found += results(c.execute("select sum(n) from conf"))
        one.execute("update conf set n = 1")
        one.execute("commit")
        found += [connect.refused(lambda: other.execute("update conf set n = 2")), results(other.execute("rollback"))]
        one.execute("begin; select * from conf for update")
        found += [
            connect.refused(lambda: results(other.execute("select * from conf for update nowait"))),
            results(other.execute("select * from conf for update skip locked")),
            results(one.execute("rollback")),
        ]
        return found, results(one.execute("drop table conf"))


@script
def startup_options(connect):
    with connect(
        options="-c timezone=Asia/Tokyo -c statement_timeout=7s -c my.start=1",
        application_name="starts",
        client_encoding="latin1",
    ) as c:
        return results(
            c.execute(
                "select current_setting('timezone'), current_setting('statement_timeout'), current_setting('my.start')"
            )
        ), results(c.execute("show application_name"))


@script
def login_refused(connect):
    def words(**arguments):
        return str(connect.refused(lambda: connect(**arguments).__enter__())[1]).rpartition("failed: ")[2]

    return [
        words(password="wrong"),
        words(user="nobody_here", password="wrong"),
        words(dbname="nothing"),
        words(options="-c nothing=1"),
        words(options="-c work_mem=x"),
    ]


@script
def dbapi_rows(connect):
    with connect(row_factory=namedtuple_row) as c:
        return c.execute("select 1 as a, 'b' as b").fetchall(), c.execute("values (1, 'x'), (2, null)").fetchall()


@script
def stored_code(connect):
    return each(
        connect,
        [
            "create function writes(n int) returns int language sql as 'insert into log_ values (n) returning n'",
            "create table log_ (a int)",
            "create function writes(n int) returns int language sql as 'insert into log_ values (n) returning n'",
            "select writes(1)",
            "create view logs as select writes(2)",
            "select * from logs",
            "select count(*) from log_",
            "create procedure proc(inout a int) language plpgsql as $$ begin a := a + 1; commit; end $$",
            "call proc(1)",
            "do $$ begin insert into log_ values (9); end $$",
            "select count(*) from log_",
            "with x as (insert into log_ values (5) returning a) select * from x",
            "select a into log_copy from log_",
            "select count(*) from log_copy",
            "explain (costs off) select * from log_",
            "explain (costs off) delete from log_",
            "explain (analyze, costs off, timing off, summary off) insert into log_ values (6)",
            "select count(*) from log_",
            "table log_",
            "drop view logs",
            "drop function writes",
            "drop procedure proc",
            "drop table log_, log_copy",
        ],
    )
