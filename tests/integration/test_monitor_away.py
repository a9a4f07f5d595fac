"""Failovers that the monitor does not see, since it stands still or has just been killed (G3, G6; ADR 0024)."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psycopg
import pytest

from tests.integration.test_one_list import all_know_the_term, hosts, one_list, serves, written
from tests.integration.test_topology import append, connect, kept, route
from tests.waiting import eventually

pytestmark = [pytest.mark.pg]


def reads(session, acknowledged) -> str:
    """Where a read went, which has shown all that was acknowledged."""
    assert {n for (n,) in session.execute("select n from kept").fetchall()} == acknowledged
    return route(session)


@pytest.mark.parametrize("signum", [signal.SIGSTOP, signal.SIGKILL], ids=["it stands still", "it is killed"])
def test_a_failover_that_the_monitor_does_not_see(servers, start, signum):
    former, promoted, _ = servers.servers
    proxy = start(**one_list(servers))
    assert written(proxy, 1)
    servers.catch_up()
    with connect(proxy) as session:
        eventually(lambda: reads(session, {1}).startswith("replica"))
    monitor = eventually(lambda: proxy.client.arbiter("about")["monitor"])
    os.kill(monitor, signum)
    try:
        former.stop()
        promoted.promote()
        acknowledged, number = {1}, 2

        def write_on() -> bool:
            nonlocal number
            number += 1
            if written(proxy, number):
                acknowledged.add(number)
            return len(acknowledged) > 3

        eventually(write_on, timeout=60)
        eventually(lambda: all_know_the_term(proxy, 2), timeout=60)
        assert kept(promoted) >= acknowledged
        eventually(lambda: serves(proxy, "primary", promoted), timeout=60)
        with connect(proxy) as session:
            shown = {n for (n,) in session.execute("select n from kept").fetchall()}
            assert shown >= acknowledged
            append(session, 1000)
            for _ in range(20):
                assert session.execute("select count(*) from kept where n = 1000").fetchone() == (1,)
    finally:
        with suppress(ProcessLookupError):
            os.kill(monitor, signal.SIGCONT)


def test_the_next_monitor_knows_the_greatest_timeline(servers, start):
    """The former primary alone is left, and the monitor that has seen the next one is gone."""
    former, promoted, other = servers.servers
    proxy = start(**one_list(servers))
    assert written(proxy, 1)
    servers.catch_up()
    promoted.promote()
    eventually(lambda: all_know_the_term(proxy, 2), timeout=60)
    promoted.stop()
    other.stop()
    monitor = eventually(lambda: proxy.client.arbiter("about")["monitor"])
    os.kill(monitor, signal.SIGKILL)
    eventually(lambda: proxy.client.arbiter("about")["monitor"] not in (0, monitor))
    eventually(lambda: "former primary" in hosts(proxy, "primary")[former.address]["why_not"], timeout=60)
    with pytest.raises(psycopg.Error):
        with connect(proxy) as session:
            append(session, 3)
    assert kept(former) == {1}
