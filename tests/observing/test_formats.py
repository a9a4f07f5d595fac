"""Each format of a server's log: whole, cut anywhere, and broken."""

from __future__ import annotations

import pytest

from pgsplit.errors import PgSplitError
from pgsplit.observing.entry import Broken, Entry
from pgsplit.observing.prefix import KNOWN, Prefix, guessed
from tests.observing.logs import PREFIX, csv_record, json_record, read, stderr_record

FORMATS = {"csvlog": csv_record, "jsonlog": json_record, "stderr": stderr_record}
TEXTS = ["statement: select 1", "statement: select 'a \"quoted\" name',\n  \"B\"\nfrom t -- ü",
         "duration: 0.123 ms  execute S_1: select $1,\n\n\t2"]


def records(record):
    session = {"session": "107"} if record is stderr_record else {"session": "6b.2"}
    return [record(TEXTS[0], ms=5), record(TEXTS[1], ms=6, detail="parameters: $1 = 'x\ny'", **session),
            record("no, sir", severity="ERROR", query="select\nbad"), record(TEXTS[2], ms=999, application="psql")]


@pytest.mark.parametrize("name", FORMATS)
def test_entries(name):
    first, second, third, fourth = read("".join(records(FORMATS[name])), prefix=PREFIX if name == "stderr" else None)
    assert [entry.message for entry in (first, second, fourth)] == TEXTS
    assert second.detail == "parameters: $1 = 'x\ny'"
    assert (third.severity, third.query) == ("ERROR", "select\nbad")
    assert (first.user, first.database, first.application, fourth.application) == ("u", "d", "app", "psql")
    assert first.session == third.session != second.session
    assert (second.time - first.time, fourth.time - first.time) == (1, 994)
    assert first.line == 1


@pytest.mark.parametrize("name", FORMATS)
def test_a_log_that_is_cut_anywhere(name):
    """What is left of the first and the last record is broken, or nothing; what is whole is read."""
    made = records(FORMATS[name])
    whole = "".join(made)
    prefix = PREFIX if name == "stderr" else None
    expected = read(whole, name, prefix)
    for position in range(len(whole) + 1):
        head, tail = read(whole[:position], name, prefix), read(whole[position:], name, prefix)
        complete = sum(len("".join(made[:count])) <= position for count in range(1, len(made) + 1))
        assert head[:complete - (name == "stderr" and complete > 0)] == expected[:complete - (
            name == "stderr" and complete > 0)]
        behind = [count for count in range(len(made) + 1) if len("".join(made[:count])) >= position]
        left = len(made) - (behind[0] if behind else len(made))
        found = [entry for entry in tail if isinstance(entry, Entry)]
        assert [entry.message for entry in found][len(found) - left:] == [
            entry.message for entry in expected][len(expected) - left:], position


@pytest.mark.parametrize(("name", "broken", "why"), [
    ("csvlog", "no record\n", "no record of csvlog"),
    ("csvlog", csv_record("statement: select 1", columns=22), "22 columns"),
    ("csvlog", csv_record("x").replace('LOG', '"LOG', 1), "not closed"),
    ("jsonlog", "{\"timestamp\": \n", "not readable as JSON"), ("jsonlog", "[1]\n", "no object"),
    ("jsonlog", "[" * 100_000 + "\n", "not readable as JSON"),
    ("stderr", "\tgoes on\n", "not in this file"), ("stderr", "Segmentation fault\n", "does not begin"),
])
def test_what_is_broken_is_named_and_the_rest_is_read(name, broken, why):
    record = FORMATS[name]
    text = (broken + record(TEXTS[0]) if name == "stderr" and broken.startswith("\t")
            else record(TEXTS[0]) + broken + record(TEXTS[0]))
    found = read(text, name, PREFIX if name == "stderr" else None)
    [fault] = [each for each in found if isinstance(each, Broken)]
    assert why in fault.why
    assert fault.line == (1 if text.startswith(broken) else 2)
    assert [each.message for each in found if isinstance(each, Entry)] == [TEXTS[0]] * (
        1 if text.startswith(broken) else 2)


def test_a_run_of_broken_lines_is_one_place():
    found = read(csv_record("a") + "x\ny\nz\n" + csv_record("b"), "csvlog")
    assert [type(each) for each in found] == [Entry, Broken, Entry]


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_guessed(name):
    text = "".join(records(FORMATS[name]))
    assert read(text) == read(text, name, PREFIX if name == "stderr" else None)


@pytest.mark.parametrize("columns", [23, 24, 26])
def test_csvlog_of_older_versions(columns):
    [entry] = read(csv_record("statement: select 1", columns=columns), "csvlog")
    assert (entry.message, entry.application) == ("statement: select 1", "app")


@pytest.mark.parametrize(("prefix", "line", "expected"), [
    ("%m [%p] %q%u@%d ", "2026-11-30 13:44:52.123 CET [12] u@d LOG:  statement: x",
     {"user": "u", "database": "d", "pid": "12"}),
    ("%m [%p] %q%u@%d ", "2026-11-30 13:44:52.123 CET [12] LOG:  checkpoint starting: time", {"user": ""}),
    ("%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ",
     "2026-11-30 13:44:52 UTC [12]: [3-1] user=a b,db=d,app=my app,client=::1 LOG:  statement: x",
     {"user": "a b", "application": "my app"}),
    ("%t:%r:%u@%d:[%p]:", "2026-11-30 13:44:52 UTC:10.0.0.1(5000):u@d:[12]:LOG:  x", {"user": "u", "pid": "12"}),
    ("%n %c %e %% ", "1764510292.123 6a.1 00000 % LOG:  x", {"epoch": "1764510292.123", "session": "6a.1"}),
    ("%-8u|%5p ", "u       |   12 LOG:  x", {"user": "u", "pid": "12"}),
])
def test_prefixes(prefix, line, expected):
    found = Prefix(prefix).read(line)
    assert found is not None
    assert {name: found[name].strip() for name in expected} == expected


@pytest.mark.parametrize("prefix", [prefix for prefix in KNOWN if "%d" in prefix])
def test_a_usual_prefix_is_guessed_as_what_tells_as_much(prefix):
    values = {"%m": "2026-11-30 13:44:52.123 UTC", "%t": "2026-11-30 13:44:52 UTC", "%p": "12", "%u": "me", "%d": "db",
              "%a": "app", "%h": "10.0.0.1", "%r": "10.0.0.1(5)", "%l": "7", "%q": "", "%n": "1764510292.123",
              "%c": "6a.1", "%e": "00000", "%s": "2026-11-30 13:44:52 UTC", "%v": "3/7", "%x": "0"}
    line = prefix
    for escape, value in values.items():
        line = line.replace(escape, value)
    found = guessed([line + "LOG:  statement: select 1", "\tgoes on"])
    assert found is not None
    assert {"user": "me", "database": "db"}.items() <= found.read(line + "LOG:  x").items()


@pytest.mark.parametrize("prefix", ["%m [%p] %y ", "100% "])
def test_a_prefix_that_postgresql_does_not_have(prefix):
    with pytest.raises(PgSplitError, match="log_line_prefix"):
        Prefix(prefix)


def test_a_log_in_no_known_format():
    with pytest.raises(PgSplitError, match="--log-line-prefix"):
        read("Nov 30 13:44:52 host postgres[12]: [3-1] something\n")


def test_an_empty_log():
    assert read("") == []
