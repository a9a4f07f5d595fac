"""What sets the stage is told the primary, and must be answered there as on the replica: else 40001."""

from __future__ import annotations

import pytest

from pgsplit.split import transaction
from pgsplit.split.kept import said
from pgsplit.split.opening import differs
from pgsplit.split.requests import ABORTED_ERROR
from pgsplit.split.settings import run
from pgsplit.split.transaction import END_ON_REPLICA, ON_REPLICA
from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.session.talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, batch, done, error

CLOSED = message(b"3")
CLOSE = build.close(b"S", "pgsplit")
ROLLBACK = run("rollback").data + S
ROLLED_BACK = PARSED + BOUND + done("ROLLBACK") + CLOSED + I
OPENED = PARSED + BOUND + done("BEGIN") + CLOSED
OPENING = transaction.OPENING.data
LOCAL = "set local app.t = '7'"
ANSWER = (ROW, done("SELECT 1"), T)
WRITE = Q("insert into t values (1)")
CONFIG = "select set_config('app.t', '7', true)"


def setting(sql: str = LOCAL, *answer: bytes) -> Talk:
    """*sql* has set the stage on the replica."""
    answer = answer or (done("SET"), T)
    talk = Talk(transactions="until_write").client(Q("begin")).expect_client(done("BEGIN"), T)
    talk.client(Q(sql)).expect_replica(ON_REPLICA.data, Q(sql)).replica(OPENED, *answer).expect_client(*answer)
    return talk.expect_primary()


def repeated(tag: str = "SET") -> bytes:
    return PARSED + BOUND + done(tag) + CLOSED


def refused(talk: Talk, why: str, left: bool = False) -> Talk:
    """The client is told 40001, the transaction has failed, and its ROLLBACK ends it everywhere. *left*: behind the
    error the primary has skipped what would have closed a statement of pgsplit's own.
    """
    talk.expect_client(differs(why), FAILED).expect_primary().expect_replica(END_ON_REPLICA)
    talk.replica(done("COMMIT"), I)
    talk.client(Q("select 1")).expect_client(ABORTED_ERROR, FAILED).expect_primary()
    talk.client(Q("rollback")).expect_primary(CLOSE if left else b"", ROLLBACK).expect_client()
    talk.primary(CLOSED if left else b"", ROLLED_BACK).expect_client(done("ROLLBACK"), I)
    talk.client(WRITE).do(lambda: talk.sides.additional.heard.clear()).primary(done("INSERT 0 1"), I)
    return talk


@pytest.mark.parametrize("answers, why, left", [
    ((OPENED, PARSED, BOUND, error("22023"), FAILED), "22023 to SET: text", True),
    ((OPENED, error("22023"), FAILED), "22023 to SET: text", False),
    ((error("53200"), I), "53200 to BEGIN: text", False),
    ((OPENED, repeated("RESET"), T), "another answer to SET: RESET", False),
    ((OPENED, PARSED, BOUND, message(b"D", b"\0\0"), done("SET"), CLOSED, T),
     "another answer to SET: a message of type 'D'", False),
    ((OPENED, PARSED, BOUND, message(b"I"), CLOSED, T), "another answer to SET: a message of type 'I'", False),
    ((OPENED, PARSED, BOUND, T), "nothing to SET", False),
    ((OPENED, repeated(), PARSED, T), "another answer to what was sent: a message of type '1'", False),
])
def test_another_answer_of_the_primarys_ends_in_40001_and_nothing_runs(answers, why, left):
    talk = setting().client(WRITE).expect_primary(OPENING, run(LOCAL).data, S).primary(*answers)
    refused(talk, why, left).cuts()


def test_another_row_is_another_answer():
    row = message(b"D", b"\0\1\0\0\0\0017")
    talk = setting(CONFIG, row, done("SELECT 1"), T).client(WRITE)
    talk.expect_primary(OPENING, run(CONFIG).data, run("select", row=True).data, S)
    talk.primary(OPENED, PARSED, BOUND, message(b"D", b"\0\1\0\0\0\0018"), done("SELECT 1"), CLOSED)
    talk.primary(PARSED, BOUND, message(b"D", b"\0\0"), done("SELECT 1"), CLOSED, T)
    refused(talk, "another answer to SELECT: another row").cuts()


def test_notices_are_no_answer():
    notice = build.notice_response("WARNING", "25P01", "text")
    talk = setting().client(WRITE).do(lambda: talk.sides.additional.heard.clear())
    talk.primary(OPENED, PARSED, BOUND, notice, done("SET"), CLOSED, T).expect_primary(WRITE)
    talk.primary(done("INSERT 0 1"), T).expect_client(done("INSERT 0 1"), T)
    talk.cuts()


