"""A cancel ends the statement that runs now, wherever it waits, with 57014 and at once; and never a later one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgsplit.demo.replication import PrimaryAndStandbys
from tests.integration.conftest import counters, value
from tests.waiting import eventually

WAIT = 60       # seconds of fence_wait: whoever answers sooner has not waited for it


@pytest.fixture
def fence_wait() -> str:
    return f"{WAIT}s"


@pytest.fixture
def paused(cluster: PrimaryAndStandbys) -> Iterator[None]:
    cluster.primary.query("create table canceled (n int); insert into canceled values (1)")
    cluster.catch_up()
    cluster.standbys[0].pause_replay()
    yield
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
    thread = threading.Thread(target=work)
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
def test_a_read_that_waits_for_its_replica_is_cancelled(cluster, proxy, connect, paused, form, read):
    session = connect(**FORMS[form])
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


def test_one_of_a_pipeline_is_cancelled_and_the_others_are_not(cluster, proxy, connect, paused):
    session = connect()
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


def test_a_cancel_of_nothing_does_nothing(connect, paused):
    session = connect()
    for _ in range(5):
        session.cancel()
        assert value(session, "select n from canceled for update") == 1
