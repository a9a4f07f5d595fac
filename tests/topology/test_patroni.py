"""Patroni as who says which server is the primary: its answers, its silence, and what the servers say beside it."""

from __future__ import annotations

import base64
import json
import ssl
import time
from typing import Any

import gevent
import pytest

from pgsplit.config.loader import load
from pgsplit.config.model import Config, Topology
from pgsplit.demo.certificates import Authority
from pgsplit.errors import ServerError
from pgsplit.topology.cluster import ClusterManager
from pgsplit.topology.patroni import NOBODY, Leader, Patroni, ask, leader_in, tls_context
from tests.patroni import FakeMember
from tests.topology.test_clusters import soon

DB1, DB2 = ("127.0.0.1", 5433), ("127.0.0.1", 5434)


def member(role: str, **over: Any) -> dict[str, Any]:
    return {"name": "a", "role": role, "state": "running", "host": "DB1.example", "port": 5432} | over


@pytest.mark.parametrize("members, leader", [
    ([member("leader"), member("replica", host="db2")], Leader("db1.example", 5432)),
    ([member("replica"), member("master", host="db2", port="5433")], Leader("db2", 5433)),
    ([member("replica"), member("sync_standby")], NOBODY),
    ([member("standby_leader")], NOBODY),           # of a standby cluster, which is all in recovery
    ([], NOBODY),
])
def test_the_leader_of_an_answer(members, leader):
    assert leader_in(json.dumps({"members": members, "scope": "x"}).encode()) == leader


@pytest.mark.parametrize("body", [
    b"", b"\xff", b"[]", b"{}", b'{"members": 3}', b'{"members": [3]}', b'{"members": [{}]}', b'{"members": null}',
    b'{"members": [{"role": "leader"}]}', b'{"members": [{"role": "leader", "host": "a", "port": "x"}]}'])
def test_what_is_no_answer(body):
    with pytest.raises(ValueError, match="is not that of Patroni's /cluster"):
        leader_in(body)


def in_a_worker(do: Any) -> Any:
    """On gevent's hub, as in a worker."""
    with gevent.Timeout(30):
        return gevent.spawn(do).get()


def test_a_member_is_asked_with_basic_authentication():
    with FakeMember([DB1, DB2], DB2) as fake:
        topology = Topology(source="patroni", patroni=(fake.address,), username="pg", password="sécret")
        assert in_a_worker(lambda: ask(fake.address, topology, None)) == Leader(*DB2)
        sent = fake.headers[0]["Authorization"].removeprefix("Basic ")
        assert base64.b64decode(sent).decode() == "pg:sécret"
        assert "cret" not in repr(topology)
        fake.status = 503
        with pytest.raises(ValueError, match="answers 503"):
            in_a_worker(lambda: ask(fake.address, topology, None))
        fake.status, fake.body = 200, b"x" * (2 << 20)
        with pytest.raises(ValueError, match="answers more than 1048576 bytes"):
            in_a_worker(lambda: ask(fake.address, topology, None))


