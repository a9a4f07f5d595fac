"""Cursors and portals in READ ONLY transactions: they stay on their replica, and what needs the primary runs beside."""

from __future__ import annotations

import pytest

from pgsplit.split.decision import Decision, Upstream
from pgsplit.split.opening import unmovable
from pgsplit.split.settings import give, run
from pgsplit.split.transaction import END_ON_REPLICA, ON_REPLICA
from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.session.talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, batch, done, error
from tests.session.test_state_conversations import TOKYO, given, question, settings

OPENED = PARSED + BOUND + done("BEGIN") + message(b"3")
OPENING = run("begin isolation level read committed, read only").data
SNAPSHOT = run("select", row=True).data
SHOWN = PARSED + BOUND + message(b"D", b"\0\0") + done("SELECT 1") + message(b"3")
CLOSED = message(b"3")
DECLARE, FETCH, CLOCK = Q("declare c cursor for select 1"), Q("fetch 5 from c"), Q("show x")
ANSWER = (ROW, done("FETCH 1"), T)
SHOWS = (ROW, done("SHOW"), T)
SUSPENDED = (PARSED, BOUND, message(b"D", b"\0\0"), message(b"s"), T)


def begun(begin: str = "begin read only") -> Talk:
    return Talk(transactions="until_write").client(Q(begin)).expect_client(done("BEGIN"), T)


def declared(begin: str = "begin read only") -> Talk:
    talk = begun(begin).client(DECLARE).expect_replica(ON_REPLICA.data, DECLARE)
    return talk.replica(OPENED, done("DECLARE CURSOR"), T).expect_client(done("DECLARE CURSOR"), T).expect_primary()


def beside(talk: Talk, answer: tuple[bytes, ...] = SHOWS) -> Talk:
    """Something needs the primary while a cursor is open."""
    talk.client(CLOCK).expect_primary(OPENING, SNAPSHOT, S).expect_client().primary(OPENED, SHOWN, T)
    return talk.expect_primary(CLOCK).primary(*answer).expect_client(*answer).expect_replica()


def fetches(talk: Talk, data: bytes = FETCH, answer: tuple[bytes, ...] = ANSWER) -> Talk:
    return talk.client(data).expect_replica(data).replica(*answer).expect_client(*answer)


def why(reason: str) -> bytes:
    return unmovable(Decision(Upstream.ADDITIONAL, reason))


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_cursor_of_a_read_stays_where_it_was_opened(end):
    talk = fetches(fetches(declared()), Q("move 1 in c"), (done("MOVE 1"), T))
    fetches(talk, Q("close c"), (done("CLOSE CURSOR"), T))
    talk.client(Q(end)).expect_client(done(end.upper()), I).expect_replica(END_ON_REPLICA).expect_primary()
    talk.cuts()
    assert "replica: cursor" in map(str, talk.decisions)


@pytest.mark.parametrize("begin, sql", [
    ("begin", "declare c cursor for select 1"), ("begin read only", "declare c cursor with hold for select 1"),
    ("begin read only", "declare c cursor for select nextval('s')"), ("begin read only", "fetch c"),
])
def test_other_cursors_are_the_primarys(begin, sql):
    opening = OPENING if "only" in begin else run("begin isolation level read committed").data
    begun(begin).client(Q(sql)).expect_primary(opening, Q(sql)).expect_replica().cuts()


def test_by_set_transaction():
    sql = "set transaction read only"
    talk = begun("begin").client(Q(sql)).replica(OPENED, done("SET"), T).expect_client(done("SET"), T)
    talk.do(lambda: talk.sides.default.heard.clear()).client(DECLARE).expect_replica(DECLARE)
    talk.replica(done("DECLARE CURSOR"), T).expect_client(done("DECLARE CURSOR"), T)
    fetches(talk).cuts()


def test_a_declaration_that_fails_moves_it():
    talk = begun().client(DECLARE).replica(OPENED, error("42P01"), FAILED)
    talk.expect_client().expect_primary(OPENING, DECLARE).primary(OPENED, error("42P01"), FAILED)
    talk.expect_client(error("42P01"), FAILED)
    talk.cuts()


