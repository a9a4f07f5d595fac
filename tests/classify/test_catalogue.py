"""Definitions to facts, without a server: the rows are what upstream/definitions.py asks for."""

from __future__ import annotations

from typing import Any

import pytest

from pgsplit.classify.catalogue import Catalogue
from pgsplit.classify.classify import classify
from pgsplit.classify.facts import Verdict
from pgsplit.classify.function_lists import FunctionLists
from pgsplit.classify.relations import relations_in
from pgsplit.sql.lexer import tokens

_OIDS = iter(range(20_000, 30_000))


def function(name: str, body: str = "", **row: Any) -> dict[str, Any]:
    return {"k": "f", "oid": next(_OIDS), "name": name, "lang": "sql", "volatility": "s", "aggregate": False,
            "cursor": False, "ext": None, "body": body, "defaults": None, "attribute": False, "built_in": False,
            "same_as": None, "uses": [], **row}


def relation(name: str, body: str | None = None, **row: Any) -> dict[str, Any]:
    return {"k": "r", "oid": next(_OIDS), "name": name, "kind": "v" if body else "r", "persistence": "p", "body": body,
            "policies": [], "uses": [], **row}


def facts(sql: str, *rows: dict[str, Any], lists: FunctionLists | None = None) -> Any:
    lists = lists or FunctionLists()
    return classify(sql, catalogue=Catalogue([*rows, {"k": "s", "name": "pg_class"}], lists), lists=lists)


def where(sql: str, *rows: dict[str, Any], lists: FunctionLists | None = None) -> str:
    found = facts(sql, *rows, lists=lists)
    return "replica" if found.verdict is Verdict.READ and not found.unsure else f"{found.reason}: {found.detail}"


def test_functions_that_call_each_other_in_a_circle_are_reads_if_all_of_them_are():
    rows = [function("f", "select g($1 - 1)"), function("g", "select case when $1 > 0 then f($1) end")]
    assert where("select f(3)", *rows) == where("select g(3)", *rows) == "replica"
    rows = [function("f", "select g($1 - 1)"), function("g", "select f($1) + pg_try_advisory_lock(1)::int")]
    assert where("select f(3)", *rows) == "unknown_function: f, by g: function: pg_try_advisory_lock"
    assert where("select g(3)", *rows) == "unknown_function: g: function: pg_try_advisory_lock"


@pytest.mark.parametrize("body", [
    "begin perform f(); end", "begin if f() then return 1; end if; end", "begin return f(); end",
    "begin while f() loop null; end loop; end", "begin for i in f() .. 3 loop null; end loop; end",
    "begin x := f(); end", "begin x = f(); end", "declare x int := f(); begin end",
    "declare x int default f(); begin end",
    "begin assert f(); end", "begin case f() when 1 then null; end case; end", "begin exit when f(); end",
    "begin return query select f(); end", "begin raise notice '%', f(); end",
    "begin for i in reverse f() .. 1 loop end",
    "begin foreach x in array f() loop end loop; end", "begin if a then b; elsif f() then c; end if; end",
    "begin return next f(); end", "begin raise exception using message = f(); end", "begin x.y := f(); end",
    'begin perform "f"(); end', "begin perform s.f(); end", "begin perform /* f */ f /* g */ (); end",
])
def test_a_call_is_found_wherever_it_stands_in_a_body(body):
    rows = [function("looks", body, lang="plpgsql"), function("f", "select nextval('s')")]
    assert where("select looks()", *rows) == "unknown_function: looks, by f: function: nextval"


@pytest.mark.parametrize("name", [
    "first", "last", "next", "over", "sets", "cube", "key", "range", "rows", "filter", "zone", "escape", "inner",
    "similar", "join", "left", "like", "within", "conflict", "by"])
def test_a_function_that_has_the_name_of_a_key_word_is_called_all_the_same(name):
    assert where(f"select {name}(1)", function(name, volatility="v")) == f"unknown_function: {name}: volatile"
    assert where(f"select 1 + {name} (1)", function(name, "select 1")) == "replica"


