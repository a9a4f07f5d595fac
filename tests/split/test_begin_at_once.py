"""hold_begin: false. The primary gets the BEGIN at once; what follows reads on a replica until it needs the primary."""

from __future__ import annotations

import pytest

from pgsplit.split.requests import ABORTED_ERROR
from pgsplit.split.settings import empty, run
from pgsplit.split.transaction import END_ON_REPLICA, ON_REPLICA
from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.session.talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, batch, done, error

OPENED = PARSED + BOUND + done("BEGIN") + message(b"3")
ANSWER = (ROW, done("SELECT 1"), T)
SNAPSHOT = run("select", row=True).data
SHOWN = PARSED + BOUND + message(b"D", b"\0\0") + done("SELECT 1") + message(b"3")
WRITE = Q("insert into t values (1)")
CANCELLED = build.error_response("ERROR", "57014", "canceling statement due to user request")


def begun(begin: str = "begin", mode: str = "until_write") -> Talk:
    talk = Talk(transactions=mode, holds=False).client(Q(begin)).expect_primary(Q(begin)).expect_client()
    return talk.primary(done("BEGIN"), T).expect_client(done("BEGIN"), T).expect_replica()


def reading() -> Talk:
    talk = begun().client(Q("select 1")).expect_replica(ON_REPLICA.data, Q("select 1"))
    return talk.replica(OPENED, *ANSWER).expect_client(*ANSWER).expect_primary()


@pytest.mark.parametrize("end, tag", [("commit", "COMMIT"), ("rollback", "ROLLBACK")])
def test_its_end_is_the_primarys(end, tag):
    talk = reading().client(Q(end)).expect_primary(Q(end)).expect_replica(END_ON_REPLICA).expect_client()
    talk.primary(done(tag), I).expect_client(done(tag), I).replica(done("COMMIT"), I)
    talk.client(Q("select 2")).expect_replica(Q("select 2"))
    talk.cuts()


def test_the_first_write_goes_where_it_is_open():
    talk = reading().client(WRITE).expect_primary(SNAPSHOT, WRITE).expect_replica(END_ON_REPLICA)
    talk.primary(SHOWN, done("INSERT 0 1"), T).expect_client(done("INSERT 0 1"), T)
    talk.client(Q("select 1")).expect_primary(Q("select 1")).primary(*ANSWER)
    talk.client(Q("commit")).expect_primary(Q("commit")).primary(done("COMMIT"), I)
    talk.cuts()
    assert talk.published >= 1


def test_a_write_that_comes_first():
    begun().client(WRITE).expect_primary(WRITE).expect_replica().cuts()


def test_begin_with_reads_behind_it_in_one_batch():
    """The primary answers it as a whole; the next read is a replica's."""
    whole = build.parse("", "begin") + build.bind() + build.execute() + batch("select 1")
    answer = (PARSED, BOUND, done("BEGIN"), PARSED, BOUND, ROW, done("SELECT 1"), T)
    talk = Talk(transactions="until_write", holds=False).client(whole).expect_primary(whole).primary(*answer)
    talk.expect_client(*answer).client(Q("select 2")).expect_replica(ON_REPLICA.data, Q("select 2"))
    talk.replica(OPENED, *ANSWER).expect_client(*ANSWER).client(WRITE).expect_primary(WRITE)    # it has read there
    talk.cuts()


def test_what_waits_behind_the_begin_is_the_primarys():
    talk = Talk(transactions="until_write", holds=False).client(Q("begin"), Q("select 1"), Q("select 2"))
    talk.expect_primary(Q("begin"), Q("select 1"), Q("select 2")).primary(done("BEGIN"), T).primary(*ANSWER)
    talk.primary(*ANSWER).client(Q("select 3")).expect_primary(Q("select 3")).expect_replica()
    talk.run()


def test_a_begin_that_fails_begins_nothing():
    talk = Talk(transactions="until_write", holds=False).client(Q("begin")).primary(error("53200"), I)
    talk.expect_client(error("53200"), I).client(Q("select 1")).expect_replica(Q("select 1"))
    talk.cuts()