def test_what_needs_the_primary_runs_there_beside_the_cursor():
    """Both end with the client's COMMIT; what is new runs on the primary from then on."""
    talk = fetches(beside(declared())).client(Q("select 2")).expect_primary(Q("select 2"))
    talk.primary(ROW, done("SELECT 1"), T).expect_client(ROW, done("SELECT 1"), T)
    other = Q("declare d cursor for select 2")
    talk.client(other).expect_primary(other).primary(done("DECLARE CURSOR"), T).expect_client(done("DECLARE CURSOR"), T)
    talk.client(Q("fetch d")).expect_primary(Q("fetch d")).primary(*ANSWER).expect_client(*ANSWER)
    fetches(talk).client(Q("commit")).expect_primary(Q("commit")).expect_replica(END_ON_REPLICA)
    talk.primary(done("COMMIT"), I).expect_client(done("COMMIT"), I).replica(done("COMMIT"), I)
    talk.client(Q("select 3")).expect_replica(Q("select 3"))
    talk.cuts()


def test_a_second_one_of_its_name_is_refused_where_the_first_one_is():
    """Also where something has run beside it, and new ones are the primary's."""
    refused = (error("42P03"), FAILED)
    for talk in (declared(), beside(declared())):
        fetches(fetches(talk, Q("declare c cursor for select 2"), refused), FETCH, (error("25P02"), FAILED)).cuts()
    fetches(fetches(beside(declared()), bound("c", "select 2"), refused), FETCH, (error("25P02"), FAILED)).cuts()


def test_a_second_one_of_its_name_that_no_replica_can_have():
    """A cursor of another name is opened where it can be."""
    sequence = "declare {} cursor for select nextval('s')"
    talk = beside(declared()).client(Q(sequence.format("c")))
    talk.expect_client(why("cursor"), FAILED).expect_primary().expect_replica(END_ON_REPLICA).cuts()
    talk = beside(declared()).client(Q(sequence.format("d"))).expect_primary(Q(sequence.format("d")))
    talk.expect_replica().cuts()


def test_the_last_cursors_end_lets_it_move():
    talk = fetches(beside(declared()), Q("close c"), (done("CLOSE CURSOR"), T))
    talk.client(CLOCK).expect_primary(CLOCK).expect_replica(END_ON_REPLICA).primary(*SHOWS).expect_client(*SHOWS)
    talk.client(Q("commit")).expect_primary(Q("commit"))
    talk.cuts()


def test_close_all():
    every = Q("close all")
    talk = fetches(declared(), every, (done("CLOSE CURSOR ALL"), T)).client(CLOCK)
    talk.expect_primary(OPENING, SNAPSHOT, CLOCK).expect_replica(END_ON_REPLICA)
    talk.cuts()
    talk = beside(declared()).client(every).expect_primary(every).expect_replica(END_ON_REPLICA)
    talk.cuts()


def test_pipelined():
    talk = begun().client(DECLARE, FETCH, CLOCK, FETCH).expect_replica(ON_REPLICA.data, DECLARE)
    talk.replica(OPENED, done("DECLARE CURSOR"), T).expect_replica(FETCH).expect_primary().replica(*ANSWER)
    talk.expect_primary(OPENING, SNAPSHOT, S).primary(OPENED, SHOWN, T).expect_primary(CLOCK).expect_replica()
    talk.primary(*SHOWS).expect_replica(FETCH).replica(*ANSWER)
    talk.expect_client(done("DECLARE CURSOR"), T, *ANSWER, *SHOWS, *ANSWER)
    talk.cuts()


def test_an_error_on_the_replica_is_the_transactions():
    talk = fetches(declared(), Q("savepoint a"), (done("SAVEPOINT"), T))
    fetches(talk, Q("select 1"), (error("22012"), FAILED)).expect_primary()
    fetches(fetches(talk, FETCH, (error("25P02"), FAILED)), CLOCK, (error("25P02"), FAILED)).expect_primary()
    fetches(fetches(talk, Q("rollback to a"), (done("ROLLBACK"), T)))
    talk.client(Q("commit")).expect_client(done("COMMIT"), I).expect_primary()
    talk.cuts()


def test_an_error_on_the_primary_is_the_cursors_too():
    """Savepoints are on both, and the primary is told of the way back before it runs anything else."""
    talk = fetches(declared(), Q("savepoint a"), (done("SAVEPOINT"), T)).client(CLOCK)
    talk.expect_primary(OPENING, run("savepoint a").data, SNAPSHOT, S)
    talk.primary(OPENED, PARSED, BOUND, done("SAVEPOINT"), CLOSED, SHOWN, T).expect_primary(CLOCK)
    talk.primary(error("42704"), FAILED).expect_client(error("42704"), FAILED)
    talk.client(FETCH).expect_primary(FETCH).primary(error("25P02"), FAILED).expect_client(error("25P02"), FAILED)
    talk.expect_replica()
    fetches(fetches(talk, Q("rollback to a"), (done("ROLLBACK"), T))).expect_primary()
    talk.client(CLOCK).expect_primary(run("rollback to a").data, S)
    talk.primary(PARSED, BOUND, done("ROLLBACK"), CLOSED, T).expect_primary(CLOCK).primary(*SHOWS)
    talk.expect_client(*SHOWS)
    talk.cuts()


