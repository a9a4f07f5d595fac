"""Clocks of servers, as samples show them: by how much they may differ, and when one has passed the other's time."""

from __future__ import annotations

import random

from pgsplit.topology.clock import CLOSE, DRIFT, SAME, TOO_OLD, Clock, Skew, skew
from pgsplit.topology.host import Host

MS = 1_000_000
EPOCH = 1_800_000_000_000_000_000      # ns: Unix time at CLOCK_MONOTONIC 0


def sampled(at_ns: int, ahead_ns: int = 0, *, there: int = 50_000, back: int = 50_000) -> tuple[int, int, int]:
    """A sample of a clock that is *ahead_ns*, which is asked at *at_ns*: the question and its answer take so long."""
    return at_ns, at_ns + there + back, (EPOCH + at_ns + there + ahead_ns) // 1000


def clock(at_ns: int, ahead_ns: int = 0, **took: int) -> Clock:
    found = Clock()
    found.seen(*sampled(at_ns, ahead_ns, **took))
    return found


def test_half_the_round_trip_is_the_bound_of_the_error():
    found = skew(clock(1000 * MS, 3 * MS), clock(1000 * MS), 1000 * MS + 100_000)
    assert found is not None
    assert abs(found.offset_ns - 3 * MS) <= 1000 and found.bound_ns == 102_000
    assert found.within(3 * MS + 200_000) and not found.within(3 * MS)


def test_however_the_round_trip_is_shared_the_truth_is_within_the_bound():
    chance = random.Random(1)
    for _ in range(2000):
        ours, theirs = chance.randint(-5 * MS, 5 * MS), chance.randint(-5 * MS, 5 * MS)
        now = 1000 * MS
        found = skew(*(clock(now, ahead, there=chance.randint(0, 3 * MS), back=chance.randint(0, 3 * MS))
                       for ahead in (ours, theirs)), now + 6 * MS)
        assert found is not None
        assert abs(found.offset_ns - (ours - theirs)) <= found.bound_ns
        fence = now + chance.randint(0, 10 * MS)
        passed = found.passed_ns(fence)
        assert passed + ours >= fence + theirs         # its clock then, the primary's at the fence
        assert passed - fence <= abs(found.offset_ns) + found.bound_ns


def test_what_is_known_is_known_less_well_with_time_and_at_last_not_at_all():
    found = clock(1000 * MS)
    known = found.bound_at(found.at_ns)
    assert known is not None and found.bound_at(found.at_ns + 1000 * MS) == known + DRIFT * 1000
    assert found.bound_at(found.at_ns + TOO_OLD) is not None and found.bound_at(found.at_ns + TOO_OLD + 1) is None
    assert skew(found, clock(20_000 * MS), 20_000 * MS) is None
    assert skew(Clock(), found, found.at_ns) is None


def test_a_sample_that_took_long_does_not_take_the_place_of_a_better_one():
    found = clock(1000 * MS)
    found.seen(*sampled(2000 * MS, there=4 * MS, back=0))
    assert found.at_ns < 1001 * MS
    found.seen(*sampled(3000 * MS, 700_000, there=CLOSE, back=100_000))         # it is as good as need be
    assert found.at_ns > 3000 * MS


def test_a_clock_that_is_set_is_noticed_by_the_next_sample():
    for step in (20 * MS, -20 * MS):
        found = clock(1000 * MS)
        found.seen(*sampled(2000 * MS, step, there=3 * MS, back=3 * MS))
        now = 2006 * MS
        assert found.at_ns == now and abs(found.offset_ns - EPOCH - step) <= (found.bound_at(now) or 0)


def test_a_server_that_does_not_answer_has_no_clock():
    found = clock(1000 * MS)
    found.forget()
    assert found.bound_at(1000 * MS) is None and not found.known


def test_of_a_host():
    host, primary = Host("replicas", ("10.0.0.2", 5432)), Host("primary", ("10.0.0.1", 5432))
    host.clock.seen(*sampled(1000 * MS, -5 * MS))
    primary.clock.seen(*sampled(1000 * MS))
    assert host.skew(1001 * MS) is None         # nobody has said whose replica it is
    host.primary_clock = primary.clock
    found = host.skew(1001 * MS)
    assert found is not None and str(found).startswith("5.000 ms behind the primary's, ± 0.10")
    assert primary.skew(1001 * MS) is None
    host.is_primary = True
    assert host.skew(1001 * MS) == SAME and SAME.within(0) and SAME.passed_ns(7) == 7


def test_the_log_says_once_in_a_while_that_a_clock_is_not_read(caplog):
    host = Host("replicas", ("10.0.0.2", 5432))
    for _ in range(3):
        host.clock_apart("postgres", 2 * MS, 1000 * MS)
    told = "what reads the clock is the primary's (max_clock_skew 2 ms): the clock of 10.0.0.2:5432 is not known"
    assert [record.getMessage() for record in caplog.records] == [f"listener postgres: {told}"]


def test_skews_compare_by_what_they_may_be():
    assert Skew(-MS, MS).within(2 * MS) and not Skew(-MS, MS + 1).within(2 * MS)
    assert Skew(-MS, 100).passed_ns(50) == 50 + MS + 100 and Skew(MS, 100).passed_ns(0) == -MS + 100
