"""Clusters on the real pair: names, roles, health, freshness."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from pgsplit.config.loader import load
from pgsplit.config.model import Config
from pgsplit.errors import ConnectionLost, ServerError
from pgsplit.split.fence import ALWAYS, NEVER
from pgsplit.stats.own import KINDS
from pgsplit.topology.cluster import resolve
from pgsplit.topology.sampler import Sampler


def configuration(primary: str, replicas: list[str], **settings: str) -> Config:
    own = {"health_interval": "100ms", "health_timeout": "1s", "dns_refresh": "100ms", **settings}
    text = f"""listen: 127.0.0.1:6432
primary: {primary}
replicas: [{", ".join(replicas)}]
users: {{postgres: postgres-secret}}
pgsplit: {{{", ".join(f"{name}: {value}" for name, value in own.items())}}}
"""
    return load(text, "test.yaml", open, defaults={"workers": 1, "run_dir": "/nowhere"}).config


def soon(effect: Callable[[], Any], timeout: float = 30) -> Any:
    """As `eventually`, on gevent's hub."""
    deadline = time.monotonic() + timeout
    while not (value := effect()):
        assert time.monotonic() < deadline, "did not happen"
        gevent.sleep(0.02)
    return value


def test_the_primary_and_its_standby_are_told_apart(cluster, manage):
    manager = manage(configuration(cluster.primary.address, [cluster.standbys[0].address]))
    assert manager.pick("primary").address[1] == cluster.primary.port
    assert manager.pick("replicas").address[1] == cluster.standbys[0].port
    assert manager.pick("replicas").in_recovery


def test_exchanged_roles_serve_nothing_and_say_why(cluster, manage):
    manager = manage(configuration(cluster.standbys[0].address, [cluster.standbys[0].address]))
    with pytest.raises(ServerError, match="is in recovery, not a primary"):
        manager.pick("primary")


def test_the_primary_may_stand_in_the_read_cluster(cluster, manage):
    manager = manage(configuration(cluster.primary.address, [cluster.primary.address, cluster.standbys[0].address]))
    hosts = soon(lambda: len(manager.cluster("replicas").usable()) == 2 and manager.cluster("replicas").usable())
    assert [host.fresh_ns for host in hosts if host.is_primary] == [ALWAYS]
    picked = {manager.pick("replicas").address[1] for _ in range(4)}
    assert picked == {cluster.primary.port, cluster.standbys[0].port}


def test_a_host_that_is_down_is_skipped_and_taken_back(cluster, manage):
    standby = cluster.standbys[0]
    manager = manage(configuration(cluster.primary.address, [standby.address, "127.0.0.1:1"]))
    assert {manager.pick("replicas").address[1] for _ in range(4)} == {standby.port}
    gevent.get_hub().threadpool.apply(standby.stop)        # a login under way may have to end first, which is ours
    try:
        with pytest.raises(ServerError, match="no host of cluster replicas can be used"):
            soon(lambda: not manager.cluster("replicas").usable())
            manager.pick("replicas")
        host = manager.cluster("replicas").hosts["127.0.0.1", standby.port]
        assert host.why_not and host.fresh_ns == NEVER
    finally:
        standby.start()
    soon(lambda: not host.why_not)
    counters = manager.counters()
    assert counters["cluster.replicas.membership_total"] == 2 and counters["cluster.replicas.membership_healthy"] == 1
    assert counters["cluster.replicas.127.0.0.1:1.upstream_cx_connect_fail"] > 0


def test_a_primary_that_has_missed_a_check_is_tried_all_the_same(cluster, manage):
    manager = manage(configuration(cluster.primary.address, [cluster.standbys[0].address]))
    host = manager.pick("primary")
    check = manager.cluster("primary").checks[host.address]
    check.fail(TimeoutError("the health check timed out"))
    assert host.why_not == "the health check timed out" and manager.pick("primary") is host
    check.fail(ServerError("28P01", "password authentication failed"))      # it has answered, and is not to be used
    with pytest.raises(ServerError, match="password authentication failed"):
        manager.pick("primary")
    replica = manager.pick("replicas")
    manager.cluster("replicas").checks[replica.address].fail(TimeoutError("the health check timed out"))
    with pytest.raises(ServerError, match="no host of cluster replicas can be used"):
        manager.pick("replicas")


