"""A few seconds of each checker; `./run fence`, `nodes`, `chaos`, … run them for as long as one likes."""

from __future__ import annotations

import pytest

from pgsplit.demo.replication import PrimaryAndStandbys
from tests.checkers import cancels, chaos, failover, fence, nodes, topology
from tests.checkers.failover_ledger import TABLE
from tests.conftest import ROLES, SUPERUSER_PASSWORD


@pytest.mark.parametrize("consistency", fence.LEVELS)
def test_no_read_is_stale_and_without_the_fence_some_are(cluster, pgsplit_server, consistency):
    proxy = pgsplit_server(**fence.configuration(cluster, consistency, 2))
    found = fence.check(cluster, proxy, consistency, seconds=3, seed=1)
    assert found.good, str(found)


@pytest.mark.parametrize("case", nodes.CASES)
def test_no_read_is_stale_through_another_node(cluster, proxy_class, case):
    found = nodes.run(cluster, case, workers=1, seconds=3, seed=1, proxy_class=proxy_class)
    assert found.good, str(found)


def test_no_error_of_a_replica_reaches_a_client(cluster, pgsplit_server):
    proxy = pgsplit_server(**chaos.configuration(cluster, 2))
    found = chaos.check(cluster, proxy, seconds=5, seed=1, clients=8)
    assert found.good, str(found)
    cluster.catch_up()


def test_a_cancel_ends_what_it_is_for_and_nothing_else(cluster, pgsplit_server):
    proxy = pgsplit_server(**cancels.configuration(cluster))
    found = cancels.check(cluster, proxy, seconds=3, seed=1)
    assert found.good, f"{found}\n{proxy.log_end(400)}"


@pytest.mark.slow
def test_no_write_is_lost_at_a_former_primary(cluster):
    with PrimaryAndStandbys(ROLES, superuser_password=SUPERUSER_PASSWORD, standbys=2) as servers, \
            topology.in_front_of(servers) as proxy:
        found = topology.check(servers, proxy, seconds=10, seed=1)
        assert found.good, f"{found}\n{proxy.log_end(400)}"


@pytest.mark.slow
def test_sessions_outlive_their_primary_and_what_is_wrong_is_found():
    with PrimaryAndStandbys(ROLES, superuser_password=SUPERUSER_PASSWORD, standbys=2) as servers, \
            failover.in_front_of(servers) as (checker, proxy):
        password = servers.roles[failover.USER].password or ""
        found = failover.check(checker, proxy, password, seconds=0, seed=1, at_least=len(failover.FAULTS))
        assert found.good, f"{found}\n{proxy.log_end(400)}"
        assert {one.fault for one in found.rounds} == set(failover.FAULTS)
        primary, ledger = checker.stage.primary, checker.ledger
        assert ledger.judge(primary) == []
        once, twice, *_ = ledger.acknowledged[0]
        primary.query(f"delete from {TABLE} where writer = 0 and n = %s", [once])
        primary.query(f"insert into {TABLE} values (0, %s)", [twice])
        ledger.refuse(1, next(iter(ledger.acknowledged[1])))
        primary.query(f"delete from {TABLE} where writer = 2 and n = %s and part = 2", [max(ledger.acknowledged[2])])
        words = "\n".join(ledger.judge(primary))
        assert all(what in words for what in ("1 lost", "1 doubled", "1 refused, and there", "1 half a transaction"))


@pytest.mark.slow
def test_a_write_that_a_promotion_loses_is_found():
    """Acknowledged by a primary that waits for nobody, while neither standby is sent anything."""
    with PrimaryAndStandbys(ROLES, superuser_password=SUPERUSER_PASSWORD, standbys=2) as servers, \
            failover.in_front_of(servers) as (checker, proxy):
        checker.stage.primary.query("alter system set synchronous_standby_names = ''")
        checker.stage.primary.query("select pg_reload_conf()")
        checker.stage.lag = 1
        found = failover.check(checker, proxy, servers.roles[failover.USER].password or "", seconds=0, seed=1,
                               faults=["killed, promoted"])
        assert any("lost: acknowledged" in line for line in found.wrong), str(found)
