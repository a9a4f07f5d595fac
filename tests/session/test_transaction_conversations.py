"""Transactions that the primary does not know of yet, as conversations. Each runs whole and cut into small pieces."""

from __future__ import annotations

import pytest

from pgsplit.classify.transactions import Begin
from pgsplit.split import transaction
from pgsplit.split.prologue import again
from pgsplit.split.requests import ABORTED_ERROR
from pgsplit.split.settings import CLOSE_OWN, Ahead, Settings, empty, give, run
from pgsplit.split.transaction import END_ON_REPLICA, ON_REPLICA, Defaults, Place, Transaction, answer_to
from pgsplit.wire import build
from pgsplit.wire.build import message

from .talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, X, batch, done, error
from .test_state_conversations import given

OPENED = message(b"1") + message(b"2") + done("BEGIN") + message(b"3")
SNAPSHOT = message(b"1") + message(b"2") + message(b"D", b"\0\0") + done("SELECT 1") + message(b"3")
OPENING = transaction.OPENING.data
BEHIND_A_READ = OPENING + run("select", row=True).data
FIRST_READ = ON_REPLICA.data + Q("select 1")
ANSWER = (ROW, done("SELECT 1"), T)


def talk_of(mode: str = "until_write") -> Talk:
    return Talk(transactions=mode)


def begun() -> Talk:
    return talk_of().client(Q("begin")).expect_client(done("BEGIN"), T).expect_primary().expect_replica()


def reading() -> Talk:
    """One read has been answered by the replica, in a transaction there."""
    talk = begun().client(Q("select 1")).expect_replica(FIRST_READ)
    return talk.replica(OPENED, *ANSWER).expect_client(*ANSWER).expect_primary()


def test_begin_and_commit_alone_ask_no_server():
    for end, tag in (("commit", "COMMIT"), ("rollback", "ROLLBACK")):
        talk = begun().client(Q(end)).expect_client(done(tag), I).expect_primary().expect_replica()
        talk.client(X).cuts()
        assert talk.commands == [("pgsplit", "BEGIN"), ("pgsplit", tag)]


