"""A cancel ends the statement that runs now, wherever it waits, with 57014 and at once; and never a later one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg
import pytest

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Server
from tests.balancer import Balancer
from tests.freezing import frozen
from tests.integration.conftest import counters, value
from tests.waiting import eventually

WAIT = 60       # seconds of fence_wait: whoever answers sooner has not waited for it


@pytest.fixture
def fence_wait() -> str:
    return f"{WAIT}s"


@pytest.fixture
def pause_for(cluster: PrimaryAndStandbys) -> Iterator[Callable[[psycopg.Connection[Any]], None]]:
    """Pauses the replay at the replica that a session reads from."""
    cluster.primary.query("create table canceled (n int); insert into canceled values (1)")
    cluster.catch_up()

    def pause(session: psycopg.Connection[Any]) -> None:
        eventually(lambda: value(session, "select 1") == 1
                   and value(session, "show pgsplit.last_route") == "replica: read")
        cluster.standbys[0].pause_replay()

    yield pause
    cluster.standbys[0].resume_replay()
    cluster.primary.query("drop table canceled")


def canceled(session: psycopg.Connection[Any], run: Callable[[], Any], waits: Callable[[], Any]) -> float:
    """How long *run* took, which is cancelled as soon as it *waits*."""
    raised: list[BaseException | None] = []

    def work() -> None:
        try:
            run()
        except psycopg.Error as error:
            raised.append(error)
        else:
            raised.append(None)

    began = time.monotonic()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    eventually(waits)
    session.cancel()
    thread.join(WAIT + 30)
    assert isinstance(raised[0], psycopg.errors.QueryCanceled), raised
    return time.monotonic() - began


FORMS: dict[str, dict[str, Any]] = {"simple": {"prepare_threshold": None}, "prepared": {"prepare_threshold": 0}}
READS: dict[str, Callable[[psycopg.Connection[Any]], Any]] = {
    "a text": lambda session: session.execute("select n from canceled"),
    "parameters": lambda session: session.execute("select n from canceled where n > %s", [0]),
    "the unnamed statement": lambda session: session.execute("select n from canceled where n > %s", [0], prepare=False),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("read", READS)
def test_a_read_that_waits_for_its_replica_is_cancelled(cluster, proxy, connect, pause_for, form, read):
    session = connect(**FORMS[form])
    pause_for(session)
    for _ in range(3):          # by the session itself; later on the relay knows the text
        before = sum(counters(proxy, "fence_waits").values())
        session.execute("update canceled set n = n + 1")
        took = canceled(session, lambda: READS[read](session),
                        lambda before=before: sum(counters(proxy, "fence_waits").values()) > before)
        assert took < WAIT / 2
        assert value(session, "select pg_is_in_recovery()") is False       # the next one is not
        assert session.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    cluster.standbys[0].resume_replay()
    assert value(session, "select n from canceled") == 4
    cluster.standbys[0].pause_replay()


def test_one_of_a_pipeline_is_cancelled_and_the_others_are_not(cluster, proxy, connect, pause_for):
    session = connect()
    pause_for(session)
    session.execute("update canceled set n = 7")
    before = sum(counters(proxy, "fence_waits").values())
    session.pgconn.enter_pipeline_mode()
    for sql in (b"select n from canceled", b"select 2 from canceled for update"):
        session.pgconn.send_query_params(sql, None)
        session.pgconn.pipeline_sync()
    eventually(lambda: sum(counters(proxy, "fence_waits").values()) > before)
    session.cancel()
    results = [session.pgconn.get_result() for _ in range(6)]       # None ends those of a statement
    found = [(psycopg.pq.ExecStatus(result.status).name, result.error_field(psycopg.pq.DiagnosticField.SQLSTATE))
             for result in results if result is not None]
    assert found == [("FATAL_ERROR", b"57014"), ("PIPELINE_SYNC", None), ("TUPLES_OK", None), ("PIPELINE_SYNC", None)]
    session.pgconn.exit_pipeline_mode()


def test_a_cancel_of_nothing_does_nothing(connect, pause_for):
    session = connect()
    pause_for(session)
    for _ in range(5):
        session.cancel()
        assert value(session, "select n from canceled for update") == 1


# --- the state question -----------------------------------------------------------------------------------------------


@contextmanager
def nobody_tells(server: Server) -> Iterator[None]:
    """pgsplit's question whether a session holds an advisory lock waits there for as long."""
    with server.connect("postgres", autocommit=False) as connection:
        connection.execute("lock table pg_catalog.pg_locks in access exclusive mode")
        yield
        connection.rollback()


def waits_for_lock(server: Server, pid: int) -> bool:
    return server.query("select wait_event_type = 'Lock' and state = 'active' from pg_stat_activity where pid = %s",
                        [pid]) == [(True,)]


def held_and_released(session: psycopg.Connection[Any]) -> None:
    """Whether the session has an advisory lock has to be asked now."""
    session.execute("select pg_advisory_lock(77)")
    session.execute("select pg_advisory_unlock(77)")


