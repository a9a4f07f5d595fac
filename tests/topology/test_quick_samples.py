"""Samples in the compiled relay's loop: what is plain takes no greenlet, and whatever else comes costs no sample."""

from __future__ import annotations

import time
from typing import Any

import gevent
import pytest
from gevent.event import Event

from pgsplit.split.fence import NEVER
from pgsplit.topology.cluster import ClusterManager
from pgsplit.topology.host import Host
from pgsplit.topology.monitor import MonitorConnection
from pgsplit.topology.sampler import Sampler
from tests.freezing import frozen
from tests.session.relays import make
from tests.topology.test_clusters import configuration, soon


class Pair:
    """A manager and a sampler of the real pair in the compiled relay's loop; *rounds* are those of the greenlet."""

    def __init__(self, manager: ClusterManager) -> None:
        self.manager = manager
        self.fresher = Event()
        self.sampler = Sampler(manager, "primary", "replicas", self.fresher.set)
        self.host: Host = manager.pick("replicas")
        self.rounds = 0
        self._round = self.sampler._round
        self.sampler._round = self._count_round     # type: ignore[method-assign]

    def _count_round(self) -> None:
        self.rounds += 1
        self._round()

    def connection(self, name: str) -> MonitorConnection:
        [check] = self.manager.cluster(name).checks.values()
        return check.connection

    def want(self) -> int:
        """One that waits as the relay's reads do."""
        fence_ns = time.monotonic_ns()
        self.sampler.want(self.host, fence_ns, 20)
        return fence_ns

    def until_fresh(self, fence_ns: int) -> None:
        while self.host.fresh_ns <= fence_ns:
            self.fresher.wait(20)
            self.fresher.clear()


@pytest.fixture
def pair(cluster, manage):
    made = Pair(manage(configuration(cluster.primary.address, [cluster.standbys[0].address], health_interval="60s"),
                       loop=make("compiled")))
    made.until_fresh(made.want())
    made.rounds = 0
    yield made
    made.sampler.stop()


def test_what_is_plain_takes_no_greenlet(cluster, pair):
    before = pair.sampler.samples
    for number in range(20):
        if number % 2:
            cluster.primary.query("select txid_current()")
            cluster.catch_up()
        pair.until_fresh(pair.want())
    assert pair.rounds == 0 and 20 <= pair.sampler.samples - before <= 80
    for name in ("primary", "replicas"):
        assert not pair.connection(name).lock().locked()


def test_who_waits_in_a_greenlet_is_served_by_it_too(pair):
    assert pair.sampler.wait_fresh(pair.host, time.monotonic_ns(), 20)
    assert pair.sampler.pick_fresh(time.monotonic_ns(), 20) is pair.host
    assert pair.rounds == 0


def test_a_replica_that_has_not_replayed_is_left_to_the_greenlet_which_pauses(cluster, pair):
    standby = cluster.standbys[0]
    standby.pause_replay()
    try:
        cluster.primary.query("create table if not exists quick (n int)")
        fence_ns = pair.want()
        soon(lambda: pair.rounds > 3)
        assert pair.host.fresh_ns <= fence_ns and not pair.host.why_not
    finally:
        standby.resume_replay()
    pair.until_fresh(fence_ns)
    cluster.primary.query("drop table quick")


@pytest.mark.parametrize("name", ["primary", "replicas"])
def test_a_connection_that_ends_meanwhile_is_made_again(cluster, pair, name):
    server = cluster.primary if name == "primary" else cluster.standbys[0]
    before = pair.connection(name)._connection
    with frozen(server):
        fence_ns = pair.want()
        assert pair.connection(name).lock().locked()
        pair.connection(name).close()
    soon(lambda: not pair.connection(name).lock().locked())
    [check] = pair.manager.cluster(name).checks.values()
    check.check_now()
    soon(lambda: check.connection.open and check.connection._connection is not before)
    pair.until_fresh(fence_ns)


def test_a_server_that_is_silent_is_out_after_health_timeout(cluster, pair):
    standby = cluster.standbys[0]
    with frozen(standby):
        fence_ns = pair.want()
        soon(lambda: "the sample timed out" in pair.host.why_not)
        assert pair.host.fresh_ns == NEVER
    [check] = pair.manager.cluster("replicas").checks.values()
    check.check_now()
    pair.until_fresh(fence_ns)
    assert not pair.host.why_not


@pytest.mark.parametrize("cut", [1, 30, 60])
def test_an_answer_in_pieces_is_read_to_its_end(pair, monkeypatch, cut):
    """By a greenlet, from where it was cut."""
    connection = pair.connection("replicas")
    stream = connection._connection.stream
    ask = pair.manager.loop.ask
    pieces: list[bytes] = []

    class Cutting:
        """The loop, which gets of one answer the beginning first."""

        def __getattr__(self, name: str) -> Any:
            return getattr(loop, name)

        def ask(self, watched: Any, question: bytes, answered: Any) -> bool:
            def arrived(cells: Any, received: bytes) -> None:
                if watched is not connection._watched or pieces:
                    answered(cells, received)
                    return
                pieces.extend((received[:cut], received[cut:]))
                gevent.spawn_later(0.05, stream.put_back, pieces[1])
                gevent.spawn_later(0.05, connection._bell.set)
                answered(None, pieces[0])
            return bool(ask(watched, question, arrived))

    loop = pair.manager.loop
    monkeypatch.setattr(pair.manager, "loop", Cutting())
    monkeypatch.setattr(stream, "_recv", lambda: (connection._bell.wait(), b"")[1])
    pair.sampler._writes = True         # both are asked
    fence_ns = pair.want()
    soon(lambda: pieces)
    soon(lambda: not connection.lock().locked())
    monkeypatch.undo()
    pair.until_fresh(fence_ns)
    assert not pair.host.why_not


def test_another_timeline_is_looked_at_in_full(pair, monkeypatch):
    """Only a host's position moves: whatever else it says is judged as at a health check."""
    seen: list[Host] = []
    judge = pair.manager.judge
    real = judge.seen
    monkeypatch.setattr(judge, "seen", lambda host, *rest: (seen.append(host), real(host, *rest)))
    pair.sampler._writes = True         # both are asked
    pair.until_fresh(pair.want())
    assert not seen
    pair.host.timeline = 7
    pair.sampler._writes = True
    pair.until_fresh(pair.want())
    assert seen[0] is pair.host and pair.host.timeline != 7
    seen.clear()
    pair.manager.judge.primaries["primary"].in_recovery = True
    pair.until_fresh(pair.want())
    assert [host.cluster_name for host in seen] == ["primary"]