def test_reads_run_in_a_transaction_on_the_replica_and_its_end_is_answered_at_once():
    talk = reading()
    talk.client(Q("select 2")).expect_replica(Q("select 2")).replica(*ANSWER).expect_client(*ANSWER)
    talk.client(Q("commit")).expect_client(done("COMMIT"), I).expect_replica(END_ON_REPLICA).expect_primary()
    talk.client(Q("select 3")).expect_replica(Q("select 3"))          # the end there is not answered yet
    talk.replica(done("COMMIT"), I).replica(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_the_first_write_moves_it_to_the_primary():
    talk = reading()
    write = Q("insert into t values (1)")
    talk.client(write).expect_primary(OPENING, run("select", row=True).data, write).expect_replica(END_ON_REPLICA)
    talk.primary(OPENED, SNAPSHOT, done("INSERT 0 1"), T).expect_client(done("INSERT 0 1"), T)
    talk.replica(done("COMMIT"), I)
    talk.client(Q("select 1")).expect_primary(Q("select 1")).primary(*ANSWER).expect_client(*ANSWER)
    talk.client(Q("commit")).primary(done("COMMIT"), I).expect_client(done("COMMIT"), I).expect_replica()
    talk.cuts()
    assert talk.published >= 1


def test_a_write_that_comes_first_opens_it_there():
    write = Q("insert into t values (1)")
    talk = begun().client(write).expect_primary(OPENING, write).expect_replica()
    talk.do(lambda: talk.marks.append(talk.published))
    talk.primary(OPENED, done("INSERT 0 1"), T).expect_client(done("INSERT 0 1"), T)
    talk.do(lambda: talk.marks.append(talk.published))
    talk.client(Q("commit")).primary(done("COMMIT"), I)
    talk.marks = []
    talk.run()
    assert talk.marks == [0, 0] and talk.published >= 1     # what others must see is the commit
    talk.cuts()


def test_an_opening_that_fails_lets_nothing_run():
    """The server skips the statement, too: its error is the statement's, and a Sync makes an end of it."""
    write = Q("insert into t values (1)")
    talk = begun().client(write).expect_primary(OPENING, write)
    talk.primary(PARSED, error("53200")).expect_client(error("53200")).expect_primary(S).primary(I).expect_client(I)
    talk.client(Q("begin"), write).expect_client(done("BEGIN"), T)       # what failed has left its statement there
    talk.expect_primary(CLOSE_OWN.data, OPENING, write).primary(message(b"3"), OPENED, done("INSERT 0 1"), T)
    talk.expect_client(done("INSERT 0 1"), T).client(Q("commit")).primary(done("COMMIT"), I)
    talk.client(Q("begin"), write).do(lambda: talk.sides.additional.heard.clear())
    talk.cuts()


def test_an_error_on_the_replica_moves_it():
    talk = reading().client(Q("select 2")).expect_replica(Q("select 2")).replica(error("22012"), FAILED)
    talk.expect_replica(END_ON_REPLICA).expect_client()
    talk.expect_primary(BEHIND_A_READ, Q("select 2")).primary(OPENED, SNAPSHOT, error("22012"), FAILED)
    talk.expect_client(error("22012"), FAILED).replica(done("ROLLBACK"), I)
    talk.client(Q("rollback")).expect_primary(Q("rollback")).primary(done("ROLLBACK"), I)
    talk.expect_client(done("ROLLBACK"), I)
    talk.cuts()


def test_a_lost_replica_moves_it():
    talk = reading().client(Q("select 2")).ends("default").expect_primary(BEHIND_A_READ, Q("select 2"))
    talk.primary(OPENED, SNAPSHOT, *ANSWER).expect_client(*ANSWER)
    talk.run()


def test_a_replica_that_is_lost_between_two_reads_is_not_missed():
    talk = reading().ends("default").do(lambda: None).client(Q("commit")).expect_client(done("COMMIT"), I)
    talk.expect_primary()
    talk.run()


@pytest.mark.parametrize("name, what", [("s", 'prepared statement "s"'), ("", "unnamed prepared statement")])
def test_a_statement_that_is_not_there_is_missed_in_a_failed_transaction_too(name, what):
    """A server looks for it before it sees that the transaction has failed."""
    talk = Talk(transactions="until_write")
    talk.client(Q("begin")).expect_client(done("BEGIN"), T)
    talk.client(build.parse("s", "select a from t") + S).primary(error("42P01"), I)
    talk.expect_client(error("42P01"), FAILED)
    missing = build.error_response("ERROR", "26000", f"{what} does not exist")
    use = build.bind("", name) + build.execute() + S
    talk.client(use).expect_client(missing, FAILED)
    talk.client(build.parse("", "select 1") + use).expect_client(ABORTED_ERROR, FAILED)
    talk.client(Q("commit")).expect_client(done("ROLLBACK"), I)
    talk.cuts()


def test_what_is_lost_in_the_midst_of_a_long_answer_aborts_it():
    talk = Talk(transactions="until_write", buffer=60)
    talk.client(Q("begin")).expect_client(done("BEGIN"), T).client(Q("select 1"))
    talk.replica(OPENED).replica(ROW * 2).do(lambda: None).ends("default").do(lambda: None)
    talk.do(lambda: talk.sides.client.heard.clear())
    talk.client(Q("select 2")).expect_client(build.error_response(
        "ERROR", "25P02", "current transaction is aborted, commands ignored until end of transaction block"), FAILED)
    talk.client(Q("commit")).expect_client(done("ROLLBACK"), I)
    talk.client(Q("insert into t values (1)")).expect_primary(Q("insert into t values (1)"))
    talk.run()


def test_a_replica_that_is_not_fresh_moves_it():
    talk = reading().do(lambda: setattr(talk, "stale", "no_fresh_replica"))
    talk.client(Q("select 2")).expect_primary(BEHIND_A_READ, Q("select 2")).expect_replica(END_ON_REPLICA)
    talk.do(lambda: setattr(talk, "stale", ""))
    talk.cuts()


def test_begin_with_reads_behind_it_in_one_batch():
    whole = build.parse("", "begin") + build.bind() + build.execute() + batch("select 1")
    answer = (PARSED, BOUND, done("BEGIN"), PARSED, BOUND, ROW, done("SELECT 1"), T)
    talk = talk_of().client(whole).expect_replica(whole).replica(*answer).expect_client(*answer)
    talk.client(Q("commit")).expect_client(done("COMMIT"), I).expect_replica(END_ON_REPLICA).expect_primary()
    talk.cuts()


def test_begin_with_a_read_behind_it_that_fails_goes_to_the_primary_as_it_is():
    whole = build.parse("", "begin") + build.bind() + build.execute() + batch("select 1")
    talk = talk_of().client(whole).expect_replica(whole)
    talk.replica(PARSED, BOUND, done("BEGIN"), PARSED, error("42P01"), FAILED).expect_primary(whole).expect_client()
    talk.expect_replica(END_ON_REPLICA)
    talk.primary(PARSED, BOUND, done("BEGIN"), PARSED, BOUND, ROW, done("SELECT 1"), T)
    talk.expect_client(PARSED, BOUND, done("BEGIN"), PARSED, BOUND, ROW, done("SELECT 1"), T)
    talk.cuts()


def test_begin_with_a_write_behind_it_is_the_primarys():
    whole = build.parse("", "begin") + build.bind() + build.execute() + batch("insert into t values (1)")
    talk_of().client(whole).expect_primary(whole).expect_replica().cuts()


def test_parsing_beside_it_needs_no_transaction():
    parse = build.parse("s", "select 1") + build.describe(b"S", "s") + S
    described = (PARSED, message(b"t", b"\0\0"), message(b"n"))
    talk = begun().client(parse).expect_primary(parse).expect_replica()
    talk.primary(*described, I).expect_client(*described, T)
    talk.client(Q("commit")).expect_client(done("COMMIT"), I).expect_primary()
    talk.cuts()


def test_parsing_up_to_a_flush_ends_with_a_sync_of_our_own():
    flush = build.parse("s", "select 1") + build.describe(b"S", "s") + message(b"H")
    described = (PARSED, message(b"t", b"\0\0"), message(b"n"))
    run_it = build.bind("", "s") + build.execute() + S
    late = build.message(b"P", b"s\0select 1\0\0\0") + build.describe(b"S", "s")
    talk = begun().client(flush).expect_primary(flush, S).primary(*described).expect_client(*described)
    talk.primary(I).expect_client()
    talk.client(run_it).expect_replica(ON_REPLICA.data, late, run_it)
    talk.replica(OPENED, *described, BOUND, done("SELECT 1"), T).expect_client(BOUND, done("SELECT 1"), T)
    talk.cuts()


def test_a_parse_that_fails_beside_it_aborts_it():
    flush = build.parse("s", "select 1") + build.describe(b"S", "s") + message(b"H")
    talk = begun().client(flush).expect_primary(flush, S).primary(error("42P01"), I).expect_client(error("42P01"))
    talk.client(build.bind("", "s") + build.execute() + S).expect_client(FAILED).expect_primary().expect_replica()
    talk.client(S).expect_primary(S).primary(I).expect_client(FAILED)
    talk.client(batch("select 1")).expect_client(build.error_response(
        "ERROR", "25P02", "current transaction is aborted, commands ignored until end of transaction block"), FAILED)
    talk.client(Q("rollback")).expect_client(done("ROLLBACK"), I)
    talk.cuts()


def test_a_pipeline_waits_for_the_opening_only():
    talk = begun().client(Q("select 1"), Q("select 2")).expect_replica(FIRST_READ)
    talk.replica(OPENED, *ANSWER).expect_client(*ANSWER).expect_replica(Q("select 2"))
    talk.client(Q("select 3"), Q("commit"), Q("select 4")).expect_replica(Q("select 3")).expect_client()
    talk.replica(*ANSWER).replica(*ANSWER)
    talk.expect_client(*ANSWER, *ANSWER, done("COMMIT"), I).expect_replica(END_ON_REPLICA, Q("select 4"))
    talk.cuts()


def test_a_named_portal_moves_it_and_a_row_limit_does_not():
    limited = build.parse("", "select 1") + build.bind() + build.execute("", 1) + S
    more = build.execute("", 1) + S
    suspended = (PARSED, BOUND, message(b"D", b"\0\0"), message(b"s"), T)
    talk = begun().client(limited).expect_replica(ON_REPLICA.data, limited).replica(OPENED, *suspended)
    talk.expect_client(*suspended)
    talk.client(more).expect_replica(more).replica(done("SELECT 0"), T).expect_client(done("SELECT 0"), T)
    named = build.parse("", "select 1") + build.bind("p") + build.execute("p", 1) + S
    talk.client(named).expect_primary(BEHIND_A_READ, named).expect_replica(END_ON_REPLICA)
    talk.cuts()


def test_a_cancel_while_a_read_waits_aborts_it():
    talk = reading()
    talk.do(lambda: talk.session.splitter.cancelled_waiting()).client(Q("select 2"))
    talk.expect_client(build.error_response("ERROR", "57014", "canceling statement due to user request"), FAILED)
    talk.expect_replica(END_ON_REPLICA)
    talk.client(Q("rollback")).expect_client(done("ROLLBACK"), I).expect_replica()
    talk.cuts()


def test_what_comes_behind_an_error_before_the_server_is_ready_does_not_count():
    flush = build.parse("s", "select 1") + build.describe(b"S", "s") + message(b"H")
    talk = begun().client(flush).primary(error("42P01")).expect_client(error("42P01"))
    talk.client(build.bind("", "s"), S).expect_client().primary(I).expect_client(FAILED)
    talk.client(Q("rollback")).expect_client(done("ROLLBACK"), I)
    talk.cuts()


@pytest.mark.parametrize("mode, begin, held", [
    ("until_write", "begin", True), ("until_write", "begin read only", True), ("read_only", "begin", False),
    ("read_only", "begin read only", True), ("primary", "begin read only", False),
    ("until_write", "begin isolation level repeatable read", False), ("until_write", "begin deferrable", False),
    ("until_write", "begin isolation level read committed, read write", True),
])
def test_which_are_held(mode, begin, held):
    talk = talk_of(mode).client(Q(begin))
    (talk.expect_primary() if held else talk.expect_primary(Q(begin))).cuts()


def test_what_the_sessions_defaults_say():
    begin = Begin(b"BEGIN")
    for defaults, may in ((Defaults("read committed"), True), (Defaults(), False), (Defaults("serializable"), False),
                          (Defaults("read committed", deferrable=True), False),
                          (Defaults("read committed", times_out=True), False)):
        assert Transaction("until_write", defaults).may_hold(begin) is may
    assert Transaction("read_only", Defaults("read committed", read_only=True)).may_hold(begin)
    assert Transaction("until_write", Defaults("serializable")).may_hold(begin._replace(isolation="read committed"))


def test_a_transaction_that_a_relay_began_behind_another_one_has_not_read():
    """Else what opens it would have, and SET TRANSACTION would come too late."""
    known = Transaction("until_write", Defaults("read committed"))
    known.hold(Begin(b"BEGIN"))
    known.replica_said(ord("T"), told=True)
    assert known.has_read and len(known.opening()) == 2
    known.repeated(Place.HELD, 1)
    assert not known.has_read and len(known.opening()) == 1
    known.repeated(Place.REPLICA, 0)
    assert known.has_read


@pytest.mark.parametrize("data, answer", [
    (batch("begin"), PARSED + BOUND + message(b"n") + done("BEGIN") + T),
    (build.bind("", "b") + build.execute() + S, BOUND + done("BEGIN") + T),
    (message(b"B", b"\0b\0" + bytes((0, 0, 0, 0, 0, 1, 0, 0))) + build.execute() + S, BOUND + done("BEGIN") + T),
    (message(b"B", b"\0b\0" + bytes((0, 1, 0, 1, 0, 0, 0, 1, 0, 1))) + build.execute() + S, BOUND + done("BEGIN") + T),
    (message(b"B", b"\0b\0" + bytes((0, 2, 0, 1, 0, 1, 0, 0, 0, 0))) + build.execute() + S, None),
    (build.bind("", "b", [b"1"]) + build.execute() + S, None), (build.bind("p", "b") + build.execute("p") + S, None),
    (build.parse("", "begin", [23]) + build.bind() + build.execute() + S, None),
    (build.bind("", "b") + build.execute("", 1) + S, BOUND + done("BEGIN") + T),       # pgjdbc's
    (build.bind("", "b") + build.FLUSH + build.execute() + build.FLUSH + S, BOUND + done("BEGIN") + T),    # pg8000's
    (build.bind("", "b") + build.execute("", 2) + S, None), (build.bind("", "b") + build.execute(), None),
    (batch("begin") + batch("begin"), None),
])
def test_what_a_server_answers_to_a_begin(data, answer):
    assert answer_to(data, b"BEGIN", ord("T")) == answer


# --- what sets the stage ------------------------------------------------------------------------------------------

PARSE_S = build.parse("s", "savepoint a", [23])


PARSE_S = build.parse("s", "savepoint a", [23])


def again_as_own(sql: str, rows: bool = False) -> bytes:
    return run(sql, row=rows).data


def test_what_sets_the_stage_runs_on_the_replica_and_is_repeated_where_it_moves():
    local, write = Q("set local app.t = '7'"), Q("insert into t values (1)")
    talk = begun().client(local).expect_replica(ON_REPLICA.data, local).expect_primary()
    talk.replica(OPENED, done("SET"), T).expect_client(done("SET"), T)
    talk.client(Q("savepoint a")).expect_replica(Q("savepoint a")).replica(done("SAVEPOINT"), T)
    talk.expect_client(done("SAVEPOINT"), T)
    talk.client(Q("select 1")).expect_replica(Q("select 1")).replica(*ANSWER).expect_client(*ANSWER)
    talk.client(write).expect_replica().expect_primary(
        OPENING, again_as_own("set local app.t = '7'"), again_as_own("savepoint a"), run("select", row=True).data, S)
    repeated = PARSED + BOUND + done("SET") + message(b"3"), PARSED + BOUND + done("SAVEPOINT") + message(b"3")
    talk.primary(OPENED, *repeated, SNAPSHOT, T).expect_client().expect_primary(write).expect_replica(END_ON_REPLICA)
    talk.primary(done("INSERT 0 1"), T).expect_client(done("INSERT 0 1"), T)
    talk.client(Q("commit")).expect_primary(Q("commit")).primary(done("COMMIT"), I).expect_client(done("COMMIT"), I)
    talk.cuts()


def test_another_replica_is_told_it_again():
    local = Q("set local app.t = '7'")
    talk = begun().client(local).replica(OPENED, done("SET"), T).expect_client(done("SET"), T)
    talk.do(lambda: talk.session.offer_replica(talk.sides.default))
    talk.do(lambda: talk.session.drop_replica("gone"))
    talk.do(lambda: talk.session.offer_replica(talk._all["default"]))
    talk.do(lambda: talk._all["default"].heard.clear())
    talk.client(Q("select 1")).do(lambda: setattr(talk.sides, "default", talk._all["default"]))
    talk.expect_replica(ON_REPLICA.data, again_as_own("set local app.t = '7'"), Q("select 1"))
    talk.run()


def test_set_config_with_bound_values_is_repeated_with_them():
    sql = "select set_config('role', $1, true)"
    bound = build.bind("", "", [b"someone"])
    whole = build.parse("", sql) + bound + build.describe() + build.execute() + S
    write = Q("insert into t values (1)")
    talk = begun().client(whole).expect_replica(ON_REPLICA.data, whole)
    row = message(b"D", b"\0\1\0\0\0\7someone")
    answer = (PARSED, BOUND, message(b"T", b"\0\0"), row, done("SELECT 1"), T)
    talk.replica(OPENED, *answer).expect_client(*answer)
    own = build.parse("pgsplit", sql) + build.bind("", "pgsplit", [b"someone"]) + build.execute() + build.close(
        b"S", "pgsplit")
    talk.client(write).expect_primary(OPENING, own, run("select", row=True).data, S)
    talk.primary(OPENED, PARSED, BOUND, row, done("SELECT 1"), message(b"3"), SNAPSHOT, T).expect_primary(write)
    talk.primary(done("INSERT 0 1"), T).expect_client(done("INSERT 0 1"), T)
    talk.cuts()


def test_the_primary_is_told_of_an_option_that_only_a_replica_was_told():
    local = Q("set local app.t = '7'")
    talk = begun().client(local).replica(OPENED, done("SET"), T).client(Q("commit"))
    talk.expect_client(done("SET"), T, done("COMMIT"), I).replica(done("COMMIT"), I)
    write = Q("insert into t values (1)")
    talk.client(write).expect_primary(empty("app.t").data, write)
    talk.primary(PARSED, BOUND, done("SET"), message(b"3"), done("INSERT 0 1"), I)
    talk.expect_client(done("INSERT 0 1"), I)
    talk.client(write).expect_primary(write)
    talk.cuts()


def test_the_primary_is_told_of_such_an_option_ahead_of_what_the_transaction_sets():
    local = Q("set local app.t = '7'")
    talk = begun().client(local).replica(OPENED, done("SET"), T).client(Q("commit"))
    talk.expect_client(done("SET"), T, done("COMMIT"), I).replica(done("COMMIT"), I)
    talk.client(Q("begin")).expect_client(done("BEGIN"), T)
    talk.client(local).replica(OPENED, done("SET"), T).expect_client(done("SET"), T)
    write = Q("insert into t values (1)")
    talk.client(write).expect_primary(OPENING, empty("app.t").data, again_as_own("set local app.t = '7'"), S)
    talk.cuts()


def test_back_to_a_savepoint_behind_a_cancelled_read():
    talk = begun().client(Q("savepoint a")).replica(OPENED, done("SAVEPOINT"), T)
    talk.do(lambda: talk.session.splitter.cancelled_waiting()).client(Q("select 2"))
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    back = Q("rollback to a")
    talk.client(back).expect_primary(OPENING, again_as_own("savepoint a"), S)
    talk.primary(OPENED, PARSED, BOUND, done("SAVEPOINT"), message(b"3"), T).expect_primary(back)
    talk.primary(done("ROLLBACK"), T).expect_client(done("ROLLBACK"), T)
    talk.run()


@pytest.mark.parametrize("data, rows, doubled", [
    (Q("savepoint a"), False, run("savepoint a")),
    (build.parse("", "savepoint a", [23]) + build.bind("", "", [b"1"]) + build.execute() + S, False,
     Ahead(build.parse("pgsplit", "savepoint a", [23]) + build.bind("", "pgsplit", [b"1"]) + build.execute()
           + build.close(b"S", "pgsplit"), b"12C3")),
    (build.bind("", "s") + build.describe() + build.execute() + S, True,
     Ahead(build.parse("pgsplit", "savepoint a", [23]) + build.bind("", "pgsplit") + build.execute()
           + build.close(b"S", "pgsplit"), b"12DC3")),
    (build.bind("", "unknown") + build.execute() + S, False, None),
    (build.parse("s", "savepoint a") + build.bind("", "s") + build.execute() + S, False, None),
    (build.bind("p", "s") + build.execute("p") + S, False, None), (build.parse("", "savepoint a") + S, False, None),
    (build.bind("", "s") + build.execute() + build.execute() + S, False, None),
    (build.bind("", "s") + build.close(b"P", "") + build.execute() + S, False, None),
])
def test_the_messages_that_do_it_again(data, rows, doubled):
    assert again(data, rows=rows, parse_of={b"s": PARSE_S}.get) == doubled


def test_another_replica_is_given_the_settings_ahead_of_what_the_transaction_sets():
    """They begin with RESET ALL."""
    local = Q("set local app.t = '7'")
    talk = talk_of().client(Q("set known.a = '1'")).primary(done("SET"), I).client(Q("begin"))
    talk.client(local).replica(OPENED, given(3), done("SET"), T)
    talk.do(lambda: talk.session.drop_replica("gone"))
    talk.do(lambda: talk.session.offer_replica(talk._all["default"]))
    talk.do(lambda: talk._all["default"].heard.clear())
    known = give(Settings(((b"known.a", b"1"),)))
    talk.client(Q("select 1")).do(lambda: setattr(talk.sides, "default", talk._all["default"]))
    talk.expect_replica(ON_REPLICA.data, known.data, again_as_own("set local app.t = '7'"), Q("select 1"))
    talk.run()


def test_a_transaction_that_has_set_something_leaves_a_replica_whose_configuration_changes():
    """To be given the session's settings anew would undo that."""
    local, read = Q("set local app.t = '7'"), Q("select 1")
    talk = begun().client(local).replica(OPENED, done("SET"), T).expect_client(done("SET"), T)
    talk.replica(build.parameter_status("TimeZone", "UTC")).do(lambda: talk.sides.default.heard.clear())
    talk.client(read).expect_primary(OPENING, again_as_own("set local app.t = '7'"), S).expect_replica()
    talk.primary(OPENED, PARSED, BOUND, done("SET"), message(b"3"), T).expect_primary(read)
    talk.expect_replica(END_ON_REPLICA)
    talk.run()
