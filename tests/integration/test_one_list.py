"""One list of servers: a switchover needs no edit, and what a former primary would take is refused (G6)."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Server
from tests.freezing import frozen
from tests.integration.conftest import value
from tests.integration.test_failover import is_settled, look, prepare
from tests.integration.test_topology import Session, append, connect, everywhere, kept, refused, route
from tests.patroni import FakeMember
from tests.waiting import eventually

pytestmark = [pytest.mark.pg]


def one_list(servers: PrimaryAndStandbys) -> dict[str, Any]:
    return {"primary": None, "replicas": None, "servers": everywhere(servers)}


def rejoin(former: Server, primary: Server) -> None:
    """Start *former*, which was stopped in order, as a standby of *primary*."""
    (former.data / "standby.signal").touch()
    with open(former.data / "postgresql.auto.conf", "a") as file:
        file.write(f"primary_conninfo = 'host={primary._house.sockets} port={primary.port} user=postgres'\n")
    former.start()


def written(proxy: Proxy, number: int) -> bool:
    try:
        with connect(proxy) as session:
            append(session, number)
    except psycopg.Error:
        return False
    return True


def hosts(proxy: Proxy, cluster: str) -> dict[str, dict[str, Any]]:
    return {host["name"]: host for host in proxy.client.worker(1, "hosts") if host["cluster"] == cluster}


def serves(proxy: Proxy, cluster: str, server: Server) -> bool:
    host = hosts(proxy, cluster)[server.address]
    return bool(host["healthy"] and not host["other_role"])


def all_know_the_term(proxy: Proxy, timeline: int) -> bool:
    return all(proxy.client.worker(number, "terms") == {"primary": timeline} for number in (1, 2))


@pytest.mark.slow
def test_a_switchover_needs_no_edit(servers, start):
    former, promoted, other = servers.servers
    proxy = start(**one_list(servers))
    assert written(proxy, 1)
    servers.catch_up()
    with connect(proxy) as session:
        eventually(lambda: session.execute("select count(*) from kept") and route(session) == "replica: read")
    former.stop()
    promoted.promote()
    eventually(lambda: written(proxy, 2), timeout=60)
    assert 2 in kept(promoted)
    rejoin(former, promoted)
    eventually(lambda: serves(proxy, "replicas", former), timeout=60)
    other.stop()            # who follows the old timeline would not serve; now only the former primary can
    with connect(proxy) as session:
        append(session, 3)
        eventually(lambda: session.execute("select max(n) from kept").fetchone() == (3,)
                   and route(session) == "replica: read", timeout=60)
        [known] = [known for known in proxy.client.worker(1, "sessions") + proxy.client.worker(2, "sessions")
                   if known["replica"]]
        assert (known["replica"], known["primary"]) == (former.address, promoted.address)
    for cluster, aside in (("replicas", promoted), ("primary", former)):
        host = hosts(proxy, cluster)[aside.address]
        assert host["healthy"] and host["other_role"], host
    warned = [line for line in proxy.log.read_text().splitlines() if " WARNING " in line]
    assert not [line for line in warned if "is a standby" in line or "is the primary" in line], warned


@pytest.mark.slow
def test_a_term_is_forgotten_for_a_restore_from_a_backup(servers, start):
    """The former primary is what a backup would have given: on a lower timeline, and now the right one."""
    restored, promoted, other = servers.servers
    proxy = start(**one_list(servers), pgsplit={"admin_users": "scram_user"})
    assert written(proxy, 1)
    servers.catch_up()
    promoted.promote()
    eventually(lambda: all_know_the_term(proxy, 2), timeout=60)      # and nothing goes to the former primary any more
    eventually(lambda: written(proxy, 2), timeout=60)
    for server in (promoted, other):
        server.stop()
    eventually(lambda: "former primary" in hosts(proxy, "primary")[restored.address]["why_not"], timeout=60)
    assert not written(proxy, 3)
    assert proxy.client.worker(1, "terms") == {"primary": 2}
    with restored.connect("scram_user", port=proxy.port, dbname="pgsplit", autocommit=True) as console:
        assert console.pgconn.exec_(b"FORGET TERM primary").command_status == b"FORGET TERM"
    eventually(lambda: written(proxy, 4), timeout=60)
    assert proxy.client.worker(1, "terms") == proxy.client.worker(2, "terms") == {"primary": 1}
    os.kill(proxy.client.arbiter("workers")[0]["pid"], signal.SIGKILL)         # the order is for later workers, too
    eventually(lambda: all(worker["booted"] for worker in proxy.client.arbiter("workers")) and written(proxy, 5),
               timeout=60)
    assert kept(restored) >= {1, 4, 5}
    promoted.start()            # which shows the greater timeline again
    eventually(lambda: "former primary" in hosts(proxy, "primary")[restored.address]["why_not"], timeout=60)
    eventually(lambda: written(proxy, 6), timeout=60)
    assert 6 in kept(promoted)


@pytest.mark.slow
def test_a_session_leaves_its_primary_when_patroni_takes_the_lock_from_that(servers, start):
    former, promoted, _ = servers.servers
    names = [("127.0.0.1", server.port) for server in servers.servers]
    with FakeMember(names, names[0]) as fake, ThreadPoolExecutor(1) as background:
        proxy = start(**one_list(servers), topology={"source": "patroni", "patroni": [fake.address]})
        session = connect(proxy)
        append(session, 1)
        fake.leader = None
        eventually(lambda: any("leaves its primary" in line and "is not Patroni's leader: there is none now" in line
                               for line in proxy.log.read_text().splitlines()))
        waiting = background.submit(append, session, 2)
        assert not written(proxy, 20)
        assert not waiting.done() and kept(former) == {1}
        fake.leader = names[0]
        waiting.result(60)
        eventually(lambda: written(proxy, 3), timeout=60)
        promoted.promote()              # by hand, without Patroni: it is no leader, and who is, is on a lower timeline
        eventually(lambda: "former primary" in hosts(proxy, "primary")[former.address]["why_not"], timeout=60)
        assert not any(written(proxy, number) for number in range(4, 8))
        fake.leader = names[1]
        eventually(lambda: written(proxy, 8), timeout=60)
    assert kept(former) == {1, 2, 3}
    assert 8 in kept(promoted)
    with connect(proxy) as session:     # nobody of Patroni answers any more
        eventually(lambda: "its last word holds" in hosts(proxy, "primary")[promoted.address]["note"], timeout=60)
        append(session, 9)
    assert written(proxy, 10)


def test_the_next_priority_serves_only_when_none_of_the_first_can(servers, start):
    _, first, second = servers.servers
    listed = [servers.primary.address, {"address": first.address, "weight": 2},
              {"address": second.address, "priority": 1}]
    proxy = start(**one_list(servers) | {"servers": listed})
    eventually(lambda: serves(proxy, "replicas", first) and serves(proxy, "replicas", second))

    def replicas(sessions: list[Session]) -> set[str]:
        for session in sessions:
            session.execute("select count(*) from kept")
        return {known["replica"] for number in (1, 2) for known in proxy.client.worker(number, "sessions")}

    sessions = [connect(proxy) for _ in range(6)]
    eventually(lambda: replicas(sessions) == {first.address}, timeout=60)
    first.stop()
    eventually(lambda: replicas(sessions) == {second.address}, timeout=60)
    first.start()
    eventually(lambda: serves(proxy, "replicas", first), timeout=60)
    with connect(proxy) as another:
        eventually(lambda: replicas([another]) == {first.address, second.address}, timeout=60)
    for session in sessions:
        session.close()


@pytest.mark.slow
def test_a_former_primary_of_the_list_takes_nothing(servers, start):
    former, promoted, _ = servers.servers
    proxy = start(**one_list(servers))
    assert written(proxy, 1)
    servers.catch_up()
    with frozen(former):
        promoted.promote()
        eventually(lambda: written(proxy, 2), timeout=60)
    eventually(lambda: former.query("select pg_is_in_recovery()") == [(False,)])       # it thinks so still
    eventually(lambda: "former primary" in hosts(proxy, "primary")[former.address]["why_not"], timeout=60)
    assert all(written(proxy, number) for number in range(10, 30))
    assert kept(former) == {1}
    assert kept(promoted) == {1, 2, *range(10, 30)}
    assert not serves(proxy, "replicas", former)
    proxy.client.worker(1, "check_now")
    assert not hosts(proxy, "primary")[former.address]["healthy"]       # which is a fault, and not a role


def test_of_two_in_the_list_on_one_timeline_neither_takes_anything(servers, start):
    one, _, other = servers.servers
    proxy = start(**one_list(servers))
    assert written(proxy, 1)
    servers.catch_up()
    other.stop()
    (other.data / "standby.signal").unlink()           # a copy that was started as it is
    other.start()
    eventually(lambda: refused(proxy))
    assert "which is the primary cannot be told" in proxy.log.read_text()
    assert kept(one) == kept(other) == {1}
    other.stop()
    eventually(lambda: written(proxy, 3), timeout=60)
    assert kept(one) == {1, 3}


def test_a_worker_that_is_replaced_knows_the_greatest_timeline(servers, start):
    """The former primary alone is left: by what the new worker sees of it, it would be one."""
    former, promoted, other = servers.servers
    proxy = start(**one_list(servers))
    assert written(proxy, 1)
    servers.catch_up()
    promoted.promote()
    eventually(lambda: all_know_the_term(proxy, 2), timeout=60)
    eventually(lambda: written(proxy, 2), timeout=60)
    promoted.stop()
    other.stop()
    before = {worker["pid"] for worker in proxy.client.arbiter("workers")}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len({worker["pid"] for worker in proxy.client.arbiter("workers") if worker["booted"]}
                           - before) == 2, timeout=60)
    eventually(lambda: "former primary" in hosts(proxy, "primary")[former.address]["why_not"], timeout=60)
    assert not written(proxy, 3)
    assert kept(former) == {1}


def test_a_session_follows_a_failover(servers, start):
    """With all that it had; the one that idles, too."""
    former, promoted, _ = servers.servers
    servers.primary.query("grant insert, select on kept to pg_monitor")
    proxy = start(**one_list(servers))
    session, idle = connect(proxy), connect(proxy)
    prepare(session)
    assert value(idle, "select 1") == 1
    eventually(lambda: is_settled(proxy))
    servers.catch_up()
    former.stop()
    with ThreadPoolExecutor(1) as background:
        waiting = background.submit(session.execute, "insert into kept values (%s, 'after')", [2])
        promoted.promote()
        waiting.result(60)
    look(session)
    assert value(idle, "select count(*) from kept") == 2
    assert kept(promoted) == {1, 2}
