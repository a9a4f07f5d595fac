"""One monitor a node, in front of the real pair: what it costs the servers, and what its absence does (ADR 0024)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgsplit.demo.proxy import Proxy
from tests.freezing import standing_still
from tests.process.restarting import Connections, Instance, alive, monitor_of, reads_on_the_replica, route
from tests.process.test_restart import change
from tests.waiting import eventually

pytestmark = pytest.mark.pg

Start = Callable[..., Instance]


@pytest.fixture
def start(pgsplit_server: Callable[..., Proxy], cluster: Any) -> Iterator[Start]:
    made: list[Instance] = []

    def begin(workers: int = 2, keywords: dict[str, Any] | None = None, **settings: Any) -> Instance:
        own = {"workers": workers, "fence_wait": "1s", "health_interval": "500ms", **settings}
        made.append(Instance(pgsplit_server(**{"upstream_tls": "disable", "pgsplit": own, **(keywords or {})}),
                             cluster.guardian))
        return made[-1]

    yield begin
    for instance in made:
        instance.stop()


@pytest.fixture
def table(cluster: Any) -> Iterator[str]:
    cluster.primary.query("create table if not exists watched (n int)")
    cluster.catch_up()
    yield "watched"
    cluster.primary.query("drop table watched")


@pytest.mark.parametrize("workers", [2, 4])
def test_servers_have_one_monitor_however_many_workers_there_are(cluster: Any, start: Start, workers: int) -> None:
    connections = Connections(cluster.primary, cluster.standbys[0])
    instance = start(workers)
    servers = [cluster.primary, cluster.standbys[0]]
    eventually(lambda: all(connections.of(server) == {"monitor": 1} for server in servers))     # nobody reads yet
    sessions = [instance.connect() for _ in range(8 * workers)]
    try:
        for session in sessions:
            eventually(lambda session=session: reads_on_the_replica(session))
        eventually(lambda: all(row["sessions"] for row in instance.proxy.client.arbiter("workers")))
        eventually(lambda: connections.of(cluster.standbys[0]) == {"monitor": 1, "sampler": workers})
        eventually(lambda: connections.of(cluster.primary) == {
            "monitor": 1, "sampler": workers, "catalogue": workers})
    finally:
        for session in sessions:
            session.close()


def test_its_name_is_in_the_list_of_processes(start: Start) -> None:
    pid = monitor_of(start())
    eventually(lambda: Path(f"/proc/{pid}/cmdline").read_text().startswith("pgsplit: monitor"))


def test_reads_are_the_primary_s_until_a_killed_one_is_replaced(cluster: Any, start: Start, table: str) -> None:
    connections = Connections(cluster.primary)
    instance = start(fence_wait="20ms")       # a read that waits longer does not notice
    with instance.connect() as session:
        eventually(lambda: reads_on_the_replica(session))
        before = monitor_of(instance)
        os.kill(before, signal.SIGKILL)
        seen = set()
        for number in range(10_000):
            session.execute(f"insert into {table} values (%s)", [number])          # writes go on
            assert session.execute(f"select max(n) from {table}").fetchone() == (number,)
            seen.add(route(session).partition(":")[0])
            if number % 10 == 0 and instance.proxy.client.arbiter("about")["monitor"] not in (0, before):
                break
        assert "primary" in seen and monitor_of(instance) != before
        eventually(lambda: reads_on_the_replica(session))
    eventually(lambda: connections.of(cluster.primary)["monitor"] == 1)
    log = instance.log
    assert f"the monitor (pid {before}) ended: signal SIGKILL" in log and " is out" not in log
    assert instance.proxy.client.arbiter("about")["restarts"] == 0                  # of workers


def test_one_that_stands_still_is_not_believed_and_is_replaced(cluster: Any, start: Start, table: str) -> None:
    instance = start(fence_wait="20ms")       # a read that waits until it is back does not notice
    with instance.connect() as session:
        eventually(lambda: reads_on_the_replica(session))
        before = monitor_of(instance)
        with standing_still(before):
            eventually(lambda: not reads_on_the_replica(session))
            session.execute(f"insert into {table} values (1)")
            with instance.connect() as other:
                assert other.execute(f"select count(*) from {table}").fetchone() == (1,)
            eventually(lambda: monitor_of(instance) != before)
        eventually(lambda: reads_on_the_replica(session))
    assert f"the monitor (pid {before}) is hung" in instance.log and " is out" not in instance.log


def test_one_that_goes_on_in_time_is_believed_again(start: Start) -> None:
    """What it has told before it stood still is not."""
    instance = start(fence_wait="20ms")       # a read that waits until it is back does not notice
    with instance.connect() as session:
        eventually(lambda: reads_on_the_replica(session))
        with standing_still(monitor_of(instance)):
            eventually(lambda: not reads_on_the_replica(session))
        eventually(lambda: reads_on_the_replica(session))


def test_a_reload_has_it_watch_other_hosts(cluster: Any, start: Start) -> None:
    standby = cluster.standbys[0]
    connections = Connections(standby)
    instance = start(keywords={"replicas": ["127.0.0.1:1"]})         # where nobody is
    monitor = monitor_of(instance)
    with instance.connect() as session:
        assert not reads_on_the_replica(session) and not connections.of(standby)
        before = change(instance, replicas=[standby.address])
        instance.signal(signal.SIGHUP)
        eventually(lambda: connections.of(standby)["monitor"] == 1)
        with instance.connect() as other:
            eventually(lambda: reads_on_the_replica(other))
        instance.proxy.file.write_text(before)
        instance.signal(signal.SIGHUP)
        eventually(lambda: not connections.of(standby))
        assert not reads_on_the_replica(session) and monitor_of(instance) == monitor


def test_it_ends_with_its_arbiter_however_that_dies(start: Start) -> None:
    instance = start()
    pid = monitor_of(instance)
    instance.signal(signal.SIGKILL)
    eventually(lambda: not alive(pid))


def test_what_it_asks_is_counted(start: Start) -> None:
    instance = start()

    def asked(kind: str) -> int:
        return int(instance.proxy.client.arbiter("totals").get(kind, 0))

    eventually(lambda: asked("cluster.primary.own.primary.health") > 1)
    before = asked("cluster.primary.own.primary.health")
    os.kill(monitor_of(instance), signal.SIGKILL)
    eventually(lambda: asked("cluster.primary.own.primary.health") > before)        # totals never fall


def asked(instance: Instance) -> bool:
    """Whether the present monitor has told of the primary: all workers can use it, and know how far it is."""
    about, hosts = instance.proxy.client.arbiter("about"), instance.proxy.client.worker(1, "hosts")
    return bool(about["monitor"]) and any(host["role"] == "primary" and host["healthy"] for host in hosts)


def test_hosts_that_it_cannot_reach_are_counted(start: Start) -> None:
    instance = start(keywords={"replicas": ["127.0.0.1:1"]})

    def failed(name: str) -> int:
        return int(instance.proxy.client.arbiter("totals").get(f"cluster.replicas.{name}", 0))

    eventually(lambda: failed("127.0.0.1:1.upstream_cx_connect_fail") > 2 and failed("upstream_cx_connect_fail") > 2)


def test_a_host_in_maintenance_has_no_connection_of_pgsplit_s(cluster: Any, start: Start) -> None:
    standby = cluster.standbys[0]
    connections = Connections(standby)
    instance = start()
    with instance.connect() as session:
        eventually(lambda: reads_on_the_replica(session))
        eventually(lambda: connections.of(standby) == {"monitor": 1, "sampler": 1})
        order = {"cluster": "replicas", "host": f"127.0.0.1:{standby.port}"}
        instance.proxy.client.arbiter("order_host", **order, order="maintenance")
        eventually(lambda: not connections.of(standby) and not reads_on_the_replica(session))
        os.kill(monitor_of(instance), signal.SIGKILL)         # the next one knows of the order, too
        eventually(lambda: asked(instance) and not connections.of(standby))
        instance.proxy.client.arbiter("order_host", **order, order="ready")
        eventually(lambda: reads_on_the_replica(session))
        eventually(lambda: connections.of(standby)["monitor"] == 1)
