"""clock: replica. What reads the clock is read on a standby whose clock is near enough, and no row is in its future."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from tests.integration.conftest import counters, value
from tests.waiting import eventually

# Wide enough for a machine that is busy with other tests: both servers are on it, and have one clock.
WIDE = {"workers": 2, "fence_wait": "60s", "clock": "replica", "max_clock_skew": "200ms"}
ON_REPLICA = "replica: replica_clock (now)"


def route(connection: psycopg.Connection[Any]) -> str:
    return str(value(connection, "show pgsplit.last_route"))


@pytest.fixture
def settings() -> dict[str, Any]:
    return WIDE


@pytest.fixture
def proxy(pgsplit_server: Callable[..., Proxy], settings: dict[str, Any]) -> Proxy:
    return pgsplit_server(pgsplit=settings)


@pytest.fixture
def table(cluster: PrimaryAndStandbys) -> Iterator[str]:
    with cluster.primary.connect("postgres", autocommit=True) as connection:
        connection.execute("""create table stamped (id serial primary key, at timestamptz default clock_timestamp());
          create view stamped_lately as select * from stamped where at > now() - interval '1 hour';
          create function stamped_by_now() returns bigint stable language sql as
            'select count(*) from stamped where at <= now()';
          create function stamped_or_locked() returns bool stable language sql as
            'select now() is null or pg_try_advisory_lock(1)'""")
    yield "stamped"
    with cluster.primary.connect("postgres", autocommit=True) as connection:
        connection.execute("drop function stamped_by_now, stamped_or_locked; drop table stamped cascade")


def clocks_known(proxy: Proxy) -> None:
    for worker in proxy.client.workers():
        eventually(lambda worker=worker: all(
            host["clock_offset_ms"] is not None for host in proxy.client.worker(worker, "hosts") if not host["writes"]))


@pytest.mark.parametrize("settings", [{"workers": 1, "fence_wait": "60s"}])
def test_the_primarys_clock_by_default(proxy, connect):
    clocks_known(proxy)
    connection = connect()
    for _ in range(3):
        connection.execute("select now()")
        assert route(connection) == "primary: clock (now)"


ONLY_THE_CLOCK = ("select now()", "select current_timestamp, clock_timestamp(), localtime",
                  "select statement_timestamp()", "select current_date", "copy (select timeofday()) to stdout",
                  "select age(at) from stamped", "select * from stamped_lately", "select stamped_by_now()")
MORE = ("select 'now'::timestamptz", "select now() from pg_locks", "select now() from stamped for update",
        "select stamped_or_locked()", "select now(), pg_current_wal_lsn()", "/* pgsplit: primary */ select now()",
        "explain select now()", "insert into stamped (at) values (now())")


@pytest.mark.parametrize("prepare", [False, True])
def test_what_only_reads_the_clock_is_read_on_the_standby(proxy, table, connect, prepare):
    clocks_known(proxy)
    connection = connect(prepare_threshold=0 if prepare else None)
    connection.execute("select 1 from stamped")         # the definitions are known
    for sql in ONLY_THE_CLOCK:
        for _ in range(4):      # relays learn nothing of it
            if sql.startswith("copy"):
                with connection.cursor().copy(sql) as copy:
                    assert list(copy)
            else:
                connection.execute(sql)
            assert route(connection).startswith("replica: replica_clock ("), sql


def test_what_does_more_stays_on_the_primary(proxy, table, connect):
    clocks_known(proxy)
    connection = connect()
    connection.execute("select 1 from stamped")
    for sql in MORE:
        for _ in range(3):
            connection.execute(sql)
            assert route(connection).startswith("primary: "), sql


def test_it_is_the_standbys_clock(proxy, connect, cluster):
    clocks_known(proxy)
    connection = connect()
    with cluster.standbys[0].connect("postgres", autocommit=True) as standby:
        before = value(standby, "select clock_timestamp()")
        told = value(connection, "select now()")
        assert route(connection) == ON_REPLICA
        assert before < told < value(standby, "select clock_timestamp()")


def test_a_transaction_has_one_time(proxy, table, connect):
    clocks_known(proxy)
    connection = connect(autocommit=False)
    with connection.transaction():
        connection.execute("select 1 from stamped")
        first = value(connection, "select now()")
        assert route(connection).startswith("primary: ")
        connection.execute("insert into stamped (at) values (now())")
        assert value(connection, "select count(*) from stamped where at = now()") == 1
        assert value(connection, "select now()") == first
    connection.read_only = True
    with connection.transaction():
        connection.execute("select 1 from stamped")
        first = value(connection, "select now()")
        assert value(connection, "select transaction_timestamp()") == first
    connection.read_only, connection.autocommit = None, True
    for _ in range(2):
        connection.execute("select now()")
        assert route(connection) == ON_REPLICA


@pytest.mark.parametrize("settings", [WIDE | {"repeatable_read_only": "replica"}])
def test_a_repeatable_read_transaction_may_have_the_standbys_time(proxy, table, connect):
    clocks_known(proxy)
    connection = connect()
    connection.execute("set pgsplit.trace = on")
    routes: list[str] = []
    connection.add_notice_handler(lambda notice: routes.append(notice.message_primary or ""))
    connection.execute("begin isolation level repeatable read, read only")
    first = value(connection, "select now()")
    connection.execute("select pg_catalog.count(*) from stamped")
    time.sleep(0.01)
    assert value(connection, "select now()") == first < value(connection, "select clock_timestamp()")
    connection.execute("commit")
    replica = "pgsplit: replica: replica_clock"
    assert [told.partition(" (")[0] for told in routes[-6:]] == [
        "pgsplit: pgsplit: begin_held", replica, "pgsplit: replica: read", replica, replica,
        "pgsplit: pgsplit: transaction_ended"]


@pytest.mark.parametrize("settings", [WIDE, WIDE | {"consistency": "session"}])
def test_no_row_is_in_the_future(proxy, table, connect, settings):
    """Behind a write its session reads it at once, and so does another one: what a write was told to have happened at
    is never later than now().
    """
    clocks_known(proxy)
    writing, other = connect(), connect()
    others = [other] if settings.get("consistency") is None else []
    on_replica = 0
    for number in range(300):
        stamp = "now()" if number % 2 else "clock_timestamp()"
        row = value(writing, f"insert into stamped (at) values ({stamp}) returning id")
        for session in (writing, *others):
            found = session.execute("select at <= now(), now() - at from stamped where id = %s", [row]).fetchone()
            assert found is not None and found[0], f"{number}: {found}"
            on_replica += 1
    eventually(lambda: sum(counters(proxy, "decisions.replica.replica_clock").values()) > on_replica / 2)


@pytest.mark.parametrize("settings", [WIDE | {"max_clock_skew": "0us"}])
def test_a_clock_that_is_too_far_off_is_not_read(proxy, connect):
    """No measurement is as good as that: the log, the counters and the route say so."""
    clocks_known(proxy)
    connection = connect()
    for _ in range(3):
        connection.execute("select now()")
        assert route(connection) == "primary: clock_apart"
    eventually(lambda: sum(counters(proxy, "decisions.primary.clock_apart").values()) == 3)
    assert "what reads the clock is the primary's (max_clock_skew 0 ms): the clock of" in proxy.log.read_text()


@pytest.fixture
def set_clock(cluster: PrimaryAndStandbys) -> Iterator[Callable[[str], None]]:
    """Has the monitor see the standbys' clocks off by an interval: another function tells them to it."""
    with cluster.primary.connect("postgres", autocommit=True) as connection:
        connection.execute("create schema off")

        def set_clock(interval: str) -> None:
            connection.execute(f"""create or replace function off.clock_timestamp() returns timestamptz volatile
              language sql as $$ select pg_catalog.clock_timestamp() +
                case when pg_is_in_recovery() then interval '{interval}' else '0' end $$""")

        set_clock("0")
        connection.execute("alter role postgres in database postgres set search_path = off, pg_catalog, public")
        cluster.catch_up()
        yield set_clock
        connection.execute("alter role postgres in database postgres reset search_path; drop schema off cascade")


