"""What a BEGIN asks for, and which COMMITs end a transaction and do nothing else."""

from __future__ import annotations

import pytest

from pgsplit.classify.classify import classify
from pgsplit.classify.cursors import Cursor
from pgsplit.classify.function_lists import FunctionLists
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


@pytest.mark.parametrize("sql, modes", [
    ("set transaction read only", Begin(b"SET", read_only=True)),
    ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED;", Begin(b"SET", "read committed")),
    ("set transaction isolation level repeatable read, read only", Begin(b"SET", "repeatable read", True)),
    ("set transaction read write isolation level read committed", Begin(b"SET", "read committed", False)),
])
def test_what_set_transaction_asks_for(sql, modes):
    facts = classify(sql)
    assert (facts.modes, facts.stages, facts.effects) == (modes, True, ())


@pytest.mark.parametrize("sql", [
    "set transaction snapshot 'x'", "set transaction deferrable", "set transaction not deferrable", "set transaction",
    "set transaction read only, deferrable", "set transaction read only, read write", "set transaction read only,",
    "set local transaction isolation level repeatable read", "set session transaction read only",
    "set session characteristics as transaction read only", "set transaction_read_only = on",
    "set local transaction_isolation = 'serializable'", "set transaction read only; select 1",
])
def test_what_else_of_that_kind_does_not_set_the_stage(sql):
    facts = classify(sql)
    assert facts.modes is None and not facts.stages


@pytest.mark.parametrize("sql, stages", [
    ("set constraints all deferred", True), ("SET CONSTRAINTS a.b, c IMMEDIATE", True), ("set constraints", False),
    ("set constraints all", False), ("savepoint a", True), ("release a", True), ("rollback to savepoint a", True),
    ("set local work_mem = '1MB'", True), ("set local work_mem to default", True), ("set local time zone 'UTC'", False),
    ("set local datestyle = 'SQL'", False), ("set local search_path = a, b", True),
    ("set local role a", True), ("set local session authorization a", False), ("set local names 'x'", False),
    ("set local schema 'x'", False), ("set local a from current", False), ("set local pgsplit.trace = on", False),
    ("set local standard_conforming_strings = off", False), ("set local client_encoding = 'SJIS'", False),
    ("select set_config('client_encoding', $1, true)", False), ("select set_config('app.t', $1, true)", True),
])
def test_what_sets_the_stage(sql, stages):
    assert classify(sql).stages is stages


@pytest.mark.parametrize("sql, verb, name", [
    ("declare c cursor for select 1", "declare", b"c"), ('DECLARE "C" NO SCROLL CURSOR FOR TABLE t', "declare", b"C"),
    ("declare c binary insensitive scroll cursor for with a as (select 1) select * from a", "declare", b"c"),
    ("declare c cursor without hold for select 1", "declare", b"c"),
    ("declare c scroll cursor for values (1)", "declare", b"c"), ("fetch c", "fetch", b"c"),
    ("fetch forward 5 from c", "fetch", b"c"), ("fetch all in \"C\"", "fetch", b"C"), ("move last c", "move", b"c"),
    ("close c", "close", b"c"), ("close all", "close", b""), ('close "all"', "close", b"all"),
])
def test_what_a_statement_does_with_a_cursor(sql, verb, name):
    cursor = classify(sql).cursor
    assert cursor is not None and (cursor.verb, cursor.name, cursor.opens) == (verb, name, verb == "declare")


@pytest.mark.parametrize("sql", [
    "declare c cursor with hold for select 1", "declare c cursor for select now()",
    "declare c cursor for select f(1)", "declare c cursor for select a from t for update",
    "declare c cursor for delete from t returning a", "declare c cursor for select * from pg_locks",
    "declare c cursor", "declare", "fetch", "close", "close a b",
    "/* pgsplit: primary */ declare c cursor for select 1", "fetch c; fetch c",
    "declare c cursor for select 1; fetch c", "select 1", "close " + "x" * 64,
])
def test_what_a_replica_cannot_have_or_is_not_understood(sql):
    assert classify(sql).cursor is None


@pytest.mark.parametrize("sql, name", [
    ("declare C cursor with hold for select 1", b"c"), ('declare "C" cursor for select now()', b"C"),
    ("/* pgsplit: primary */ declare c cursor for select 1", b"c"), ("declare c scroll cursor for select f(1)", b"c"),
    ("declare", b""), ("declare " + "x" * 64 + " cursor for select 1", b""), ("fetch c", b""), ("select 1", b""),
])
def test_the_name_of_any_cursor_that_is_declared(sql, name):
    assert classify(sql).declares == name


def test_of_several_statements_each_has_its_own():
    facts = classify("declare c cursor for select 1; declare d cursor with hold for select 2; fetch d")
    assert facts.declares == b"" and [part.declares for part in facts.parts] == [b"c", b"d", b""]


def test_a_cursor_of_a_listed_function():
    lists = FunctionLists(primary=("f",), replica=("g",))
    assert classify("declare c cursor for select f(1)", lists=lists).cursor is None
    assert classify("declare c cursor for select lower(f(1)::text)", lists=lists).cursor is None
    assert classify("declare c cursor for select g(1)", lists=lists).cursor == Cursor("declare", b"c", 4)
