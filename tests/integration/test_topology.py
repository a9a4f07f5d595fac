"""Servers that change roles, freeze, fork, or hide behind one address: no write is lost on a former primary (G6), and
no read is behind an acknowledged write (G3).
"""

from __future__ import annotations

import select
import threading
import time
from typing import Any

import psycopg
import pytest

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Server
from tests.balancer import Balancer
from tests.conftest import SUPERUSER_PASSWORD
from tests.freezing import frozen
from tests.waiting import eventually

Session = psycopg.Connection[Any]

pytestmark = [pytest.mark.pg]


def connect(proxy: Proxy, **arguments: Any) -> Session:
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password=SUPERUSER_PASSWORD,
                           dbname="postgres", sslmode="disable", autocommit=True, prepare_threshold=None,
                           connect_timeout=20, **arguments)


def append(session: Session, number: int, said: str = "") -> None:
    session.execute("insert into kept values (%s, %s)", [number, said])


def kept(server: Server) -> set[int]:
    return {number for number, in server.query("select n from kept")}


def route(session: Session) -> str:
    row = session.execute("show pgsplit.last_route").fetchone()
    assert row is not None
    return str(row[0])


def everywhere(servers: PrimaryAndStandbys) -> list[str]:
    return [server.address for server in servers.servers]


@pytest.mark.slow
def test_a_former_primary_takes_nothing(servers, start):
    """Frozen, another one promoted, thawed: what it acknowledged from then on would be lost."""
    former, promoted, _ = servers.servers
    proxy = start(primary=everywhere(servers), replicas=everywhere(servers))
    idle, busy = connect(proxy), connect(proxy)
    append(idle, 1)
    append(busy, 2)
    busy.execute("begin")
    append(busy, 3)
    servers.catch_up()
    with frozen(former):
        promoted.promote()

        def written() -> bool:
            with connect(proxy) as session:
                append(session, 10)
                return True

        eventually(written, timeout=60)
        assert select.select([busy.fileno()], [], [], 60)[0]        # cut, although the server does not answer
        with pytest.raises(psycopg.OperationalError) as raised:
            busy.execute("select 1")
        assert "former primary" in str(raised.value) or busy.broken
        append(idle, 11)                        # which has nothing there, and goes on
    eventually(lambda: former.query("select pg_is_in_recovery()") == [(False,)])       # it thinks so still
    for number in range(20, 40):
        with connect(proxy) as session:
            append(session, number)
    assert kept(former) == {1, 2}
    assert kept(promoted) == {1, 2, 10, 11, *range(20, 40)}
    assert "is a former primary: it is on timeline 1, and timeline 2 has been seen" in proxy.log.read_text()


def test_a_promoted_replica_shows_who_the_former_primary_is(servers, start):
    """The configuration names one primary only: then nobody takes writes, rather than the one whose are lost."""
    former, promoted, _ = servers.servers
    proxy = start(replicas=[server.address for server in servers.standbys], pgsplit={"failover_wait": "0s"})
    session = connect(proxy)
    append(session, 1)
    servers.catch_up()
    promoted.promote()
    said: list[str] = []

    def ended() -> bool:
        try:
            session.execute("select pg_backend_pid()")
        except psycopg.OperationalError as error:
            said.append(str(error))
        return bool(said)

    eventually(ended, timeout=60)
    # a statement that is on its way when the connection ends may cost the client the words, as on a server
    assert "former primary" in said[0] or "server closed the connection" in said[0]
    eventually(lambda: any("leaves its primary" in line and "former primary" in line
                           for line in proxy.log.read_text().splitlines()))
    with pytest.raises(psycopg.OperationalError, match="the primary cannot be reached"):
        connect(proxy)
    assert kept(former) == {1}


def test_of_two_on_one_timeline_neither_takes_anything(servers, start):
    one, _, other = servers.servers
    proxy = start(primary=[one.address, other.address], replicas=[servers.standbys[0].address],
                  pgsplit={"failover_wait": "0s"})
    session = connect(proxy)
    append(session, 1)
    servers.catch_up()
    other.stop()
    (other.data / "standby.signal").unlink()           # a copy that was started as it is
    other.start()
    eventually(lambda: "which is the primary cannot be told" in proxy.log.read_text())
    eventually(lambda: refused(proxy))
    with pytest.raises(psycopg.OperationalError, match="cannot be told"):
        append(session, 2)
    assert kept(one) == kept(other) == {1}
    other.stop()
    eventually(lambda: not refused(proxy))
    with connect(proxy) as session:
        append(session, 3)
    assert kept(one) == {1, 3}


def refused(proxy: Proxy) -> bool:
    try:
        connect(proxy).close()
    except psycopg.OperationalError as error:
        return "the primary cannot be reached" in str(error)
    return False