@pytest.mark.parametrize("row, why", [
    ({"volatility": "v"}, "volatile"), ({"lang": "plperl"}, "in plperl"), ({"lang": "c"}, "in C"),
    ({"lang": "c", "ext": "unheard_of"}, "in C"), ({"cursor": True}, "gives a cursor"),
    ({"lang": "internal", "same_as": ["pg_reload_conf"]}, "a built-in one by another name"),
    ({"lang": "internal"}, "a built-in one by another name"),
    ({"body": "select 'open"}, "not understood"),
    ({"body": "select * from pg_locks"}, "server_local_relation: pg_locks"),
    ({"body": "select 'now'::timestamptz"}, "clock: 'now'"), ({"body": "select current_date"}, "clock: current_date"),
    ({"body": "begin execute 'select 1'; end", "lang": "plpgsql"}, "EXECUTE"),
    ({"body": "begin open c; end", "lang": "plpgsql"}, "OPEN"), ({"body": "select g()"}, "g, which is not known"),
    ({"defaults": "nextval('s'::regclass)"}, "function: nextval"), ({"body": "select txid_current()"}, "txid_current"),
    ({"body": "select current_setting('pg_trgm.similarity_threshold')"}, "server_local_function: current_setting"),
    ({"body": "select set_config('a.b', 'c', true)"}, "function: set_config"),
])
def test_what_makes_a_function_doubtful(row, why):
    assert why in where("select f(1)", function("f", **row))


def test_functions_of_extensions_are_known_by_the_table():
    assert where("select similarity('a', 'b')", function("similarity", lang="c", ext="pg_trgm")) == "replica"
    assert where("select gen_salt('md5')", function("gen_salt", lang="c", ext="pgcrypto", volatility="v")) == "replica"
    assert "in C" in where("select show_limit()", function("show_limit", lang="c", ext="pg_trgm"))
    assert "volatile" in where("select uuid_generate_v1()",
                               function("uuid_generate_v1", lang="c", ext="uuid-ossp", volatility="v"))


def test_one_name_stands_for_all_that_have_it():
    rows = [function("f", "select 1"), function("f", "select 1", volatility="v")]
    assert where("select f()", *rows) == where("select a.f()", *rows) == "unknown_function: f: volatile"
    assert where("select lower('X')", function("lower", volatility="v", built_in=True)) == (
        "unknown_function: lower: volatile")
    assert where("select age(a) from t", relation("t"), function("age", "select 1", built_in=True)) == "clock: age"
    for call, name in (("age(a, b)", "age"), ("current_setting('app.x')", "current_setting")):
        assert where(f"select {call} from t", relation("t")) == "replica"
        assert where(f"select {call} from t", relation("t"), function(name, volatility="v", built_in=True)) == (
            f"unknown_function: {name}: volatile")
    view = relation("v", "select * from pg_locks")
    assert where("select * from other.v", view, relation("v")) == (
        "hidden_doubt: view v: server_local_relation: pg_locks")


def test_letters_above_ascii_are_compared_in_whatever_encoding_they_are():
    row = relation("gr\xc3\xb6\xc3\x9fe", "select * from pg_locks")
    for name in ("gr\xc3\xb6\xc3\x9fe", "gr\xf6\xdfe", '"gr\xf6\xdfe"'):
        assert "hidden_doubt" in where(f"select * from {name}", row)
    assert where(f"select * from {'a' * 64}", relation("a" * 63)) == "doubt: a name that the server cuts"


def test_what_the_operator_lists_is_believed_in_bodies_too():
    rows = [function("f", "select g()"), function("g", volatility="v")]
    assert "volatile" in where("select f()", *rows)
    assert where("select f()", *rows, lists=FunctionLists(replica=["g"])) == "replica"
    rows = [function("f", "select g()"), function("g", "select 1")]
    assert where("select f()", *rows) == "replica"
    assert where("select f()", *rows, lists=FunctionLists(primary=["g"])) == "unknown_function: f: g"


@pytest.mark.parametrize("sql, effects, defines", [
    ("select f()", (), False), ("select sets()", ("unknown_effect",), False),
    ("select temp()", ("unknown_effect",), True), ("select makes()", (), True),
    ("select by_other()", ("unknown_effect",), True), ("insert into t select f()", (), False),
    ("select nowhere()", ("unknown_effect",), True), ("call f()", (), False), ("call makes()", (), True),
    ("do $$ begin perform f(); end $$", (), False), ("do $$ begin perform makes(); end $$", (), True),
    ("do $$ begin create table x as select 1; end $$", (), True),
    ("do $$ begin set app.x = 1; end $$", ("unknown_effect",), False),
    ("create function x() returns int language sql as 'select 1'", (), True), ("drop view v", (), True),
    ("create temporary table x (a int)", ("temporary_object",), False), ("truncate t", (), False),
    ("create temporary view x as select 1", ("temporary_object",), True), ("update t set a = 1", (), False),
    ("select 1 into x", (), True), ("select * from seen", (), True), ("select 1", (), False),
    ("'", ("unknown_effect",), True), ("select pg_logical_emit_message(true, 'outbox', 'row')", (), False),
    ("select * from pg_catalog.pg_logical_slot_peek_changes('s', null, null)", (), False),
    ("select pg_replication_origin_session_setup('o')", ("unknown_effect",), True),
])
def test_what_a_statement_leaves_behind_and_whether_it_defines(sql, effects, defines):
    found = facts(sql, function("f", "update t set a = 1 where b", volatility="v"), relation("t"),
                  function("sets", "set app.x = 1", volatility="v"),
                  function("temp", "create temp table x (a int)", volatility="v"),
                  function("makes", "begin create table x as select 1; end", volatility="v", lang="plpgsql"),
                  function("by_other", lang="plperl", volatility="v"), relation("seen", "select makes()"))
    assert (found.effects, found.defines) == (effects, defines)