@pytest.fixture
def settings_off(set_clock: Callable[[str], None]) -> None:
    """Ahead of the proxy, whose monitors log in with it."""


def offsets(proxy: Proxy) -> list[float]:
    return [host["clock_offset_ms"] for worker in proxy.client.workers()
            for host in proxy.client.worker(worker, "hosts") if not host["writes"]]


def near(proxy: Proxy, milliseconds: float) -> bool:
    return all(offset is not None and abs(offset - milliseconds) < 100 for offset in offsets(proxy))


def test_a_clock_that_is_set_is_noticed(settings_off, set_clock, proxy, connect):
    clocks_known(proxy)
    connection = connect("scram_user", "scram-secret")
    connection.execute("select now()")
    assert route(connection) == ON_REPLICA
    for interval, milliseconds in (("5 seconds", 5000), ("-5 seconds", -5000)):
        set_clock(interval)
        eventually(lambda milliseconds=milliseconds: near(proxy, milliseconds))
        connection.execute("select now()")
        assert route(connection) == "primary: clock_apart"
    set_clock("0")
    eventually(lambda: near(proxy, 0))
    connection.execute("select now()")
    assert route(connection) == ON_REPLICA
    assert " ahead of the primary's, ± " in proxy.log.read_text()


@pytest.mark.parametrize("settings", [WIDE | {"max_clock_skew": "60s"}])
def test_a_clock_that_is_behind_is_waited_for(settings_off, set_clock, proxy, table, connect):
    """To whom it is measured 300 ms behind, it shows the time of the write by 300 ms later only."""
    clocks_known(proxy)
    connection = connect()
    set_clock("-300 milliseconds")
    eventually(lambda: near(proxy, -300))
    for _ in range(3):
        row = value(connection, "insert into stamped (at) values (pg_catalog.clock_timestamp()) returning id")
        waited = value(connection, f"select now() - at > interval '290 milliseconds' from stamped where id = {row}")
        assert route(connection) == ON_REPLICA and waited
    set_clock("-30 seconds")
    eventually(lambda: near(proxy, -30_000))
    connection.execute("insert into stamped default values")
    canceller = threading.Timer(0.5, connection.cancel)
    canceller.start()
    with pytest.raises(psycopg.errors.QueryCanceled):       # while it waits, and no server has it
        connection.execute("select now()")
    canceller.join()
    assert value(connection, "select 1") == 1


def test_who_watches_sees_the_clocks(proxy, connect):
    clocks_known(proxy)
    standby = next(host for host in proxy.client.worker(proxy.client.workers()[0], "hosts") if not host["writes"])
    assert abs(standby["clock_offset_ms"]) <= standby["clock_bound_ms"]       # they are one clock
    eventually(lambda: [name.split(".")[1] for name in counters(proxy, ".clock_skew_us")] == ["replicas"])
