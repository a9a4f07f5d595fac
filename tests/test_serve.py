"""pgsplit as it is launched, on a real primary and standby: who gets in, and where what they ask for ends up."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from pgsplit.demo.counts import Counts, calls
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.errors import PgSplitError
from tests.conftest import ROLES
from tests.waiting import eventually

pytestmark = pytest.mark.parametrize("proxy_class", [Proxy])


@pytest.mark.parametrize("upstream_tls", ["disable", "require"])
def test_every_role_reads_on_the_standby_and_writes_on_the_primary(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy], upstream_tls: str) -> None:
    proxy = pgsplit_server(upstream_tls=upstream_tls)
    cluster.primary.query("create table served (a text); grant select, insert on served to public")
    standby = cluster.standbys[0]
    try:
        for role in ROLES:
            for tls in ("disable", "require"):
                with cluster.primary.connect(role.name, port=proxy.port, sslmode=tls, autocommit=True,
                                             prepare_threshold=None) as client:
                    client.execute("insert into served values (%s)", [f"{role.name} {tls}"])
                    before = calls(standby, [role.name])
                    eventually(lambda client=client, role=role, before=before: (  # type: ignore[misc]
                        client.execute("select a from served").fetchall(), calls(standby, [role.name]) > before)[1])
        [(rows,)] = cluster.primary.query("select count(*) from served")
        assert rows == 2 * len(ROLES)
        eventually(lambda: Counts.of(proxy.client.arbiter("totals")).sessions == 0)
    finally:
        cluster.primary.query("drop table served")


def test_sessions_work_on_while_the_monitor_is_shut_out(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]) -> None:
    proxy = pgsplit_server(monitor="scram_user")

    def reads_on_the_replica() -> bool:
        session.execute("select 1")
        return session.execute("show pgsplit.last_route").fetchone() == ("replica: read",)

    with cluster.primary.connect("md5_user", port=proxy.port, autocommit=True) as session:
        eventually(reads_on_the_replica)
        cluster.primary.query("alter role scram_user connection limit 0")
        cluster.catch_up()
        try:
            for server in cluster.servers:
                server.query("select pg_terminate_backend(pid) from pg_stat_activity "
                             "where application_name = 'pgsplit monitor'")
            eventually(lambda: proxy.log.read_text().count("stays in use, but is not monitored") == 2)
            for number in range(20):
                assert session.execute("select %s", [number]).fetchone() == (number,)
            cluster.primary.connect("md5_user", port=proxy.port).close()
        finally:
            cluster.primary.query("alter role scram_user connection limit -1")
        eventually(reads_on_the_replica)
        totals = proxy.client.worker(1, "totals")
        assert totals["cluster.replicas.upstream_cx_active"] == 1
        assert " is out" not in proxy.log.read_text()


def test_it_drains_at_term(pgsplit_server: Callable[..., Proxy], cluster: PrimaryAndStandbys) -> None:
    proxy = pgsplit_server(pgsplit={"workers": 2})
    with cluster.primary.connect("scram_user", port=proxy.port) as client:
        client.execute("select 1")      # psycopg has begun a transaction, which may finish
        proxy.signal(signal.SIGTERM)
        assert client.execute("select 2").fetchone() == (2,)
        client.rollback()
        eventually(lambda: not proxy.running)
    assert proxy.stop() == 0


def test_a_mistake_in_the_configuration_is_told_with_its_line(pgsplit_server: Callable[..., Proxy]) -> None:
    with pytest.raises(PgSplitError, match=r"pgsplit\.yaml:\d+: .*upstream_tls"):
        pgsplit_server(upstream_tls="perhaps")
