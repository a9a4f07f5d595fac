"""The rules on texts, and on the corpus that was labelled by execution."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsplit.classify.classifier import Classifier
from pgsplit.classify.classify import classify
from pgsplit.classify.facts import Tx, Verdict
from pgsplit.classify.function_lists import FunctionLists
from pgsplit.classify.functions import SAFE
from pgsplit.classify.rules import RULES
from tests.corpus import statements

READS = [
    "select 1", "SELECT * FROM t WHERE a = $1", "(select 1) union (select 2)", "values (1), (2)", "table t",
    "with w as (select 1) select * from w",
    "with w(a, b) as materialized (select 1, 2), v(c) as (select 3) select * from w, v",
    "select count(*) filter (where x > 1) over (partition by y order by z) from t",
    "select lower(name), coalesce(a, b), nullif(a, 1), greatest(a, b) from t where a in (1, 2) and b = any (array[1])",
    "select x::numeric(10, 2), cast(y as varchar(3)), interval '1 day' from t",
    "select * from generate_series(1, 3) g(i)", "select * from json_to_record('{}') as x(a int, b text)",
    "select substring(a from 1 for 2), trim(both from b), extract(year from c), position('a' in b) from t",
    "select pg_catalog.upper('a')", "select a.b from s.t a(b) join u as v(w) on true", "copy t to stdout",
    "copy (select * from t) to stdout with (format csv)", "explain select 1", "select current_user, session_user",
    "select '; drop table t; --'", "select 1; select 2;", "/* a comment */ select 1 -- another",
    "select a from t where exists (select from u) and not (b) order by a limit 5 offset (1)",
    "select random(), gen_random_uuid()", "select t.update from t as delete",
    "select a, count(*) from t group by cube (a, b)", "select a from t group by grouping sets ((a), ())",
    "select a from t order by (a) fetch first (1) rows only", "select a at time zone ('UTC') from t group by (a)",
    "select current_setting('app.tenant'), current_setting('app.x', true), current_setting('TimeZone')",
    "select age(a, b), age(timestamp '2020-01-01', (select max(c) from t)) from t", "select age(f[1, 2], g) from t",
    "show timezone", "show time zone", "SHOW search_path", "show app.tenant", "show standard_conforming_strings",
]
PRIMARY = {
    "insert into t values (1)": "write",
    "with w as (insert into t values (1) returning *) select * from w": "data_modifying_with",
    "select * into u from t": "select_into",
    "select * from t for update": "locking_clause",
    "select * from t for no key update": "locking_clause",
    "select nextval('s')": "function",
    "select my_function(1)": "unknown_function",
    "select first(a) from t": "unknown_function",
    "select a, next(b) from t group by a": "unknown_function",
    "select sets(1)": "unknown_function",
    "select table_to_xml('v', true, true, '')": "unknown_function",
    "select myschema.lower('a')": "unknown_function",
    'select "nextval"(\'s\')': "unknown_function",
    "select pg_advisory_lock(1)": "function",
    "select now()": "clock",
    "select current_date": "clock",
    "select age(a) from t": "clock",
    "select age(coalesce(a, b)) from t": "clock",
    "select age(a, b), age(c) from t": "clock",
    "select 'now'::timestamptz": "clock",
    "select * from pg_stat_activity": "server_local_relation",
    "select * from pg_catalog.pg_locks": "server_local_relation",
    'select * from "pg_settings"': "server_local_relation",
    "select last_value from s": "sequence_row",
    "select pg_is_in_recovery()": "server_local_function",
    "select version()": "server_local_function",
    "show work_mem": "server_local_setting",
    "show all": "server_local_setting",
    "show transaction_isolation": "server_local_setting",
    "show pg_trgm.similarity_threshold": "server_local_setting",
    "show pgsplit.last_route": "server_local_setting",
    "select current_setting('server_version')": "server_local_function",
    "select current_setting('plpgsql.extra_errors', true)": "server_local_function",
    "select current_setting(a) from t": "server_local_function",
    "copy t from stdin": "copy",
    "copy t to '/tmp/x'": "copy",
    "copy (select 1) to program 'cat'": "copy",
    "copy (select nextval('s')) to stdout": "function",
    "explain analyze insert into t values (1)": "explain",
    "begin": "transaction_control",
    "select 1; insert into t values (1)": "write",
    "call p()": "unknown_effect",
    "do $$ begin end $$": "unknown_effect",
    "select '": "not_lexed",
    "select 1 where 'a' = U&\"b\"": "not_lexed",
    "frobnicate": "doubt",
    "select /* pgsplit: primary */ 1": "hint_primary",
}


@pytest.mark.parametrize("sql", READS)
def test_reads(sql):
    facts = classify(sql)
    assert facts.verdict is Verdict.READ, facts
    assert facts.effect_free and not facts.writes and not facts.effects


@pytest.mark.parametrize("sql, reason", PRIMARY.items())
def test_what_goes_to_the_primary_and_why(sql, reason):
    facts = classify(sql)
    assert (facts.verdict, facts.reason) == (Verdict.PRIMARY, reason)
    assert not facts.effect_free or facts.hint


@pytest.mark.parametrize("sql, effect", [
    ("set work_mem = '1MB'", "session_setting"), ("set local x = 1", ""), ("reset all", "session_setting"),
    ("set transaction read only", ""), ("select set_config('a.b', 'c', false)", "session_setting"),
    ("select lower(set_config('role', 'x', true))", "session_setting"),
    ("insert into t select set_config('a.b', 'c', false)", "session_setting"),
    ("insert into t values (my_function())", "unknown_effect"), ("insert into t (a, b) values (1, lower('x'))", ""),
    ("create temp table t (a int)", "temporary_object"), ("create table pg_temp.t (a int)", "temporary_object"),
    ("select 1 into temp t", "temporary_object"), ("create table t (a int)", ""), ("listen x", "listen"),
    ("declare c cursor with hold for select 1", "hold_cursor"), ("declare c cursor for select 1", ""),
    ("select pg_advisory_lock(1)", "advisory_lock"), ("select pg_advisory_xact_lock(1)", ""),
    ("select my_function()", "unknown_effect"), ("select nextval('s')", ""), ("load 'x'", "library"),
    ("call p()", "unknown_effect"), ("explain analyze select my_function()", "unknown_effect"),
    ("begin; set x = 1; commit", "session_setting"), ("update t set a = upper(b) where c in (1)", ""),
])
def test_what_stays_behind_in_the_session(sql, effect):
    assert classify(sql).effects == ((effect,) if effect else ())


@pytest.mark.parametrize("sql, tx", [
    ("begin", Tx.BEGIN), ("start transaction", Tx.BEGIN), ("commit", Tx.END), ("end", Tx.END), ("abort", Tx.END),
    ("rollback", Tx.END), ("rollback to s", Tx.SAVEPOINT), ("savepoint s", Tx.SAVEPOINT),
    ("prepare transaction 'x'", Tx.END), ("begin; select 1; commit", Tx.END), ("select 1", None),
])
def test_transaction_control(sql, tx):
    assert classify(sql).tx is tx


def test_a_hint_decides_among_reads_only():
    hinted = classify("select /* pgsplit: replica */ my_function()")
    assert hinted.verdict is Verdict.READ and not hinted.effect_free
    for sql in ("insert into t values (1) /* pgsplit: replica */", "/* pgsplit: replica */ begin",
                "/* pgsplit: replica */ set a = 1", "/* pgsplit: replica */ select nextval('s')",
                "select /* a pgsplit: replica */ my_function()", "select '/* pgsplit: replica */', my_function()"):
        assert classify(sql).verdict is Verdict.PRIMARY, sql
    assert classify("-- /* pgsplit: primary */\nselect 1").verdict is Verdict.READ


def test_discard_all_releases_and_nothing_else_does():
    assert classify("discard all").releases
    assert not classify("discard temp").releases
    assert not classify("discard all; set x = 1").releases


@pytest.mark.parametrize("sql", [
    "begin", "commit", "rollback to a", "savepoint a", "set work_mem = '4MB'", "reset all", "show work_mem", "", ";",
    "select 1", "select 1, 'a', null, true", "listen a", "prepare a as select f()", "deallocate a", "lock table t",
    "begin; select 1; commit", "prepare transaction 'a'", "close a"])
def test_what_writes_nothing_whatever_its_database_has(sql):
    assert classify(sql).wrote_nothing


@pytest.mark.parametrize("sql", [
    "select a from t", "table t", "select 1 <!> 2", "select 1::d", "select cast(1 as d)", "select f()", "select now()",
    "select d 'a'", "select now() from t", "select $1", "explain select a from t", "explain analyze select 1 from t",
    "fetch a", "execute a", "commit prepared 'a'", "copy t to stdout", "values (f())", "select 1; select a from t",
    "load 'a'", "/* pgsplit: primary */ select a from t", "discard all", "do 'a'", "vacuum", "delete from t"])
def test_what_may_have_written(sql):
    assert not classify(sql).wrote_nothing


def test_long_texts_are_not_lexed():
    long = "select '" + "x" * 1000 + "'"
    assert classify(long, max_bytes=100).reason == "statement_too_long"
    assert classify(long, max_bytes=100).effects == ("unknown_effect",)
    assert classify("insert into t values ('" + "x" * 1000 + "')", max_bytes=100).effects == ()


@given(st.text())
def test_any_text_has_facts_and_a_known_reason(text):
    assert classify(text).reason in RULES


@given(st.lists(st.sampled_from([*READS, *PRIMARY]), min_size=1, max_size=4))
def test_a_text_is_as_strong_as_its_strongest_statement(texts):
    if any(classify(text).reason in ("not_lexed", "hint_primary") or "--" in text for text in texts):
        return
    together = classify(";".join(texts))
    assert (together.verdict is Verdict.READ) == all(classify(text).verdict is Verdict.READ for text in texts)


def test_the_cache_is_bounded_and_remembers_writes():
    classifier = Classifier(100, 1000)
    for number in range(1000):
        classifier(b"select %d" % number)
    assert len(classifier) <= 100
    assert classifier(b"select v from hidden").verdict is Verdict.READ
    classifier.remember_write(b"select v from hidden")
    assert classifier(b"select v from hidden").reason == "write_digest"
    assert classifier("select 'é'".encode()).verdict is Verdict.READ


def test_the_corpus():
    """No wrong answers; at least 95 % of the reads that use built-in functions only go to replicas."""
    wrong, confusion, reads, on_replica = [], Counter(), 0, 0
    temporary = temporary_names()
    for statement in statements():
        facts = classify(statement["sql"])
        replica = facts.verdict is Verdict.READ
        confusion[statement["route"], facts.verdict.value, facts.reason] += 1
        # A session whose temporary table hides another one is kept on the primary by its pin.
        hides = any(name in statement["sql"].lower() for name in temporary)
        if statement["route"] == "primary" and replica and statement["standby"] == "ok" and not hides:
            wrong.append(statement["sql"])
        if (statement["route"], statement["truth"], statement["ctx"]) == ("any-node", "read", "idle") and (
                facts.reason != "unknown_function"):
            reads += 1
            on_replica += replica
    for (route, upstream, reason), count in sorted(confusion.items()):
        print(f"{route:9} -> {upstream:8} {reason:24} {count:6}")
    print(f"{on_replica} of {reads} reads: {on_replica / reads:.1%}")
    assert not wrong, wrong[:5]
    assert on_replica / reads >= 0.95


def temporary_names() -> set[str]:
    names = set()
    for statement in statements():
        words = statement["sql"].lower().replace("(", " ").split()
        if words[:1] == ["create"] and ("temp" in words[:4] or "temporary" in words[:4]):
            names.update(word for word in words[2:7] if word not in ("temp", "temporary", "table", "view", "if", "not",
                                                                     "exists", "as") and len(word) > 3)
    return names


def test_no_function_with_an_effect_is_safe():
    for name in ("nextval", "setval", "set_config", "pg_advisory_lock", "now", "version", "pg_notify", "lo_open",
                 "pg_backend_pid", "query_to_xml", "pg_terminate_backend", "currval", "pg_is_in_recovery",
                 "txid_current"):
        assert name not in SAFE


@pytest.mark.parametrize(("sql", "only"), [
    ("select now()", True), ("select current_date, localtime(3), pg_catalog.now() from t", True),
    ("values (clock_timestamp())", True), ("with a as (select timeofday()) table a", True),
    ("select age(a) from t", True),
    ("copy (select now()) to stdout", True), ("select now() where a = 'x'", True),
    ("select 'today'::date, now()", False), ("select now() for update", False), ("select now() into t", False),
    ("select now(); select 1", False), ("explain select now()", False), ("select s.now()", False),
    ("select \"now\"()", False), ("select now(), pg_backend_pid()", False), ("select f(now())", False),
    ("/* pgsplit: primary */ select now()", False), ("/* pgsplit: replica */ select now()", False),
    ("insert into t values (now())", False), ("declare c cursor for select now()", False), ("select 1", False)])
def test_what_is_a_read_but_for_the_clock(sql, only):
    found = classify(sql)
    assert (found.timed is not None) is only
    if found.timed is not None:
        assert (found.reason, found.verdict) == ("clock", Verdict.PRIMARY)
        assert found.timed.verdict is Verdict.READ and found.timed.effect_free and found.timed.detail == found.detail


def test_the_operators_lists_count_for_what_reads_the_clock_too():
    found = classify("select now(), f(1)", lists=FunctionLists(["f"])).timed
    assert found is not None and found.reads_clock and not found.effect_free
    assert classify("select now()", lists=FunctionLists([], ["now"])).timed is None
