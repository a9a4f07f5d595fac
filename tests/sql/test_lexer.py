"""Our tokens against PostgreSQL's own scanner (pglast), over the corpus and over mutations of it."""

from __future__ import annotations

import random
import time

import pytest
from pglast import parser

from pgsplit.sql.lexer import Kind, LexError, tokens
from tests.corpus import statements

COMMENTS = ("C_COMMENT", "SQL_COMMENT")
OPERATOR = "~!@#^&|`?+-*/%<>="


def ours(sql: str) -> list[int] | None:
    """Where tokens begin; a run of operator characters counts as one, since only its extent matters here."""
    try:
        found = [token.start for token in tokens(sql) if token.kind is not Kind.COMMENT]
    except LexError:
        return None
    return [start for start in found if not inside_run(sql, start)]


def theirs(sql: str) -> list[int] | None:
    try:
        found = parser.scan(sql)
    except parser.ParseError:
        return None
    return [token.start for token in found if token.name not in COMMENTS and not inside_run(sql, token.start)]


def inside_run(sql: str, start: int) -> bool:
    return start > 0 and sql[start] in OPERATOR and sql[start - 1] in OPERATOR


def test_the_corpus_is_read_as_postgresql_reads_it():
    differing = []
    for statement in statements():
        sql = statement["sql"]
        if not sql.isascii():
            continue
        mine, reference = ours(sql), theirs(sql)
        if reference is None or (mine is None and "&\"" in sql):
            continue        # bad escapes are PostgreSQL's to refuse; identifiers with Unicode escapes are not read here
        if mine != reference:
            differing.append(sql)
    assert not differing, differing[:3]


def test_mutations_are_read_alike_or_refused():
    """What PostgreSQL accepts and we read differently would be a statement hidden from the classifier."""
    dice = random.Random(5)
    pieces = ["'", '"', "--", "/*", "*/", "$$", "$a$", "\\", "E'", "U&'", "\n", ";", "#", "[", "]", "::", "$1", "1.",
              ".5e",
              "0x1f", "b'1'", "e'\\''", "''", '""', "/**/", "-", "+", "@", "é", " "]
    corpus = [statement["sql"] for statement in statements() if len(statement["sql"]) < 300]
    differing = []
    for _ in range(6000):
        sql = dice.choice(corpus)
        for _ in range(dice.randint(1, 3)):
            at = dice.randint(0, len(sql))
            sql = sql[:at] + dice.choice(pieces) + sql[at + dice.randint(0, 2):]
        if not sql.isascii() or "n'" in sql.lower():     # N'…' is one token here and two there
            continue
        mine, reference = ours(sql), theirs(sql)
        if mine is not None and reference is not None and mine != reference:
            differing.append((sql, mine, reference))
    assert not differing, differing[:3]


@pytest.mark.parametrize("sql, calls", [
    (r"SELECT '\', pg_try_advisory_lock(1) --'", "pg_try_advisory_lock"),
    ("SELECT 6 # pg_try_advisory_lock(2)::int", "pg_try_advisory_lock"),
    ("SELECT ARRAY [pg_try_advisory_lock(3)]", "pg_try_advisory_lock"),
    ('SELECT "c\\", f() --"', "f"),
    ("/* a /* b */ */ select f()", "f"),
    ("select e'\\'' , f() --'", "f"),
    ("select e'a'\n'\\' f() --', f()", "f"),
    ("select $a$ ' $b$ $a$, f()", "f"),
])
def test_what_other_lexers_hide_is_seen(sql, calls):
    found = tokens(sql)
    assert (Kind.WORD, calls) in [(token.kind, token.text) for token in found]


@pytest.mark.parametrize("sql", ["'", '"', "$$", "/*", "/* /* */", "e'\\", 'U&"a"', "select '\n", "\x01"])
def test_what_cannot_be_read_is_refused(sql):
    with pytest.raises(LexError):
        tokens(sql)


def test_hostile_texts_take_linear_time():
    """Forty times the text may not take four hundred times as long: a square would be sixteen hundred."""
    for unit in ("'a'\n", "e'\\\\'\n", "/*", "-- \n'", "$a", "((", "'' ", '""', "1e", "@-", "x'"):
        def seconds(count, unit=unit):
            start = time.perf_counter()
            try:
                tokens("select " + unit * count)
            except LexError:
                pass
            return time.perf_counter() - start

        seconds(100)
        small = max(min(seconds(500) for _ in range(3)), 0.0002)
        assert min(seconds(20_000) for _ in range(3)) < 400 * small, unit


def test_a_digest_holds_no_literal():
    from pgsplit.sql.digest import of_text

    sql = ("select 'secret-1', $$secret-2$$, E'secret-3', 42042, b'1010', $1 from \"T\" /* secret-4 */ "
           "where a in (1, 2, 3)")
    assert of_text(sql) == 'select ? from "T" where a in ( ? )'
    assert of_text("select 'open") == "(not lexed)"


def test_tables_and_operations():
    from pgsplit.sql.operations import operations

    assert operations("select * from a join b on true") == (frozenset({"a", "b"}), frozenset({"select"}))
    assert operations("insert into t select ? from u") == (frozenset({"t", "u"}), frozenset({"insert", "select"}))
    for text in ("begin", "commit", "set x = ?", "show x", "values (?)", "copy t from stdin", "explain select ?",
                 "release a", "(select ?) union (select ?)", "create or replace view v as select ?", "discard all",
                 "begin; select ?;"):
        assert operations(text) is not None, text
    for text in ("frobnicate the thing", "selec ?", "select ?; selec ?", "(not lexed)", 'select "a', "? ?", "\\d"):
        assert operations(text) is None, text


@pytest.mark.slow
def test_sqlparse_reads_what_postgresql_does():
    """The digests of the corpus: of thousands that PostgreSQL takes there is not one that is counted as an error."""
    from pgsplit.sql.digest import of_text
    from pgsplit.sql.operations import operations

    texts = {of_text(entry["sql"]) for entry in statements()
             if entry["primary"] == "ok" and ours(entry["sql"]) is not None}
    assert len(texts) > 10_000
    assert [text for text in texts if operations(text) is None] == []
