"""Sessions outlive their connection to the primary: a restart, a crash, a failover, a connection that is cut; and what
cannot go on says why (docs/failover.md).
"""

from __future__ import annotations

import select
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.generators import execute

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from tests.balancer import Balancer
from tests.conftest import SUPERUSER_PASSWORD
from tests.copied import Copied
from tests.freezing import frozen
from tests.integration.conftest import Start, value
from tests.waiting import eventually

Session = psycopg.Connection[Any]

pytestmark = [pytest.mark.pg]


def connect(proxy: Proxy, **arguments: Any) -> Session:
    defaults = {"autocommit": True, "prepare_threshold": None, "sslmode": "disable", "connect_timeout": 20}
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password=SUPERUSER_PASSWORD,
                           dbname="postgres", **defaults | arguments)


@pytest.fixture(scope="module")
def standing(model: PrimaryAndStandbys) -> Iterator[PrimaryAndStandbys]:
    """A primary and a standby of this file's own: its primary is restarted, and never another one."""
    with Copied(model) as found:
        found.primary.query("grant insert, select on kept to pg_monitor")
        found.catch_up()
        yield found


@pytest.fixture
def servers(standing: PrimaryAndStandbys) -> Iterator[PrimaryAndStandbys]:
    standing.primary.query("truncate kept")
    yield standing
    if not standing.primary.running:
        standing.primary.start()
    standing.primary.query("alter role postgres reset statement_timeout")


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def count(proxy: Proxy, name: str) -> int:
    return int(proxy.client.arbiter("totals")[f"postgres.postgres.{name}"])


def is_settled(proxy: Proxy) -> bool:
    """Whether the idle session's state has been asked for."""
    totals = proxy.client.arbiter("totals")
    return any(totals.get(f"postgres.postgres.own.primary.{kind}") for kind in ("settings", "functions"))


STATE = """set work_mem = '5555kB'; set timezone = 'Asia/Tokyo'; set app.tenant = 'seven'; set role pg_monitor;
set synchronous_commit = off; set application_name = 'lives on'"""


def prepare(session: Session) -> None:
    for statement in STATE.split(";"):
        session.execute(statement)
    session.execute("prepare seen (int) as select $1 + 1")
    session.prepare_threshold = 0
    session.execute("select %s::int * 2", [4])
    for option in ("last_route", "lsn"):        # whose answer is pgsplit's
        session.execute(f"show pgsplit.{option}")
    session.execute("insert into kept values (%s, 'before')", [1])


def look(session: Session) -> None:
    """All that `prepare` has made of the session is there, at the primary and at its replica."""
    assert value(session, "select count(*) from kept") == 2
    assert value(session, "select current_setting('app.tenant')") == "seven"
    for name, expected in (("work_mem", "5555kB"), ("timezone", "Asia/Tokyo"), ("role", "pg_monitor"),
                           ("synchronous_commit", "off"), ("application_name", "lives on")):
        assert value(session, f"show {name}") == expected
    assert value(session, "execute seen (6)") == 7
    assert session.execute("select %s::int * 2", [4]).fetchone() == (8,)
    assert value(session, "show pgsplit.last_route").split(":")[0] in ("replica", "primary")
    assert value(session, "show pgsplit.lsn").count("/") == 3
    assert session.info.parameter_status("TimeZone") == "Asia/Tokyo"


@pytest.mark.parametrize("how, sslmode", [
    (signal.SIGINT, "disable"), *(pytest.param(how, sslmode, marks=pytest.mark.slow) for how, sslmode in (
        (signal.SIGINT, "require"), (signal.SIGQUIT, "disable"), (signal.SIGQUIT, "require"),
        (signal.SIGKILL, "disable"), (signal.SIGKILL, "require"))),
])
def test_an_idle_session_outlives_a_restart(servers, start, background, how, sslmode):
    proxy = start(upstream_tls="disable") if sslmode == "disable" else start()
    session = connect(proxy, sslmode=sslmode)
    prepare(session)
    eventually(lambda: is_settled(proxy))
    (servers.primary.kill if how is signal.SIGKILL else lambda: servers.primary.stop(how))()
    eventually(lambda: count(proxy, "primary_lost") == 1)
    waiting = background.submit(session.execute, "insert into kept values (%s, 'after')", [2])
    servers.primary.start()
    waiting.result(60)
    look(session)
    eventually(lambda: (count(proxy, "primary_waits"), count(proxy, "sessions")) == (1, 1))


