"""Functions that the operator knows."""

from __future__ import annotations

import pytest

from pgsplit.classify.classifier import Classifier
from pgsplit.classify.classify import classify
from pgsplit.classify.facts import Verdict
from pgsplit.classify.function_lists import FunctionLists

LISTS = FunctionLists(["harmless", "app.is_*"], ["lower", "app.is_late", "slow_*"])


@pytest.mark.parametrize("sql, upstream, reason, detail", [
    ("select harmless(a) from t", "replica", "listed_function", "harmless"),
    ("select any_schema.harmless(a)", "replica", "listed_function", "any_schema.harmless"),
    ("select App.Is_Open(a), upper(b) from t", "replica", "listed_function", "app.is_open"),
    ("select other.is_open(a)", "primary", "unknown_function", "is_open"),
    ("select harmless(a), unknown(b)", "primary", "unknown_function", "unknown"),
    ("select harmless(nextval('s'))", "primary", "function", "nextval"),
    ("select app.is_late(a)", "primary", "listed_function", "app.is_late"),
    ("select lower(a)", "primary", "listed_function", "lower"),
    ("select pg_catalog.lower(a)", "primary", "listed_function", "pg_catalog.lower"),
    ("insert into t values (harmless(1))", "primary", "write", ""),
    ("select upper(a)", "replica", "read", ""),
])
def test_what_the_lists_say(sql, upstream, reason, detail):
    facts = classify(sql, lists=LISTS)
    assert (facts.verdict.value, facts.reason, facts.detail) == (upstream, reason, detail)


def test_what_is_read_by_a_list_is_not_known_to_be_free_of_effects():
    assert not classify("select harmless(1)", lists=LISTS).effect_free
    assert classify("select upper('a')", lists=LISTS).effect_free


def test_a_reload_forgets_the_old_lists_but_not_who_wrote():
    classifier = Classifier(100, 65536, lists=LISTS)
    assert classifier(b"select harmless(1)").verdict is Verdict.READ
    classifier.remember_write(b"select upper('a')")
    classifier.configure(100, 65536, parse=False, lists=FunctionLists())
    assert classifier(b"select harmless(1)").verdict is Verdict.PRIMARY
    assert classifier(b"select upper('a')").reason == "write_digest"
