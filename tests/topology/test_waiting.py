"""Whether reads wait for a replica that is not fresh enough, by how those fared that did."""

from __future__ import annotations

import pytest

from pgsplit.topology.host import Host

MS = 1_000_000


@pytest.fixture
def host() -> Host:
    return Host("replicas", ("127.0.0.1", 5432))


def test_many_that_wait_in_vain_at_once_are_one_hitch(host: Host) -> None:
    for now in (100, 100, 101, 110, 114):
        host.waited_in_vain(now * MS, 5 * MS)
        assert host.is_waited_for(now * MS)


def test_behind_four_times_that_without_one_that_fares_better_nobody_waits_for_twenty(host: Host) -> None:
    host.waited_in_vain(100 * MS, 5 * MS)
    host.waited_in_vain(115 * MS, 5 * MS)
    assert not host.is_waited_for(115 * MS) and not host.is_waited_for(215 * MS - 1) and host.is_waited_for(215 * MS)
    host.waited_in_vain(220 * MS, 5 * MS)       # the first that has tried again
    assert not host.is_waited_for(320 * MS - 1) and host.is_waited_for(320 * MS)


def test_one_that_fares_better_begins_all_anew(host: Host) -> None:
    host.waited_in_vain(100 * MS, 5 * MS)
    host.caught_up()
    host.waited_in_vain(115 * MS, 5 * MS)
    assert host.is_waited_for(115 * MS)
    host.waited_in_vain(130 * MS, 5 * MS)
    assert not host.is_waited_for(130 * MS)
    host.caught_up()
    assert host.is_waited_for(130 * MS)


def test_nobody_rests_for_longer_than_a_tenth_of_a_second(host: Host) -> None:
    host.waited_in_vain(0, 30_000 * MS)
    host.waited_in_vain(120_000 * MS, 30_000 * MS)
    assert not host.is_waited_for(120_100 * MS - 1) and host.is_waited_for(120_100 * MS)


def test_who_does_not_wait_rests_for_no_time(host: Host) -> None:
    host.waited_in_vain(100 * MS, 0)
    assert host.is_waited_for(100 * MS)


def test_meanwhile_it_is_looked_at_now_and_then(host: Host) -> None:
    assert not host.wants_a_look(100 * MS)          # it is waited for
    host.waited_in_vain(100 * MS, 5 * MS)
    host.waited_in_vain(115 * MS, 5 * MS)
    assert host.wants_a_look(116 * MS) and not host.wants_a_look(121 * MS - 1) and host.wants_a_look(121 * MS)
    assert not host.wants_a_look(215 * MS)


def test_one_that_lags_by_no_more_than_a_read_waits_is_waited_for_again(host: Host) -> None:
    host.fresh_ns = 100 * MS
    host.waited_in_vain(100 * MS, 5 * MS)
    host.waited_in_vain(115 * MS, 5 * MS)
    host.seen_at(116 * MS)
    assert not host.is_waited_for(116 * MS)
    host.fresh_ns = 112 * MS
    host.seen_at(117 * MS)
    assert host.is_waited_for(117 * MS)