def test_what_has_failed_on_either_ends_on_both():
    talk = beside(declared(), (error("42704"), FAILED)).client(Q("commit")).expect_primary(run("rollback").data, S)
    talk.primary(PARSED, BOUND, done("ROLLBACK"), CLOSED, I).expect_client(done("ROLLBACK"), I)
    talk.expect_replica(END_ON_REPLICA)
    talk.cuts()
    talk = fetches(beside(declared()), FETCH, (error("22012"), FAILED))
    fetches(talk, CLOCK, (error("25P02"), FAILED)).client(Q("rollback")).expect_primary(run("rollback").data, S)
    talk.cuts()


@pytest.mark.parametrize("conflict", [error("40001", detail="x"), error("57P01", "FATAL")])
def test_a_recovery_conflict_ends_it(conflict):
    talk = declared().client(FETCH).expect_replica(FETCH).replica(conflict, FAILED).do(lambda: None)
    sqlstate = "40001" if b"40001" in conflict else "57P01"
    talk.expect_client(why(f"replica_error_{sqlstate}"), FAILED).expect_primary()
    talk.client(Q("rollback")).expect_client(done("ROLLBACK"), I)
    talk.cuts()


@pytest.mark.parametrize("say", [FETCH, CLOCK, Q("select 2")])
def test_a_lost_replica_takes_its_cursors_along(say):
    talk = declared().ends("default").do(lambda: None).client(say)
    reason = "server_local_setting" if say is CLOCK else "cursor" if say is FETCH else "no_replica"
    talk.expect_client(why(reason), FAILED).expect_primary()
    talk.client(Q("rollback")).expect_client(done("ROLLBACK"), I)
    talk.run()
    declared().ends("default").do(lambda: None).client(Q("commit")).expect_client(done("COMMIT"), I).run()


def test_a_fetch_needs_no_fresh_replica_and_a_read_does():
    talk = declared().do(lambda: setattr(talk, "stale", "no_fresh_replica"))
    fetches(talk).client(Q("select 2")).expect_primary(OPENING, SNAPSHOT, S).primary(OPENED, SHOWN, T)
    talk.expect_primary(Q("select 2")).expect_replica().primary(ROW, done("SELECT 1"), T)
    talk.expect_client(ROW, done("SELECT 1"), T).do(lambda: setattr(talk, "stale", ""))
    fetches(talk).cuts()


def test_a_text_that_may_use_a_cursor_in_another_way():
    """As several statements in one text do: neither server has all of it."""
    unclear = Q("close c extra")
    talk = declared().client(unclear).expect_client(why("cursor"), FAILED).expect_primary()
    talk.client(Q("rollback")).expect_client(done("ROLLBACK"), I)
    talk.cuts()


def test_parsing_beside_a_cursor():
    """Also an error of it, and behind it a savepoint."""
    parse = build.parse("s", "select 1") + S
    talk = fetches(beside(declared()), Q("savepoint a"), (done("SAVEPOINT"), T)).client(parse)
    talk.expect_primary(run("savepoint a").data, S).primary(PARSED, BOUND, done("SAVEPOINT"), CLOSED, T)
    talk.expect_primary(parse).primary(error("42P05"), FAILED).expect_client(error("42P05"), FAILED)
    fetches(fetches(talk, Q("rollback to a"), (done("ROLLBACK"), T)))
    talk.cuts()


def test_a_fetch_that_is_prepared_by_name_reads_where_the_cursor_is():
    """What it gives is its cursor's: the primary, where there is none of its name, is not asked of it."""
    parse = build.parse("s", "fetch 5 from c") + S
    talk = declared().client(parse).expect_primary(OPENING, SNAPSHOT, S).primary(OPENED, SHOWN, T)
    talk.expect_primary(parse).primary(PARSED, T).expect_client(PARSED, T)
    use = build.bind("", "s") + message(b"D", b"P\0") + build.execute() + S
    answer = (BOUND, message(b"T", b"\0\0"), *ANSWER)
    talk.client(use).expect_replica(build.parse("s", "fetch 5 from c"), use).replica(PARSED, *answer)
    fetches(talk.expect_client(*answer).expect_primary(), use, answer)
    talk.cuts()


