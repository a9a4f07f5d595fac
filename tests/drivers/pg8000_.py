"""pg8000: its native interface and DB-API, COPY, notifications, prepared statements."""

from __future__ import annotations

import datetime
import io
import ssl
import time
import uuid
from typing import Any

import pg8000.dbapi
import pg8000.native

from tests.drivers.common import add_tables
from tests.drivers.record import Connect, Driver, Script, Target, known, short

script = Script()
TLS = ssl.create_default_context()
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


def arguments(target: Target) -> dict[str, Any]:
    return {"user": target.user, "password": target.password, "database": target.dbname, "host": target.host,
            "port": target.port, "ssl_context": TLS if target.tls else None}


def open_(target: Target, *, dbapi: bool = False, **more: Any) -> Any:
    return (pg8000.dbapi.connect if dbapi else pg8000.native.Connection)(**arguments(target) | more)


def state(connection: Any) -> Any:
    names = ("server_version", "client_encoding", "application_name", "TimeZone", "DateStyle", "is_superuser",
             "in_hot_standby", "session_authorization", "default_transaction_read_only")
    told = {str(name): str(value) for name, value in connection.parameter_statuses.items()}
    notices = [sorted((str(key), str(value)) for key, value in notice.items()) for notice in connection.notices]
    return notices, [(name, told.get(name)) for name in names]


def close(connection: Any) -> None:
    try:
        connection.close()
    except Exception as failed:
        assert "closed" in str(failed), failed


def error(raised: BaseException) -> Any:
    said = raised.args[0] if raised.args else None
    return type(raised).__name__, sorted(said.items()) if isinstance(said, dict) else str(raised)


def run(connection: Any, text: str, **values: Any) -> Any:
    rows = connection.run(text, **values)
    columns = [(column["name"], known(column["type_oid"]), column["format"]) for column in connection.columns or []]
    return columns, connection.row_count, short(rows)


def simple(connect: Connect, texts: list[str]) -> list[Any]:
    """Colons are the native interface's parameters: what has them goes as it is."""
    with connect() as c:
        return [(text, connect.refused(lambda text=text: (
            short(c.execute_simple(text).rows)))) for text in texts]


driver = Driver(script, open_, state, close, error)
add_tables(script, simple)


@script
def parameters(connect):
    with connect() as c:
        values = {"a": 1, "b": "text\n'", "c": 1.5, "d": None, "e": True, "f": b"\0\xff", "g": [1, None],
                  "h": datetime.date(2024, 2, 29), "i": datetime.timedelta(hours=1), "j": uuid.UUID(int=7),
                  "k": {"a": [1]}}
        names = ", ".join(f"cast(:{name} as {kind}) as {name}" for name, kind in zip(
            values, ("int", "text", "float8", "text", "bool", "bytea", "int[]", "date", "interval", "uuid", "jsonb")))
        return run(c, f"select {names}", **values)


@script
def natively(connect):
    with connect() as c:
        found = [run(c, "create table native (a int, b text)")]
        for number in range(5):
            found += [run(c, "insert into native values (:a, :b) returning a", a=number, b=f"t{number}"),
                      run(c, "select count(*) from native where a <= :a", a=number)]
        return [*found, connect.refused(lambda: run(c, "select 1 / :a", a=0)), run(c, "drop table native")]


@script
def transactions_by_hand(connect):
    with connect() as c:
        return [run(c, "start transaction"), run(c, "create table byhand (a int)"),
                 connect.refused(lambda: run(c, "select 1 / 0")), connect.refused(lambda: run(c, "select 1")),
                 run(c, "rollback"), connect.refused(lambda: run(c, "select * from byhand"))]


@script
def prepared(connect):
    with connect() as c:
        statement = c.prepare("select cast(:a as int) + 1")
        found = [statement.run(a=number) for number in range(6)]
        found.append(connect.refused(lambda: statement.run(a="x")))
        found.append(statement.run(a=9))
        statement.close()
        return found, run(c, "select count(*) from pg_prepared_statements")


@script
def many_prepared(connect):
    with connect() as c:
        statements = [c.prepare(f"select {number}, cast(:a as int)") for number in range(10)]
        found = [statement.run(a=5) for statement in statements]
        for statement in statements:
            statement.close()
        return found