def test_the_error_is_told_again_behind_a_savepoint():
    """Nothing of the transaction may go on, since it cannot be the same one."""
    talk = setting("savepoint a", done("SAVEPOINT"), T).client(WRITE).do(lambda: talk.sides.additional.heard.clear())
    talk.primary(OPENED, PARSED, BOUND, error("53200"), FAILED)
    why = differs("53200 to SAVEPOINT: text")
    talk.expect_client(why, FAILED).client(Q("rollback to a")).expect_client(why, FAILED).expect_primary()
    talk.client(Q("commit")).expect_primary(CLOSE, ROLLBACK).primary(CLOSED, ROLLED_BACK)
    talk.expect_client(done("ROLLBACK"), I)
    talk.cuts()


def test_an_extended_batch_is_skipped_up_to_its_sync():
    talk = setting().client(batch("insert into t values (1)")).do(lambda: talk.sides.additional.heard.clear())
    talk.primary(OPENED, PARSED, BOUND, error("22023"), FAILED).expect_client(differs("22023 to SET: text"), FAILED)
    talk.client(batch("rollback")).expect_primary(CLOSE, ROLLBACK).primary(CLOSED, ROLLED_BACK)
    talk.expect_client(PARSED, BOUND, message(b"n"), done("ROLLBACK"), I)
    talk.cuts()


def test_a_statement_that_was_closed_since_is_repeated_by_its_text():
    """Or made anew: its name means nothing any more."""
    parse, sync = build.parse("s", LOCAL), PARSED + I
    use = build.bind("", "s") + build.execute() + S
    talk = Talk(transactions="until_write").client(parse, S).primary(sync).client(Q("begin"))
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    talk.client(use).primary(message(b"t", b"\0\0"), message(b"n"), I)      # what a replica must describe alike
    talk.replica(OPENED, PARSED, message(b"t", b"\0\0"), message(b"n"), BOUND, done("SET"), T)
    talk.expect_client(BOUND, done("SET"), T).do(lambda: [side.heard.clear() for side in talk._all.values()])
    renew = build.close(b"S", "s") + build.parse("s", "select 1") + S
    talk.client(renew).expect_primary(renew).primary(CLOSED, PARSED, I).expect_client(CLOSED, PARSED, T)
    talk.client(WRITE).expect_primary(OPENING, run(LOCAL).data, S)
    talk.primary(OPENED, repeated(), T).expect_primary(WRITE)
    talk.cuts()


def test_a_cancel_while_the_primary_is_told():
    """It is open there by then: the end of what has failed here is its, too."""
    talk = setting().client(WRITE).expect_primary(OPENING, run(LOCAL).data, S)
    talk.do(lambda: talk.session.cancel_waiting())
    talk.expect_client(build.error_response("ERROR", "57014", "canceling statement due to user request"), FAILED)
    talk.primary(OPENED, repeated(), T).expect_primary()
    talk.client(Q("rollback")).expect_primary(ROLLBACK).primary(ROLLED_BACK)
    talk.expect_client(done("ROLLBACK"), I)
    talk.cuts()


def test_back_to_a_savepoint_in_what_the_primary_has_open_already():
    talk = setting("savepoint a", done("SAVEPOINT"), T)
    talk.client(WRITE).expect_primary(OPENING, run("savepoint a").data, S)
    talk.do(lambda: talk.session.cancel_waiting()).primary(OPENED, repeated("SAVEPOINT"), T)
    talk.do(lambda: talk.sides.client.heard.clear())
    talk.client(Q("rollback to a")).expect_primary(Q("rollback to a")).primary(done("ROLLBACK"), T)
    talk.expect_client(done("ROLLBACK"), T).client(WRITE).expect_primary(WRITE)
    talk.cuts()


def test_set_transaction_may_come_behind_what_takes_no_snapshot():
    """As on one server: SET LOCAL and SAVEPOINT take none, set_config() does."""
    first = Q("set transaction isolation level serializable")
    talk = setting().client(first).expect_primary(OPENING, run(LOCAL).data, S)
    talk.primary(OPENED, repeated(), T).expect_primary(first)
    talk.cuts()


def test_what_was_said_in_an_answer():
    assert said(b"") == ()
    assert said(PARSED + BOUND + message(b"D", b"\0\0") + done("SELECT 1") + T) == (b"\0\0", b"SELECT 1\0")
