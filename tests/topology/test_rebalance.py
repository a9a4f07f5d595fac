"""Open sessions are spread over the hosts of a read cluster when one has come back: how many, when, and where to."""

from __future__ import annotations

import pytest

from pgsplit.config.model import Placement
from pgsplit.topology.balance import preferred
from pgsplit.topology.host import Host
from pgsplit.topology.rebalance import A_SECOND, FOR_NS, SECOND_NS, Rebalance


class Hosts:
    """*placements* of them; each has so many *sessions*, and *away* cannot be used."""

    def __init__(self, sessions: list[int], placements: list[Placement] | None = None) -> None:
        self.all = [Host("replicas", ("h", number)) for number in range(len(sessions))]
        self.away: set[int] = set()
        for host, count in zip(self.all, sessions, strict=True):
            host.cx_active = count
        for host, placement in zip(self.all, placements or [], strict=False):
            host.placement = placement
        self.rebalance = Rebalance(self.preferred)

    def preferred(self) -> list[Host]:
        return preferred([host for at, host in enumerate(self.all) if at not in self.away], "")

    def returns(self, *away: int) -> None:
        self.away = set(away)
        self.rebalance.look(0)
        self.away = set()

    def spread(self, seconds: int) -> list[list[int]]:
        """Each session asks as often as it may; how many each host has behind each second."""
        found = []
        for second in range(1, seconds + 1):
            now = second * SECOND_NS
            if self.rebalance.look(now):
                for host in self.all:
                    for _ in range(host.cx_active):
                        if (target := self.rebalance.target(host, now)) is not None:
                            host.cx_active -= 1
                            target.cx_active += 1
            found.append([host.cx_active for host in self.all])
        return found


def test_so_many_a_second_until_none_has_more_than_its_share():
    hosts = Hosts([26, 0])
    hosts.returns(1)
    assert hosts.spread(4) == [[21, 5], [16, 10], [13, 13], [13, 13]]


@pytest.mark.parametrize("sessions, weights, after", [
    ([2, 0], [1, 1], [1, 1]),
    ([1, 0], [1, 1], [1, 0]),
    ([3, 2], [1, 1], [3, 2]),
    ([4, 0], [3, 1], [3, 1]),
    ([4, 0], [1, 3], [1, 3]),
    ([6, 6, 0], [1, 1, 1], [4, 4, 4]),
])
def test_each_has_its_share_by_weight(sessions, weights, after):
    hosts = Hosts(sessions, [Placement(weight=weight) for weight in weights])
    hosts.returns(len(sessions) - 1)
    assert hosts.spread(3)[-1] == after


def test_all_leave_a_host_that_only_stood_in_for_one_of_a_better_priority():
    hosts = Hosts([0, 8], [Placement(), Placement(priority=1)])
    hosts.returns(0)
    assert hosts.spread(3) == [[5, 3], [8, 0], [8, 0]]


def test_nobody_moves_where_nobody_has_come_back():
    hosts = Hosts([9, 0])
    hosts.rebalance.look(0)
    assert hosts.spread(3)[-1] == [9, 0]
    assert hosts.rebalance.target(hosts.all[0], 4 * SECOND_NS) is None


def test_it_goes_on_for_as_long_as_some_move_and_then_ends():
    hosts = Hosts([9, 0])
    hosts.returns(1)
    assert hosts.rebalance.look(SECOND_NS)
    last = SECOND_NS + FOR_NS // 2
    assert hosts.rebalance.target(hosts.all[0], last) is hosts.all[1]
    assert hosts.rebalance.look(last + FOR_NS - 1)
    assert not hosts.rebalance.look(last + FOR_NS)
    assert hosts.rebalance.target(hosts.all[0], last + FOR_NS) is None


def test_who_asks_too_early_is_told_to_stay():
    hosts = Hosts([40, 0])
    hosts.returns(1)
    assert hosts.rebalance.look(SECOND_NS)
    assert not hosts.rebalance.look(SECOND_NS + 1)
    moved = [hosts.rebalance.target(hosts.all[0], SECOND_NS) for _ in range(40)]
    assert moved.count(hosts.all[1]) == A_SECOND
