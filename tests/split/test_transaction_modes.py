"""SET TRANSACTION and SET CONSTRAINTS in a transaction that the primary does not know of yet."""

from __future__ import annotations

import pytest

from pgsplit.split import transaction
from pgsplit.split.settings import run
from pgsplit.split.transaction import END_ON_REPLICA, ON_REPLICA
from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.session.talk import BOUND, PARSED, ROW, I, Q, S, T, Talk, batch, done

OPENED = PARSED + BOUND + done("BEGIN") + message(b"3")
OPENING = transaction.OPENING.data
SET = PARSED + BOUND + done("SET") + message(b"3")
SNAPSHOT = PARSED + BOUND + message(b"D", b"\0\0") + done("SELECT 1") + message(b"3")
ANSWER = (ROW, done("SELECT 1"), T)
WRITE = Q("insert into t values (1)")
READ_WRITE = Q("set transaction read write")


def begun(begin: str = "begin") -> Talk:
    return Talk(transactions="until_write").client(Q(begin)).expect_client(done("BEGIN"), T)


def with_set(sql: str, begin: str = "begin") -> Talk:
    talk = begun(begin).client(Q(sql)).expect_replica(ON_REPLICA.data, Q(sql)).replica(OPENED, done("SET"), T)
    return talk.expect_client(done("SET"), T).expect_primary()


@pytest.mark.parametrize("sql", [
    "set transaction read only", "set transaction isolation level read committed",
    "set transaction isolation level read committed, read only",
])
def test_it_runs_on_the_replica_and_is_repeated_where_the_transaction_moves(sql):
    talk = with_set(sql).client(Q("select 1")).expect_replica(Q("select 1")).replica(*ANSWER).expect_client(*ANSWER)
    talk.client(WRITE).expect_primary(OPENING, run(sql).data, run("select", row=True).data, S).expect_replica()
    talk.primary(OPENED, SET, SNAPSHOT, T).expect_primary(WRITE).expect_replica(END_ON_REPLICA)
    talk.cuts()


def test_a_transaction_that_only_reads_ends_here():
    talk = with_set("set transaction read only").client(Q("select 1")).replica(*ANSWER).expect_client(*ANSWER)
    talk.client(Q("commit")).expect_client(done("COMMIT"), I).expect_primary()
    talk.cuts()


@pytest.mark.parametrize("sql", [
    "set transaction isolation level repeatable read", "set transaction isolation level serializable, read only",
    "set transaction isolation level read uncommitted", "set transaction snapshot '0'", "set transaction deferrable",
])
def test_what_a_replica_cannot_be_opens_it_on_the_primary(sql):
    begun().client(Q(sql)).expect_primary(OPENING, Q(sql)).expect_replica().cuts()


@pytest.mark.parametrize("begin", ["begin", "begin transaction", "begin read write"])
def test_read_write_is_nothing_new_to_a_transaction_that_may_write(begin):
    """A standby would refuse it; the primary says SET, whatever has been read."""
    talk = begun(begin).client(READ_WRITE).expect_client(done("SET"), T).expect_primary().expect_replica()
    talk.client(Q("select 1")).expect_replica(ON_REPLICA.data, Q("select 1")).replica(OPENED, *ANSWER)
    talk.expect_client(*ANSWER).client(batch("set transaction read write"))
    talk.expect_client(PARSED, BOUND, message(b"n"), done("SET"), T).expect_primary()
    talk.client(WRITE).expect_primary(run("begin isolation level read committed, read write").data,
                                      run("select", row=True).data, WRITE)
    talk.cuts()
    assert "pgsplit: read_write_anyway" in map(str, talk.decisions)


def test_read_write_behind_read_only_is_the_primarys_to_answer():
    talk = with_set("set transaction read only").client(READ_WRITE)
    talk.expect_primary(OPENING, run("set transaction read only").data, S).primary(OPENED, SET, T)
    talk.expect_primary(READ_WRITE).expect_replica(END_ON_REPLICA).primary(done("SET"), T).expect_client(done("SET"), T)
    talk.client(WRITE).expect_primary(WRITE)
    talk.cuts()


def test_read_write_in_what_begun_read_only_is_the_primarys_to_answer():
    talk = begun("begin read only").client(READ_WRITE)
    talk.expect_primary(run("begin isolation level read committed, read only").data, READ_WRITE).cuts()


def test_read_write_behind_what_a_savepoint_may_have_undone_is_the_primarys_to_answer():
    talk = begun()
    for sql, tag in (("savepoint a", "SAVEPOINT"), ("set transaction read only", "SET"), ("rollback to a", "ROLLBACK")):
        talk.client(Q(sql)).replica(OPENED if sql == "savepoint a" else b"", done(tag), T)
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    repeated = b"".join(run(sql).data for sql in ("savepoint a", "set transaction read only", "rollback to a"))
    talk.client(READ_WRITE).expect_primary(OPENING, repeated, S)
    talk.cuts()


def test_set_constraints():
    sql = "set constraints all deferred"
    talk = begun().client(Q(sql)).expect_replica(ON_REPLICA.data, Q(sql)).replica(OPENED, done("SET CONSTRAINTS"), T)
    talk.expect_client(done("SET CONSTRAINTS"), T).client(WRITE).expect_primary(OPENING, run(sql).data, S)
    talk.primary(OPENED, PARSED, BOUND, done("SET CONSTRAINTS"), message(b"3"), T).expect_primary(WRITE)
    talk.cuts()


def test_in_a_transaction_that_has_failed_it_is_refused():
    talk = begun().do(lambda: talk.session.splitter.cancelled_waiting()).client(Q("select 2")).client(READ_WRITE)
    talk.expect_client(
        build.error_response("ERROR", "57014", "canceling statement due to user request"), build.ready_for_query(69),
        build.error_response("ERROR", "25P02",
                             "current transaction is aborted, commands ignored until end of transaction block"),
        build.ready_for_query(69))
    talk.run()
