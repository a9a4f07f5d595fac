"""What a BEGIN asks for, and which COMMITs end a transaction and do nothing else."""

from __future__ import annotations

import pytest

from pgsplit.classify.classify import classify
from pgsplit.classify.transactions import Begin


@pytest.mark.parametrize("sql, begin, written", [
    ("begin", Begin(b"BEGIN"), "begin"), ("BEGIN;", Begin(b"BEGIN"), "begin"),
    ("/* x */ begin work -- y", Begin(b"BEGIN"), "begin"),
    ("start transaction read only", Begin(b"START TRANSACTION", read_only=True), "begin read only"),
    ("begin transaction isolation level repeatable read, read write",
     Begin(b"BEGIN", "repeatable read", False), "begin isolation level repeatable read, read write"),
    ("begin read only isolation level serializable deferrable",
     Begin(b"BEGIN", "serializable", True, True), "begin isolation level serializable, read only"),
    ("begin not deferrable, isolation level read committed", Begin(b"BEGIN", "read committed"),
     "begin isolation level read committed"),
])
def test_what_begins(sql, begin, written):
    assert classify(sql).begins == begin
    assert begin.sql == written


@pytest.mark.parametrize("sql", ["begin; select 1", "begin foo", "start", "begin isolation level", "begin read only,",
                                 "begin 'x'", "/* pgsplit: primary */ begin", "commit", "select 1"])
def test_what_does_not_begin_or_is_more_than_that(sql):
    assert classify(sql).begins is None


@pytest.mark.parametrize("sql, tag", [
    ("commit", b"COMMIT"), ("END WORK", b"COMMIT"), ("rollback transaction;", b"ROLLBACK"), ("abort", b"ROLLBACK"),
    ("commit and no chain", b"COMMIT"), ("commit and chain", b""), ("rollback to a", b""), ("commit prepared 'x'", b""),
    ("rollback work to savepoint a", b""), ("prepare transaction 'x'", b""), ("commit; select 1", b""), ("begin", b""),
])
def test_what_ends(sql, tag):
    assert classify(sql).ends_as == tag
