"""What the server does before a batch's Sync: directly, and through pgsplit (PostgreSQL manual 55.2.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest

from pgsplit.wire import build
from pgsplit.wire.parse import error_fields
from tests.differential.client import Client, Message
from tests.waiting import eventually

OWNER = "trust_user"


def run(sql: str, name: str = "") -> bytes:
    """Parse, Bind, Describe, Execute; no Sync."""
    return build.parse(name, sql) + build.bind("", name) + build.describe() + build.execute()


def kinds(messages: list[Message]) -> str:
    return b"".join(kind for kind, _ in messages if kind not in b"SN").decode()


def sqlstate(messages: list[Message]) -> str:
    return error_fields(messages[-1][1]).sqlstate


@pytest.fixture(params=["directly", "through pgsplit"])
def port(request, cluster, proxy) -> int:
    return proxy.port if request.param == "through pgsplit" else cluster.primary.port


@pytest.fixture
def enter(port) -> Iterator[Callable[[], Client]]:
    """A session of OWNER's."""
    opened: list[Client] = []

    def make() -> Client:
        opened.append(Client(port, OWNER, "postgres"))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def client(enter) -> Client:
    return enter()


@pytest.fixture
def table(cluster) -> Iterator[str]:
    cluster.primary.query(f"drop table if exists streamed; create table streamed (a int primary key); "
                          f"alter table streamed owner to {OWNER}")
    yield "streamed"
    cluster.primary.query("drop table streamed")


def test_an_error_is_told_without_a_sync(client, table):
    """psycopg's `test_pipeline_communicate_uniqviol` waits for this one."""
    insert = run(f"insert into {table} values (1)")
    client.send(insert)
    client.send(insert)
    answer = client.until(b"E")
    assert kinds(answer) == "12nC12nE"
    assert sqlstate(answer) == "23505"
    client.send(insert)
    assert kinds(client.ask(build.SYNC, 1)) == "Z"
    assert kinds(client.ask(build.query(f"select count(*) from {table}"), 1)) == "TDCZ"


@pytest.mark.parametrize("ahead", [
    [build.query("begin")], [run("begin") + build.SYNC],
    [build.query("create temporary table streamed_pin (a int)"), build.query("select 1")],
], ids=["BEGIN", "an extended BEGIN", "a pin"])
def test_an_error_of_a_read_where_only_the_primary_reads(client, ahead):
    for batch in ahead:
        client.ask(batch, 1)
    client.send(run("select 1 / 0"))
    assert sqlstate(client.until(b"E")) == "22012"
    assert kinds(client.ask(build.SYNC, 1)) == "Z"


def test_an_error_of_a_read_that_a_replica_could_have(client):
    client.send(run("select 1 / 0"))
    assert sqlstate(client.until(b"E")) == "22012"
    assert kinds(client.ask(build.SYNC, 1)) == "Z"
    assert kinds(client.ask(run("select 1") + build.SYNC, 1)) == "12TDCZ"


def test_an_error_by_psycopg_in_a_pipeline_that_is_not_synced(port, table):
    with closing(psycopg.connect(host="127.0.0.1", port=port, user=OWNER, dbname="postgres", sslmode="disable",
                                 autocommit=True)) as session:
        connection = session.pgconn
        connection.enter_pipeline_mode()
        for number in (1, 2, 1, 3):
            connection.send_query_params(f"insert into {table} values ($1)".encode(), [str(number).encode()])
        connection.flush()
        results = []

        def failed() -> bool:
            connection.consume_input()
            while not connection.is_busy():
                result = connection.get_result()
                if result is None:
                    if results and results[-1].status == psycopg.pq.ExecStatus.FATAL_ERROR:
                        return True
                    continue
                results.append(result)
            return False

        eventually(failed)
        assert results[-1].error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"23505"


def test_statement_timeout_runs_from_the_parse_on(client):
    """pgx 5's test of a time-out between Parse and Describe. The server looks at it when the next message comes."""
    client.ask(build.query("set statement_timeout = '50ms'"), 1)
    client.send(build.parse("streamed_name", "select 1"))
    time.sleep(1)
    client.send(build.describe(b"S", "streamed_name"))
    assert sqlstate(client.until(b"E")) == "57014"
    assert kinds(client.ask(build.SYNC, 1)) == "Z"


def test_a_session_whose_batch_is_open_is_not_idle_in_its_transaction(cluster, client, table):
    client.ask(build.query("set idle_in_transaction_session_timeout = '2s'; set application_name = 'streamed'"), 1)
    client.ask(build.query("begin"), 1)
    client.send(run(f"insert into {table} values (1)"))
    state = "select state from pg_stat_activity where application_name = 'streamed' and query like 'insert%'"
    eventually(lambda: cluster.primary.query(state) == [("active",)])
    time.sleep(3)       # longer than it may be idle
    assert kinds(client.ask(build.SYNC, 1)) == "12nCZ"
    assert kinds(client.ask(build.query("commit"), 1)) == "CZ"


def test_a_lock_holds_before_its_sync(cluster, client, table):
    client.ask(build.query("begin"), 1)
    client.send(run(f"lock table {table}"))

    def locked() -> bool:
        try:
            cluster.primary.query(f"set lock_timeout = '100ms'; select * from {table}")
        except psycopg.errors.LockNotAvailable:
            return True
        return False

    eventually(locked)
    assert kinds(client.ask(build.SYNC, 1)) == "12nCZ"
    client.ask(build.query("rollback"), 1)
    eventually(lambda: not locked())


def test_every_message_cut_at_every_byte(client, table):
    """Writes, reads, an error and COPY, a byte at a time."""
    copy = build.parse("", f"copy {table} from stdin") + build.bind() + build.execute()
    data = build.message(b"d", b"7\n") + build.message(b"c") + build.SYNC
    for batch, expected in ((run(f"insert into {table} values (1)") + run("select 1") + build.SYNC, "12nC12TDCZ"),
                            (run("select 1") + run("select 1 / 0") + run("select 2") + build.SYNC, "12TDC1EZ"),
                            (copy + data, "12GCZ"),
                            (run("begin") + run("select 1") + run("commit") + build.SYNC, "12nC12TDC12nCZ")):
        for position in range(len(batch)):
            client.send(batch[position:position + 1])
        assert kinds(client.until(b"Z")) == expected


def test_a_goodbye_in_the_middle_leaves_nothing(cluster, enter, table):
    client = enter()
    client.send(run(f"insert into {table} values (1)") + build.TERMINATE)
    assert client.until(b"Z")[-1] == (b"", b"closed")
    query = cluster.primary.query
    eventually(lambda: query("select from pg_stat_activity where application_name = 'differential'") == [])
    assert query(f"select * from {table}") == []


def test_the_last_route_within_a_batch(enter, proxy):
    client = Client(proxy.port, OWNER, "postgres")
    with closing(client):
        client.send(run("begin") + build.FLUSH)
        client.until(b"C")
        client.send(run("show pgsplit.last_route") + run("select 1") + build.SYNC)
        answer = client.until(b"Z")
        assert kinds(answer) == "12TDC12TDCZ"
        assert answer[3][1].endswith(b"primary: flush_without_sync")
