"""repeatable_read_only: replica. A transaction with one snapshot stays where that was taken, or ends in 40001."""

from __future__ import annotations

import pytest

from pgsplit.split.decision import Decision, Upstream
from pgsplit.split.opening import unmovable
from pgsplit.split.requests import ABORTED_ERROR
from pgsplit.split.settings import Settings, give, run
from pgsplit.split.transaction import END_ON_REPLICA, ON_REPLICA, REPEATABLE_ON_REPLICA, Defaults
from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.session.talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, batch, done, error

OPENED = PARSED + BOUND + done("BEGIN") + message(b"3")
BEGIN = "begin isolation level repeatable read, read only"
SET = "set transaction isolation level repeatable read, read only"
ANSWER = (ROW, done("SELECT 1"), T)
WRITE = Q("insert into t values (1)")


def begun(begin: str = BEGIN, **made: object) -> Talk:
    arguments = {"transactions": "until_write", "repeatable": True} | made
    return Talk(**arguments).client(Q(begin)).expect_client(done("BEGIN"), T).expect_primary()


def reading(begin: str = BEGIN, **made: object) -> Talk:
    talk = begun(begin, **made).client(Q("select 1")).expect_replica(REPEATABLE_ON_REPLICA.data, Q("select 1"))
    return talk.replica(OPENED, *ANSWER).expect_client(*ANSWER).expect_primary()


def why(reason: str, detail: str = "") -> bytes:
    return unmovable(Decision(Upstream.ADDITIONAL, reason, detail))


def ends_here(talk: Talk) -> Talk:
    talk.client(Q("select 2")).expect_client(ABORTED_ERROR, FAILED)
    return talk.client(Q("rollback")).expect_client(done("ROLLBACK"), I).expect_primary()


def test_it_runs_on_the_replica_to_its_end():
    talk = reading().client(Q("select 2")).expect_replica(Q("select 2")).replica(*ANSWER).expect_client(*ANSWER)
    talk.client(Q("commit")).expect_client(done("COMMIT"), I).expect_replica(END_ON_REPLICA).expect_primary()
    talk.cuts()


@pytest.mark.parametrize("mode", ["until_write", "read_only"])
def test_by_the_sessions_defaults(mode):
    talk = reading("begin", transactions=mode, defaults=Defaults("repeatable read", read_only=True))
    talk.client(Q("commit")).expect_client(done("COMMIT"), I)
    talk.cuts()


def test_by_set_transaction():
    talk = begun("begin").client(Q(SET)).expect_replica(ON_REPLICA.data, Q(SET)).replica(OPENED, done("SET"), T)
    talk.client(Q("select 1")).expect_replica(Q("select 1")).replica(*ANSWER)
    talk.do(lambda: talk.sides.client.heard.clear())
    talk.client(WRITE).expect_client(why("write"), FAILED).expect_primary().expect_replica(END_ON_REPLICA)
    talk.cuts()


@pytest.mark.parametrize("begin, sql, again", [
    (BEGIN, "set local known.a = '1'", BEGIN), ("begin", SET, "begin isolation level read committed"),
])
def test_no_snapshot_is_taken_ahead_of_its_first_read(begin, sql, again):
    """As the settings that the replica is still to be given would take one."""
    talk = Talk(transactions="until_write", repeatable=True).client(Q("set known.b = '2'"))
    talk.primary(done("SET"), I).client(Q(begin)).do(lambda: [side.heard.clear() for side in talk._all.values()])
    talk.client(Q(sql)).expect_primary(run(again).data, Q(sql)).expect_replica()
    talk.cuts()


def test_the_settings_come_with_the_first_read():
    talk = Talk(transactions="until_write", repeatable=True).client(Q("set known.b = '2'"))
    talk.primary(done("SET"), I).client(Q(BEGIN), Q("select 1"))
    talk.expect_replica(REPEATABLE_ON_REPLICA.data, give(Settings(((b"known.b", b"2"),))).data, Q("select 1"))
    talk.cuts()


@pytest.mark.parametrize("begin", [
    "begin isolation level repeatable read", "begin isolation level repeatable read, read write",
    "begin isolation level serializable, read only", "begin isolation level repeatable read, read only, deferrable",
])
def test_what_else_is_the_primarys(begin):
    talk = Talk(transactions="until_write", repeatable=True).client(Q(begin)).expect_primary(Q(begin))
    talk.cuts()


def test_without_the_setting_it_is_the_primarys():
    Talk(transactions="until_write").client(Q(BEGIN)).expect_primary(Q(BEGIN)).cuts()
    Talk(transactions="primary", repeatable=True).client(Q(BEGIN)).expect_primary(Q(BEGIN)).cuts()


def test_set_transaction_in_what_may_write_is_the_primarys():
    sql = "set transaction isolation level repeatable read"
    begun("begin").client(Q(sql)).expect_primary(run("begin isolation level read committed").data, Q(sql)).cuts()


def test_ahead_of_its_first_read_it_moves():
    """As pg_export_snapshot() does in pg_dump with several jobs."""
    talk = begun().client(WRITE).expect_primary(run(BEGIN).data, WRITE).expect_replica()
    talk.primary(OPENED, error("25006"), FAILED).expect_client(error("25006"), FAILED)
    talk.cuts()


def test_a_first_read_that_fails_moves_it():
    talk = begun().client(Q("select 1")).replica(OPENED, error("42P01"), FAILED)
    talk.expect_client().expect_primary(run(BEGIN).data, Q("select 1"))
    talk.cuts()