def test_a_standby_that_is_ahead_on_the_old_timeline_serves_nothing(servers, start):
    """The ordinary failover: the one that is promoted had received less than the other."""
    former, promoted, ahead = servers.servers
    proxy = start(primary=[former.address, promoted.address], replicas=[ahead.address])
    promoted.query("alter system set primary_conninfo = ''")
    promoted.query("select pg_reload_conf()")
    eventually(lambda: not promoted.query("select from pg_stat_wal_receiver"))
    former.query("insert into kept select g, repeat('x', 1000) from generate_series(1000, 20000) g")
    [(end,)] = former.query("select pg_current_wal_flush_lsn()")
    eventually(lambda: ahead.query("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [end]) == [(True,)])
    former.kill()
    promoted.promote()

    writer = eventually(lambda: connect(proxy), timeout=60)
    reader = eventually(lambda: connect(proxy), timeout=60)
    for number in range(1, 200):
        append(writer, number)
        for session in (writer, reader):
            row = session.execute("select count(*) from kept where n < 1000").fetchone()
            assert row == (number,), route(session)
    eventually(lambda: "follows timeline 1, and the primary is on timeline 2" in proxy.log.read_text())


def test_a_standby_ahead_of_its_primary_is_told(servers, start):
    """As after a restore of the primary alone: what the standby shows is not the primary's past."""
    primary, behind, ahead = servers.servers
    behind.query("alter system set primary_conninfo = ''")
    behind.query("select pg_reload_conf()")
    eventually(lambda: not behind.query("select from pg_stat_wal_receiver"))
    primary.query("insert into kept select g, repeat('x', 1000) from generate_series(1000, 5000) g")
    servers.standbys.remove(behind)
    servers.catch_up()
    primary.kill()
    behind.stop()
    (behind.data / "standby.signal").unlink()          # goes on from where it was, on the same timeline
    behind.start()
    proxy = start(primary=behind.address, replicas=[ahead.address])
    eventually(lambda: "bytes more than the primary has" in proxy.log.read_text())
    with connect(proxy) as session:
        append(session, 1)
        assert session.execute("select count(*) from kept").fetchone() == (1,)
        assert route(session).startswith("primary")


def test_reads_behind_a_balancer_are_fresh_and_reach_the_replicas(servers, start):
    """Two standbys at one address, of which one stands still."""
    quick, still = servers.standbys
    with Balancer([("127.0.0.1", quick.port), ("127.0.0.1", still.port)]) as balancer:
        proxy = start(replicas=[balancer.address], pgsplit={"fence_wait": "20ms"})
        still.pause_replay()
        sessions = [connect(proxy) for _ in range(8)]
        stale, number = [], 0
        for _ in range(30):
            for session in sessions:
                number += 1
                append(session, number)
                row = session.execute("select max(n) from kept").fetchone()
                if row != (number,):
                    stale.append((row, number, route(session)))
        assert not stale, stale[:5]

        def all_known() -> bool:
            hosts = [host for host in proxy.client.worker(1, "hosts") if host["cluster"] == "replicas"]
            return {host["name"] for host in hosts} == {f"{balancer.address} (127.0.0.1:{server.port})"
                                                        for server in servers.standbys}

        eventually(all_known)
        still.resume_replay()
        servers.catch_up()

        def on_replicas() -> bool:
            for session in sessions:
                session.execute("select count(*) from kept")
            return {route(session) for session in sessions} == {"replica: read"}

        eventually(on_replicas, timeout=60)


def test_a_cancel_finds_its_server_behind_a_balancer(servers, start):
    """It is sent again until the read ends; the session keeps that replica."""
    def replica_pid() -> int:
        return int(next(known["replica_pid"] for known in proxy.client.worker(1, "sessions")))

    def cancel_when_it_runs() -> None:
        eventually(lambda: any(server.query("select 1 from pg_stat_activity where pid = %s and state = 'active'", [pid])
                               for server in servers.standbys))
        session.cancel_safe()      # cancel() would keep the balancer, which is of this process, from running

    with Balancer([("127.0.0.1", server.port) for server in servers.standbys]) as balancer:
        proxy = start(replicas=[balancer.address], pgsplit={"workers": 1, "fence_wait": "30s", "health_timeout": "20s"})
        eventually(lambda: len({host["name"] for host in proxy.client.worker(1, "hosts")
                                if host["cluster"] == "replicas"}) == 2)
        with connect(proxy, options="-c jit=off -c statement_timeout=60s") as session:
            kept_replica = 0
            for _ in range(6):
                eventually(lambda: session.execute("select 1").fetchone() == (1,) and replica_pid() > 0)
                pid = replica_pid()
                canceller = threading.Thread(target=cancel_when_it_runs)
                canceller.start()
                began = time.monotonic()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    session.execute("select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b")
                assert time.monotonic() - began < 30        # and not by its time-out
                canceller.join()
                kept_replica += replica_pid() == pid
            assert kept_replica >= 5        # a connection of somebody else's may take its turn


def test_a_login_that_lands_on_a_standby_is_no_primarys(servers, start):
    """The monitor's connection is at the primary still; new ones reach a standby, as right behind a demotion."""
    with Balancer([("127.0.0.1", servers.primary.port)]) as balancer:
        proxy = start(primary=balancer.address)
        with connect(proxy) as session:
            append(session, 1)
        balancer.targets[:] = [("127.0.0.1", servers.standbys[0].port)]
        for _ in range(4):
            with pytest.raises(psycopg.OperationalError, match="the primary cannot be reached"):
                connect(proxy)
        balancer.targets[:] = [("127.0.0.1", servers.primary.port)]
        with eventually(lambda: connect(proxy)) as session:         # the monitor, too, may have reached the standby
            append(session, 2)


def test_the_lag_of_a_server_that_is_gone_is_not_known(servers, start):
    proxy = start(pgsplit={"max_lag": "2s"})
    gone, still = servers.standbys

    def host(server: Server) -> dict[str, Any]:
        return next(host for host in proxy.client.worker(1, "hosts")
                    if host["name"] == server.address and host["cluster"] == "replicas")

    eventually(lambda: host(gone)["lag_ms"] is not None)
    gone.stop()
    eventually(lambda: host(gone)["lag_ms"] is None and host(gone)["lag_bytes"] is None)
    still.pause_replay()
    with connect(proxy) as session:
        append(session, 1)
    eventually(lambda: "max_lag 2 s" in host(still)["why_not"] and host(still)["lag_ms"] > 2000, timeout=60)
    assert f"{still.address} of cluster replicas is out: it is" in proxy.log.read_text()
    still.resume_replay()
    eventually(lambda: not host(still)["why_not"], timeout=60)
