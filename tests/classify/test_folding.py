"""Texts that differ in their literals only are one text to the classifier."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgsplit.classify.classifier import Classifier
from pgsplit.classify.classify import classify
from pgsplit.classify.facts import Verdict
from pgsplit.classify.folding import fold, independent_of_literals
from tests.session.relays import module

CORPUS = Path(__file__).parents[1] / "corpus" / "statements.jsonl.gz"


@pytest.mark.parametrize("sql, folded", [
    (b"select a from t where b = 5", b"select a from t where b = \2"),
    (b"select a1, 1.5, t2.c from t2 where b in ('x', 'it''s')", b"select a1, \2, t2.c from t2 where b in (\1, \1\1)"),
    (b"select 1e5, .5, 1_000, 0x1f, a.1", b"select 1e5, .5, 1_000, 0x1f, a.1"),
    ("select é1 from t where a = 'é'".encode(), "select é1 from t where a = \1".encode()),
    (b"select $1", None), (b"select $$a$$", None), (b'select "a1"', None), (b"select 1 -- a", None),
    (b"select 1 /* 2 */", None), (b"select 'a\\'", None), (b"select 'open", None), (b"select '\1'", None),
    (b"select 'no'\n'w'::timestamptz", None), (b"select u&'!006eow' uescape '!'", None),
    (b"select 'now'::timestamptz", None), (b"select timestamp ' Today 14:00'", None),
    (b"select Current_Setting ('app.x'), 5", None),
    (b"select current setting, 5, 'x'", b"select current setting, \2, \1"),
])
def test_folding(sql, folded):
    assert fold(sql) == folded


def test_other_literals_give_the_same_facts():
    """Over the corpus: each text that is folded, with other values in it."""
    changed = 0
    with gzip.open(CORPUS, "rt") as lines:
        for line in lines:
            sql = json.loads(line)["sql"].encode()
            if fold(sql) in (None, sql) or not independent_of_literals(classify(sql.decode("latin-1"))):
                continue
            other = re.sub(rb"'[^']*'", b"'pg_locks; x'", sql)
            other = re.sub(rb"(?<![\w.\x80-\xff])[0-9]+(?![\w.\x80-\xff])", b"77", other)
            one, two = classify(sql.decode("latin-1")), classify(other.decode("latin-1"))
            assert (one.verdict, one.reason, one.effects) == (two.verdict, two.reason, two.effects), sql
            changed += 1
    assert changed > 1000


def test_one_entry_serves_all_and_a_write_is_remembered_for_all():
    classifier = Classifier(100, 65536)
    for number in range(50):
        assert classifier(b"select v from sly_view where a = %d and b = '%d'" % (number, number)).reason == "read"
    assert len(classifier) == 1
    classifier.remember_write(b"select v from sly_view where a = 1 and b = 'x'")
    assert classifier(b"select v from sly_view where a = 99 and b = ''").reason == "write_digest"


def test_what_depends_on_a_literal_is_learnt_by_its_text():
    classifier = Classifier(100, 65536)
    assert classifier(b"select set_config('work_mem', '1MB', false)").settings == ()
    assert classifier(b"select set_config('app.x', '1MB', false)").settings == ("app.x",)
    assert classifier(b"select current_setting('app.x'), 5").verdict is Verdict.READ
    assert classifier(b"select current_setting('port'), 5").verdict is Verdict.PRIMARY
    assert classifier(b"select current_setting('app.x'), 6").verdict is Verdict.READ
    assert classifier(b"select current_setting('pgsplit.last_route'), 6").tells_route
    assert classifier(b"select '5'::timestamptz").verdict is Verdict.READ
    assert classifier(b"select 'tomorrow 5:00'::timestamptz").reason == "clock"


PIECES = st.sampled_from(["select", " ", "'", "''", "1", "12.5", "1.", ".5", "a1", "1a", "_", "-", "--", "/", "/*", "&",
                          "&'", '"', "$1", "\\", "now", "NOW", "Today", "tomorrow", "yesterda", "current_setting",
                          "CURRENT_SETTING", "current", "\n", "\t", "x", "é",
                          ",", "(", "\x01", "\0", "1e5", "=", "%s"])


@pytest.mark.relay
@settings(max_examples=3000, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_the_compiled_fold_is_the_same(sql):
    text = sql.encode()
    assert module().fold(text) == fold(text), text


def test_texts_that_read_the_clock_are_one_text_too():
    """And what a replica has answered with 25006 is no read by its clock either."""
    classifier = Classifier(100, 65536)
    for number in range(10):
        found = classifier(b"select now() - a from t where id = %d" % number)
        assert found.timed is not None and found.timed.text == found.text and found.timed.reads_clock
    assert len(classifier) == 1
    classifier.remember_write(b"select now() - a from t where id = 3")
    found = classifier(b"select now() - a from t where id = 4")
    assert (found.reason, found.timed) == ("write_digest", None)
