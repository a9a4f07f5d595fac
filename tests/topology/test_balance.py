"""Which host the next session gets."""

from __future__ import annotations

from collections import Counter

import pytest

from pgsplit.config.model import Placement
from pgsplit.topology.balance import POLICIES, at_random, least_request, preferred, round_robin
from pgsplit.topology.host import Host


def hosts(*placements: Placement) -> list[Host]:
    made = [Host("replicas", ("h", number)) for number in range(len(placements))]
    for host, placement in zip(made, placements, strict=True):
        host.placement = placement
    return made


A, B, LATER, LATER_A = Placement(zone="a"), Placement(zone="b"), Placement(priority=1), Placement(priority=1, zone="a")


@pytest.mark.parametrize("placements, zone, expected", [
    ((A, B, LATER), "", [0, 1]),
    ((A, B, LATER), "a", [0]),
    ((A, B, LATER), "c", [0, 1]),               # nobody there: whoever is of the level
    ((LATER, LATER_A), "a", [1]),
    ((B, LATER_A), "a", [0]),                   # a priority comes before a zone
    ((Placement(priority=3), Placement(priority=2)), "", [1]),
    ((), "a", []),
])
def test_priority_then_zone(placements, zone, expected):
    assert [host.address[1] for host in preferred(hosts(*placements), zone)] == expected


def test_in_turn_by_weight_and_spread_out():
    some = hosts(Placement(), Placement(weight=3), Placement())
    taken = [round_robin(some).address[1] for _ in range(50)]
    assert Counter(taken) == {0: 10, 1: 30, 2: 10}
    assert not any(taken[at:at + 4] == [1] * 4 for at in range(50))
    alike = hosts(Placement(), Placement(), Placement())
    assert [round_robin(alike).address[1] for _ in range(6)] == [0, 1, 2, 0, 1, 2]
    assert {round_robin(alike[:2]).address[1] for _ in range(2)} == {0, 1}       # one is away for a while


def test_the_fewest_connections_for_the_weight():
    some = hosts(Placement(), Placement(weight=2))
    for _ in range(30):
        least_request(some).connected()
    assert [host.cx_active for host in some] == [10, 20]
    for _ in range(15):
        some[1].closed()
    assert least_request(some) is some[1]
    alike = hosts(Placement(), Placement())
    assert {least_request(alike).address[1] for _ in range(2)} == {0, 1}         # in turn, and not always the first


def test_at_random_by_weight():
    some = hosts(Placement(), Placement(weight=9))
    taken = Counter(at_random(some).address[1] for _ in range(2000))
    assert 100 < taken[0] < 320
    assert set(POLICIES) == {"ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"}
