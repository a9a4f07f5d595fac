"""Each reason that keeps something on the primary has its line of what to do."""

from __future__ import annotations

from pgsplit.classify.rules import RULES
from pgsplit.stats.offload import KEPT, REPLICA_ERROR
from pgsplit.stats.remedies import OF_GROUPS, REMEDIES, remedy


def test_each_rule_that_may_send_to_the_primary_has_one():
    to_the_primary = {rule.name for rule in RULES.values() if rule.upstream in ("primary", "either")}
    assert {*REMEDIES} == (to_the_primary | {REPLICA_ERROR}) - {"empty_query"}


def test_each_group_has_one():
    assert {*OF_GROUPS} == {group.name for group in KEPT}


def test_of_a_rule():
    assert remedy("replica_error_40001") == REMEDIES[REPLICA_ERROR]
    assert remedy("read") == ""
