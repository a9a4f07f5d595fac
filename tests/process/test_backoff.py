"""How soon a process that ended has a successor."""

from __future__ import annotations

import pytest

from pgsplit.process.backoff import DELAYS, SERVED_WELL, BackOff


@pytest.mark.parametrize("served", [0.0, 5.0, SERVED_WELL - 1])
def test_each_death_makes_the_next_successor_wait_longer(served):
    back_off, now = BackOff(), 1000.0
    found = []
    for _ in range(12):
        found.append(back_off.died(now, served))
        assert back_off.not_before == now + found[-1]
        now = back_off.not_before + served
    assert found == [*DELAYS, *[DELAYS[-1]] * (12 - len(DELAYS))]
    assert found[0] == 0 and sorted(DELAYS) == list(DELAYS)


def test_good_service_is_longer_than_any_delay_and_makes_the_deaths_forgotten():
    assert DELAYS[-1] < SERVED_WELL
    back_off = BackOff()
    for _ in range(5):
        back_off.died(0.0, 1.0)
    assert back_off.died(500.0, SERVED_WELL) == 0.0
    assert back_off.died(501.0, 1.0) == DELAYS[1]


def test_its_words():
    back_off = BackOff()
    assert back_off.words(back_off.died(0.0, 1.0)) == "its successor starts at once"
    assert back_off.words(back_off.died(1.0, 1.0)) == (
        "its successor starts after 0.1 s: death 2 without 60 s of service between")
