"""The session's rules as conversations. Each runs whole and cut into pieces of every small size."""

from __future__ import annotations

import pytest

from pgsplit.classify.facts import DOUBT
from pgsplit.session.session import CANCELLED
from pgsplit.split import batch as batch_module
from pgsplit.split.batch import Batch, Draft
from pgsplit.wire import build
from pgsplit.wire.build import message

from .talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, X, batch, done, error


def test_a_read_is_answered_by_the_replica():
    talk = Talk()
    talk.client(Q("select 1")).expect_replica(Q("select 1")).expect_primary()
    talk.replica(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.client(X).expect_replica(X).expect_primary(X)
    talk.cuts()
    assert talk.commands == [("replica", "SELECT 1")]
    assert [d.reason for d in talk.decisions] == ["read"]


def test_a_write_goes_to_the_primary_and_is_published():
    talk = Talk()
    talk.client(Q("insert into t values (1)")).expect_primary(Q("insert into t values (1)")).expect_replica()
    talk.primary(done("INSERT 0 1"), I).expect_client(done("INSERT 0 1"), I)
    talk.cuts()
    assert talk.published >= 1


def test_an_extended_read_is_asked_whole_and_a_write_too():
    talk = Talk()
    talk.client(batch("select 1")).expect_replica(batch("select 1"))
    talk.replica(PARSED, BOUND, ROW, done("SELECT 1"), I).expect_client(PARSED, BOUND, ROW, done("SELECT 1"), I)
    talk.client(batch("insert into t values (1)")).expect_primary(batch("insert into t values (1)"))
    talk.primary(PARSED, BOUND, message(b"n"), done("INSERT 0 1"), I)
    talk.expect_client(PARSED, BOUND, message(b"n"), done("INSERT 0 1"), I)
    talk.cuts()


def test_an_open_transaction_keeps_reads_on_the_primary():
    talk = Talk()
    talk.client(Q("begin")).expect_primary(Q("begin")).primary(done("BEGIN"), T).expect_client(done("BEGIN"), T)
    talk.client(Q("select 1")).expect_primary(Q("select 1")).expect_replica()
    talk.primary(ROW, done("SELECT 1"), T).expect_client(ROW, done("SELECT 1"), T)
    talk.client(Q("commit")).expect_primary(Q("commit")).primary(done("COMMIT"), I).expect_client(done("COMMIT"), I)
    talk.client(Q("select 2")).expect_replica(Q("select 2")).replica(ROW, done("SELECT 1"), I)
    talk.expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()
    assert [d.reason for d in talk.decisions] == ["transaction_control", "transaction_open", "transaction_control",
                                                  "read"]
    assert talk.published == 0      # a transaction that surely wrote nothing tells nobody of a commit


def test_what_is_read_in_a_transaction_may_have_written():
    talk = Talk()
    talk.client(Q("begin")).primary(done("BEGIN"), T)
    talk.client(Q("select a from v")).primary(ROW, done("SELECT 1"), T)
    talk.do(lambda: talk.marks.append(talk.published))
    talk.client(Q("commit")).primary(done("COMMIT"), I)
    for cut in (0, 1):
        talk.marks = []
        talk.run(cut)
        assert talk.marks == [0] and talk.published >= 1


def test_a_commit_after_a_write_is_published_and_the_write_inside_is_not():
    talk = Talk()
    talk.client(Q("begin")).primary(done("BEGIN"), T)
    talk.client(Q("insert into t values (1)")).primary(done("INSERT 0 1"), T)
    talk.do(lambda: None)
    talk.do(lambda: talk.marks.append(talk.published))
    talk.client(Q("commit")).primary(done("COMMIT"), I)
    for cut in (0, 1):
        talk.marks = []
        talk.run(cut)
        assert talk.marks == [0]
        assert talk.published >= 1


def test_an_error_of_the_replica_is_asked_again_of_the_primary():
    """Guarantee G2: the client sees the primary's answer only, also when rows had come."""
    talk = Talk()
    talk.client(Q("select f()")).expect_replica(Q("select f()"))
    talk.replica(ROW, error("25006")).expect_client().replica(I)
    talk.expect_primary(Q("select f()")).expect_client()
    talk.primary(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()
    assert talk.reasks == ["25006"]
    assert talk.remembered == [b"select f()"]
    assert talk.commands == [("primary", "SELECT 1")]


def test_an_error_that_the_statement_itself_causes_comes_from_the_primary():
    talk = Talk()
    talk.client(batch("select 1/0")).replica(PARSED, BOUND, error("22012"), I)
    talk.expect_replica(batch("select 1/0")).expect_primary(batch("select 1/0"))
    talk.primary(PARSED, BOUND, error("22012"), I).expect_client(PARSED, BOUND, error("22012"), I)
    talk.cuts()


def test_a_time_out_that_the_session_asked_for_is_not_asked_again():
    talk = Talk()
    talk.client(Q("select pg_sleep(9)")).replica(error("57014"), I).expect_client(error("57014"), I).expect_primary()
    talk.cuts()
    assert talk.reasks == []


def test_a_recovery_conflict_is():
    talk = Talk()
    talk.client(Q("select 1")).replica(error("40001", detail="rows removed"), I).expect_primary(Q("select 1"))
    talk.primary(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_of_what_a_hint_sent_to_the_replica_only_errors_before_execution_are_asked_again():
    sql = "select /* pgsplit: replica */ f()"
    talk = Talk()
    talk.client(Q(sql)).replica(ROW, error("25006"), I).expect_primary()
    talk.run()
    assert b"40001" in talk.sides.client.heard and talk.reasks == []
    talk = Talk()
    talk.client(Q(sql)).replica(error("25006"), I).expect_primary(Q(sql)).primary(ROW, done("SELECT 1"), I)
    talk.expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_a_long_answer_is_passed_on_and_a_later_conflict_says_why():
    rows = ROW * 3000
    talk = Talk(buffer=65536)
    talk.client(Q("select * from t")).replica(rows).do(lambda: talk.marks.append(len(talk.sides.client.heard)))
    talk.replica(error("40001", detail="rows removed"), I)
    talk.marks = []
    talk.run(4096)
    heard = bytes(talk.sides.client.heard)
    assert talk.marks[0] > 60000
    assert heard.startswith(ROW * 1000) and b"40001" in heard and heard.endswith(I)
    assert b"Part of the result had been passed on" in heard


@pytest.mark.parametrize("server", ["primary", "replica"])
def test_rows_of_a_long_answer_pass_without_the_session(server):
    row, long = message(b"D", b"r" * 300), message(b"D", b"l" * 200_000)
    answer = [message(b"T", b"\0\0"), row * 400, long, row * 7, done("SELECT 408"), I]
    talk = Talk()
    talk.stale = "no_fresh_replica" if server == "primary" else ""
    talk.client(Q("select * from t"))
    (talk.primary if server == "primary" else talk.replica)(*answer)
    talk.expect_client(*answer)
    for cut in (100, 1000, 8192, 65536, 70_001):
        talk.run(cut)
        assert talk.rows > 0 and talk.messages == 411
        assert talk.session.splitter.idle and not talk.session.splitter.in_flight


def test_what_comes_amid_passing_rows_is_the_session_s():
    row = message(b"D", b"r" * 300)
    talk = Talk(hold=0.0)
    talk.client(Q("begin"), Q("select * from t")).primary(done("BEGIN"), T).primary(row * 9, row[:77])
    talk.client(Q("select 1")).expect_primary(Q("begin"), Q("select * from t"), Q("select 1"))
    talk.primary(row[77:], row * 3, error("40001"), FAILED).primary(error("25P02"), FAILED)
    talk.expect_client(done("BEGIN"), T, row * 13, error("40001"), FAILED, error("25P02"), FAILED)
    talk.run()
    assert talk.rows == 4
    talk.cuts((0, 1, 7, 50))


def test_rows_are_not_held_for_longer_than_reask_hold():
    talk = Talk(hold=0.0)
    talk.client(Q("select 1")).replica(ROW).do(lambda: None).expect_client(ROW)
    talk.replica(done("SELECT 1"), I).expect_client(done("SELECT 1"), I)
    talk.run()


def test_a_replica_that_is_lost_is_not_noticed():
    talk = Talk()
    talk.client(Q("select 1")).replica(ROW).ends("default").expect_client().expect_primary(Q("select 1"))
    talk.primary(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.client(Q("select 2")).expect_primary(Q("select 2")).primary(ROW, done("SELECT 1"), I)
    talk.cuts()
    assert [d.reason for d in talk.decisions] == ["read", "replica_lost", "no_replica"]
    assert len(talk.replicas_lost) == 1


def test_a_replica_that_is_lost_in_the_middle_of_a_long_answer():
    talk = Talk(buffer=200)
    talk.client(Q("select 1")).replica(ROW * 10).ends("default").do(lambda: None)
    talk.client(Q("insert into t values (1)")).expect_primary(Q("insert into t values (1)"))
    talk.run()
    heard = bytes(talk.sides.client.heard)
    assert heard.startswith(ROW * 10) and b"08006" in heard and heard.endswith(I)


def test_a_stale_replica_is_not_asked():
    talk = Talk()
    talk.stale = "no_fresh_replica"
    talk.client(Q("select 1")).expect_primary(Q("select 1")).expect_replica()
    talk.primary(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()
    assert talk.decisions[0].reason == "no_fresh_replica"


def test_pipelined_reads_are_asked_together_and_answered_in_order():
    talk = Talk()
    one, two = batch("select 1"), batch("select 2")
    talk.client(one, two).expect_replica(one, two)
    talk.replica(PARSED, BOUND, ROW, done("SELECT 1"), I).expect_client(PARSED, BOUND, ROW, done("SELECT 1"), I)
    talk.replica(PARSED, BOUND, ROW, done("SELECT 2"), I).expect_client(PARSED, BOUND, ROW, done("SELECT 2"), I)
    talk.cuts()


def test_a_failed_read_in_a_pipeline_is_redone_and_the_others_follow_it():
    talk = Talk()
    one, two = Q("select 1"), Q("select 2")
    talk.client(one, two).expect_replica(one, two)
    talk.replica(error("40001", detail="x"), I, ROW, done("SELECT 2"), I).expect_client()
    talk.expect_primary(one, two)      # behind a batch of the primary nothing waits for the replica
    talk.primary(ROW, done("SELECT 1"), I, ROW, done("SELECT 2"), I)
    talk.expect_client(ROW, done("SELECT 1"), I, ROW, done("SELECT 2"), I)
    talk.cuts()


@pytest.mark.parametrize("behind", [Q("insert into t values (1)"), S], ids=["write", "sync"])
def test_what_waits_behind_a_failed_read_follows_it_whole(behind):
    talk = Talk()
    talk.client(batch("select 1"), behind).expect_replica(batch("select 1")).expect_primary()
    talk.replica(error("22012"), I).expect_client()
    talk.expect_primary(batch("select 1"), behind)
    talk.cuts()


def test_what_waits_behind_a_read_whose_replica_is_lost_follows_it_whole():
    talk = Talk()
    one, write = Q("select 1"), Q("insert into t values (1)")
    talk.client(one, write).expect_replica(one).expect_primary()
    talk.replica(ROW).ends("default").expect_client().expect_primary(one, write)
    talk.cuts()


def test_what_waits_behind_a_read_that_is_lost_half_way_is_done():
    talk = Talk(hold=0.0)
    write = Q("insert into t values (1)")
    talk.client(Q("select 1"), write).expect_replica(Q("select 1")).expect_primary()
    talk.replica(ROW).do(lambda: None).expect_client(ROW).ends("default").expect_primary(write)
    talk.run()


def test_a_write_waits_for_the_reads_before_it():
    talk = Talk()
    talk.client(Q("select 1"), Q("insert into t values (1)")).expect_replica(Q("select 1")).expect_primary()
    talk.replica(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.expect_primary(Q("insert into t values (1)"))
    talk.cuts()


def test_a_read_behind_a_write_does_not_wait():
    talk = Talk()
    talk.client(Q("insert into t values (1)"), Q("select 1"))
    talk.expect_primary(Q("insert into t values (1)"), Q("select 1")).expect_replica()
    talk.primary(done("INSERT 0 1"), I, ROW, done("SELECT 1"), I)
    talk.expect_client(done("INSERT 0 1"), I, ROW, done("SELECT 1"), I)
    talk.cuts()


def test_flush_without_sync_keeps_the_batch_on_the_primary():
    talk = Talk()
    head = build.parse("", "select 1") + build.describe(b"S") + build.FLUSH
    talk.client(head).expect_primary(head).primary(PARSED).expect_client(PARSED)
    tail = build.bind() + build.execute() + S
    talk.client(tail).expect_primary(tail).expect_replica()
    talk.primary(BOUND, done("SELECT 1"), I).expect_client(BOUND, done("SELECT 1"), I)
    talk.client(Q("select 2")).expect_replica(Q("select 2"))
    talk.cuts()


def test_a_flush_that_the_client_does_not_wait_for_keeps_nothing_on_the_primary():
    """As pg8000 sends them: each message with its Flush, and the Sync behind them."""
    flushed = build.parse("", "select 1") + build.FLUSH + build.bind() + build.FLUSH + build.execute() + build.FLUSH + S
    answer = (PARSED, BOUND, ROW, done("SELECT 1"), I)
    talk = Talk().client(flushed).expect_replica(flushed).replica(*answer).expect_client(*answer)
    talk.client(flushed).expect_replica(flushed).replica(PARSED, BOUND, error("40001"), I)
    talk.expect_primary(flushed).primary(*answer).expect_client(*answer)


def test_many_flushes_are_looked_through_once(monkeypatch):
    messages = build.parse("", "select 1") + (build.describe(b"S") + build.FLUSH) * 500 + S
    calls = []
    end = batch_module.message_end
    monkeypatch.setattr(batch_module, "message_end", lambda *place: calls.append(0) or end(*place))
    draft = Draft()
    draft.gather(bytearray(messages), 0)
    assert draft.end == ord("S") and draft.size == len(messages)
    assert len(calls) < 3 * draft.requests


def test_a_flush_with_messages_but_no_sync_behind_it_is_answered():
    head = build.parse("", "select 1") + build.FLUSH + build.bind()
    Talk().client(head).expect_primary(head).primary(PARSED).expect_client(PARSED)


def test_what_a_text_was_taken_for_is_not_learnt_where_it_means_something_else_by_now():
    """Definitions are read again while it runs."""
    seen = []

    def look() -> None:
        splitter = talk.session.splitter
        batch = Batch(ord("Q"), 0, [splitter._state.text_facts(b"select 1")], "read")
        batch.sql = b"select 1"
        seen.append(splitter.still_means(batch, None))
        splitter._state._classify = lambda sql: DOUBT
        seen.append(splitter.still_means(batch, None))

    talk = Talk().do(look)
    talk.run()
    assert seen == [True, False]


def test_a_query_without_sync_before_it_ends_the_segment():
    talk = Talk()
    head = build.parse("", "select 1") + build.bind() + build.execute()
    talk.client(head, Q("select 2")).expect_primary(head, Q("select 2"))
    talk.primary(PARSED, BOUND, done("SELECT 1"), ROW, done("SELECT 1"), I)
    talk.client(Q("select 3")).expect_replica(Q("select 3"))
    talk.cuts((0, 1))


def test_copy_in_both_protocols():
    talk = Talk()
    go = message(b"G", b"\0\0\0")
    data, end = message(b"d", b"1\n"), message(b"c")
    talk.client(Q("copy t from stdin")).expect_primary(Q("copy t from stdin")).primary(go).expect_client(go)
    talk.client(data, data, end).expect_primary(data, data, end).primary(done("COPY 2"), I)
    talk.expect_client(done("COPY 2"), I)
    copy = batch("copy t from stdin")
    talk.client(copy).expect_primary(copy).primary(PARSED, BOUND, message(b"n"), go)
    talk.expect_client(PARSED, BOUND, message(b"n"), go)
    talk.client(data, end, S).expect_primary(data, end, S).primary(done("COPY 1"), I).expect_client(done("COPY 1"), I)
    talk.client(Q("select 1")).expect_replica(Q("select 1"))
    talk.cuts()


def test_copy_in_whose_data_follows_without_waiting():
    talk = Talk()
    go = message(b"G", b"\0\0\0")
    data, end = message(b"d", b"1\n"), message(b"c")
    copy = batch("copy t from stdin")
    talk.client(copy, data, end, S).expect_primary(copy, data, end, S)
    talk.primary(PARSED, BOUND, go, done("COPY 1"), I)
    talk.client(Q("select 1")).expect_replica(Q("select 1"))
    talk.cuts()


def test_copy_in_that_fails_half_way():
    talk = Talk()
    go = message(b"G", b"\0\0\0")
    data, end = message(b"d", b"x\n"), message(b"c")
    talk.client(Q("copy t from stdin")).primary(go).client(data).primary(error("22P02"), I)
    talk.client(data, end).client(Q("select 1")).expect_replica(Q("select 1"))
    talk.run()


def test_a_batch_larger_than_the_inbox_streams_to_the_primary():
    big = Q("insert into t values ('" + "x" * 200_000 + "')")
    talk = Talk()
    talk.client(big).expect_primary(big).primary(done("INSERT 0 1"), I).expect_client(done("INSERT 0 1"), I)
    large = build.parse("", "insert into t values ($1)") + build.bind("", "", [b"x" * 200_000]) + build.execute() + S
    talk.client(large).expect_primary(large).primary(PARSED, BOUND, done("INSERT 0 1"), I)
    talk.run(8192)
    assert talk.decisions[0].reason == "batch_too_large"


def test_the_unnamed_statement_follows_the_session_to_the_primary():
    talk = Talk()
    first = batch("select 1")
    again = build.bind() + build.execute() + S
    talk.client(first).replica(PARSED, BOUND, ROW, done("SELECT 1"), I).expect_client(
        PARSED, BOUND, ROW, done("SELECT 1"), I).expect_replica(first)
    talk.client(batch("begin")).primary(PARSED, BOUND, done("BEGIN"), T).expect_client(PARSED, BOUND, done("BEGIN"), T)
    talk.expect_primary(batch("begin"))
    talk.cuts()
    talk = Talk()
    talk.client(first).replica(PARSED, BOUND, ROW, done("SELECT 1"), I).expect_client(
        PARSED, BOUND, ROW, done("SELECT 1"), I)
    talk.do(lambda: setattr(talk, "stale", "no_fresh_replica"))
    talk.client(again).expect_primary(build.parse("", "select 1"), again)
    talk.primary(PARSED, BOUND, done("SELECT 1"), I).expect_client(BOUND, done("SELECT 1"), I)
    for cut in (0, 1, 3):
        talk.stale = ""
        talk.run(cut)


def test_what_a_replica_says_of_itself_never_reaches_the_client():
    talk = Talk()
    parameter = build.parameter_status("in_hot_standby", "on")
    notice = build.notice_response("NOTICE", "00000", "hello")
    talk.replica(parameter, notice).expect_client()
    talk.client(Q("select 1")).replica(parameter, ROW, parameter, done("SELECT 1"), I)
    talk.expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_what_the_primary_says_at_any_time_does():
    talk = Talk()
    said = build.parameter_status("TimeZone", "UTC") + message(b"A", b"\0\0\0\1chan\0\0") + \
        build.notice_response("NOTICE", "00000", "hello")
    talk.primary(said).expect_client(said)
    talk.cuts()


def test_a_fatal_of_the_primary_is_passed_on_and_ends_the_session():
    talk = Talk()
    fatal = error("57P01", "FATAL")
    talk.primary(fatal).ends("additional")
    talk.run()
    assert bytes(talk.sides.client.heard) == fatal


def test_a_primary_that_vanishes_is_reported_as_unknown():
    talk = Talk()
    talk.client(Q("insert into t values (1)")).ends("additional")
    talk.run()
    heard = bytes(talk.sides.client.heard)
    assert b"SFATAL" in heard and b"C08006" in heard and b"may or may not have taken effect" in heard


def test_a_bad_message_is_a_protocol_violation():
    for bad in (b"\x00\x00\x00\x00\x04", b"Q\x00\x00\x00\x03", b"p\x00\x00\x00\x04", b"S\x00\x01\x00\x00"):
        talk = Talk()
        talk.client(bad)
        talk.run()
        assert b"C08P01" in bytes(talk.sides.client.heard)


def test_a_client_that_vanishes_inside_a_message_does_not_complete_it():
    """A Terminate behind half a message would become its rest."""
    talk = Talk()
    half = Q("insert into t values ('" + "x" * 100_000 + "')")[:-5]
    talk.client(half).expect_primary(half).ends("client").do(lambda: None)
    talk.script.pop()
    talk.run()
    assert bytes(talk.sides.additional.heard) == b""


def test_a_session_that_may_only_read_refuses_writes_and_lives_on():
    talk = Talk(replica=False, sole=True, read_only=True)
    talk.client(Q("insert into t values (1)")).expect_primary()
    talk.client(Q("select 1")).expect_primary(Q("select 1")).primary(ROW, done("SELECT 1"), I)
    talk.run()
    heard = bytes(talk.sides.client.heard)
    assert b"this session may only read" in heard and heard.endswith(ROW + done("SELECT 1") + I)
    assert talk.commands == [("replica", "SELECT 1")]


def test_draining_waits_for_the_end_of_the_transaction():
    talk = Talk()
    talk.client(Q("begin")).primary(done("BEGIN"), T).do(lambda: talk.session.drain())
    talk.client(Q("select 1")).expect_primary(Q("begin"), Q("select 1")).primary(FAILED)
    talk.client(Q("rollback")).primary(done("ROLLBACK"), I)
    talk.run()
    assert b"C57P01" in bytes(talk.sides.client.heard)


def test_a_client_that_vanishes_leaves_the_primary_to_finish_and_says_goodbye():
    """The server took two COPYs in one for a mistake and answers once: nothing may wait for a second answer."""
    talk = Talk()
    talk.client(Q("copy t from stdin"), Q("insert into t values (1)")).ends("client").do(lambda: None)
    talk.expect_primary(Q("copy t from stdin"), Q("insert into t values (1)"), X)
    talk.primary(error("08P01"), I).ends("additional")
    talk.run()


def test_who_is_ended_on_the_primary_gets_no_answer_of_a_replica():
    """As behind pg_terminate_backend(), also when the primary's last words are there and nobody has looked."""
    fatal = error("57P01", "FATAL")
    talk = Talk()
    talk.client(Q("select a from t")).expect_replica(Q("select a from t")).unread("primary", fatal)
    talk.replica(ROW, done("SELECT 1"), I).expect_client(fatal).ends("additional")
    for cut in (0, 1, 7):
        talk.run(cut)


def test_a_cancelled_read_that_waits_is_answered_behind_those_that_run():
    talk = Talk()
    talk.client(Q("select 1")).expect_replica(Q("select 1")).do(lambda: setattr(talk, "stale", CANCELLED))
    talk.client(Q("select 22222 from t")).expect_replica().expect_client()
    talk.do(lambda: setattr(talk, "stale", ""))
    talk.replica(ROW, done("SELECT 1"), I).client(Q("select 3")).expect_replica(Q("select 3"))
    talk.replica(ROW, done("SELECT 1"), I).do(
        lambda: talk.sides.client.heard.__delitem__(slice(0, len(ROW + done("SELECT 1") + I))))
    talk.run()
    heard = bytes(talk.sides.client.heard)
    assert heard.count(b"57014") == 1 and heard.index(b"57014") < heard.index(b"SELECT 1")