def test_a_login_waits_for_a_primary(servers, start: Start, background):
    proxy = start(pgsplit={"login_wait": "60s"})
    servers.primary.stop()
    logging_in = background.submit(connect, proxy)
    servers.primary.start()
    assert value(logging_in.result(60), "select 1") == 1


def test_a_login_that_waits_too_long_is_told_so(servers, start: Start):
    proxy = start(pgsplit={"login_wait": "1s"})
    servers.primary.stop()
    with pytest.raises(psycopg.OperationalError, match="the primary cannot be reached"):
        connect(proxy)
    servers.primary.start()


def test_reads_go_on_without_a_primary(servers, start: Start):
    proxy = start(pgsplit={"fence_wait": "60s"})
    session = connect(proxy)
    session.execute("insert into kept values (1)")
    eventually(lambda: value(session, "select count(*) from kept") == 1 and count(proxy, "statements_replica") > 0)
    servers.primary.stop()
    eventually(lambda: count(proxy, "primary_lost") == 1)
    read = count(proxy, "statements_replica")
    assert value(session, "select count(*) from kept") == 1
    eventually(lambda: count(proxy, "statements_replica") == read + 1)
    servers.primary.start()


def test_what_waits_too_long_gets_an_error_and_the_session_goes_on(servers, start: Start):
    proxy = start(pgsplit={"failover_wait": "1s"})
    session = connect(proxy)
    servers.primary.stop()
    eventually(lambda: count(proxy, "primary_lost") == 1)
    with pytest.raises(psycopg.errors.CannotConnectNow, match="cannot be reached"):
        session.execute("insert into kept values (1)")
    servers.primary.start()
    eventually(lambda: written(session))


def written(session: Session) -> bool:
    try:
        session.execute("insert into kept values (1)")
    except psycopg.errors.CannotConnectNow:
        return False
    return True


def test_statement_timeout_ends_what_waits(servers, start: Start):
    servers.primary.query("alter role postgres set statement_timeout = '300ms'")
    session = connect(start())
    servers.primary.stop()
    with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
        session.execute("insert into kept values (1)")
    servers.primary.start()


def test_a_cancel_ends_what_waits(servers, start: Start, background):
    proxy = start()
    session = connect(proxy)
    servers.primary.stop()
    eventually(lambda: count(proxy, "primary_lost") == 1)
    waiting = background.submit(session.execute, "insert into kept values (1)")
    eventually(lambda: count(proxy, "primary_waits") == 1)
    session.cancel_safe()
    with pytest.raises(psycopg.errors.QueryCanceled):
        waiting.result(60)
    servers.primary.start()
    session.execute("insert into kept values (2)")
    assert servers.primary.query("select n from kept") == [(2,)]


def test_an_administrators_word_ends_the_session(servers, start: Start):
    proxy = start()
    session = connect(proxy)
    pid = value(session, "select pg_backend_pid()")
    assert servers.primary.query("select pg_terminate_backend(%s, 5000)", [pid]) == [(True,)]
    with pytest.raises(psycopg.errors.AdminShutdown):
        session.execute("select 1")
    assert session.broken


def test_a_connection_that_is_cut_is_replaced(servers, start: Start):
    """As a router does that forgets an idle one: the server is the same, and its process may be there yet."""
    with Balancer([("127.0.0.1", servers.primary.port)]) as balancer:
        proxy = start(primary=balancer.address, upstream_tls="disable")
        session = connect(proxy)
        session.execute("set app.tenant = 'eight'")
        before = value(session, "select pg_backend_pid()")
        balancer.cut()
        eventually(lambda: count(proxy, "primary_lost") == 1)
        assert value(session, "select pg_backend_pid()") != before
        assert value(session, "show app.tenant") == "eight"


def test_a_read_under_way_is_asked_again_and_a_write_is_not(servers, start: Start, background):
    servers.primary.query("insert into kept values (1)")
    with (Balancer([("127.0.0.1", servers.primary.port)]) as balancer,
          servers.primary.connect("postgres", password=SUPERUSER_PASSWORD) as locking):
        proxy = start(primary=balancer.address, upstream_tls="disable")
        reader, writer = connect(proxy), connect(proxy)
        reader.execute("set pgsplit.route = 'primary'")
        locking.execute("lock table kept in access exclusive mode")
        reading = background.submit(value, reader, "select count(*) from kept")
        writing = background.submit(writer.execute, "insert into kept values (2)")
        waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        eventually(lambda: servers.primary.query(waits) == [(2,)])
        balancer.cut()
        with pytest.raises(psycopg.errors.ConnectionFailure) as raised:
            writing.result(60)
        assert raised.value.diag.message_detail == "What it was doing may or may not have taken effect."
        locking.rollback()
        assert reading.result(60) in (1, 2)         # the server may have done the write, after all


