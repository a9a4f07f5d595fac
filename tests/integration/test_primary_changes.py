"""What is told of a change of the primary: from whom to whom, for how long there was none, and what it has cost."""

from __future__ import annotations

import select
import time

import psycopg
import pytest

from pgsplit.topology import changes
from tests.integration.test_console import show
from tests.integration.test_one_list import one_list, written
from tests.integration.test_topology import connect
from tests.patroni import FakeMember
from tests.waiting import eventually

pytestmark = [pytest.mark.pg]


def told(proxy):
    return changes.merge(proxy.client.worker(number, "topology") for number in (1, 2))


def total(proxy, name):
    return proxy.client.arbiter("totals")[name]


def test_a_failover_is_told_with_what_it_has_cost(servers, start):
    former, promoted, _ = servers.servers
    began = time.time()
    proxy = start(**one_list(servers), pgsplit={"admin_users": "scram_user", "workers": 2})
    [primary] = eventually(lambda: told(proxy)["primaries"])
    assert (primary["server"], primary["timeline"], primary["changes"]) == (former.address, 1, 0)
    assert told(proxy)["changes"] == []
    kept, cut = connect(proxy), connect(proxy)
    kept.execute("set application_name to 'kept'")
    cut.execute("create temporary table gone (n int)")          # which no other connection can be given
    servers.catch_up()
    former.stop()
    eventually(lambda: told(proxy)["primaries"][0]["lost_s"] is not None and total(
        proxy, "postgres.postgres.primary_cut") == 1, timeout=60)
    with pytest.raises(psycopg.OperationalError):
        cut.execute("select 1")
    kept.pgconn.send_query(b"insert into kept values (1, 'waits')")
    eventually(lambda: total(proxy, "postgres.postgres.primary_waits") == 1, timeout=60)
    promoted.promote()
    assert kept.pgconn.get_result().command_status == b"INSERT 0 1"
    assert kept.pgconn.get_result() is None
    eventually(lambda: all(proxy.client.worker(number, "topology")["changes"] for number in (1, 2)), timeout=60)
    [change] = told(proxy)["changes"]
    assert (change["from_server"], change["from_timeline"]) == (former.address, 1)
    assert (change["server"], change["timeline"], change["by"]) == (promoted.address, 2, "servers")
    assert began < change["at"] < time.time()
    eventually(lambda: [(one["kept"], one["cut"]) for one in told(proxy)["changes"]] == [(1, 1)])
    assert eventually(lambda: told(proxy)["changes"][0]["longest_wait_s"]) > 0 and change["gap_s"] > 0
    [primary] = told(proxy)["primaries"]
    assert (primary["server"], primary["timeline"], primary["lost_s"], primary["changes"]) == (
        promoted.address, 2, None, 1)
    assert eventually(lambda: total(proxy, "cluster.primary.primary_changes")) == 1        # both workers have seen it
    with promoted.connect("scram_user", port=proxy.port, dbname="pgsplit", autocommit=True) as console:
        [row] = show(console, "primary_changes")
        assert (row["from_server"], row["from_timeline"], row["to_server"], row["to_timeline"]) == (
            former.address, "1", promoted.address, "2")
        assert (row["sessions_kept"], row["sessions_cut"], row["by"]) == ("1", "1", "servers")
        rows = {row["server"]: row for row in show(console, "topology")}
    assert (rows[promoted.address]["role"], rows[promoted.address]["timeline"]) == ("primary", "2")
    assert rows[promoted.address]["primary_since"] and not rows[former.address]["primary_since"]
    kept.close()


def test_a_restart_of_the_primary_is_told_as_one(servers, start):
    primary = servers.primary
    proxy = start(**one_list(servers))
    assert written(proxy, 1)
    session = connect(proxy)
    session.execute("set application_name to 'kept'")
    primary.stop()
    primary.start()
    eventually(lambda: all(proxy.client.worker(number, "topology")["changes"] for number in (1, 2)), timeout=60)
    [change] = told(proxy)["changes"]
    assert change["server"] == change["from_server"] == primary.address
    assert change["timeline"] == change["from_timeline"] == 1 and change["started"] > change["from_started"]
    assert session.execute("select 1").fetchone() == (1,)
    eventually(lambda: told(proxy)["changes"][0]["kept"] == 1)
    assert (told(proxy)["changes"][0]["cut"], total(proxy, "postgres.postgres.primary_cut")) == (0, 0)
    session.close()


def test_who_leaves_by_himself_is_not_cut_off(servers, start):
    proxy = start(**one_list(servers))
    for number in range(3):
        assert written(proxy, number)
    session = connect(proxy)
    session.execute("set idle_session_timeout = 100")
    assert select.select([session.fileno()], [], [], 60)[0]
    with pytest.raises(psycopg.OperationalError, match="idle-session timeout"):
        session.execute("select 1")
    eventually(lambda: total(proxy, "postgres.postgres.sessions_active") == 0)
    assert total(proxy, "postgres.postgres.primary_cut") == total(proxy, "postgres.postgres.primary_lost") == 0


def test_patroni_s_word_is_told_as_patroni_s(servers, start):
    former, promoted, _ = servers.servers
    names = [("127.0.0.1", server.port) for server in servers.servers]
    with FakeMember(names, names[0]) as fake:
        proxy = start(**one_list(servers), topology={"source": "patroni", "patroni": [fake.address]})
        assert eventually(lambda: told(proxy)["primaries"])[0]["by"] == "patroni"
        fake.leader = None
        eventually(lambda: told(proxy)["primaries"][0]["lost_s"] is not None, timeout=60)
        servers.catch_up()
        promoted.promote()
        fake.leader = names[1]
        eventually(lambda: all(proxy.client.worker(number, "topology")["changes"] for number in (1, 2)), timeout=60)
    [change] = told(proxy)["changes"]
    assert (change["from_server"], change["server"], change["timeline"], change["by"]) == (
        former.address, promoted.address, 2, "patroni")
    assert change["gap_s"] > 0
