"""One list of servers: who is the primary and who a standby is found out, and no fault of theirs."""

from __future__ import annotations

import time

import gevent
import pytest

from pgsplit.config.loader import load
from pgsplit.config.model import Config
from pgsplit.errors import ServerError
from pgsplit.process import findings
from pgsplit.split.fence import NEVER
from pgsplit.topology.hints import GAP, HURRIED, Hints
from pgsplit.topology.sampler import Sampler
from pgsplit.topology.snapshot import host_snapshot
from tests.topology.test_clusters import soon


def configuration(*servers: str, **settings: str) -> Config:
    own = {"health_interval": "100ms", "health_timeout": "1s", **settings}
    text = f"""listen: 127.0.0.1:6432
servers: [{", ".join(servers)}]
users: {{postgres: postgres-secret}}
pgsplit: {{{", ".join(f"{name}: {value}" for name, value in own.items())}}}
"""
    return load(text, "test.yaml", open, defaults={"workers": 1, "run_dir": "/nowhere"}).config


def test_each_server_is_used_for_what_it_is(cluster, manage, caplog):
    caplog.set_level("INFO")
    primary, standby = cluster.primary, cluster.standbys[0]
    manager = manage(configuration(standby.address, primary.address))
    readers, writers = manager.cluster("replicas"), manager.cluster("primary")
    soon(lambda: readers.usable() and writers.usable() and all(
        sum(host.other_role for host in one.hosts.values()) == 1 for one in (readers, writers)))
    for _ in range(4):
        assert manager.pick("primary").address[1] == primary.port
        assert manager.pick("replicas").address[1] == standby.port
    sampler = Sampler(manager, "primary", "replicas")
    fresh = soon(lambda: sampler.pick_fresh(time.monotonic_ns(), 1))
    assert fresh.address[1] == standby.port
    sampler.stop()
    aside = readers.hosts["127.0.0.1", primary.port]
    soon(lambda: aside.why_not == "is the primary")
    assert aside.fresh_ns == NEVER and writers.hosts["127.0.0.1", standby.port].why_not == "is a standby"
    for known in (readers, writers):
        for host in known.hosts.values():
            shown = host_snapshot(known, host)
            assert shown.healthy and shown.serves == (not host.other_role)
    counters = manager.counters()
    for name in ("replicas", "primary"):
        assert counters[f"cluster.{name}.membership_total"] == counters[f"cluster.{name}.membership_healthy"] == 1
        assert counters[f"cluster.{name}.{primary.address}.healthy"] == 1
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert findings.look(manager, manager._config) == []


def test_the_primary_of_one_list_may_read_too_where_that_is_asked_for(cluster, manage):
    own = "{replicas: {role: read}}"
    manager = manage(configuration(cluster.primary.address, cluster.standbys[0].address, clusters=own))
    readers = manager.cluster("replicas")
    soon(lambda: len(readers.usable()) == 2)
    assert {manager.pick("replicas").address[1] for _ in range(4)} == {cluster.primary.port, cluster.standbys[0].port}


def test_a_list_without_a_primary_is_a_fault_of_the_list(cluster, manage):
    config = configuration(cluster.standbys[0].address)
    manager = manage(config)
    with pytest.raises(ServerError, match=r"no host of cluster primary can be used: .*: is a standby"):
        manager.pick("primary")
    assert [finding.text for finding in findings.look(manager, config)] == [
        "no server of cluster primary is out of recovery: there is no primary"]
    alone = configuration(cluster.primary.address)
    assert [finding.text for finding in findings.look(manage(alone), alone)] == [
        "no server of cluster replicas is a standby: all reads are the primary's"]


def test_a_standby_that_does_not_answer_is_not_tried_as_the_primary(cluster, manage):
    manager = manage(configuration(cluster.primary.address, cluster.standbys[0].address))
    writers = manager.cluster("primary")
    soon(lambda: writers.usable())
    for host in writers.hosts.values():
        writers.checks[host.address].fail(TimeoutError("the health check timed out"))
    assert manager.pick("primary").address[1] == cluster.primary.port
    writers.hosts["127.0.0.1", cluster.primary.port].order = "drain"
    with pytest.raises(ServerError, match="no host of cluster primary can be used"):
        manager.pick("primary")


def test_the_end_of_the_monitor_s_connection_is_heard_and_not_waited_for(cluster, manage):
    manager = manage(configuration(cluster.primary.address, cluster.standbys[0].address, health_interval="1h"))
    check = manager.cluster("primary").checks["127.0.0.1", cluster.primary.port]
    before = soon(lambda: check.connection.open and check.connection._connection)
    cluster.primary.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgsplit monitor'")
    soon(lambda: check.connection.open and check.connection._connection is not before)
    assert not check.host.why_not


def test_a_login_that_fails_has_all_servers_checked(cluster, manage):
    manager = manage(configuration(cluster.primary.address, cluster.standbys[0].address, health_interval="1h"))
    checks = [check for name in ("primary", "replicas") for check in manager.cluster(name).checks.values()]
    soon(lambda: all(check.connection.open and not check._wake.is_set() for check in checks))
    heard = [check.host.configuration for check in checks]
    for check in checks:
        check.host.configuration = None
    manager.hint("replicas")
    soon(lambda: all(check.host.configuration for check in checks))
    assert [check.host.configuration for check in checks] == heard


def test_hints_are_bounded_in_rate_and_none_is_lost():
    checked: list[float] = []
    hints = Hints(lambda cluster: checked.append(time.monotonic()))
    for _ in range(1000):
        hints.hint("primary")
    assert len(checked) == 1
    hints.hint("other")
    assert len(checked) == 2
    with gevent.Timeout(20):
        while len(checked) < 3:
            gevent.sleep(0.01)
    assert checked[2] - checked[0] >= GAP * 0.9
    hints.hint("primary")
    hints.stop()
    gevent.sleep(2 * GAP)
    assert len(checked) == 3


def test_while_there_is_no_primary_servers_are_checked_sooner(monkeypatch):
    hints = Hints(lambda cluster: None)
    assert hints.interval("primary", 5, has_primary=True) == 5
    assert hints.interval("primary", 5, has_primary=False) == HURRIED
    assert hints.interval("primary", 0.05, has_primary=False) == 0.05
    later = time.monotonic() + 61
    monkeypatch.setattr("pgsplit.topology.hints.time.monotonic", lambda: later)
    assert hints.interval("primary", 5, has_primary=False) == 5
    assert hints.interval("primary", 5, has_primary=True) == 5
    assert hints.interval("primary", 5, has_primary=False) == HURRIED