@pytest.mark.relay
@pytest.mark.parametrize("read", ["simple", "extended", "pipelined", "repeated"])
def test_a_transactions_first_read_is_asked_again_with_its_begin(servers, start: Start, background, read):
    """BEGIN in a batch of its own, in one with the read, and sent by the relay."""
    servers.primary.query("insert into kept values (1)")
    with (Balancer([("127.0.0.1", servers.primary.port)]) as balancer,
          servers.primary.connect("postgres", password=SUPERUSER_PASSWORD) as locking):
        proxy = start(primary=balancer.address, upstream_tls="disable")
        session = connect(proxy)
        eventually(lambda: value(session, "select count(*) from kept") and count(proxy, "statements_replica"))
        session.autocommit = False
        for _ in range(3 * (read == "repeated")):       # so that the relay does it by itself
            read_there(session, read)
            session.commit()
        locking.execute("lock table kept in access exclusive mode")
        reading = background.submit(read_there, session, read)
        eventually(lambda: servers.primary.query(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == [(1,)])
        balancer.cut()
        eventually(lambda: count(proxy, "primary_lost") == 1)
        locking.rollback()
        assert reading.result(60) == 1
        session.execute("insert into kept values (2)")
        assert servers.primary.query("select count(*) from kept") == [(1,)]
        session.commit()
    assert servers.primary.query("select n from kept order by n") == [(1,), (2,)]


def read_there(session: Session, how: str) -> Any:
    """The first read of a transaction, at the primary."""
    read = "/* pgsplit: primary */ select count(*) from kept"
    if how != "pipelined":
        return session.execute(read, binary=how == "extended").fetchone()[0]
    pg = session.pgconn
    pg.enter_pipeline_mode()
    for sql in ("begin", read):
        pg.send_query_params(sql.encode(), None)
    pg.pipeline_sync()      # sends all of it at once: what has left ahead of its Sync is not asked again
    results = []
    while len(results) < 5:
        while pg.is_busy():         # get_result() would keep all other threads waiting
            select.select([pg.socket], [], [], 60)
            pg.consume_input()
        results.append(pg.get_result())
    _begun, _, counted, _, _synced = results
    pg.exit_pipeline_mode()
    return int(counted.get_value(0, 0))


@pytest.mark.relay
def test_a_show_under_way_is_asked_again(servers, start: Start, background):
    with Balancer([("127.0.0.1", servers.primary.port)]) as balancer:
        proxy = start(primary=balancer.address, upstream_tls="disable")
        session = connect(proxy)
        session.execute("set app.tenant = 'nine'")
        sent = count(proxy, "statements_primary")
        with frozen(servers.primary):
            showing = background.submit(value, session, "show app.tenant")
            eventually(lambda: count(proxy, "statements_primary") == sent + 1)
            balancer.cut()
            eventually(lambda: count(proxy, "primary_lost") == 1)
        assert showing.result(60) == "nine"


# What somebody else does while a session has no connection, and the session's statements then.
DEFINITIONS: list[tuple[str, tuple[str, ...]]] = [
    ("drop table made", ("bound", "bound", "select 1", "execute made_too", "begin", "bound", "select 2", "rollback",
                         "begin", "insert into kept values (1)", "execute made_too", "commit", "other")),
    ("alter table made add column c int", ("bound", "begin", "execute made_too", "bound", "rollback", "other")),
    ("alter table made alter column a type bigint", ("bound", "execute made_too", "other")),
    ("drop table made; create table made (a int, b text)", ("bound", "bound", "execute made_too", "other")),
    ("alter table made rename to gone", ("bound", "deallocate made_too", "execute made_too", "other")),
]


@pytest.mark.relay
def test_a_prepared_statement_says_what_it_says_directly(servers, start: Start):
    """Also where the next connection cannot be given it, since definitions have changed."""
    with Balancer([("127.0.0.1", servers.primary.port)]) as balancer:
        proxy = start(primary=balancer.address, upstream_tls="disable")

        def said(session: Session, definition: str, statements: tuple[str, ...]) -> list[tuple[object, ...]]:
            session.autocommit, session.prepare_threshold = True, 0
            servers.primary.query("drop table if exists made, gone; create table made (a int, b text); "
                                  "insert into made values (1, 'x'); truncate kept")
            session.execute("prepare made_too (int) as select *, $1 from made")
            for statement in (*("bound", "other") * 3, "execute made_too"):     # so that the relay does them by itself
                assert str(result_of(session, statement)[0]).startswith("SELECT")
            for name, in session.execute("select name from pg_prepared_statements", prepare=False):
                session.pgconn.send_describe_prepared(name.encode())
                session.wait(execute(session.pgconn))       # which lets the balancer's threads run
            servers.primary.query(definition)
            servers.catch_up()          # reads go on at the replica, as of before
            if session.info.port == proxy.port:
                lost = count(proxy, "primary_lost")
                balancer.cut()
                eventually(lambda: count(proxy, "primary_lost") == lost + 1)
            return [result_of(session, statement) for statement in statements]

        for each in DEFINITIONS:
            with servers.primary.connect("postgres", password=SUPERUSER_PASSWORD) as direct, connect(proxy) as session:
                assert said(session, *each) == said(direct, *each), each[0]
        servers.primary.query("drop table if exists made, gone")


def result_of(session: Session, statement: str) -> tuple[object, ...]:
    """What it returns, or its error: SQLSTATE, text and position."""
    texts = {"bound": ("select *, %s::int from made", [2]), "other": ("select %s::int", [3]),
             "execute made_too": ("execute made_too (2)", None)}
    text, values = texts.get(statement, (statement, None))
    try:
        cursor = session.execute(text, values, prepare=values is not None)
    except psycopg.Error as error:
        return error.sqlstate, error.diag.message_primary, error.diag.statement_position
    return cursor.statusmessage, cursor.fetchall() if cursor.description else None


@pytest.mark.parametrize("pin, words", [
    ("create temp table mine (a int)", "temporary objects"), *(pytest.param(*pin, marks=pytest.mark.slow) for pin in (
        ("listen news", "LISTEN"), ("select pg_advisory_lock(7)", "advisory locks"),
        ("declare c cursor with hold for select 1", "a cursor WITH HOLD"))),
])
def test_what_no_other_connection_has_is_named(servers, start: Start, pin, words):
    proxy = start()
    session = connect(proxy)
    session.execute(pin)
    servers.primary.stop(signal.SIGQUIT)
    with pytest.raises(psycopg.OperationalError) as raised:
        session.execute("select 1")
    servers.primary.start()
    assert raised.value.sqlstate in ("57P01", "57P02", "08006", None)
    if raised.value.sqlstate == "08006":
        assert words in str(raised.value.diag.message_detail)


@pytest.mark.parametrize("mode", [pytest.param("fatal", marks=pytest.mark.slow), "abort"])
def test_a_transaction_is_lost(servers, start: Start, mode):
    proxy = start(pgsplit={"lost_transaction": mode})
    session = connect(proxy)
    session.execute("begin")
    session.execute("insert into kept values (1)")
    servers.primary.kill()
    servers.primary.start()
    if mode == "fatal":
        with pytest.raises(psycopg.OperationalError):
            session.execute("insert into kept values (2)")
        assert session.broken
        return
    with pytest.raises(psycopg.errors.SerializationFailure, match="lost"):
        session.execute("insert into kept values (2)")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute("select 1")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        session.execute("rollback to savepoint a")
    assert session.execute("commit").statusmessage == "ROLLBACK"
    session.execute("insert into kept values (3)")
    assert servers.primary.query("select n from kept") == [(3,)]


def test_an_idle_session_is_parked(servers, start: Start):
    proxy = start(pgsplit={"park_after": "1s", "workers": 1})
    session, pinned = connect(proxy), connect(proxy)
    pinned.execute("create temp table mine (a int)")
    prepare(session)
    session.execute("insert into kept values (2)")
    eventually(lambda: count(proxy, "parked") == 1)
    clients = "select count(*) from pg_stat_activity where backend_type = 'client backend' and usename = 'postgres' "
    named = clients + "and application_name = 'lives on'"
    eventually(lambda: servers.primary.query(named) == [(0,)])
    look(session)
    assert servers.primary.query(named) == [(1,)]
    eventually(lambda: value(session, "select count(*) from kept") == 2 and count(proxy, "statements_replica") > 0)
    assert value(pinned, "select count(*) from mine") == 0