def test_a_member_is_asked_by_tls_and_shown_a_certificate(tmp_path):
    authority, others = Authority(tmp_path), tmp_path / "others"
    others.mkdir()
    stranger = Authority(others)
    server, client = authority.issue("server"), authority.issue("client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with FakeMember([DB1], DB1, context) as fake:
        good = Topology(source="patroni", patroni=(fake.address,), ca=str(authority.ca),
                        certificate=str(client.certificate), key=str(client.key))
        assert in_a_worker(lambda: ask(fake.address, good, tls_context(good))) == Leader(*DB1)
        for bad in (good.model_copy(update={"ca": str(stranger.ca)}), good.model_copy(update={"ca": None}),
                    good.model_copy(update={"certificate": None, "key": None})):
            with pytest.raises((ssl.SSLError, OSError)):
                in_a_worker(lambda bad=bad: ask(fake.address, bad, tls_context(bad)))


class Asked:
    """A source, and how often it has had news."""

    def __init__(self, *members: str, timeout: float = 20.0) -> None:
        self.changes = 0
        self.source = Patroni("primary", Topology(source="patroni", patroni=members), interval=lambda: 0.05,
                              timeout=lambda: timeout, resolve=lambda host, port: [(host, port)], changed=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *raised: object) -> None:
        self.source.stop()


def test_the_first_member_with_an_answer_counts():
    with FakeMember([DB1, DB2], DB1) as slow, FakeMember([DB1, DB2], DB2) as quick, FakeMember([], None) as broken:
        slow.answers.clear()
        broken.status = 500
        with Asked(slow.address, "http://127.0.0.1:1", broken.address, quick.address) as asked:
            assert "yet" in asked.source.why_not({DB2})
            soon(lambda: asked.source.leader)
            assert asked.source.why_not({DB2}) == "" and asked.changes == 1
            assert asked.source.why_not({DB1}) == "is not Patroni's leader, which is 127.0.0.1:5434"
            quick.leader = None
            soon(lambda: asked.source.leader == NOBODY)
            assert "there is none" in asked.source.why_not({DB2}) and asked.changes == 2
            assert asked.source.note == ""


def test_silence_is_no_vote(caplog):
    with FakeMember([DB1], DB1) as fake, Asked(fake.address, "http://127.0.0.1:1", timeout=0.5) as asked:
        soon(lambda: asked.source.leader)
        fake.answers.clear()
        soon(lambda: asked.source.silent)
        assert asked.source.why_not({DB1}) == "" != asked.source.why_not({DB2})
        assert "its last word holds: 127.0.0.1:5433 is the leader" in asked.source.note
        for why in ("127.0.0.1:1: Connection refused", "1 did not answer in time"):
            assert why in asked.source.note
        fake.answers.set()
        soon(lambda: not asked.source.silent)
        assert asked.changes == 1
    assert sum("no member of Patroni answers" in line for line in caplog.messages) == 1


def test_before_its_first_word_a_silent_patroni_leaves_it_to_the_servers():
    with Asked("http://127.0.0.1:1") as asked:
        soon(lambda: asked.source.asked)
        assert asked.source.why_not({DB1}) == "" and "the servers' own words count alone" in asked.source.note
        assert asked.changes == 1


# --- beside real servers ------------------------------------------------------------------------------------------

def configuration(cluster: Any, *members: str) -> Config:
    text = f"""listen: 127.0.0.1:6432
servers: [{cluster.primary.address}, "localhost:{cluster.standbys[0].port}"]
users: {{postgres: postgres-secret}}
topology: {{source: patroni, patroni: [{", ".join(members)}]}}
pgsplit: {{health_interval: 100ms, health_timeout: 1s}}
"""
    return load(text, "test.yaml", open, defaults={"workers": 1, "run_dir": "/nowhere"}).config


def test_a_server_is_the_primary_only_while_it_is_the_leader(cluster, manage):
    primary, standby = ("127.0.0.1", cluster.primary.port), ("localhost", cluster.standbys[0].port)
    with FakeMember([primary, standby], primary) as fake:
        demotions: list[float] = []
        manager = manage(configuration(cluster, fake.address), demoted=lambda: demotions.append(time.monotonic()))
        host = soon(lambda: next(iter(manager.cluster("primary").usable()), None))
        assert host.address == primary
        for leader, why in ((None, "is not Patroni's leader: there is none now"),
                            (standby, f"is not Patroni's leader, which is localhost:{standby[1]}")):
            before = len(demotions)
            fake.leader = leader
            soon(lambda why=why: host.why_not == why)
            assert len(demotions) > before      # sessions that are on it are looked at
            with pytest.raises(ServerError, match="no host of cluster primary can be used"):
                manager.pick("primary")
            fake.leader = primary
            soon(lambda: manager.primaries.get("primary") is host and not host.why_not)


def test_while_nobody_of_patroni_answers_the_last_word_holds(cluster, manage):
    primary = ("127.0.0.1", cluster.primary.port)
    fake = FakeMember([primary], primary)
    try:
        manager: ClusterManager = manage(configuration(cluster, fake.address))
        host = soon(lambda: next(iter(manager.cluster("primary").usable()), None))
    finally:
        fake.stop()
    soon(lambda: "its last word holds" in host.note)
    gevent.sleep(0.3)
    assert not host.why_not and manager.pick("primary") is host


def test_without_any_word_the_servers_are_believed(cluster, manage):
    manager = manage(configuration(cluster, "http://127.0.0.1:1"))
    assert manager.pick("primary").address[1] == cluster.primary.port


def test_another_source_after_a_reload(cluster, manage):
    primary, standby = ("127.0.0.1", cluster.primary.port), ("localhost", cluster.standbys[0].port)
    with FakeMember([primary, standby], standby) as wrong, FakeMember([primary, standby], primary) as right:
        manager = manage(configuration(cluster, wrong.address))
        with pytest.raises(ServerError, match="is not Patroni's leader"):
            manager.pick("primary")
        manager.update(configuration(cluster, right.address))
        soon(lambda: manager.cluster("primary").usable())
        manager.update(configuration(cluster, wrong.address))
        soon(lambda: not manager.cluster("primary").usable())
        text = configuration(cluster, wrong.address)
        alone = tuple(each.model_copy(update={"topology": Topology()}) for each in text.clusters)
        manager.update(text.model_copy(update={"clusters": alone}))
        soon(lambda: manager.cluster("primary").usable())