def test_a_setting_that_is_made_beside_a_cursor_counts_for_its_rows():
    """The primary is asked in the transaction, whose own settings are among what it says: it is asked again behind."""
    setting = Q("set x = 1")
    talk = fetches(declared()).client(setting).expect_primary(OPENING, SNAPSHOT, S).primary(OPENED, SHOWN, T)
    talk.expect_primary(setting).primary(done("SET"), T).expect_client(done("SET"), T)
    settings_in = settings(("TimeZone", "Asia/Tokyo"))[:-len(I)] + T
    talk.client(FETCH).expect_primary(question()).expect_replica().primary(settings_in)
    talk.expect_replica(give(TOKYO).data, FETCH).replica(given(3), *ANSWER).expect_client(*ANSWER)
    talk.client(Q("commit")).expect_primary(Q("commit")).primary(done("COMMIT"), I).replica(done("COMMIT"), I)
    talk.client(Q("select 2")).expect_primary(question())
    talk.cuts()


def test_what_is_parsed_beside_a_cursor_is_parsed_in_the_transaction():
    parse, use = build.parse("s", "select 1") + S, build.bind("", "s") + build.execute() + S
    talk = declared().client(parse).expect_primary(OPENING, SNAPSHOT, S).primary(OPENED, SHOWN, T).expect_primary(parse)
    talk.primary(error("42601"), FAILED).expect_client(error("42601"), FAILED)
    talk.client(use).expect_primary(use).expect_replica().primary(error("26000"), FAILED)
    talk.expect_client(error("26000"), FAILED).client(Q("rollback")).expect_primary(run("rollback").data, S)
    talk.cuts()


# --- portals of the protocol -----------------------------------------------------------------------------------------

def bound(name: str = "p", sql: str = "select 1", rows: int = 5) -> bytes:
    return build.parse("", sql) + build.bind(name) + build.describe(b"P", name) + build.execute(name, rows) + S


def suspended(begin: str = "begin read only") -> Talk:
    talk = begun(begin).client(bound()).expect_replica(ON_REPLICA.data, bound()).replica(OPENED, *SUSPENDED)
    return talk.expect_client(*SUSPENDED).expect_primary()


MORE = build.execute("p", 5) + S
CLOSE = message(b"C", b"Pp\0") + S


def test_a_named_portal_stays_where_it_was_bound():
    talk = fetches(suspended(), MORE, (message(b"D", b"\0\0"), message(b"s"), T))
    fetches(talk, Q("select 3"), (ROW, done("SELECT 1"), T))
    fetches(fetches(talk, MORE, (done("SELECT 0"), T)), CLOSE, (CLOSED, T))
    talk.client(Q("commit")).expect_client(done("COMMIT"), I).expect_primary()
    talk.cuts()


def test_in_a_transaction_that_may_write_it_is_the_primarys():
    begun("begin").client(bound()).expect_primary(run("begin isolation level read committed").data, bound()).cuts()


def test_what_needs_the_primary_runs_beside_a_portal():
    talk = fetches(beside(suspended()), MORE, (message(b"D", b"\0\0"), message(b"s"), T))
    talk.client(Q("commit")).expect_primary(Q("commit")).expect_replica(END_ON_REPLICA)
    talk.cuts()


def test_a_batch_that_closes_one_portal_and_binds_another():
    """As pgjdbc does it, ahead of its next statement; and where that is the primary's."""
    following = CLOSE[:-len(S)] + bound("q", "select 2")
    talk = fetches(suspended(), following, (CLOSED, *SUSPENDED))
    fetches(talk, build.execute("q", 5) + S, (done("SELECT 0"), T)).cuts()
    write = CLOSE[:-len(S)] + batch("insert into t values (1)")
    talk = suspended().client(write).expect_primary(OPENING, SNAPSHOT, write).expect_replica(END_ON_REPLICA)
    talk.cuts()


def test_a_portal_that_was_closed_on_the_primary_is_closed_where_it_is():
    write = CLOSE[:-len(S)] + batch("show x")
    talk = suspended().client(DECLARE).replica(done("DECLARE CURSOR"), T).expect_client(done("DECLARE CURSOR"), T)
    talk.do(lambda: talk.sides.default.heard.clear()).client(write).expect_primary(OPENING, SNAPSHOT, S)
    talk.primary(OPENED, SHOWN, T).expect_primary(write).expect_replica()
    talk.primary(CLOSED, PARSED, BOUND, ROW, done("SHOW"), T).client(FETCH)
    talk.expect_replica(CLOSE[:-len(S)], FETCH).replica(CLOSED, *ANSWER)
    talk.expect_client(CLOSED, PARSED, BOUND, ROW, done("SHOW"), T, *ANSWER)
    talk.cuts()
