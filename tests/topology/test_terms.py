"""What a worker knows of timelines, and what the others have seen."""

from __future__ import annotations

import pytest

from pgsplit.process.board import TERMS, Board
from pgsplit.topology.terms import OwnTimelines, Terms
from pgsplit.upstream.server_identity import UNKNOWN


def test_the_greatest_timeline_of_each_cluster_is_remembered():
    board = Board()
    one, other = board.slot(0), board.slot(1)
    assert one.timeline(7) == UNKNOWN
    one.raise_timeline(7, 3)
    other.raise_timeline(7, 2)
    other.raise_timeline(8, 9)
    assert (one.timeline(7), other.timeline(7), one.timeline(8)) == (3, 3, 9)
    one.raise_timeline(7, 2)                      # a timeline never falls
    assert other.timeline(7) == 3
    board.forget(0)                               # and outlives who has seen it
    assert board.slot(0).timeline(7) == 3


def test_a_worker_remembers_the_latest_clusters():
    board = Board()
    slot = board.slot(0)
    for cluster in range(3 * TERMS):
        slot.raise_timeline(cluster, 5)
    assert all(slot.timeline(cluster) == 5 for cluster in range(2 * TERMS, 3 * TERMS))
    assert slot.timeline(0) == UNKNOWN


@pytest.mark.parametrize("timelines", [OwnTimelines, lambda: Board().slot(0)], ids=["its own", "the board's"])
def test_what_another_worker_has_seen_is_news_once(timelines):
    shared = timelines()
    here, there = Terms(shared), Terms(shared)
    assert here.greatest(1) == UNKNOWN and not here.news()
    there.seen(1, 2)
    assert there.raised and not here.raised
    assert here.news() and not here.news()
    assert here.greatest(1) == 2
    there.seen(1, 1)
    assert not here.news()


def test_a_copy_that_serves_another_write_cluster_is_no_successor():
    identifier = "7300000000000000001"
    terms = Terms(OwnTimelines())
    live = terms.cluster(identifier, "live")
    assert terms.cluster(identifier, "live") == live
    assert live not in (terms.cluster(identifier, "staging"), terms.cluster("", "live"))
    assert all(-2**63 <= terms.cluster("", name) < 2**63 for name in map(str, range(1000)))      # a word of the board


@pytest.mark.parametrize("timelines", [OwnTimelines, lambda: Board().slot(0)], ids=["its own", "the board's"])
def test_a_term_is_forgotten_by_all_whoever_hears_of_it_first(timelines):
    shared = timelines()
    here, there = Terms(shared), Terms(shared)
    here.seen(here.cluster("7", "live"), 5)
    here.seen(here.cluster("7", "other"), 4)
    assert there.greatest(there.cluster("7", "live")) == 5
    assert here.forget({"live": 1}) == {"live"} and here.forget({"live": 1}) == set()
    assert here.greatest(here.cluster("7", "live")) == UNKNOWN
    there.seen(there.cluster("7", "live"), 6)                # it has not heard of it yet
    assert here.greatest(here.cluster("7", "live")) == UNKNOWN
    assert here.greatest(here.cluster("7", "other")) == 4
    here.seen(here.cluster("7", "live"), 2)
    there.forget({"live": 1})
    assert there.greatest(there.cluster("7", "live")) == 2
    assert there.forget({"live": 2}) == {"live"} and there.greatest(there.cluster("7", "live")) == UNKNOWN
