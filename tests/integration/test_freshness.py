"""Freshness beyond this node: consistency cluster and bounded, and the position that goes from service to service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.split.fence import parse_lsn
from pgsplit.split.token import parse
from tests.integration.conftest import Connect, value
from tests.waiting import eventually

Session = psycopg.Connection[Any]


@pytest.fixture
def consistency() -> str:
    return "cluster"


@pytest.fixture
def max_staleness() -> str:
    return "1s"


@pytest.fixture
def fence_wait() -> str:
    return "50ms"


@pytest.fixture
def proxy(pgsplit_server: Callable[..., Proxy], consistency: str, max_staleness: str, fence_wait: str) -> Proxy:
    return pgsplit_server(consistency=consistency, pgsplit={
        "workers": 2, "fence_wait": fence_wait, "max_staleness": max_staleness, "transactions": "until_write"})


@pytest.fixture
def table(cluster: PrimaryAndStandbys) -> Iterator[str]:
    cluster.primary.query("create table fresh (n int); insert into fresh values (0)")
    cluster.catch_up()
    yield "fresh"
    cluster.primary.query("drop table fresh")


@pytest.fixture
def reader(connect: Connect, table: str) -> Session:
    """A session that reads from the replica."""
    session = connect()
    eventually(lambda: read(session) == (0, REPLICA))
    return session


def route(session: Session) -> str:
    return str(value(session, "show pgsplit.last_route"))


@contextmanager
def paused(cluster: PrimaryAndStandbys) -> Iterator[None]:
    cluster.standbys[0].pause_replay()
    try:
        yield
    finally:
        cluster.standbys[0].resume_replay()


READ = "/* pgsplit: replica */ select n, pg_is_in_recovery() from fresh"
REPLICA, PRIMARY = True, False


def read(session: Session) -> tuple[int, bool]:
    """What it shows, and whether on the replica: asked in one, since to ask the primary would move the fence."""
    row = session.execute(READ).fetchone()
    assert row is not None
    return row[0], row[1]


# --- cluster ----------------------------------------------------------------------------------------------------------

def test_a_read_sees_what_was_written_beside_pgsplit(cluster, reader):
    with paused(cluster):
        for number in range(1, 20):
            cluster.primary.query(f"update fresh set n = {number}")
            assert read(reader) == (number, PRIMARY)
    eventually(lambda: read(reader) == (19, REPLICA))


def test_and_in_a_transaction_on_a_replica_each_statement_likewise(cluster, reader):
    with reader.transaction():
        assert value(reader, "select n from fresh") == 0
        with paused(cluster):
            cluster.primary.query("update fresh set n = 7")
            assert value(reader, "select n from fresh") == 7
        assert route(reader) == "primary: no_fresh_replica"


@pytest.mark.parametrize("consistency", ["global"])
def test_under_global_it_need_not(cluster, reader):
    """Or the tests above could not fail."""
    with paused(cluster):
        cluster.primary.query("update fresh set n = 1")
        assert read(reader)[0] == 0


def test_a_pipeline_of_reads(cluster, reader):
    cluster.primary.query("update fresh set n = 3")
    with reader.pipeline():
        cursors = [reader.execute("select n from fresh") for _ in range(20)]
    assert [cursor.fetchone() for cursor in cursors] == [(3,)] * 20


# --- bounded ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("consistency, max_staleness", [("bounded", "1h")])
def test_a_read_may_show_what_is_not_too_old(cluster, reader):
    with paused(cluster):
        cluster.primary.query("update fresh set n = 1")
        assert [read(reader) for _ in range(5)] == [(0, REPLICA)] * 5
        reader.execute("update fresh set n = 2")            # its own it sees
        assert read(reader) == (2, PRIMARY)
        cluster.primary.query("update fresh set n = 3")
        assert read(reader) == (3, PRIMARY)     # and never less than it has seen
    cluster.catch_up()
    eventually(lambda: read(reader) == (3, REPLICA))


@pytest.mark.parametrize("consistency, max_staleness", [("bounded", "300ms")])
def test_nor_anything_older(cluster, reader):
    with paused(cluster):
        cluster.primary.query("update fresh set n = 1")
        time.sleep(0.3)
        assert read(reader) == (1, PRIMARY)


@pytest.mark.parametrize("consistency, max_staleness", [("bounded", "1h")])
def test_while_a_replica_lags_it_serves_who_does_not_write(cluster, table, connect, reader, proxy):
    """Also sessions that log in meanwhile, though others write all the time."""
    def configurations_read() -> int:
        return int(proxy.client.arbiter("totals")["cluster.replicas.own.replica.configuration"])

    def on_replica() -> Session | None:
        """A login waits for its replica a second at most, which a busy machine may not make."""
        cluster.primary.query("update fresh set n = n + 1")
        session = connect()
        return session if read(session)[1] is REPLICA else None

    before = eventually(configurations_read)
    cluster.standbys[0].delay_replay(200)       # it reloads its configuration: a read that meets that is the primary's
    try:
        eventually(lambda: configurations_read() >= before + 2)
        for _ in range(3):
            session, shown = eventually(on_replica), []
            for _ in range(10):
                cluster.primary.query("update fresh set n = n + 1")
                shown.append(read(session))
            assert all(where is REPLICA for _, where in shown) and shown == sorted(shown)
            [(newest,)] = cluster.primary.query("select n from fresh")
            assert shown[-1][0] < newest
    finally:
        cluster.standbys[0].delay_replay(0)


# --- pgsplit.lsn and pgsplit.min_lsn ----------------------------------------------------------------------------------

def token(session: Session) -> str:
    return str(value(session, "show pgsplit.lsn"))


LEVELS = pytest.mark.parametrize("consistency", ["eventual", "session", "global"])


@LEVELS
def test_a_position_carries_freshness_to_another_session(cluster, proxy, reader, connect):
    writer = psycopg.connect(host="127.0.0.1", port=cluster.primary.port, user="postgres", password="postgres-secret",
                             dbname="postgres", autocommit=True)
    asking = connect()
    with writer, paused(cluster):
        writer.execute("update fresh set n = 1")
        position = token(asking)
        assert read(reader)[0] == 0
        reader.execute(f"set pgsplit.min_lsn = '{position}'")
        for _ in range(5):
            assert read(reader) == (1, PRIMARY)
    cluster.catch_up()
    eventually(lambda: read(reader) == (1, REPLICA))
    assert value(reader, "show pgsplit.min_lsn") == position


@pytest.mark.parametrize("consistency", ["session"])
def test_and_no_longer_than_it_is_asked_for(cluster, reader):
    far = beyond(token(reader))
    for lift in ("reset pgsplit.min_lsn", "reset all", "discard all", "set pgsplit.min_lsn = ''",
                 "set pgsplit.min_lsn to default", "select set_config('pgsplit.min_lsn', '', false)"):
        reader.execute(f"set pgsplit.min_lsn = '{far}'")
        assert read(reader) == (0, PRIMARY)
        reader.execute(lift)
        eventually(lambda: read(reader) == (0, REPLICA))


def beyond(position: str) -> str:
    """A position that is far from being written."""
    *term, high, low = position.split("/")
    return "/".join([*term, f"{int(high, 16) + 9:X}", low])


WAYS: list[Callable[[Session, str], object]] = [
    lambda session, text: session.execute(f"set pgsplit.min_lsn = '{text}'"),
    lambda session, text: session.execute(f"SET SESSION pgsplit.min_lsn TO '{text}'"),
    lambda session, text: session.execute(f"select set_config('pgsplit.min_lsn', '{text}', false)"),
    lambda session, text: session.execute("select set_config('pgsplit.min_lsn', %s, false)", [text]),
    lambda session, text: session.execute("select set_config('pgsplit.min_lsn', %s, false)", [text], prepare=True),
    lambda session, text: session.execute(f"do $$ begin set pgsplit.min_lsn = '{text}'; end $$"),
    lambda session, text: session.execute(f"begin; set pgsplit.min_lsn = '{text}'; commit"),
]


@pytest.mark.parametrize("consistency", ["session"])
def test_however_it_is_asked_for(reader):
    for ask in WAYS:
        position = token(reader)
        ask(reader, beyond(position))
        assert read(reader) == (0, PRIMARY)
        ask(reader, position)
        eventually(lambda: read(reader) == (0, REPLICA))
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="nonsense") as caught:
            ask(reader, "nonsense")
            reader.execute("select n from fresh")
        assert "SHOW pgsplit.lsn" in str(caught.value.diag.message_hint)
        reader.execute("reset pgsplit.min_lsn")
        eventually(lambda: read(reader) == (0, REPLICA))


@pytest.mark.parametrize("consistency", ["session"])
def test_what_cannot_be_honoured_is_an_error(reader):
    system, timeline, high, low = token(reader).split("/")
    for wrong, hint in (
            ("", None), ("0/3000148", "SHOW pgsplit.lsn"), (f"{system}/{timeline}/{high}", "SHOW pgsplit.lsn"),
            (f"{system}/x/{high}/{low}", "SHOW pgsplit.lsn"),
            (f"7{system}/{timeline}/{high}/{low}", "another PostgreSQL cluster"),
            (f"{system}/7/{high}/{low}", "is of timeline 7"),
            ("$1 $$ $pgsplit$ \\ é", "SHOW pgsplit.lsn")):
        if hint is None:
            reader.execute(f"set pgsplit.min_lsn = '{wrong}'")
            continue
        with pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
            reader.execute(f"set pgsplit.min_lsn = '{wrong}'")
        assert hint in str(caught.value.diag.message_hint)
        assert value(reader, "select current_setting('pgsplit.min_lsn')") == ""
    eventually(lambda: read(reader) == (0, REPLICA))


@pytest.mark.parametrize("consistency", ["session"])
def test_in_a_transaction(cluster, reader):
    position = token(reader)
    reader.execute(f"begin; set local pgsplit.min_lsn = '{beyond(position)}'")
    assert read(reader) == (0, PRIMARY)
    reader.execute("commit")
    eventually(lambda: read(reader) == (0, REPLICA))
    for end, lasts in (("rollback", False), ("commit", True)):
        reader.execute("begin")
        reader.execute(f"set pgsplit.min_lsn = '{beyond(position)}'")
        reader.execute(end)
        eventually(lambda: read(reader) == (0, not lasts))
    reader.execute("reset pgsplit.min_lsn")
    for ask in ("set local pgsplit.min_lsn = 'x'", "select set_config('pgsplit.min_lsn', 'x', true)",
                "select set_config('pgsplit.min_lsn', lower('X'), true)"):
        reader.execute("begin")
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            reader.execute(ask)
            reader.execute("select n from fresh")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            reader.execute("select n from fresh")
        reader.execute("rollback")


@pytest.mark.parametrize("consistency", ["session"])
def test_the_position_covers_what_was_committed_and_says_so_where_it_could_not(reader, connect):
    for _ in range(20):
        reader.execute("update fresh set n = n + 1")
        position = token(reader)
        assert parse(position).lsn <= parse_lsn(value(reader, "select pg_current_wal_insert_lsn()"))
    with pytest.raises(psycopg.errors.ActiveSqlTransaction):
        reader.execute("update fresh set n = 0; show pgsplit.lsn")
    with pytest.raises(psycopg.errors.ActiveSqlTransaction), reader.pipeline():
        reader.execute("update fresh set n = 0")
        reader.execute("show pgsplit.lsn")
    with pytest.raises(psycopg.errors.ActiveSqlTransaction), reader.transaction():
        reader.execute("update fresh set n = 0")
        reader.execute("show pgsplit.lsn")
    with reader.transaction():
        assert token(reader).startswith(position.split("/")[0])
    assert value(reader, "select current_setting('pgsplit.lsn')").count("/") == 3
    assert reader.execute("show pgsplit.lsn", prepare=True).fetchone()[0].count("/") == 3


@pytest.mark.parametrize("consistency", ["session"])
def test_given_at_the_login(reader, connect):
    far = beyond(token(reader))
    other = connect(options=f"-c pgsplit.min_lsn={far}")
    eventually(lambda: read(other) == (0, PRIMARY))
    wrong = connect(options="-c pgsplit.min_lsn=nonsense")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="nonsense"):
        wrong.execute("select 1")