MONITORS = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'pgsplit monitor'"


@pytest.fixture
def full(cluster):
    """With 0, the servers let no monitor in any more, and end those that are in. With -1, and at the end, they do."""
    def set_limit(limit: int) -> None:
        cluster.primary.query(f"alter role scram_user connection limit {limit}")
        [(wal,)] = cluster.primary.query("select pg_current_wal_flush_lsn()")
        soon(lambda: cluster.standbys[0].query(f"select pg_last_wal_replay_lsn() >= '{wal}'") == [(True,)])
        for server in (cluster.primary, cluster.standbys[0]):
            server.query(MONITORS)

    yield set_limit
    set_limit(-1)


def unprivileged(config: Config) -> Config:
    """A superuser's role has no limit."""
    return config.model_copy(update={"monitor": config.monitor.model_copy(update={
        "username": "scram_user", "secret": "scram-secret"})})


def test_a_server_that_is_full_for_the_monitor_stays_in_use(cluster, manage, full, caplog):
    config = unprivileged(configuration(cluster.primary.address, [cluster.standbys[0].address]))
    manager = manage(config)
    primary, replica = manager.pick("primary"), manager.pick("replicas")
    full(0)
    for host in (primary, replica):
        soon(lambda host=host: any(host.name in line and "stays in use" in line and "too many connections" in line
                                   for line in caplog.messages))
        assert not host.why_not
    assert replica.fresh_ns == NEVER and manager.pick("primary") is primary and manager.pick("replicas") is replica
    anew = manage(config)                   # nobody has seen them: a primary is tried, a replica is not
    assert anew.pick("primary").address == primary.address
    with pytest.raises(ServerError, match="too many connections for role"):
        anew.pick("replicas")
    full(-1)
    sampler = Sampler(manager, "primary", "replicas")
    assert soon(lambda: sampler.wait_fresh(replica, time.monotonic_ns(), 1))
    assert not [line for line in caplog.messages if f"{replica.name} of cluster replicas is out" in line][1:]
    sampler.stop()


def test_the_end_of_the_monitor_s_connection_alone_takes_nothing_out(cluster, manage, loop, caplog):
    manager = manage(configuration(cluster.primary.address, [cluster.standbys[0].address]), loop=loop)
    replica = manager.pick("replicas")
    check = manager.cluster("replicas").checks[replica.address]
    for _ in range(5):
        before = check.connection._connection
        cluster.standbys[0].query(MONITORS)
        soon(lambda before=before: check.connection.open and check.connection._connection is not before
             and not check._unseen)
        assert not replica.why_not
    assert not any("is out" in line for line in caplog.messages)

    def ends_each_time() -> None:
        check.connection.connect()
        raise ConnectionLost(replica.name)

    check._check = ends_each_time
    soon(lambda: "closed the connection" in replica.why_not)


def test_names_are_resolved_again(cluster, manage):
    answers = [[("127.0.0.1", cluster.standbys[0].port)]]

    def resolver(host: str, port: int) -> list[tuple[str, int]]:
        return answers[-1] if host == "standbys" else resolve(host, port)

    manager = manage(configuration(cluster.primary.address, ["standbys:5432"]), resolver=resolver)
    first = manager.pick("replicas")
    answers.append([("127.0.0.1", 1)])
    soon(lambda: first.removed)
    assert first.why_not == "is gone from the DNS"
    answers.append([("127.0.0.1", 1), ("127.0.0.1", cluster.standbys[0].port)])
    again = soon(lambda: next(iter(manager.cluster("replicas").usable()), None))
    assert again is not first and again.address == first.address


