"""A cancel wherever a statement can wait or run, as conversations (tests/integration/test_cancels.py has servers)."""

from __future__ import annotations

import pytest

from pgsplit.session.session import LATER
from pgsplit.split.decision import Upstream
from pgsplit.split.requests import CANCELLED_ERROR
from pgsplit.split.settings import give
from pgsplit.wire import build

from .talk import BOUND, PARSED, ROW, I, Q, S, Talk, batch, done, error
from .test_state_conversations import DESCRIPTION, PARAMETERS, PARSE, TOKYO, USE, question, settings

CANCELLED = CANCELLED_ERROR + I
ANSWER = ROW + done("SELECT 1") + I
# A cancel, a time-out, a deadlock, no memory: what says nothing of the next time.
PASSING = ("57014", "55P03", "40P01", "53200")


def clear(talk: Talk) -> None:
    for side in talk._all.values():
        side.heard.clear()


def cancel(talk: Talk) -> None:
    """As a CancelRequest does, up to where the server is told."""
    talk.session.cancel_waiting()
    if talk.session.splitter.running is not None:
        talk.session.cancel_leaves()


def unsettled(talk: Talk) -> Talk:
    return talk.client(Q("set x = 1")).primary(done("SET"), I).do(lambda: clear(talk))


# --- pgsplit's own question to the primary ---------------------------------------------------------------------


def test_a_statement_that_waits_for_the_primary_s_word_is_cancelled_at_once():
    """What comes behind it waits until the cancel has arrived: else that would be ended."""
    talk = Talk()
    unsettled(talk).client(Q("select 1")).expect_primary(question()).expect_client()
    talk.do(lambda: cancel(talk)).expect_client(CANCELLED).client(Q("insert into t values (1)"))
    talk.primary(error("57014"), I).expect_primary().expect_client()
    talk.do(lambda: talk.session.cancel_arrived()).expect_primary(Q("insert into t values (1)"))
    talk.primary(done("INSERT 0 1"), I).expect_client(done("INSERT 0 1"), I)
    talk.client(Q("select 2")).expect_primary(question()).expect_replica()      # it is asked again
    talk.primary(settings()).expect_replica(Q("select 2"))
    for cut in (0, 1, 3):
        talk.run(cut)


def test_a_cancel_that_comes_too_late_for_the_question_ends_nothing_else():
    talk = Talk()
    unsettled(talk).client(Q("select 1")).do(lambda: cancel(talk)).primary(settings()).expect_client(CANCELLED)
    talk.do(lambda: clear(talk)).client(Q("select 2")).expect_replica().expect_primary()
    talk.do(lambda: talk.session.cancel_arrived()).expect_replica(Q("select 2")).expect_primary()
    talk.run()


@pytest.mark.parametrize("sqlstate", PASSING)
def test_a_question_that_is_ended_leaves_this_read_to_the_primary_and_is_asked_again_by_the_next(sqlstate):
    talk = Talk()
    unsettled(talk).client(Q("select 1")).primary(error(sqlstate), I).expect_primary(question(), Q("select 1"))
    talk.primary(ANSWER).expect_client(ANSWER).expect_replica()
    talk.client(Q("select 2")).expect_primary(question()).primary(settings()).expect_replica(Q("select 2"))
    talk.cuts()
    assert [decision.reason for decision in talk.decisions] == ["session_setting", "state_unknown", "read"]


@pytest.mark.parametrize("sqlstate", PASSING)
def test_a_question_for_a_statement_s_types_that_is_ended_is_asked_again(sqlstate):
    talk = Talk()
    describe = build.describe(b"S", "s") + S
    talk.client(PARSE, USE).primary(PARSED, BOUND, ANSWER).do(lambda: clear(talk))
    talk.client(USE).expect_primary(describe).primary(error(sqlstate), I).expect_primary(USE).expect_replica()
    talk.primary(BOUND, ANSWER).expect_client(BOUND, ANSWER)
    talk.client(USE).expect_primary(describe).primary(PARAMETERS, DESCRIPTION, I)
    talk.run()
    assert USE in talk.sides.default.heard


def test_a_question_of_pgsplit_s_own_options_that_is_ended_holds_nothing_up():
    """It is asked ahead of writes, too: each runs, and the next one asks again."""
    def ask(talk: Talk) -> None:
        talk.session.splitter._state.own_unsettled = True

    talk = Talk()
    talk.do(lambda: ask(talk)).client(Q("insert into t values (1)")).expect_primary(question())
    talk.primary(error("57014"), I).expect_primary(Q("insert into t values (1)")).primary(done("INSERT 0 1"), I)
    talk.client(Q("insert into t values (2)")).expect_primary(question())
    talk.run()


# --- what has not left, since its Sync has not come ---------------------------------------------------------------


def test_a_read_without_its_sync_is_cancelled_as_on_a_server():
    whole = batch("select 1")
    talk = Talk()
    talk.client(whole[:-len(S)]).expect_client().do(lambda: cancel(talk)).expect_client(CANCELLED_ERROR)
    talk.client(batch("select 2")[:-len(S)]).expect_client().client(S).expect_client(I).expect_replica()
    talk.client(whole).expect_replica(whole).replica(PARSED, BOUND, ANSWER).expect_client(PARSED, BOUND, ANSWER)
    talk.cuts()


