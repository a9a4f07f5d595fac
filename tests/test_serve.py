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
