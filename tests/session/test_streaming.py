"""Batches of which the beginning leaves before their Sync, as conversations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgsplit.wire import build
from pgsplit.wire.build import message

from .talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, X, batch, done, error

CLOSED = message(b"3")
NO_DATA = message(b"n")
INSERT = "insert into t values (1)"
SHOW = "show pgsplit.last_route"


def open_batch(sql: str, *, name: str = "") -> bytes:
    """As `batch`, without its Sync."""
    return batch(sql, name=name)[:-len(S)]


def reasons(talk: Talk) -> list[str]:
    return [decision.reason for decision in talk.decisions]


def forget(talk: Talk, name: str) -> Callable[[], None]:
    return lambda: getattr(talk.sides, name).heard.clear()


def begun(talk: Talk) -> Talk:
    return talk.client(Q("begin")).expect_primary(Q("begin")).primary(done("BEGIN"), T).expect_client(done("BEGIN"), T)


def test_a_write_leaves_without_its_sync_and_its_error_comes_back():
    """psycopg's `test_pipeline_communicate_uniqviol`: the server flushes on errors."""
    talk = Talk()
    talk.client(open_batch(INSERT)).expect_primary(open_batch(INSERT)).expect_replica()
    talk.primary(PARSED, BOUND, error("23505")).expect_client(PARSED, BOUND, error("23505"))
    talk.client(open_batch(INSERT), S).expect_primary(open_batch(INSERT), S).primary(I).expect_client(I)
    talk.client(Q("select 1")).expect_replica(Q("select 1"))
    talk.cuts()
    assert reasons(talk) == ["write", "read"]


def test_each_message_leaves_as_it_comes():
    talk = begun(Talk())
    for part in (build.parse("", "select 1"), build.bind(), build.describe(), build.execute()):
        talk.client(part).expect_primary(part)
    talk.client(S).expect_primary(S).primary(PARSED, BOUND, ROW, done("SELECT 1"), T)
    talk.expect_client(PARSED, BOUND, ROW, done("SELECT 1"), T)
    talk.client(batch("commit")).primary(PARSED, BOUND, NO_DATA, done("COMMIT"), I)
    talk.client(Q("select 2")).expect_replica(Q("select 2"))
    talk.cuts()
    assert reasons(talk) == ["transaction_control", "transaction_open", "transaction_control", "read"]


def test_what_a_replica_may_get_waits_for_its_sync():
    talk = Talk()
    head = open_batch("select 1")
    talk.client(head).expect_primary().expect_replica().client(S).expect_replica(head, S).expect_primary()
    talk.replica(PARSED, BOUND, ROW, done("SELECT 1"), I).expect_client(PARSED, BOUND, ROW, done("SELECT 1"), I)
    talk.client(build.parse("", "select 1")).expect_primary().client(S).expect_primary(build.parse("", "select 1"), S)
    talk.cuts()
    assert reasons(talk) == ["read", "nothing_to_run"]


def test_a_read_leaves_with_the_write_behind_it():
    talk = Talk()
    read, write = open_batch("select 1"), open_batch(INSERT)
    talk.client(read).expect_primary().client(write).expect_primary(read, write).client(S).expect_primary(S)
    talk.primary(PARSED, BOUND, ROW, done("SELECT 1"), PARSED, BOUND, NO_DATA, done("INSERT 0 1"), I)
    talk.client(Q("select 1")).expect_replica(Q("select 1"))
    talk.cuts()
    assert reasons(talk) == ["write", "read"]
    assert talk.published


@pytest.mark.parametrize("head, reason", [
    (build.parse("name", "select 1"), "named_statement"),
    (build.execute("portal"), "portal_elsewhere"),
    (build.describe(b"P", "portal"), "portal_elsewhere"),
    (build.close(name="name"), "named_statement"),
    (build.close(), "unnamed_statement"),
    (build.bind("", "nobody_knows_it"), "doubt"),
    (build.parse("", INSERT), "write"),
], ids=["Parse of a name", "Execute of an old portal", "Describe of one", "Close of a name", "Close of the unnamed",
        "Bind of a name", "Parse of a write"])
def test_what_shows_that_a_batch_is_the_primarys(head, reason):
    talk = Talk()
    talk.client(head).expect_primary(head).expect_replica().client(S).expect_primary(S)
    talk.cuts()
    assert reasons(talk) == [reason]


@pytest.mark.parametrize("sessions, reason", [
    ({"replica": False}, "no_replica"), ({"replica": False, "sole": True}, "sole_upstream")])