def test_a_reload_keeps_what_it_leaves_alone(cluster, manage):
    standby = cluster.standbys[0]
    manager = manage(configuration(cluster.primary.address, [standby.address]))
    primary, replica = manager.pick("primary"), manager.pick("replicas")
    check = manager.cluster("replicas").checks[replica.address]
    soon(lambda: replica.fresh_ns > NEVER)
    monitored, fresh = check.connection._connection, replica.fresh_ns
    for settings in ({"max_lag": "10s"}, {"health_interval": "50ms"}, {"dns_refresh": "1s"}, {"health_timeout": "2s"}):
        manager.update(configuration(cluster.primary.address, [standby.address], **settings))
        assert manager.pick("primary") is primary and manager.pick("replicas") is replica
        gevent.sleep(0.1)
        assert not replica.removed and not replica.why_not and replica.fresh_ns >= fresh > NEVER
    replicas = manager.cluster("replicas")
    assert (replicas.health_timeout, replicas.config.max_lag, replicas.config.dns_refresh) == (2.0, 0.0, 0.1)
    manager.update(configuration(cluster.primary.address, [standby.address, "127.0.0.1:1"]))
    soon(lambda: ("127.0.0.1", 1) in replicas.hosts)
    assert replicas.usable() == [replica] and manager.pick("primary") is primary
    assert replicas.checks[replica.address] is check and check.connection._connection is monitored


def test_what_a_reload_takes_out_goes_at_once_and_what_it_adds_comes(cluster, manage):
    """Also while another name does not resolve, which keeps the addresses that it had."""
    standby, primary = cluster.standbys[0], cluster.primary.address
    answers = {"standbys": [("127.0.0.1", standby.port)]}

    def resolver(host: str, port: int) -> list[tuple[str, int]]:
        if host == "standbys" and host not in answers:
            raise OSError("no such host")
        return answers.get(host) or resolve(host, port)

    manager = manage(configuration(primary, ["standbys:5432", "127.0.0.1:1", "127.0.0.1:2"]), resolver=resolver)
    hosts = manager.cluster("replicas").hosts
    kept, gone = hosts["127.0.0.1", standby.port], hosts["127.0.0.1", 1]
    del answers["standbys"]
    manager.update(configuration(primary, ["standbys:5432", "127.0.0.1:2", "127.0.0.1:3"]))
    assert gone.removed and gone.why_not == "is in the configuration no more"
    soon(lambda: sorted(port for _, port in hosts) == sorted([2, 3, standby.port]))
    gevent.sleep(0.3)       # the name has not resolved several times
    assert hosts["127.0.0.1", standby.port] is kept and not kept.why_not
    answers["standbys"] = [("127.0.0.1", 4)]
    soon(lambda: kept.removed)
    assert kept.why_not == "is gone from the DNS"


def test_a_monitor_that_logs_in_differently_does_so_after_a_reload(cluster, manage):
    standby, primary = cluster.standbys[0], cluster.primary.address
    config = configuration(primary, [standby.address])
    manager = manage(config)
    host = manager.pick("replicas")
    before = manager.cluster("replicas").checks[host.address]
    assert not before.connection._connection.stream.tls
    wrong = config.monitor.model_copy(update={"secret": "wrong"})
    manager.update(config.model_copy(update={"monitor": wrong}))
    soon(lambda: "password authentication failed" in host.why_not)
    before.fail(TimeoutError("the health check timed out"))        # of the check that is no more
    assert "password authentication failed" in host.why_not and not host.removed
    listeners = tuple(listener.model_copy(update={"upstream_ssl": "REQUIRE"}) for listener in config.listeners)
    manager.update(config.model_copy(update={"listeners": listeners}))
    soon(lambda: not host.why_not)
    replicas = manager.cluster("replicas")
    assert replicas.hosts == {host.address: host}
    assert replicas.checks[host.address].connection._connection.stream.tls
    context = replicas.ssl_context()
    manager.update(config.model_copy(update={"listeners": listeners}))
    assert replicas.ssl_context() is not context        # the CA's file may hold another one


