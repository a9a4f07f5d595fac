"""The statements of a log: counted once, timed, by session, and nothing guessed."""

from __future__ import annotations

import pytest

from pgsplit.observing import tally as tallying
from pgsplit.observing import watching as watchings
from pgsplit.observing.entry import Entry
from pgsplit.observing.messages import Said, said
from pgsplit.observing.report import of_tally
from tests.observing.logs import watched


@pytest.mark.parametrize(("message", "expected"), [
    ("statement: select 1", Said("statement", "", "select 1", None)),
    ("duration: 1.250 ms  statement: select\n2", Said("statement", "", "select\n2", 1.25)),
    ("duration: 0.010 ms", Said("", "", "", 0.01)),
    ("execute <unnamed>: select ': x'", Said("execute", "<unnamed>", "select ': x'", None)),
    ("execute S_1/C_2: select 1", Said("execute", "S_1/C_2", "select 1", None)),
    ("execute fetch from S_1/C_2: select 1", Said("execute fetch from", "S_1/C_2", "select 1", None)),
    ("duration: 0.1 ms  parse S_1: select 1", Said("parse", "S_1", "select 1", 0.1)),
    ("duration: 0.1 ms  bind S_1: select 1", Said("bind", "S_1", "select 1", 0.1)),
    ('fastpath function call: "lo_open" (OID 952)', Said("fastpath function call", "", "", None)),
    ("duration: long", None), ("statement timeout", None), ("checkpoint starting: time", None),
    ("connection authorized: user=u", None)])
def test_what_a_message_says(message, expected):
    assert said(message) == expected


def numbers(watching):
    return {kind: tuple(found) for kind, found in watching.tally.kinds.items() if any(found)}


def test_a_time_alone_is_that_of_the_statement_before_it():
    found = watched(("1", "statement: select 1"), ("2", "statement: insert into t values (1)"),
                    ("1", "duration: 2.000 ms"), ("2", "duration: 3.000 ms"), ("2", "duration: 9.000 ms"))
    assert numbers(found) == {"read": (1, 2000), "write": (1, 3000)}


def test_times_of_parse_and_bind_are_of_a_statement_that_is_counted_once():
    found = watched(("1", "duration: 1.000 ms  parse <unnamed>: select 1"),
                    ("1", "duration: 2.000 ms  bind <unnamed>: select 1"),
                    ("1", "duration: 4.000 ms  execute <unnamed>: select 1"),
                    ("1", "duration: 8.000 ms  execute fetch from <unnamed>: select 1"))
    assert numbers(found) == {"read": (1, 15000)}


def test_the_parse_of_a_named_statement_stays_on_the_primary():
    found = watched(("1", "duration: 1.000 ms  parse S_1: select 1"),
                    ("1", "duration: 4.000 ms  execute S_1: select 1"))
    assert numbers(found) == {"read": (1, 4000), "other": (0, 1000)}


def test_the_time_of_a_text_is_that_of_its_statements_together():
    found = watched(("1", "duration: 1.001 ms  statement: select 1; select 2; select 3"))
    assert numbers(found) == {"read": (3, 1001)}


@pytest.mark.parametrize("message", ["statement: ", "statement: <insufficient privilege>",
                                     "duration: 1.000 ms  statement: select 'cut", "execute <unnamed>: select $$ cu"])
def test_what_is_cut_or_missing_is_unknown(message):
    found = watched(("1", message))
    assert found.tally.kinds["unknown"][0] == 1
    assert found.tally.all.statements == 1 and found.tally.all.reads == 0


def test_sessions_have_transactions_of_their_own():
    found = watched(("1", "statement: begin"), ("1", "statement: insert into t values (1)"),
                    ("2", "statement: select 1"), ("1", "statement: select 1"),
                    ("1", "disconnection: session time: 0:00:00.1"), ("1", "statement: select 1"))
    assert found.tally.all.moves == 2
    assert list(found.tally.kept) == ["after_write"]


@pytest.mark.parametrize("end", [("1", "disconnection: session time: 0:00:00.1"), ("1", "connection received: host=h"),
                                 Entry(9, "1", "FATAL", "terminating connection due to administrator command")])
def test_another_session_may_have_the_same_number(end):
    found = watched(("1", "statement: begin"), ("1", "statement: insert into t values (1)"), end,
                    ("1", "statement: select 1"))
    assert found.tally.all.moves == 1


def test_without_sessions_a_transaction_is_not_followed():
    found = watched(("", "statement: insert into t values (1)"), ("", "statement: select 1"), tells_sessions=False)
    assert of_tally(found.tally, {}, upper_bound=True).moves.number == 1


def test_errors():
    found = watched(("1", "statement: begin"), ("1", "statement: select 1"), ("1", "error: division by zero"),
                    ("1", "statement: select 1"), ("1", "statement: rollback"), ("1", "statement: select 1"),
                    ("1", "duration: 1.000 ms"))
    assert (found.tally.failed, found.tally.all.moves) == (1, 2)
    assert numbers(found)["read"] == (2, 1000)


def test_an_execute_shows_what_was_prepared():
    entry = Entry(1, "1", "LOG", "statement: execute p", detail="prepare: prepare p as select 1")
    assert watched(entry).tally.all.moves == 1
    assert watched(("1", "statement: prepare p as select 1"), ("1", "statement: execute p")).tally.all.moves == 1


def test_how_soon_behind_a_commit_reads_come():
    found = watched(("1", "statement: insert into t values (1)", 0), ("1", "duration: 5.000 ms", 5),
                    ("1", "statement: select 1", 10), ("2", "statement: select 1", 60),
                    ("1", "statement: select 1", 800), ("2", "statement: select 1", 5000))
    fresh = of_tally(found.tally, {}, upper_bound=False).freshness
    assert fresh.reads == 4
    assert fresh.session == ((10, 1), (100, 1), (1000, 2))
    assert fresh.anyone == ((10, 1), (100, 2), (1000, 3))


def test_a_read_that_began_before_a_commit_need_not_see_it():
    found = watched(("1", "duration: 1.000 ms  statement: insert into t values (1)", 100),
                    ("2", "duration: 50.000 ms  statement: select 1", 120))
    assert of_tally(found.tally, {}, upper_bound=False).freshness.anyone == ((10, 0), (100, 0), (1000, 0))


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setitem(tallying.MOST, "digest", 10)
    monkeypatch.setattr(tallying, "MOST_DETAILS", 5)
    monkeypatch.setattr(watchings, "MOST_SESSIONS", 7)
    monkeypatch.setattr(watchings, "MOST_DIGESTS", 8)
    found = watched(*((str(number), f"statement: select a{number} from t{number}, f{number}()")
                      for number in range(100)))
    assert len(found.tally.by["digest"]) <= 11
    assert sum(each.statements for each in found.tally.by["digest"].values()) == 100
    assert sum(number for number, _ in found.tally.kept["function"].details.values()) == 100
    assert len(found.tally.kept["function"].details) == 6
    assert len(found._sessions) == 7 and len(found._digests) <= 8