def test_where_there_is_no_replica_nothing_waits(sessions, reason):
    head = open_batch("select 1")
    talk = Talk(**sessions)
    talk.client(head).expect_primary(head).primary(PARSED, BOUND, error("22012"))
    talk.expect_client(PARSED, BOUND, error("22012")).client(S).expect_primary(S).primary(I).expect_client(I)
    talk.cuts()
    assert reasons(talk) == [reason]


def test_nothing_waits_behind_a_batch_that_the_primary_runs():
    head = open_batch("select 1")
    talk = Talk()
    talk.client(Q(INSERT), head).expect_primary(Q(INSERT), head)
    talk.primary(done("INSERT 0 1"), I, PARSED, BOUND, error("22012"))
    talk.expect_client(done("INSERT 0 1"), I, PARSED, BOUND, error("22012"))
    talk.client(S).expect_primary(S).primary(I).client(Q("select 1")).expect_replica(Q("select 1"))
    talk.cuts()
    assert reasons(talk) == ["write", "pipelined_behind_primary", "read"]


def test_nothing_leaves_while_a_replica_answers_what_came_before():
    head = open_batch(INSERT)
    talk = Talk()
    talk.client(Q("select 1"), head).expect_primary().expect_replica(Q("select 1"))
    talk.replica(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I).expect_primary(head)
    talk.client(S).expect_primary(S).primary(PARSED, BOUND, NO_DATA, done("INSERT 0 1"), I)
    talk.cuts()


def test_a_session_that_may_only_read_refuses_the_batch_as_a_whole():
    head = open_batch(INSERT)
    talk = Talk(replica=False, sole=True, read_only=True)
    talk.client(head).expect_primary().client(S).expect_primary()
    talk.client(open_batch("select 1")).expect_primary(open_batch("select 1"))
    for cut in (0, 1, 3):
        talk.run(cut)
        assert b"this session may only read" in bytes(talk.sides.client.heard)


def test_the_unnamed_statement_that_a_replica_has_is_given_between_two_messages():
    first, again, last = batch("select 1"), build.bind() + build.execute(), open_batch("select 2")
    talk = Talk()
    talk.client(first).replica(PARSED, BOUND, ROW, done("SELECT 1"), I).expect_replica(first)
    talk.expect_client(PARSED, BOUND, ROW, done("SELECT 1"), I)
    write = build.parse("w", INSERT) + build.bind("", "w") + build.execute()
    talk.client(write).expect_primary(write).client(again).expect_primary(build.parse("", "select 1"), again)
    talk.client(again).expect_primary(again).client(last, S).expect_primary(last, S)
    answers = (PARSED, BOUND, done("INSERT 0 1"))
    talk.primary(*answers, PARSED, BOUND, done("SELECT 1"), BOUND, done("SELECT 1"), PARSED, BOUND, ROW,
                 done("SELECT 1"), I)
    talk.expect_client(*answers, BOUND, done("SELECT 1"), BOUND, done("SELECT 1"), PARSED, BOUND, ROW,
                       done("SELECT 1"), I)
    talk.cuts()


def test_the_unnamed_statement_is_not_taken_for_given_behind_an_error():
    first, again = batch("select 1"), build.bind() + build.execute()
    write = build.parse("w", INSERT) + build.bind("", "w") + build.execute()
    talk = Talk()
    talk.client(first).replica(PARSED, BOUND, ROW, done("SELECT 1"), I).expect_replica(first)
    talk.client(write).expect_primary(write).client(again).expect_primary(build.parse("", "select 1"), again)
    talk.do(forget(talk, "client"))
    talk.primary(PARSED, BOUND, error("23505")).expect_client(PARSED, BOUND, error("23505"))
    talk.client(again, S).expect_primary(again, S).primary(I).expect_client(I)
    talk.do(lambda: setattr(talk, "stale", "no_fresh_replica"))
    talk.client(again, S).expect_primary(build.parse("", "select 1"), again, S)
    talk.primary(PARSED, BOUND, done("SELECT 1"), I).expect_client(BOUND, done("SELECT 1"), I)
    for cut in (0, 1, 3):
        talk.stale = ""
        talk.run(cut)


def test_an_old_unnamed_statement_is_ended_between_two_messages():
    """A Query that a replica ran has ended it; the primary does not know."""
    talk = Talk()
    talk.client(batch(INSERT)).primary(PARSED, BOUND, NO_DATA, done("INSERT 0 1"), I).expect_primary(batch(INSERT))
    talk.client(Q("select 1")).replica(ROW, done("SELECT 1"), I)
    named, again = build.parse("s", "select 1"), build.bind() + build.execute()
    talk.do(forget(talk, "client"))
    talk.client(named).expect_primary(named).client(again).expect_primary(build.close(), again)
    talk.primary(PARSED, CLOSED, error("26000")).expect_client(PARSED, error("26000"))
    talk.client(S).expect_primary(S).primary(I).expect_client(I)
    talk.cuts()


