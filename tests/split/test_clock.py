"""clock: replica. What only reads the clock is a read outside transactions, and in one that cannot leave its place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgsplit.classify.classify import classify
from pgsplit.classify.facts import Facts
from pgsplit.split.batch import Batch
from pgsplit.split.decision import Decision, Upstream
from pgsplit.split.opening import unmovable
from pgsplit.split.repeat import repeat_of
from pgsplit.split.settings import run
from pgsplit.split.transaction import END_ON_REPLICA, ON_REPLICA, OPENED, REPEATABLE_ON_REPLICA
from pgsplit.wire import build
from tests.session.talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, batch, done

NOW = Q("select now()")
ANSWER = (ROW, done("SELECT 1"), I)
INSIDE = (ROW, done("SELECT 1"), T)
CLOCK = Decision(Upstream.ADDITIONAL, "clock", "now")


class Real(Talk):
    """With the real classifier."""

    def __init__(self, **made: object) -> None:
        super().__init__(**{"replica_clock": True, "transactions": "until_write"} | made)

    @staticmethod
    def classify(sql: bytes) -> Facts:
        return classify(sql.decode())


def test_outside_a_transaction_it_is_the_replicas():
    talk = Real().client(NOW).expect_replica(NOW).replica(*ANSWER).expect_client(*ANSWER).expect_primary()
    talk.cuts()
    assert talk.decisions == [Decision(Upstream.DEFAULT, "replica_clock", "now")]


def test_without_the_setting_it_is_the_primarys():
    talk = Real(replica_clock=False).client(NOW).expect_primary(NOW).primary(*ANSWER).expect_client(*ANSWER)
    talk.expect_replica().cuts()
    assert talk.decisions == [CLOCK]


@pytest.mark.parametrize("sql", ["select 'now'::timestamptz", "select now(); select 1", "explain select now()",
                                 "select now() from pg_locks", "select nextval('s'), now()"])
def test_what_does_more_is_the_primarys(sql):
    talk = Real().client(Q(sql)).expect_primary(Q(sql)).expect_replica()
    talk.cuts()


def test_a_clock_that_is_too_far_off_is_not_read():
    talk = Real().do(lambda: setattr(talk, "stale", "clock_apart")).client(NOW).expect_primary(NOW).expect_replica()
    talk.primary(*ANSWER).expect_client(*ANSWER)
    talk.cuts()
    assert talk.decisions == [Decision(Upstream.ADDITIONAL, "clock_apart")]


def test_an_error_of_the_replica_is_asked_again():
    error = build.error_response("ERROR", "40001", "conflict")
    talk = Real().client(NOW).expect_replica(NOW).replica(error, I).expect_primary(NOW).primary(*ANSWER)
    talk.expect_client(*ANSWER).cuts()


@pytest.mark.parametrize(("begin", "opened"), [
    ("begin", "begin isolation level read committed"),
    ("begin read only", "begin isolation level read committed, read only")])
def test_in_a_transaction_that_may_move_it_is_the_primarys(begin, opened):
    """Whether it comes first, or behind a read on the replica."""
    talk = Real().client(Q(begin)).expect_client(done("BEGIN"), T).client(NOW).expect_primary(run(opened).data, NOW)
    talk.primary(OPENED, *INSIDE).expect_client(*INSIDE).expect_replica().cuts()
    talk = Real().client(Q(begin)).client(Q("select 1")).expect_replica(ON_REPLICA.data, Q("select 1"))
    talk.replica(OPENED, *INSIDE).expect_client(done("BEGIN"), T, *INSIDE).client(NOW)
    talk.expect_primary(run(opened).data, run("select", row=True).data, NOW).expect_replica(END_ON_REPLICA).cuts()
    assert talk.decisions[-1] == CLOCK


def test_in_one_that_began_on_the_primary_it_is_the_primarys():
    talk = Real(transactions="primary").client(Q("begin")).expect_primary(Q("begin")).primary(done("BEGIN"), T)
    talk.client(NOW).expect_client(done("BEGIN"), T).expect_primary(NOW).expect_replica().cuts()


def test_behind_a_begin_in_its_batch_it_is_the_primarys():
    both = (build.parse("", "begin") + build.bind() + build.execute() + build.parse("", "select now()") + build.bind()
            + build.execute() + S)
    talk = Real().client(both).expect_primary(both).expect_replica()
    talk.cuts()


REPEATABLE = "begin isolation level repeatable read, read only"


def test_a_repeatable_read_one_that_begins_with_it_has_the_replicas_time():
    talk = Real(repeatable=True).client(Q(REPEATABLE)).expect_client(done("BEGIN"), T)
    talk.client(NOW).expect_replica(REPEATABLE_ON_REPLICA.data, NOW).replica(OPENED, *INSIDE).expect_client(*INSIDE)
    talk.client(Q("select 1")).expect_replica(Q("select 1")).replica(*INSIDE).expect_client(*INSIDE)
    talk.client(NOW).expect_replica(NOW).replica(*INSIDE).expect_client(*INSIDE)
    talk.client(Q("commit")).expect_client(done("COMMIT"), I).expect_replica(END_ON_REPLICA).expect_primary()
    talk.cuts()


def test_a_repeatable_read_one_that_began_otherwise_has_not():
    """Nobody has looked at the clocks when it began."""
    talk = Real(repeatable=True).client(Q(REPEATABLE)).expect_client(done("BEGIN"), T).client(Q("select 1"))
    talk.expect_replica(REPEATABLE_ON_REPLICA.data, Q("select 1")).replica(OPENED, *INSIDE).expect_client(*INSIDE)
    talk.client(NOW).expect_client(unmovable(CLOCK), FAILED).expect_primary().cuts()


def test_a_repeatable_read_one_whose_replica_has_no_clock_is_the_primarys():
    talk = Real(repeatable=True).do(lambda: setattr(talk, "stale", "clock_apart")).client(Q(REPEATABLE))
    talk.expect_client(done("BEGIN"), T).client(NOW).expect_primary(run(REPEATABLE).data, NOW).expect_replica()
    talk.primary(OPENED, *INSIDE).expect_client(*INSIDE).cuts()


def test_prepared_statements():
    """Named, unnamed and SQL's own; no relay is to repeat them."""
    talk = Real().client(batch("select now()")).expect_replica(batch("select now()"))
    talk.replica(PARSED, BOUND, *ANSWER).expect_client(PARSED, BOUND, *ANSWER).expect_primary()
    seen: list[bool] = []

    def look() -> None:
        splitter = talk.session.splitter
        for sql, bound in ((b"select now()", "timed"), (b"select now()", ""), (b"select 1", "")):
            found = talk.classify(sql)
            one = Batch(ord("Q"), 0, [found.timed or found] if bound else [found], "")
            one.sql = sql
            seen.append(splitter.still_means(one, None))

    talk.do(look).run()
    assert seen == [False, False, True]


def test_no_relay_repeats_it():
    found = classify("select now()")
    timed = replace(found.timed or found, text=b"select now()")
    assert timed.reads_clock and repeat_of(timed) is None
    assert repeat_of(replace(found, text=b"select now()")) is not None       # on the primary