def test_a_listener_that_does_not_split_takes_no_freshness_from_the_others(cluster, manage):
    config = configuration(cluster.primary.address, [cluster.standbys[0].address])
    plain = config.listeners[0].model_copy(update={"name": "plain", "split_rw": False, "write_cluster": "replicas"})
    manager = manage(config.model_copy(update={"listeners": (*config.listeners, plain)}))
    soon(lambda: manager.pick("replicas").fresh_ns > NEVER)


def test_freshness_follows_replay(cluster, manage, loop):
    standby = cluster.standbys[0]
    manager = manage(configuration(cluster.primary.address, [standby.address], health_interval="10s"),
                     loop=loop)
    sampler = Sampler(manager, "primary", "replicas")
    host = manager.pick("replicas")
    cluster.primary.query("create table if not exists fresh_follows (a int)")
    cluster.primary.query("insert into fresh_follows values (1)")
    assert sampler.wait_fresh(host, time.monotonic_ns(), 10)
    standby.pause_replay()
    try:
        cluster.primary.query("insert into fresh_follows values (2)")
        written = time.monotonic_ns()
        assert not sampler.wait_fresh(host, written, 0.3)
        assert sampler.pick_fresh(written, 0.1) is None
        assert host.lag_bytes > 0
    finally:
        standby.resume_replay()
    assert sampler.wait_fresh(host, written, 10)
    asked = sampler.samples
    assert sampler.wait_fresh(host, written, 10) and sampler.samples == asked, "what is known is not asked again"
    sampler.stop()
    cluster.primary.query("drop table fresh_follows")


def test_waiting_reads_share_samples(cluster, manage, loop):
    manager = manage(configuration(cluster.primary.address, [cluster.standbys[0].address], health_interval="10s"),
                     loop=loop)
    sampler = Sampler(manager, "primary", "replicas")
    host = manager.pick("replicas")
    fence = time.monotonic_ns()

    def served_by() -> int:
        assert sampler.wait_fresh(host, fence, 10)
        return sampler.samples

    jobs = [gevent.spawn(served_by) for _ in range(100)]
    gevent.joinall(jobs)
    assert {job.value for job in jobs} == {sampler.samples}, "the sample that served one served all, and was the last"
    sampler.stop()


def test_what_a_relay_wants_is_sampled_until_it_is_there(cluster, manage, loop):
    manager = manage(configuration(cluster.primary.address, [cluster.standbys[0].address], health_interval="10s"),
                     loop=loop)
    fresher = Event()
    sampler = Sampler(manager, "primary", "replicas", fresher.set)
    host = manager.pick("replicas")
    for _ in range(3):
        fence = time.monotonic_ns()
        sampler.want(host, fence, 10)
        sampler.want(host, fence - 1, 10)
        while host.fresh_ns <= fence:
            assert fresher.wait(10)
            fresher.clear()
    samples = sampler.samples
    gevent.sleep(0.05)
    assert sampler.samples == samples       # and no longer
    sampler.stop()


def test_a_read_that_comes_wakes_the_sampler(cluster, manage, loop, monkeypatch):
    """Also while it pauses, since a replica has not replayed what others wait for."""
    monkeypatch.setattr("pgsplit.topology.sampler.PAUSE", 3600)
    standby = cluster.standbys[0]
    manager = manage(configuration(cluster.primary.address, [standby.address], health_interval="60s"), loop=loop)
    sampler = Sampler(manager, "primary", "replicas")
    host = manager.pick("replicas")
    standby.pause_replay()
    try:
        cluster.primary.query("create table wakes (n int)")
        assert not sampler.wait_fresh(host, time.monotonic_ns(), 0.2)
        waits = gevent.spawn(sampler.wait_fresh, host, time.monotonic_ns(), 3600)
        gevent.sleep(0.2)
    finally:
        standby.resume_replay()
    cluster.catch_up()
    assert sampler.wait_fresh(host, time.monotonic_ns(), 30) and waits.get(timeout=30)
    sampler.stop()
    cluster.primary.query("drop table wakes")


