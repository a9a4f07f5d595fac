"""Off-load in shares, from totals."""

from __future__ import annotations

import pytest

from pgsplit.stats.shares import offload

TOTALS = {
    "postgres.a.reads.replica": 6, "postgres.a.reads.primary": 2, "postgres.a.reads_us.replica": 600,
    "postgres.a.reads_us.primary": 300, "postgres.a.reads_kept.clock": 1, "postgres.a.reads_kept_us.clock": 100,
    "postgres.b.c.reads.replica": 0, "postgres.b.c.reads.primary": 2, "postgres.b.c.reads_us.primary": 300,
    "postgres.b.c.reads_kept.after_write": 3, "postgres.b.c.reads_kept_us.after_write": 500,
    "postgres.a.latency_replica_us.sum_us": 600, "postgres.a.latency_primary_us.sum_us": 1000,
    "postgres.a.latency_primary_us.le_100": 7, "postgres.a.own.primary.settings": 1,
    "postgres.a.own_us.primary.settings": 100, "cluster.w.own.primary.sample": 3,
    "cluster.w.own_us.primary.sample": 150,
    "cluster.r.own.replica.sample": 4, "cluster.r.own_us.replica.sample": 200}


def test_shares_of_reads_and_of_their_time():
    found = offload(TOTALS)
    assert (found.reads, found.reads_us) == (10, 1200)
    assert found.replica[2:] == (6, 600, 0.6, 0.5)
    assert [(part.name, part.number, part.microseconds) for part in found.kept] == [
        ("after_write", 3, 500), ("clock", 1, 100)]
    assert found.kept[1].share == 0.1 and found.kept[1].time_share == pytest.approx(1 / 12)


def test_the_primarys_time_without_pgsplit_and_with_it():
    found = offload(TOTALS)
    assert (found.without_us, found.with_us, found.own_us) == (1600, 1250, 250)
    assert [(part.name, part.number, part.time_share) for part in found.own["primary"]] == [
        ("sample", 3, 150 / 1250), ("settings", 1, 100 / 1250)]
    assert [(part.name, part.share, part.time_share) for part in found.own["replica"]] == [("sample", 1.0, 0.25)]


def test_of_nothing():
    found = offload({})
    assert (found.reads, found.replica.share, found.kept, found.with_us) == (0, 0.0, (), 0)
    assert dict(found.own) == {"replica": (), "primary": ()}
