"""A worker's clusters, told by the monitor: conversations without a server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from pgsplit.errors import ConnectionLost, ServerError
from pgsplit.split.fence import ALWAYS, NEVER
from pgsplit.topology import told
from pgsplit.topology.fact import Fact, Position, fact_of, failure_of
from pgsplit.topology.host import IS_STANDBY, MAINTENANCE, UNCHECKED, Configuration, Host, Identity
from pgsplit.topology.patroni import NOBODY, Leader
from pgsplit.topology.told import ToldManager, key_of
from tests.topology.test_clusters import configuration

SYSTEM = "7300000000000000001"
PRIMARY, REPLICA = ("127.0.0.1", 1), ("127.0.0.1", 2)       # where nobody listens
STARTED = {PRIMARY: 100, REPLICA: 200}


class Monitor:
    """What it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hint(self, cluster_name: str) -> None:
        self.heard.append(cluster_name)

    def found_behind(self, cluster_name: str, address: tuple[str, int], identity: Identity) -> None:
        self.heard.append((cluster_name, address, identity.started))


class Worker:
    """The test speaks for the monitor."""

    def __init__(self, **settings: str) -> None:
        self.monitor = Monitor()
        self.manager = ToldManager(self.monitor, configuration("127.0.0.1:1", ["127.0.0.1:2"], **settings))
        for name, (host, port) in (("primary", PRIMARY), ("replicas", REPLICA)):
            self.tell({"kind": told.NAMES, "cluster": name, "names": [[host, port, [[host, port]]]]})

    def tell(self, what: dict[str, Any]) -> None:
        self.manager.take(json.loads(json.dumps(what)))

    def say(self, address: tuple[str, int], fact: Fact, behind: Identity | None = None) -> None:
        name = "primary" if address == PRIMARY else "replicas"
        self.tell(dict(told.told_of_host(name, Host(name, address, behind), told_fact(fact))))

    def says(self, address: tuple[str, int], lsn: int, *, standby: bool | None = None, timeline: int = 1,
             asked_ns: int | None = None, started: int | None = None, behind: Identity | None = None) -> int:
        """A check has gone well. Returns when it was asked."""
        now = time.monotonic_ns() if asked_ns is None else asked_ns
        in_recovery = address == REPLICA if standby is None else standby
        position = Position(in_recovery, lsn, 0 if in_recovery else lsn, timeline, 0, now, now)
        self.say(address, Fact(now, None, position, Identity(SYSTEM, started or STARTED[address]),
                               Configuration("then", (("DateStyle", "ISO"),), "c0ffee")), behind)
        return now

    def fails(self, address: tuple[str, int], error: Exception, *, lost: bool = False) -> None:
        self.say(address, Fact(time.monotonic_ns(), failure_of(error, lost=lost)))

    @property
    def primary(self) -> Host:
        return self.manager.cluster("primary").hosts[PRIMARY]

    @property
    def replica(self) -> Host:
        return self.manager.cluster("replicas").hosts[REPLICA]


def told_fact(fact: Fact) -> dict[str, Any]:
    from pgsplit.topology.fact import told as as_told

    return as_told(fact)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    made.says(PRIMARY, 1000)
    made.says(REPLICA, 1000)
    yield made
    made.manager.stop()


def test_a_fact_is_the_same_behind_its_journey():
    identity = Identity(SYSTEM, 5)
    for fact in (Fact(3, failure_of(ServerError("53300", "too many"), lost=True)),
                 Fact(4, None, Position(True, 1, 0, 2, 3, 4, 5), identity,
                      Configuration("now", (("DateStyle", "ISO"), ("TimeZone", "UTC")), "x"), "10.0.0.1:5432", False)):
        assert fact_of(json.loads(json.dumps(told_fact(fact)))) == fact
    long = Fact(4, None, None, identity, Configuration("now", (("search_path", "x" * 100_000),), "x"))
    assert len(json.dumps(told_fact(long))) < 1000        # values are compared, not read


def test_roles_and_freshness_are_those_that_it_is_told(worker):
    assert worker.manager.pick("primary") is worker.primary and worker.manager.pick("replicas") is worker.replica
    assert worker.replica.fresh_ns > NEVER and worker.replica.lag_bytes == 0
    asked = worker.says(PRIMARY, 2000)
    assert worker.replica.fresh_ns < asked
    worker.says(REPLICA, 2000)
    assert worker.replica.fresh_ns == asked
    worker.manager.wait_checked(5)
    assert worker.primary.checked and worker.replica.checked