def test_what_is_only_parsed_and_bound_is_not_cancelled():
    whole = batch("select 1")
    begun = build.parse("", "select 1") + build.bind("", "")
    talk = Talk()
    talk.client(begun).do(lambda: cancel(talk)).client(whole[len(begun):]).expect_replica(whole).expect_client()
    talk.run()
    assert whole.startswith(begun)


# --- at a replica ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [error("25006"), error("40001", detail="rows removed"), error("57P01"),
                                    error("57014", detail="the replica's own reason")])
def test_a_cancelled_read_ends_in_57014_whatever_keeps_its_replica_from_it(answer):
    talk = Talk()
    talk.client(Q("select 1")).do(lambda: cancel(talk)).replica(answer, I).expect_client(CANCELLED).expect_primary()
    talk.do(lambda: talk.session.cancel_arrived())
    talk.client(Q("select 2")).replica(error("25006"), I).expect_primary(Q("select 2"))     # it is no longer cancelled
    talk.primary(ANSWER).expect_client(ANSWER)
    talk.cuts()


def test_a_cancel_that_ends_what_was_put_ahead_is_the_statement_s():
    talk = Talk()
    unsettled(talk).client(Q("select 1")).primary(settings(("TimeZone", "Asia/Tokyo")))
    talk.expect_replica(give(TOKYO).data, Q("select 1")).do(lambda: cancel(talk)).replica(error("57014"))
    talk.replica(I).expect_client(CANCELLED).do(lambda: clear(talk))
    talk.do(lambda: talk.session.cancel_arrived()).client(Q("select 2")).expect_replica(give(TOKYO).data, Q("select 2"))
    talk.run()


def test_nothing_leaves_before_a_cancel_has_arrived():
    """The read ended by itself: its cancel is still on its way."""
    talk = Talk()
    talk.client(Q("select 1")).do(lambda: cancel(talk)).replica(ANSWER).expect_client(ANSWER)
    talk.do(lambda: clear(talk)).client(Q("select 2")).expect_replica().expect_primary()
    talk.do(lambda: talk.session.cancel_arrived()).expect_replica(Q("select 2"))
    talk.run()


def test_what_is_held_up_so_is_done_also_if_its_client_has_gone():
    talk = Talk()
    talk.client(Q("select 1")).do(lambda: cancel(talk)).replica(ANSWER).client(Q("insert into t values (1)"))
    talk.ends("client").do(lambda: None).do(lambda: talk.session.cancel_arrived())
    talk.expect_primary(Q("insert into t values (1)"), build.TERMINATE).primary(done("INSERT 0 1"), I)
    talk.run()


def test_a_read_that_its_replica_goes_on_with_is_given_up():
    def abandon(talk: Talk) -> None:
        talk.session.abandon(talk.session.splitter.in_flight[0])

    talk = Talk()
    talk.client(Q("select 1"), Q("select 2")).do(lambda: cancel(talk)).do(lambda: abandon(talk))
    talk.do(lambda: talk.session.cancel_arrived()).expect_client(CANCELLED).expect_primary(Q("select 2"))
    talk.primary(ANSWER).expect_client(ANSWER)
    talk.run()
    assert len(talk.replicas_lost) == 1


def test_it_is_given_up_also_where_its_cancel_arrives_in_the_same_turn():
    """Nothing comes then any more that would wake the session for what was taken back."""
    def abandon(talk: Talk) -> None:
        talk.session.abandon(talk.session.splitter.in_flight[0])
        talk.session.cancel_arrived()

    talk = Talk()
    talk.client(Q("select 1")).expect_replica(Q("select 1")).do(lambda: cancel(talk)).do(lambda: abandon(talk))
    talk.expect_client(CANCELLED).client(Q("insert into t values (1)")).expect_primary(Q("insert into t values (1)"))
    talk.run()


def test_a_long_answer_is_given_up_between_two_messages():
    rows = ROW * 3000

    def abandon(talk: Talk) -> None:
        talk.session.abandon(talk.session.splitter.in_flight[0])

    talk = Talk()
    talk.client(Q("select * from t")).replica(rows + ROW[:-1]).do(lambda: cancel(talk)).do(lambda: abandon(talk))
    talk.do(lambda: talk.session.cancel_arrived())
    talk.run()
    heard = bytes(talk.sides.client.heard)
    assert heard.startswith(rows) and heard.endswith(CANCELLED) and heard.count(b"57014") == 1
    assert len(heard) < len(rows + ROW + CANCELLED)         # not the row that had not come whole


def test_the_answer_of_what_runs_does_not_wait_with_a_read_at_the_fence():
    talk = Talk()
    talk.client(Q("select 1")).expect_replica(Q("select 1")).do(lambda: setattr(talk, "stale", LATER))
    talk.client(Q("select 2")).expect_replica().replica(ANSWER).expect_client(ANSWER)
    talk.do(lambda: setattr(talk, "stale", "")).expect_replica(Q("select 2")).replica(ANSWER).expect_client(ANSWER)
    talk.run()


# --- nothing is known of it -----------------------------------------------------------------------------------------


def test_what_runs_on_a_replication_connection_can_be_cancelled():
    talk = Talk()
    marks = []
    talk.do(lambda: setattr(talk.session.splitter._state, "opaque", True)).client(Q("BASE_BACKUP"))
    talk.do(lambda: marks.append(talk.session.splitter.running))
    talk.run()
    assert marks == [Upstream.ADDITIONAL]