@pytest.mark.parametrize("sql, names", [
    ("select * from a, b.c join d on x = 1, only e where f", "a c d e"), ("table t", "t"), ("(table t)", "t"),
    ("select extract(year from x), substring(y from 1), trim(both 'x' from y) from z", "z"),
    ("select 1 from (a join b using (id)) c, lateral (select * from d) e", "a b d"),
    ("with x(a) as (select 1), y as materialized (select * from z) select * from x, y join w on true", "z w"),
    ("select a is distinct from b, c is not distinct from d from t", "t"), ("select distinct from q", "q"),
    ("select * from f(1), rows from (g(2), h(3)) as r(a, b), t order by 1, u", "t"),
    ("select (select max(a) from s), b from t2 where x in (select y from u2) union all table v2", "s t2 u2 v2"),
    ("select * from a cross join b natural join c left join d using (x, y), e", "a b c d e"),
    ("select * from only (a), b tablesample system (10), c for update of d, e", "a b c"),
    ('select * from "A b", s."C" x', "A b;C"), ("explain table t", "t"), ("explain select * from t", "t"),
    ("select a.from from t", "t"), ("select 1", ""), ("values (1)", ""),
])
def test_the_relations_of_a_text(sql, names):
    assert relations_in(tokens(sql)) == (names.split(";") if ";" in names else names.split())


def test_a_relation_that_is_not_known_is_named():
    assert facts("select * from t, u", relation("t")).unsure == "u"
    assert not facts("/* pgsplit: replica */ select * from u").unsure
    assert not facts("with u as (select 1) select * from t, u, pg_class", relation("t")).unsure


def timed(sql: str, *rows: dict[str, Any]) -> str:
    """By what rule a text goes where, for who may read a replica's clock."""
    found = facts(sql, *rows)
    found = found.timed or found
    return f"{found.reason}: {found.detail}" if found.detail else found.reason


NOW = function("f", "select now()")


@pytest.mark.parametrize(("sql", "rows", "expected"), [
    ("select now()", (), "replica_clock: now"),
    ("select f(1)", (NOW,), "replica_clock: f: clock: now"),
    ("select g()", (NOW, function("g", "begin return f(1); end", lang="plpgsql")),
     "replica_clock: g, by f: clock: now"),
    ("select * from v", (relation("v", "select 1 where current_date > '2000-01-01'"),),
     "replica_clock: view v: clock: current_date"),
    ("select *, now() from v", (relation("v", "select f(1)"), NOW), "replica_clock: now"),
    ("select f(1)", (function("f", "select 'now'::timestamptz"),), "unknown_function: f: clock: 'now'"),
    ("select f(1)", (function("f", "select now() from pg_locks"),), "unknown_function: f: clock: now"),
    ("select f(1)", (function("f", "select now(), g()"),), "unknown_function: f: clock: now"),
    ("select f(1)", (function("f", "select clock_timestamp()", volatility="v"),), "unknown_function: f: volatile"),
    ("select f(1), g()", (NOW, function("g", "select nextval('s')")), "unknown_function: f: clock: now"),
    ("select now() from v", (relation("v", "select * from pg_locks"),), "clock: now"),
    ("select now(), f(1)", (), "clock: now"),
    ("select now()", (function("now", volatility="v", built_in=True),), "clock: now"),
    ("select other.now()", (function("now", "select pg_catalog.now()", built_in=True),), "unknown_function"),
])
def test_what_leads_to_nothing_worse_than_the_clock(sql, rows, expected):
    assert timed(sql, *rows).startswith(expected)


def test_a_relation_that_is_not_known_yet_is_waited_for_in_a_read_of_the_clock_too():
    found = facts("select now() from later").timed
    assert found is not None and found.unsure == "later" and found.reads_clock


def test_without_the_setting_nothing_is_different():
    found = facts("select f(1)", NOW)
    assert (found.reason, found.detail, found.verdict) == ("unknown_function", "f: clock: now", Verdict.PRIMARY)
