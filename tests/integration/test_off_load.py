"""A known mix of statements on real servers: how many reads each has answered, and what has kept the others."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgsplit.demo.proxy import Proxy
from pgsplit.stats.shares import OffLoad, offload
from pgsplit.stats.totals import merge
from tests.integration.conftest import Connect, value
from tests.waiting import eventually

READ = "select count(*) from off_load"


@pytest.fixture
def proxy(pgsplit_server: Any) -> Proxy:
    """Only what is in a statement, or ahead of it, decides: reads wait for a fresh replica for as long as it takes."""
    return pgsplit_server(pgsplit={"workers": 2, "fence_wait": "60s"})


@pytest.fixture
def session(cluster: Any, connect: Connect) -> psycopg.Connection[Any]:
    maker = connect()
    maker.execute("drop table if exists off_load; create table off_load (a int)")
    maker.execute("create or replace function off_load_f(int) returns int language plpgsql as "
                  "$$ begin perform set_config('off.load', 'x', false); return $1; end $$")
    cluster.catch_up()
    session = connect()
    eventually(lambda: value(session, "select 1") and value(session, "show pgsplit.last_route") == "replica: read")
    for server in (cluster.primary, *cluster.standbys):
        server.query("select pg_stat_statements_reset()")
    return session


def now(proxy: Proxy) -> dict[str, int]:
    """Of all workers, without waiting for their heartbeats."""
    return merge(proxy.client.worker(number, "totals") for number in proxy.client.workers())


def counts(found: OffLoad) -> dict[str, int]:
    return {part.name: part.number for part in (found.replica, *found.kept)}


def own(found: OffLoad) -> dict[str, int]:
    """What pgsplit itself has asked the primary."""
    return {part.name: part.number for part in found.own["primary"]}


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: more for name, number in after.items() if (more := number - before.get(name, 0))}


def calls(server: Any, sql: str) -> int:
    [(count,)] = server.query(f"select coalesce(sum(calls), 0)::int from pg_stat_statements where query = '{sql}'")
    return int(count)


def batch(session: psycopg.Connection[Any], *texts: str) -> None:
    """Sent as one batch, with one Sync."""
    pg = session.pgconn
    pg.enter_pipeline_mode()
    for sql in texts:
        pg.send_query_params(sql.encode(), None)
    pg.pipeline_sync()
    answers: list[Any] = []
    while not answers or answers[-1] != psycopg.pq.ExecStatus.PIPELINE_SYNC:
        if (result := pg.get_result()) is not None:
            assert not result.error_message
            answers.append(result.status)
    pg.exit_pipeline_mode()


def test_a_known_mix_is_counted_by_what_has_kept_each_read(cluster, proxy, session):
    before = offload(now(proxy))
    for _ in range(5):
        assert value(session, READ) == 0                     # the relay repeats it from the second time on
    batch(session, "begin", READ)                            # a replica gets both
    session.execute("commit")
    batch(session, "begin isolation level repeatable read", READ, READ)
    session.execute("commit")
    batch(session, "begin", "insert into off_load values (1)", READ)
    session.execute("rollback")
    for _ in range(3):
        with session.transaction():
            assert value(session, READ) == 0
            session.execute("insert into off_load values (2)")
            assert value(session, READ) == 1
            session.execute("delete from off_load")
    session.execute(f"begin; {READ}; commit")
    for _ in range(4):
        assert value(session, "select now() > '2020-01-01'")
    assert value(session, "select off_load_f(7)") == 7
    assert value(session, READ) == 0                         # behind a question of pgsplit's own
    assert value(session, "show server_version")
    after = now(proxy)
    found = grown(counts(before), counts(offload(after)))
    assert found == {"replica": 5 + 1 + 3 + 1, "isolation": 2, "after_write": 1 + 3, "before_write": 1, "clock": 4,
                     "function": 1, "server_local": 1}
    assert calls(cluster.standbys[0], READ) == found["replica"]
    assert calls(cluster.primary, READ) == 2 + 4 + 1
    assert offload(after).reads - before.reads == sum(found.values())
    asked = grown(own(before), own(offload(after)))
    assert asked["functions"] == 1 and "identity" not in asked
    assert own(offload(after)).keys() >= {"catalogue", "identity", "sample"}
    eventually(lambda: own(offload(proxy.client.arbiter("totals"))).keys() >= {      # with the monitor's
        "catalogue", "configuration", "health", "identity", "sample"})
    assert all(part.microseconds > 0 for part in (offload(after).replica, *offload(after).kept))
    eventually(lambda: counts(offload(proxy.client.arbiter("totals"))) == counts(offload(now(proxy))))


@pytest.mark.parametrize(("mode", "begin", "group"), [
    ("primary", "begin", "before_write"), ("primary", "begin read only", "read_only"),
    ("read_only", "begin", "before_write"), ("until_write", "begin isolation level serializable", "isolation")])
def test_reads_of_transactions_that_no_replica_may_have(pgsplit_server, cluster, mode, begin, group):
    proxy = pgsplit_server(pgsplit={"workers": 1, "fence_wait": "60s", "transactions": mode})
    with cluster.primary.connect("postgres", port=proxy.port, autocommit=True) as session:
        eventually(lambda: value(session, "select 1") and value(session, "show pgsplit.last_route") == "replica: read")
        before = counts(offload(now(proxy)))
        for _ in range(3):               # from the second time on the relay repeats what it may
            session.execute(begin)
            assert value(session, "select 1") == 1
            session.execute("commit")
            batch(session, begin, "select 1")
            session.execute("commit")
        assert grown(before, counts(offload(now(proxy)))) == {group: 6}
