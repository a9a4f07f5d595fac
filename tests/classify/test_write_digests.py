"""What a replica has answered with 25006 is remembered, can be seen, and can be forgotten."""

from __future__ import annotations

from pgsplit.classify.classifier import Classifier
from pgsplit.classify.facts import Verdict
from pgsplit.session.snapshot import readable


def test_remembered_seen_and_forgotten():
    classify = Classifier(100, 65536)
    assert classify(b"select abs(1)").verdict is Verdict.READ
    classify.remember_write(b"select abs(2)")
    assert classify(b"select abs(3)").reason == "write_digest"
    assert [readable(text) for text in classify.writes()] == ["select abs (?)"]
    classify.forget_writes()
    assert classify.writes() == []
    assert classify(b"select abs(4)").verdict is Verdict.READ