def test_nothing_is_fresh_while_nobody_tells(worker):
    identity = worker.primary.identity
    worker.manager.forget_told()
    assert worker.replica.fresh_ns == NEVER and worker.replica.lag_bytes is None
    assert worker.manager.pick("primary") is worker.primary and worker.primary.identity is identity   # writes go on
    now = time.monotonic_ns()
    worker.manager.sampled(worker.primary, Position(False, 3000, 3000, 1, 0, now, now), now)     # one on its way
    worker.manager.sampled(worker.replica, Position(True, 3000, 0, 1, 0, now, now), now)
    assert worker.replica.fresh_ns == NEVER
    assert not worker.manager.cluster("replicas").checks[REPLICA].can_sample()
    worker.says(PRIMARY, 3000)
    worker.says(REPLICA, 3000)
    assert worker.replica.fresh_ns > now and worker.primary.identity is identity


def test_the_primary_among_the_replicas_is_not_fresh_then_either():
    worker = Worker()
    try:
        worker.tell({"kind": told.NAMES, "cluster": "replicas", "names": [["127.0.0.1", 2, [[*REPLICA]]]]})
        worker.says(PRIMARY, 1000)
        worker.says(REPLICA, 1000, standby=False, started=STARTED[PRIMARY])
        assert worker.replica.fresh_ns == ALWAYS
        worker.manager.forget_told()
        assert worker.replica.fresh_ns == NEVER
    finally:
        worker.manager.stop()


def test_a_fact_that_is_older_than_a_sample_is_not_taken_for_news(worker):
    before = time.monotonic_ns()
    now = time.monotonic_ns()
    worker.manager.sampled(worker.primary, Position(False, 5000, 5000, 1, 0, now, now), now)
    worker.says(PRIMARY, 4000, asked_ns=before)
    assert worker.manager.rings["primary"].newest_lsn == 5000
    worker.says(PRIMARY, 6000)
    assert worker.manager.rings["primary"].newest_lsn == 6000


def test_a_restarted_primary_begins_another_term(worker):
    worker.says(PRIMARY, 1000, started=101)
    assert worker.replica.fresh_ns == NEVER and worker.primary.identity == Identity(SYSTEM, 101)
    worker.says(REPLICA, 1000)
    assert worker.replica.fresh_ns > NEVER


def test_a_greater_timeline_fences_the_primary_at_once():
    demoted: list[bool] = []
    worker = Worker()
    worker.manager._demoted = lambda: demoted.append(True)
    try:
        worker.says(PRIMARY, 1000)
        worker.says(REPLICA, 1000, timeline=2)
        assert demoted and "former primary" in worker.primary.why_not and "primary" not in worker.manager.primaries
    finally:
        worker.manager.stop()


def test_a_full_server_stays_in_use_by_whoever_uses_it(worker):
    worker.fails(REPLICA, ServerError("53300", "sorry, too many clients already"))
    assert not worker.replica.why_not and worker.replica.fresh_ns == NEVER
    anew = Worker()
    try:
        anew.fails(REPLICA, ServerError("53300", "sorry, too many clients already"))       # nobody has seen it
        assert "too many" in anew.replica.why_not and anew.replica.silent
    finally:
        anew.manager.stop()


def test_the_end_of_one_connection_is_none_of_the_host_unless_the_next_fails(worker):
    fact = Fact(time.monotonic_ns(), failure_of(ConnectionLost("x", "closed"), lost=True))
    worker.say(PRIMARY, fact)
    worker.say(PRIMARY, fact)                   # read twice, and told once
    assert not worker.primary.why_not
    worker.fails(PRIMARY, ConnectionLost("x", "refused"))
    assert worker.primary.why_not and worker.primary.silent and not worker.primary.claims
    worker.says(PRIMARY, 1000)
    assert not worker.primary.why_not


def test_a_fact_that_comes_no_more_is_none_any_more(worker):
    check = worker.manager.cluster("replicas").checks[REPLICA]
    check.look(time.monotonic(), 1.0)
    assert worker.replica.fresh_ns > NEVER
    check.look(time.monotonic() + 3600, 1.0)
    assert worker.replica.fresh_ns == NEVER and not worker.replica.why_not


def test_a_host_in_maintenance_is_left_alone(worker):
    worker.manager.order({"replicas/127.0.0.1:2": MAINTENANCE})
    worker.says(REPLICA, 1000)
    assert worker.replica.found == UNCHECKED and worker.replica.fresh_ns == NEVER
    worker.manager.order({})
    assert worker.replica.found == UNCHECKED            # until it has been looked at
    worker.says(REPLICA, 1000)
    assert not worker.replica.why_not


