"""The fence's arithmetic: positions, samples, and as of when a replica is fresh."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsplit.split.fence import COARSE, NEVER, RING, Ring, normalise, parse_lsn


@pytest.mark.parametrize("text, number", [("0/0", 0), ("0/1000018", 0x1000018), ("16/B374D848", 0x16B374D848)])
def test_positions_are_read(text, number):
    assert parse_lsn(text) == number


@pytest.mark.parametrize("text", ["", "1", "x/y", "1/2/3"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError):
        parse_lsn(text)


@pytest.mark.parametrize("lsn, normalised", [
    (0x3018, 0x3000),              # just behind the header of a page, as the flush position is reported there
    (0x8000 + 24, 0x8000), (0x1000028, 0x1000000),       # and of a segment
    (0x3019, 0x3019), (0x3000, 0x3000), (0x1000018, 0x1000000), (0x2028, 0x2028),
])
def test_a_position_behind_a_page_header_is_the_end_of_the_record_before_it(lsn, normalised):
    expected = lsn if lsn == 0x3018 else normalised          # 0x3000 begins no page of 8 KiB
    assert normalise(lsn) == expected


def test_fresh_as_of_the_newest_sample_that_is_replayed():
    ring = Ring()
    assert ring.fresh_ns(10**9) == NEVER
    for t_ns, lsn in ((100, 10), (200, 20), (300, 30)):
        ring.add(t_ns, lsn)
    assert [ring.fresh_ns(lsn) for lsn in (9, 10, 19, 25, 30, 99)] == [NEVER, 100, 100, 200, 300, 300]


def test_as_of_when_a_position_is_replayed():
    ring = Ring()
    assert ring.as_of(5, 0) is None
    for t_ns, lsn in ((100, 0x2000), (200, 0x4000), (300, 0x6000)):
        ring.add(t_ns, lsn)
    assert [ring.as_of(lsn, 0) for lsn in (1, 0x2000, 0x2001, 0x6000)] == [100, 100, 200, 300]
    assert [ring.as_of(0x6000 + 24, told_ns) for told_ns in (299, 300)] == [300, None]     # behind a page's header
    assert ring.as_of(0x6000 + 41, 0) is None


def test_a_primary_that_writes_nothing_stays_fresh():
    ring = Ring()
    for t_ns in range(100, 1000):
        ring.add(t_ns, 10)
    assert len(ring) == 1 and ring.fresh_ns(10) == 999


def test_a_position_that_falls_voids_what_was_known():
    """Another server, or the same one restored: positions compare on one only."""
    ring = Ring()
    ring.add(100, 50)
    ring.add(200, 40)
    assert ring.fresh_ns(45) == 200 and len(ring) == 1
    ring.clear()
    assert ring.fresh_ns(10**9) == NEVER and ring.newest_ns == NEVER


def test_the_ring_is_bounded_and_knows_a_day():
    """A sample every 5 ms, for as long as a day: also what stands still from the beginning is told by how much."""
    ring, step, number = Ring(), 5_000_000, 0
    while number * step < 86_400 * 10**9:
        ring.add(number * step, number)
        number += 1 if number < 20 * RING else 1000           # the rest of the day in strides
        assert len(ring) <= 9 * RING
    newest = ring.newest_ns
    assert ring.fresh_ns(ring.newest_lsn) == newest and ring.lag_ns(ring.newest_lsn) == 0
    for replayed in (0, 3, 700, 5000, 15 * RING, number // 2, number - 5000):
        age = newest - replayed * step
        assert age <= ring.lag_ns(replayed) <= age * (1 + 4 / COARSE) + 1000 * step, replayed


def test_the_newest_samples_are_all_there():
    ring = Ring()
    for number in range(20 * RING):
        ring.add(number, number)
        assert all(ring.fresh_ns(lsn) == lsn for lsn in (number, max(0, number - 1), max(0, number - RING + 1)))


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5)), max_size=100), st.integers(0, 300))
def test_never_fresher_than_a_sample_that_is_not_replayed(steps, replayed):
    ring, samples, t_ns, lsn = Ring(), [], 0, 0
    for later, further in steps:
        t_ns, lsn = t_ns + later, lsn + further
        ring.add(t_ns, lsn)
        samples.append((t_ns, lsn))
    fresh = ring.fresh_ns(replayed)
    assert fresh == max((t for t, position in samples if position <= replayed), default=NEVER)