@pytest.mark.parametrize("form", FORMS)
def test_a_read_that_waits_for_the_primary_s_word_is_cancelled_and_the_replica_serves_later(
        cluster, connect, form):
    session = connect(**FORMS[form])
    held_and_released(session)
    with nobody_tells(cluster.primary):
        for _ in range(2):
            took = canceled(session, lambda: session.execute("select 1 where %s > 0", [1]),
                            lambda: waits_for_lock(cluster.primary, session.info.backend_pid))
            assert took < WAIT / 2
            assert value(session, "select 2 for update") == 2       # and it is not
    eventually(lambda: value(session, "select 3") == 3 and value(session, "show pgsplit.last_route") == "replica: read")


def test_a_question_that_somebody_else_ends_costs_the_session_one_read_at_the_replica(cluster, connect):
    session = connect()
    held_and_released(session)
    found: list[Any] = []
    with nobody_tells(cluster.primary):
        thread = threading.Thread(target=lambda: found.append(value(session, "select 1")))
        thread.start()
        pid = session.info.backend_pid
        eventually(lambda: waits_for_lock(cluster.primary, pid))
        cluster.primary.query("select pg_cancel_backend(%s)", [pid])
        thread.join(WAIT)
        assert found == [1]
        assert value(session, "show pgsplit.last_route") == "primary: state_unknown"
    eventually(lambda: value(session, "select 2") == 2 and value(session, "show pgsplit.last_route") == "replica: read")


# --- a read whose Sync does not come, and one at a replica that does not listen ---------------------------------------


LONG = "select count(*) from generate_series(1, 100000) a, generate_series(1, 1000000) b where a <> b"


def runs(server: Server, pid: int) -> bool:
    return server.query("select state from pg_stat_activity where pid = %s", [pid]) == [("active",)]


def replica_pid(proxy: Proxy, session: psycopg.Connection[Any]) -> int:
    """Of the session's process at its replica, 0 where it has none."""
    found = [known for worker in proxy.client.workers() for known in proxy.client.worker(worker, "sessions")
             if known["pid"] == session.info.backend_pid]
    return int(found[0]["replica_pid"])


def test_a_read_without_its_sync_is_cancelled(connect):
    session = connect(options=f"-c jit=off -c statement_timeout={WAIT}s")
    session.pgconn.enter_pipeline_mode()
    for _ in range(3):
        began = time.monotonic()
        session.pgconn.send_query_params(LONG.encode(), None)
        session.pgconn.flush()
        time.sleep(0.1)
        session.cancel()
        result = session.pgconn.get_result()
        assert result is not None and result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        assert time.monotonic() - began < WAIT / 2      # and not by its time-out
        session.pgconn.pipeline_sync()
        while (result := session.pgconn.get_result()) is None:
            pass
        assert result.status == psycopg.pq.ExecStatus.PIPELINE_SYNC
    session.pgconn.exit_pipeline_mode()


@contextmanager
def reading(proxy: Proxy, server: Server) -> Iterator[tuple[psycopg.Connection[Any], int]]:
    """A session that has a replica, and the pid of its process there."""
    session = server.connect("scram_user", port=proxy.port, autocommit=True, prepare_threshold=None,
                             options=f"-c jit=off -c statement_timeout={WAIT}s")
    with closing(session):
        eventually(lambda: value(session, "select 1") == 1 and replica_pid(proxy, session) > 0)
        yield session, replica_pid(proxy, session)


def test_a_read_at_a_replica_that_stands_still_is_cancelled(cluster, pgsplit_server):
    standby = cluster.standbys[0]
    proxy = pgsplit_server(pgsplit={"workers": 1, "health_interval": "60s", "health_timeout": "59s",
                                    "fence_wait": f"{WAIT}s"})
    with reading(proxy, cluster.primary) as (session, pid):
        with ExitStack() as stack:

            def waits() -> bool:
                eventually(lambda: runs(standby, pid))
                stack.enter_context(frozen(standby))
                return True

            assert canceled(session, lambda: session.execute(LONG), waits) < WAIT / 2
        assert value(session, "select 2") == 2
        eventually(lambda: not runs(standby, pid))      # it has been told, now that it goes on


def test_a_cancel_that_a_balancer_sends_to_another_server_ends_the_read(cluster, pgsplit_server):
    standby, primary = cluster.standbys[0], cluster.primary
    with Balancer([("127.0.0.1", standby.port)]) as balancer:
        proxy = pgsplit_server(replicas=[balancer.address], pgsplit={"workers": 1, "fence_wait": f"{WAIT}s"})
        with reading(proxy, primary) as (session, pid):

            def waits() -> bool:
                eventually(lambda: runs(standby, pid))
                balancer.targets = [("127.0.0.1", primary.port)]
                return True

            assert canceled(session, lambda: session.execute(LONG), waits) < WAIT / 2
            balancer.targets = [("127.0.0.1", standby.port)]
            assert value(session, "select 2") == 2
        standby.query("select pg_terminate_backend(%s)", [pid])