def test_hosts_are_those_that_the_names_are_told_to_be(worker):
    worker.says(PRIMARY, 1000)
    worker.tell({"kind": told.NAMES, "cluster": "replicas", "names": [["127.0.0.1", 2, [["127.0.0.1", 3]]]]})
    assert set(worker.manager.cluster("replicas").hosts) == {("127.0.0.1", 3)}
    worker.tell({"kind": told.NAMES, "cluster": "replicas", "names": [["127.0.0.1", 2, [[*REPLICA]]]]})
    before = worker.says(REPLICA, 1000)
    assert worker.replica.monitored and worker.replica.asked_ns == before


def test_what_was_told_before_a_cluster_was_there_is_taken_then(worker):
    """The monitor may go over to a new configuration first."""
    config = configuration("127.0.0.1:1", ["127.0.0.1:2"])
    away = config.model_copy(update={"clusters": tuple(c for c in config.clusters if c.name == "primary"),
                                     "listeners": ()})
    worker.manager.update(away)
    worker.says(REPLICA, 1000)
    worker.manager.update(config)
    gevent.sleep(0)
    gevent.sleep(0)
    worker.says(PRIMARY, 1000)
    assert not worker.replica.why_not


def test_names_may_be_told_before_the_configuration_that_has_them(worker):
    worker.tell({"kind": told.NAMES, "cluster": "replicas", "names": [["127.0.0.1", 4, [["127.0.0.1", 4]]]]})
    assert set(worker.manager.cluster("replicas").hosts) == {REPLICA}
    worker.manager.update(configuration("127.0.0.1:1", ["127.0.0.1:4"]))
    gevent.sleep(0)
    assert set(worker.manager.cluster("replicas").hosts) == {("127.0.0.1", 4)}


def test_servers_behind_a_balancer_are_the_monitor_s_to_find(worker):
    cluster, behind = worker.manager.cluster("replicas"), Identity(SYSTEM, 300)
    worker.manager.found_behind(cluster, REPLICA, behind)
    assert worker.monitor.heard[-1] == ("replicas", REPLICA, 300) and len(cluster.hosts) == 1
    worker.says(REPLICA, 1000, started=300, behind=behind)
    there = cluster.hosts[*REPLICA, 300]
    assert there.behind == behind and not there.why_not and worker.replica.balanced
    worker.manager.forget_told()                # the next monitor is told what this one knew
    worker.manager._told_behind = -10.0
    worker.manager._forget_gone()
    assert worker.monitor.heard[-1] == ("replicas", REPLICA, 300) and not there.removed
    worker.manager.take_back(key_of(told.told_of_host("replicas", there, {})))
    assert there.removed and len(cluster.hosts) == 1 and not worker.replica.balanced


def test_hints_go_to_the_monitor(worker):
    worker.manager.hint("replicas")
    assert worker.monitor.heard == ["primary"]
    worker.manager.check_now()
    assert worker.monitor.heard == ["primary", "primary"]


def test_patroni_s_word_is_told(monkeypatch):
    config = configuration("127.0.0.1:1", ["127.0.0.1:2"])
    topology = config.clusters[0].topology.model_copy(update={"source": "patroni", "patroni": ("http://127.0.0.1:9",)})
    config = config.model_copy(update={"clusters": tuple(
        cluster.model_copy(update={"topology": topology}) for cluster in config.clusters)})
    monkeypatch.setattr("tests.topology.test_told.configuration", lambda *arguments, **settings: config)
    worker = Worker()
    word = {"kind": told.WORD, "cluster": "primary", "asked": True, "silent": "", "addresses": [[*PRIMARY]],
            "leader": [*PRIMARY]}
    try:
        worker.says(PRIMARY, 1000)
        assert "not known to be Patroni's leader" in worker.primary.why_not
        worker.tell(word)
        worker.says(PRIMARY, 1000)
        assert not worker.primary.why_not and worker.manager._sources["primary"].leader == Leader(*PRIMARY)
        worker.tell({**word, "leader": [NOBODY.host, NOBODY.port], "addresses": []})
        assert "there is none now" in worker.primary.why_not
    finally:
        worker.manager.stop()


def test_a_standby_of_one_list_has_the_other_role():
    worker = Worker()
    try:
        for cluster in worker.manager.clusters():
            cluster.config = cluster.config.model_copy(update={"role": "auto"})
        worker.says(PRIMARY, 1000, standby=True)
        assert worker.primary.found == IS_STANDBY and worker.primary.other_role
    finally:
        worker.manager.stop()