def test_what_needs_the_primary_behind_a_read_ends_in_40001_and_the_next_try_is_the_primarys():
    talk = reading().client(WRITE).expect_client(why("write"), FAILED).expect_primary().expect_replica(END_ON_REPLICA)
    talk.replica(done("COMMIT"), I)
    ends_here(talk).client(Q(BEGIN)).expect_primary(Q(BEGIN)).primary(done("BEGIN"), T)
    talk.client(WRITE).expect_primary(WRITE)
    talk.cuts()


def test_an_extended_batch_that_needs_the_primary():
    talk = reading().client(batch("insert into t values (1)")).expect_client(why("write"), FAILED).expect_primary()
    talk.client(batch("rollback")).expect_client(PARSED, BOUND, message(b"n"), done("ROLLBACK"), I)
    talk.cuts()


def test_later_reads_need_no_fresh_replica():
    talk = reading().do(lambda: setattr(talk, "stale", "no_fresh_replica")).client(Q("select 2"))
    talk.expect_replica(Q("select 2")).replica(*ANSWER).expect_client(*ANSWER)
    talk.do(lambda: setattr(talk, "stale", "")).cuts()


@pytest.mark.parametrize("conflict", [error("40001", detail="x"), error("57014", detail="x"),
                                      error("57P01", "FATAL")])
def test_a_recovery_conflict_is_told_and_the_next_try_is_a_replicas(conflict):
    talk = reading().client(Q("select 2")).expect_replica(Q("select 2")).replica(conflict).expect_client()
    talk.replica(FAILED).do(lambda: None)
    sqlstate = next(code for code in ("40001", "57014", "57P01") if code.encode() in conflict)
    talk.expect_client(why(f"replica_error_{sqlstate}"), FAILED).expect_replica(END_ON_REPLICA)
    talk.replica(done("ROLLBACK"), I)
    ends_here(talk).client(Q(BEGIN)).expect_client(done("BEGIN"), T)
    talk.cuts()


def test_a_lost_replica_is_told():
    talk = reading().client(Q("select 2")).ends("default").do(lambda: None)
    talk.expect_client(why("replica_lost"), FAILED).expect_primary()
    ends_here(talk).run()


def test_a_replica_that_is_lost_between_two_reads():
    """Another one has another snapshot. The end of what has only read is no loss."""
    talk = reading().ends("default").do(lambda: None).client(Q("select 2"))
    talk.expect_client(why("no_replica"), FAILED).expect_primary()
    ends_here(talk).run()
    talk = reading().ends("default").do(lambda: None).client(Q("commit")).expect_client(done("COMMIT"), I)
    talk.run()


def test_another_replica_has_another_snapshot():
    talk = reading().do(lambda: talk.session.drop_replica("gone"))
    talk.do(lambda: talk.session.offer_replica(talk._all["default"])).do(lambda: talk._all["default"].heard.clear())
    talk.client(Q("select 1")).expect_client(why("read"), FAILED).expect_replica().expect_primary()
    talk.run()


def test_an_error_of_its_own_is_the_replicas_and_so_is_its_savepoint():
    talk = reading().client(Q("savepoint a")).replica(done("SAVEPOINT"), T).expect_client(done("SAVEPOINT"), T)
    talk.client(Q("select 2")).replica(error("42P01"), FAILED).expect_client(error("42P01"), FAILED).expect_primary()
    talk.do(lambda: talk.sides.default.heard.clear()).client(batch("select 3")).expect_replica(batch("select 3"))
    talk.replica(error("25P02"), FAILED).expect_client(error("25P02"), FAILED)
    talk.client(Q("rollback to a")).expect_replica(Q("rollback to a")).replica(done("ROLLBACK"), T)
    talk.expect_client(done("ROLLBACK"), T).client(Q("select 4")).expect_replica(Q("select 4"))
    talk.replica(*ANSWER).expect_client(*ANSWER).client(Q("commit")).expect_client(done("COMMIT"), I).expect_primary()
    talk.cuts()


def test_parsing_beside_it_does_not_move_it():
    parse = build.parse("s", "select 1") + S
    talk = reading().client(parse).expect_primary(parse).primary(PARSED, I).expect_client(PARSED, T)
    talk.client(Q("select 2")).expect_replica(Q("select 2"))
    talk.cuts()


def test_begin_at_once():
    """Both have it open; the snapshot is the replica's."""
    talk = Talk(transactions="until_write", repeatable=True, holds=False).client(Q(BEGIN)).expect_primary(Q(BEGIN))
    talk.primary(done("BEGIN"), T).expect_client(done("BEGIN"), T).client(Q("select 1"))
    talk.expect_replica(REPEATABLE_ON_REPLICA.data, Q("select 1")).replica(OPENED, *ANSWER).expect_client(*ANSWER)
    talk.client(WRITE).expect_client(why("write"), FAILED).client(Q("rollback")).expect_primary(run("rollback").data, S)
    talk.primary(PARSED, BOUND, done("ROLLBACK"), message(b"3"), I).expect_client(done("ROLLBACK"), I)
    talk.cuts()


@pytest.mark.parametrize("holds", [True, False])
def test_begin_with_reads_behind_it_in_one_batch(holds):
    whole = build.parse("", BEGIN) + build.bind() + build.execute() + batch("select 1")
    answer = (PARSED, BOUND, done("BEGIN"), PARSED, BOUND, ROW, done("SELECT 1"), T)
    talk = Talk(transactions="until_write", repeatable=True, holds=holds).client(whole)
    if holds:
        talk.expect_replica(whole).replica(*answer).expect_client(*answer).client(WRITE)
        talk.expect_client(why("write"), FAILED).expect_primary()
    else:           # the snapshot is the primary's
        talk.expect_primary(whole).primary(*answer).expect_client(*answer).client(Q("select 2"))
        talk.expect_primary(Q("select 2")).expect_replica()
    talk.cuts()