@script
def copy(connect):
    with connect() as c:
        run(c, "create table copied (a int, b text)")
        lines = io.StringIO("".join(f"{n}\ttext {n}\n" for n in range(3000)))
        found = [c.run("copy copied from stdin", stream=lines), c.row_count]
        out = io.StringIO()
        c.run("copy (select * from copied order by a) to stdout with (format csv)", stream=out)
        found += [short(out.getvalue()), c.row_count]
        found.append(connect.refused(lambda: c.run("copy copied from stdin", stream=io.StringIO("x\n"))))
        return found, run(c, "select count(*) from copied"), run(c, "drop table copied")


@script
def copy_of_rows(connect):
    with connect() as c:
        run(c, "create temp table copied_rows (a int, b text)")
        c.run("copy copied_rows from stdin with (format csv)", stream=["1,x\n", "2,y\n"])
        return run(c, "select * from copied_rows order by a")


@script
def notifications(connect):
    with connect() as listener, connect() as other:
        run(listener, "listen pg8000_channel")
        run(other, "notify pg8000_channel, 'one'")
        [(pid,)] = other.run("select pg_backend_pid()")
        deadline = time.monotonic() + 30
        while not listener.notifications and time.monotonic() < deadline:
            listener.run("select 1")
        return [(told[0] == pid, *told[1:]) for told in listener.notifications], run(listener, "unlisten *")


@script
def notices_kept(connect):
    with connect() as c:
        c.run("do $$ begin raise notice 'one'; raise warning 'two'; end $$")
        return len(c.notices)


@script
def dbapi(connect):
    with connect(dbapi=True) as c:
        cursor = c.cursor()
        cursor.execute("create table dbapi (a int, b text)")
        cursor.executemany("insert into dbapi values (%s, %s)", [(n, f"t{n}") for n in range(20)])
        c.commit()
        cursor.execute("select * from dbapi where a > %s order by a", (15,))
        found = [[column[:2] for column in cursor.description], cursor.rowcount, cursor.fetchone(), cursor.fetchmany(2),
                 cursor.fetchall()]
        cursor.execute("delete from dbapi")
        c.rollback()
        cursor.execute("select count(*) from dbapi")
        found.append(cursor.fetchall())
        cursor.execute("drop table dbapi")
        c.commit()
        return found


@script
def dbapi_errors(connect):
    with connect(dbapi=True) as c:
        cursor = c.cursor()
        found = [connect.refused(lambda: cursor.execute("select 1 / 0")),
                 connect.refused(lambda: cursor.execute("select 1"))]
        c.rollback()
        cursor.execute("select 1")
        return [*found, cursor.fetchall(), connect.refused(lambda: cursor.execute("select %s", (1, 2)))]


@script
def dbapi_autocommit(connect):
    with connect(dbapi=True) as c:
        c.autocommit = True
        cursor = c.cursor()
        cursor.execute("create table auto (a int)")
        cursor.execute("select count(*) from auto")
        found = cursor.fetchall()
        cursor.execute("drop table auto")
        return found


@script
def two_phases(connect):
    with connect(dbapi=True) as c:
        def prepare():
            xid = c.xid(0, connect.target.user, "")
            c.tpc_begin(xid)
            c.cursor().execute("select 1")
            c.tpc_prepare()
            c.tpc_rollback(xid)

        return connect.refused(prepare)


@script
def arrays_and_ranges(connect):
    with connect() as c:
        return run(c, "select array[[1,2],[3,4]], array['a', null], int4range(1, 5), cast('{}' as text[])")


@script
def identity(connect):
    with connect() as c:
        return run(c, "select current_user, session_user, current_database(), pg_is_in_recovery()")


@script
def large_results(connect):
    with connect() as c:
        return [run(c, "select g, repeat('x', 100) from generate_series(1, 3000) g"),
                run(c, "select repeat('y', 300000)")]


@script
def application_name(connect):
    with connect(application_name="pg8000 here") as c:
        return run(c, "show application_name"), run(c, "select current_setting('application_name')")


@script
def settings_by_role(connect):
    with connect() as c:
        return [run(c, text) for text in ("set role driver_tenant", "select current_user", "reset role",
                                          "select current_user", "set time zone 'Asia/Tokyo'", "select 1",
                                          "show time zone")]


@script
def wrong_password(connect):
    """SCRAM is ended by pgsplit on TLS: the file and line of the server's source are then not told."""
    _, said = connect.refused(lambda: pg8000.native.Connection(**arguments(connect.target) | {"password": "wrong"}))
    return [field for field in said if field[0] not in "FLR"]


@script
def wrong_database(connect):
    return connect.refused(lambda: pg8000.native.Connection(**arguments(connect.target) | {"database": "nowhere"}))
