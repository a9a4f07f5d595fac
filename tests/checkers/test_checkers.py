"""A few seconds of each checker; `./run fence`, `nodes`, `chaos`, … run them for as long as one likes."""

from __future__ import annotations

import pytest

from pgsplit.demo.replication import PrimaryAndStandbys
from tests.checkers import cancels, chaos, fence, nodes, topology
from tests.conftest import ROLES, SUPERUSER_PASSWORD


@pytest.mark.parametrize("consistency", fence.LEVELS)
def test_no_read_is_stale_and_without_the_fence_some_are(cluster, pgsplit_server, consistency):
    proxy = pgsplit_server(**fence.configuration(cluster, consistency, 2))
    found = fence.check(cluster, proxy, consistency, seconds=3, seed=1)
    assert found.good, str(found)


@pytest.mark.parametrize("case", nodes.CASES)
def test_no_read_is_stale_through_another_node(cluster, case):
    found = nodes.run(cluster, case, workers=1, seconds=3, seed=1)
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
