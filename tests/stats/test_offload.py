"""What keeps reads on the primary: the table of groups, and the counters by it."""

from __future__ import annotations

import pytest

from pgsplit.classify.rules import RULES
from pgsplit.stats import offload
from pgsplit.stats.offload import KEPT, NEITHER, REPLICA_ERROR, WRITES, ReadStats, group_of
from pgsplit.stats.own import KINDS, Own


@pytest.mark.parametrize("rule", [*RULES, REPLICA_ERROR])
def test_each_rule_keeps_reads_for_one_thing_or_writes_or_does_neither(rule):
    found = [group.name for group in KEPT for each in group.rules if each == rule]
    assert len(found) + (rule in WRITES) + (rule in NEITHER) == 1


def test_no_rule_is_named_that_there_is_not():
    named = {rule for group in KEPT for rule in group.rules} | WRITES | NEITHER
    assert named == {*RULES, REPLICA_ERROR}
    assert len({group.name for group in KEPT}) == len(KEPT)


def test_what_relays_take_for_the_least_comes_first():
    assert KEPT[0].name == "before_write"


def test_no_rule_that_sends_to_replicas_keeps_a_read():
    assert all(RULES[rule].upstream != "replica" for group in KEPT for rule in group.rules if rule in RULES)


@pytest.mark.parametrize(("rule", "group"), [
    ("clock", "clock"), ("replica_error_40001", "replica_error"), ("pinned_listen", "pinned"),
    ("write", "batch"), ("transaction_control", "batch"), ("function", "batch")])
def test_the_group_of_a_rule(rule, group):
    assert KEPT[group_of(rule)].name == group


def test_counters_of_reads():
    stats = ReadStats()
    stats.replica, stats.replica_us = 7, 700
    for group, count, microseconds in (("clock", 2, 30), ("after_write", 1, 5), ("clock", 1, 10)):
        stats.keep(offload.BY_NAME[group], count, microseconds)
    assert stats.to_dict("p") == {
        "p.reads.replica": 7, "p.reads.primary": 4, "p.reads_us.replica": 700, "p.reads_us.primary": 45,
        "p.reads_kept.clock": 3, "p.reads_kept_us.clock": 40, "p.reads_kept.after_write": 1,
        "p.reads_kept_us.after_write": 5}


def test_own_questions_are_counted_by_upstream_and_kind():
    own = Own()
    for upstream, kind, nanoseconds in (("primary", "sample", 1600), ("primary", "sample", 1500),
                                        ("replica", "sample", 2000), ("primary", "settings", 900_000)):
        own.add(upstream, kind, nanoseconds)
    assert own.to_dict("c") == {
        "c.own.primary.sample": 2, "c.own_us.primary.sample": 3, "c.own.replica.sample": 1,
        "c.own_us.replica.sample": 2, "c.own.primary.settings": 1, "c.own_us.primary.settings": 900}
    assert {"sample", "settings"} <= {kind.name for kind in KINDS}