def test_the_last_route_is_put_between_two_messages():
    talk = Talk()
    begin, show, more = open_batch("begin"), open_batch(SHOW), open_batch("select 1")
    talk.client(begin).expect_primary(begin).client(show)
    talk.do(lambda: talk.marks.append(bytes(talk.sides.additional.heard)))
    talk.do(forget(talk, "additional"))
    talk.client(more, S).expect_primary(more, S)
    talk.primary(PARSED, BOUND, NO_DATA, done("BEGIN"))
    talk.primary(PARSED, BOUND, message(b"D", b"\0\1\0\0\0\0"), done("SELECT 1"), CLOSED)
    talk.primary(PARSED, BOUND, ROW, done("SHOW"), PARSED, BOUND, ROW, done("SELECT 1"), T)
    talk.expect_client(PARSED, BOUND, NO_DATA, done("BEGIN"), PARSED, BOUND, ROW, done("SHOW"),
                       PARSED, BOUND, ROW, done("SELECT 1"), T)
    for cut in (0, 1, 2, 3, 5, 7):
        talk.marks = []
        talk.run(cut)
        assert b"primary: transaction_control" in talk.marks[0] and talk.marks[0].endswith(show)
        assert talk.marks[0].count(b"set_config") == 1


def test_copy_whose_sync_comes_late():
    go, data, end = message(b"G", b"\0\0\0"), message(b"d", b"1\n"), message(b"c")
    head = open_batch("copy t from stdin")
    for script in ((head, go, data + end + S), (head + S, go, data + end + S), (head + data + end + S, go, b"")):
        first, told, rest = script
        talk = Talk()
        talk.client(first).expect_primary(first).primary(PARSED, BOUND, NO_DATA, told)
        if rest:
            talk.client(rest).expect_primary(rest)
        talk.primary(done("COPY 1"), I).expect_client(PARSED, BOUND, NO_DATA, told, done("COPY 1"), I)
        talk.client(Q("select 1")).expect_replica(Q("select 1"))
        talk.cuts()


def test_a_goodbye_in_the_middle_ends_the_session():
    talk = Talk()
    talk.client(open_batch(INSERT)).expect_primary(open_batch(INSERT)).client(X)
    talk.expect_primary()
    talk.cuts((0, 1))


def test_a_message_that_is_short_enough_leaves_whole():
    """In pieces a Parse is not understood, and the session would have to be asked for what it did."""
    long = build.parse("", "insert into t values ('" + "x" * 40_000 + "')")
    begin = open_batch("begin")
    talk = Talk()
    talk.client(begin).expect_primary(begin).client(long, build.bind(), build.execute(), S)
    talk.expect_primary(long, build.bind(), build.execute(), S)
    talk.primary(PARSED, BOUND, NO_DATA, done("BEGIN"), PARSED, BOUND, done("INSERT 0 1"), T)
    talk.client(Q("commit")).expect_primary(Q("commit")).primary(done("COMMIT"), I)
    talk.client(Q("select 1")).expect_replica(Q("select 1"))
    talk.run()
    talk.run(20_000)


def test_an_error_in_an_open_transaction_and_its_end():
    talk = begun(Talk())
    head = open_batch(INSERT)
    talk.client(head).expect_primary(head).primary(PARSED, BOUND, error("23505"))
    talk.expect_client(PARSED, BOUND, error("23505")).client(S).expect_primary(S).primary(FAILED).expect_client(FAILED)
    talk.client(open_batch("rollback")).expect_primary(open_batch("rollback")).client(S).expect_primary(S)
    talk.primary(PARSED, BOUND, NO_DATA, done("ROLLBACK"), I).client(Q("select 1")).expect_replica(Q("select 1"))
    talk.cuts()


def test_a_read_whose_sync_does_not_come_is_the_primarys(monkeypatch):
    monkeypatch.setattr("pgsplit.session.session.SYNC_AWAITED", 0.0)
    read = open_batch("select 1 / 0")
    talk = Talk()
    talk.client(read).do(lambda: None).expect_primary(read).expect_replica()
    talk.primary(PARSED, error("22012")).expect_client(PARSED, error("22012"))
    talk.client(S).expect_primary(S).primary(I).expect_client(I)
    talk.client(batch("select 1")).expect_replica(batch("select 1"))
    talk.run()
    assert reasons(talk) == ["sync_awaited", "read"]