def test_what_has_set_the_stage_is_told_without_another_begin():
    local = "set local app.t = '7'"
    talk = begun().client(Q(local)).expect_replica(ON_REPLICA.data, Q(local)).replica(OPENED, done("SET"), T)
    talk.expect_client(done("SET"), T).client(WRITE).expect_primary(run(local).data, S)
    talk.primary(PARSED, BOUND, done("SET"), message(b"3"), T).expect_primary(WRITE).expect_replica(END_ON_REPLICA)
    talk.cuts()


def test_options_that_it_has_set_are_empty_behind_its_end():
    local = "set local app.t = '7'"
    talk = begun().client(Q(local)).replica(OPENED, done("SET"), T).expect_client(done("SET"), T)
    talk.client(Q("rollback")).expect_primary(empty("app.t").data, Q("rollback"))
    talk.primary(PARSED, BOUND, done("SET"), message(b"3"), done("ROLLBACK"), I)
    talk.expect_client(done("ROLLBACK"), I)
    talk.cuts()


def test_what_fails_here_is_rolled_back_there():
    talk = reading().do(lambda: talk.session.splitter.cancelled_waiting()).client(Q("select 2"))
    talk.expect_client(CANCELLED, FAILED).expect_replica(END_ON_REPLICA).replica(done("COMMIT"), I)
    talk.client(Q("select 3")).expect_client(ABORTED_ERROR, FAILED).expect_primary()
    talk.client(Q("commit")).expect_primary(run("rollback").data, S)
    talk.primary(PARSED, BOUND, done("ROLLBACK"), message(b"3"), I).expect_client(done("ROLLBACK"), I)
    talk.client(Q("select 4")).expect_replica(Q("select 4"))
    talk.cuts()


def test_an_error_on_the_replica_moves_it():
    talk = reading().client(Q("select 2")).expect_replica(Q("select 2")).replica(error("22012"), FAILED)
    talk.expect_client().expect_primary(SNAPSHOT, Q("select 2")).primary(SHOWN, error("22012"), FAILED)
    talk.expect_client(error("22012"), FAILED).client(Q("rollback")).expect_primary(Q("rollback"))
    talk.cuts()


def test_parsing_beside_it_is_done_in_it():
    """So its error is the transaction's, and savepoints have to be there."""
    parse, savepoint = build.parse("s", "select 1") + S, Q("savepoint a")
    talk = begun().client(parse).expect_primary(parse).primary(PARSED, T).expect_client(PARSED, T)
    talk.client(savepoint).expect_replica(ON_REPLICA.data, savepoint).replica(OPENED, done("SAVEPOINT"), T)
    talk.expect_client(done("SAVEPOINT"), T).client(parse).expect_primary(run("savepoint a").data, S)
    talk.primary(PARSED, BOUND, done("SAVEPOINT"), message(b"3"), T).expect_primary(parse)
    talk.primary(error("42P05"), FAILED).expect_client(error("42P05"), FAILED).expect_replica()
    talk.client(Q("rollback to a")).expect_replica(END_ON_REPLICA).expect_primary(Q("rollback to a"))
    talk.primary(done("ROLLBACK"), T).expect_client(done("ROLLBACK"), T)
    talk.client(Q("select 1")).expect_primary(Q("select 1"))
    talk.cuts()


def test_no_question_is_asked_in_it():
    """Its error would abort the transaction: what needs one is the primary's."""
    parse, use = build.parse("s", "select 1") + S, build.bind("", "s") + build.execute() + S
    talk = Talk(transactions="until_write", holds=False).client(parse).primary(PARSED, I).client(Q("begin"))
    talk.primary(done("BEGIN"), T).do(lambda: [side.heard.clear() for side in talk._all.values()])
    talk.client(use).expect_primary(use).expect_replica()
    talk.cuts()
    assert str(talk.decisions[-1]) == "primary: state_unknown"


@pytest.mark.parametrize("mode, begin, replica", [
    ("until_write", "begin", True), ("read_only", "begin", False), ("read_only", "begin read only", True),
    ("primary", "begin read only", False), ("until_write", "begin isolation level serializable", False),
])
def test_which_may_read_on_a_replica(mode, begin, replica):
    talk = begun(begin, mode).client(Q("select 1"))
    (talk.expect_primary() if replica else talk.expect_primary(Q("select 1"))).cuts()