def test_nobody_wants_for_ever(manage, loop):
    manager = manage(configuration("127.0.0.1:1", ["127.0.0.1:2"]), loop=loop)
    sampler = Sampler(manager, "primary", "replicas")
    [host] = manager.cluster("replicas").hosts.values()
    sampler.want(host, time.monotonic_ns(), 0.01)
    with gevent.Timeout(20):
        while sampler.waiting:
            gevent.sleep(0.01)
    sampler.stop()


def test_without_a_primary_nothing_is_fresh_and_nobody_waits_for_ever(cluster, manage, loop):
    manager = manage(configuration("127.0.0.1:1", [cluster.standbys[0].address]), loop=loop)
    sampler = Sampler(manager, "primary", "replicas")
    assert not sampler.wait_fresh(manager.pick("replicas"), time.monotonic_ns(), 0.1)
    sampler.stop()


def test_a_replica_over_its_lag_limit_is_out_until_it_has_caught_up(cluster, manage):
    standby = cluster.standbys[0]
    manager = manage(configuration(cluster.primary.address, [standby.address], max_lag_bytes="64KiB"))
    host = manager.pick("replicas")
    standby.pause_replay()
    try:
        cluster.primary.query("create table if not exists lagging as select generate_series(1, 5000) as a")
        cluster.primary.query("drop table lagging")
        soon(lambda: "bytes behind (max_lag_bytes 65536)" in host.why_not)
    finally:
        standby.resume_replay()
    soon(lambda: not host.why_not)


def test_own_questions_are_counted_as_the_servers_count_them(cluster, manage, loop):
    servers = {"primary": cluster.primary, "replica": cluster.standbys[0]}
    for server in servers.values():
        server.query("select pg_stat_statements_reset()")
    manager = manage(configuration(cluster.primary.address, [cluster.standbys[0].address], health_interval="1h"),
                     loop=loop)
    sampler = Sampler(manager, "primary", "replicas")
    assert soon(lambda: sampler.wait_fresh(manager.pick("replicas"), time.monotonic_ns(), 1))
    sampler.stop()
    counters = manager.counters()
    for (upstream, server), name in zip(servers.items(), ("primary", "replicas"), strict=True):
        own = {kind.name: counters.get(f"cluster.{name}.own.{upstream}.{kind.name}", 0) for kind in KINDS}

        def calls(*beginnings: str, server: Any = server) -> int:
            found = " or ".join(f"query like '{beginning}%'" for beginning in beginnings)
            [(count,)] = server.query(f"select coalesce(sum(calls), 0)::int from pg_stat_statements where {found}")
            return int(count)

        assert own["sample"] + own["health"] == calls("select pg_is_in_recovery()", "select pg_conf_load_time()")
        assert own["health"] == 2 and own["sample"] > 0 and own["identity"] > 0
        assert own["configuration"] == calls("%pg_collation_actual_version", "select name, setting from") == 2
        assert counters[f"cluster.{name}.own_us.{upstream}.sample"] > 0


def test_what_was_asked_of_a_cluster_that_is_gone_is_counted_still(cluster, manage):
    config = configuration(cluster.primary.address, [cluster.standbys[0].address])
    manager = manage(config)
    name = "cluster.replicas.own.replica.identity"
    before = manager.counters()[name]
    left = tuple(each for each in config.clusters if each.name != "replicas")
    manager.update(config.model_copy(update={"clusters": left, "listeners": ()}))
    assert manager.counters()[name] >= before > 0
