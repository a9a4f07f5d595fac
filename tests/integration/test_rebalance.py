"""Sessions that are open read from a standby that has come back, too."""

from __future__ import annotations

import psycopg

from pgsplit.demo.proxy import Proxy
from tests.integration.conftest import value
from tests.waiting import eventually


def by_standby(proxy: Proxy, servers) -> list[int]:
    """How many sessions read from each."""
    totals = proxy.client.arbiter("totals")
    return [totals[f"cluster.replicas.{standby.address}.upstream_cx_active"] for standby in servers.standbys]


def test_sessions_are_spread_anew_when_a_standby_returns(servers, start):
    """With their reads, which go on, in transactions and with what the sessions have set; the primary answers none."""
    proxy = start(pgsplit={"workers": 1, "fence_wait": "60s"})
    sessions = [psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password="postgres-secret",
                                dbname="postgres", sslmode="disable", autocommit=True) for _ in range(8)]
    try:
        for number, session in enumerate(sessions):
            session.execute(f"set known.number = '{number}'")
        second = servers.standbys[1]

        def each_reads() -> list[int]:
            for number, session in enumerate(sessions):
                assert value(session, "select current_setting('known.number')") == str(number)
            return by_standby(proxy, servers)

        eventually(lambda: each_reads() == [4, 4])
        second.stop()
        eventually(lambda: each_reads() == [8, 0])
        open_one = sessions[0]
        open_one.execute("begin read only")
        open_one.execute("declare c cursor for select generate_series(1, 1000)")
        second.start()
        seen = 0

        def spread() -> bool:
            nonlocal seen
            row = open_one.execute("fetch 1 from c").fetchone()
            seen += 1
            assert row == (seen,)          # what is open on a replica keeps its session there
            for number, session in enumerate(sessions[1:], 1):
                assert value(session, "select current_setting('known.number')") == str(number)
                assert value(session, "show pgsplit.last_route").startswith("replica"), number
            return by_standby(proxy, servers) == [4, 4]

        eventually(spread, timeout=60)
        open_one.execute("commit")
        assert each_reads() == [4, 4]
        assert "sessions are spread anew" in proxy.log.read_text()
    finally:
        for session in sessions:
            session.close()
