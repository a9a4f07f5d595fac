"""A session that loses its primary: what it keeps, what waits, what it is told, and what the next one is given."""

from __future__ import annotations

from time import sleep

import pytest

from pgsplit.classify.classifier import Classifier
from pgsplit.session.session import NewPrimary
from pgsplit.split.requests import PRIMARY_AWAY_ERROR
from pgsplit.split.settings import CLOSE_OWN, Settings, give, run
from pgsplit.split.transaction import END_ON_REPLICA, ON_REPLICA, OPENING
from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.session.talk import BOUND, FAILED, PARSED, READ_COMMITTED, ROW, I, Q, S, Side, T, Talk, X, batch, done, error
from tests.session.test_state_conversations import CLOSED, DESCRIPTION, LATE, NOTHING, PARAMETERS, PARSE, given, row

READ, WRITE = Q("select 1"), Q("insert into t values (1)")
ANSWER = (ROW, done("SELECT 1"), I)
WRITTEN = (done("INSERT 0 1"), I)
SHUTDOWN, CRASH = error("57P01", "FATAL"), error("57P02", "FATAL")
OWN_OPTION = (PARSED, BOUND, row("x"), done("SELECT 1"), CLOSED)      # to a set_config of pgsplit's own
IN_FLIGHT = "What it was doing may or may not have taken effect."


def talk(**over: object) -> Talk:
    return Talk(outlives=True, **over)


def lost(told: Talk, why: str = "closed the connection") -> Talk:
    return told.ends("additional", why).do(lambda: None)


def fatal(why: str, detail: str | None = None) -> bytes:
    return build.error_response("FATAL", "08006", f"the connection to the primary was lost: it {why}", detail=detail)


def test_an_idle_session_waits_with_what_needs_a_primary():
    told = lost(talk()).client(WRITE).do(lambda: None).expect_client()
    told.do(lambda: check(told.wanted == 1))
    told.new_primary().expect_primary(WRITE).primary(*WRITTEN).expect_client(*WRITTEN)
    told.cuts()
    assert told.primaries_lost == [("it closed the connection", b"")]


def check(holds: bool) -> None:
    assert holds


def test_without_the_setting_it_ends():
    told = Talk().ends("additional")
    told.run()
    assert bytes(told.sides.client.heard) == fatal("closed the connection")


def test_reads_go_on_at_the_replica():
    told = lost(talk()).client(READ).expect_replica(READ).replica(*ANSWER).expect_client(*ANSWER)
    told.cuts()
    assert told.wanted == 0


def test_a_begin_is_answered_and_its_reads_run():
    told = lost(talk(transactions="until_write")).client(Q("begin")).expect_client(done("BEGIN"), T)
    told.client(WRITE).do(lambda: None).expect_client()
    told.new_primary().expect_primary(OPENING.data, WRITE)
    told.cuts()


def test_it_is_given_the_state_of_the_one_before():
    """A setting that its text tells, a named statement whose description is known, the unnamed one."""
    told = talk().client(Q("set known.a = '1'")).primary(done("SET"), I)
    told.client(PARSE + build.describe(b"S", "s") + S).primary(PARSED, PARAMETERS, DESCRIPTION, I)
    told.client(build.parse("", "insert into t values (1)") + S).primary(PARSED, I)
    lost(told).client(build.bind() + build.execute() + S).do(lambda: told.sides.client.heard.clear())
    told.new_primary(given(3), I, PARSED, PARAMETERS, DESCRIPTION, I, PARSED, I)
    told.expect_primary(build.bind() + build.execute() + S).primary(BOUND, *WRITTEN).expect_client(BOUND, *WRITTEN)
    told.do(lambda: check(told.given_to_primary == give(Settings(((b"known.a", b"1"),))).data + S + LATE + S
                          + build.parse("", "insert into t values (1)") + S))
    told.run()


def test_a_statement_that_asks_for_an_option_of_pgsplits_own_can_be_parsed_there():
    show = build.parse("s", "show pgsplit.last_route") + build.describe(b"S", "s") + S
    told = talk().client(show).primary(*OWN_OPTION, PARSED, NOTHING, DESCRIPTION, I)
    lost(told).client(WRITE).do(lambda: told.sides.client.heard.clear())
    told.new_primary(given(3), I, PARSED, NOTHING, DESCRIPTION, I).expect_primary(WRITE)
    told.do(lambda: check(told.given_to_primary.startswith(give(Settings(((b"pgsplit.last_route", b""),))).data)))
    told.primary(*WRITTEN).expect_client(*WRITTEN)
    told.run()


@pytest.mark.parametrize("answers, words", [
    ((PARSED, BOUND, message(b"n"), I), "answers otherwise than the one before"),
    ((PARSED, BOUND, error("42704"), I), "42704: text"), ((PARSED, BOUND, I), "has left something out"),
])
def test_a_state_that_it_does_not_take_ends_the_session(answers, words):
    told = talk().client(Q("set known.a = '1'")).primary(done("SET"), I)
    lost(told).client(WRITE).do(lambda: told.sides.client.heard.clear()).new_primary(*answers)
    told.run()
    assert words.encode() in bytes(told.sides.client.heard)


# --- prepared statements that the next primary does not take --------------------------------------------------------

MADE = (PARSED, PARAMETERS, DESCRIPTION, I)
MAKING = build.close(b"S", "s") + LATE + S       # as a question of pgsplit's own
USE = build.bind("", "s") + build.execute() + S
GONE = error("42P01")
PREPARE = "prepare s (int) as select $1"
AGAIN = CLOSE_OWN.data + run(PREPARE).data


def unmade(*answers: bytes, make: bytes = PARSE + build.describe(b"S", "s") + S, made: tuple[bytes, ...] = MADE,
           **over: object) -> Talk:
    """A session whose next primary has answered *answers* when it was to prepare the statement `s`."""
    told = talk(**over)
    if make[:1] == b"Q":
        told.classify = Classifier(100, 65536)
    told.client(make).primary(*made).client(WRITE).primary(*WRITTEN)
    told.do(lambda: told.sides.client.heard.clear())
    lost(told).client(WRITE).new_primary(*(answers or (GONE, I))).expect_primary(WRITE).primary(*WRITTEN)
    return told.expect_client(*WRITTEN)


@pytest.mark.parametrize("use", [USE, build.describe(b"S", "s") + S], ids=["bind", "describe"])
def test_a_statement_whose_table_is_gone_is_its_users_error(use):
    """Each time anew, as on a direct connection; and the table may come back."""
    told = unmade().client(use).expect_primary(MAKING).primary(CLOSED, GONE, I).expect_client(GONE, I)
    told.client(READ).expect_replica(READ).replica(*ANSWER).expect_client(*ANSWER)
    told.client(use).expect_primary(MAKING).expect_client().primary(CLOSED, *MADE)
    (told.expect_replica(LATE, use) if use == USE else told.expect_primary(use)).cuts()


@pytest.mark.parametrize("answers", [
    (PARSED, PARAMETERS, message(b"n"), I), (PARSED, NOTHING, DESCRIPTION, I),
    (PARSED, PARAMETERS, message(b"T", b"\0\1a\0" + bytes(6) + b"\0\0\0\x17" + bytes(8)), I),
    (PARSED, PARAMETERS, message(b"T", b"\0\1b\0" + bytes(18)), I),
], ids=["no result", "parameters", "type", "name"])
def test_one_that_is_another_now_is_told_so(answers):
    changed = build.error_response("ERROR", "0A000", "cached plan must not change result type")
    told = unmade(*answers).client(USE).expect_primary(MAKING).primary(CLOSED, *answers).expect_client(changed, I)
    again = build.close(b"S", "s") + PARSE + USE
    told.client(again).expect_primary(again).cuts()


def test_the_table_may_be_another_one():
    answers = (PARSED, PARAMETERS, message(b"T", b"\0\1a\0" + b"\0\1\2\3\0\1" + bytes(12)), I)
    told = unmade(*answers).client(USE).expect_primary().expect_replica(LATE, USE)
    told.cuts()


def test_what_the_server_leaves_out_is_not_made():
    unmade(PARSED, I).client(USE).expect_primary(MAKING).cuts()


def test_one_of_others_is_not_made():
    other = build.parse("t", "insert into t values (1)")
    told = talk().client(PARSE + S, other + S).primary(PARSED, I, PARSED, I)
    told.do(lambda: [side.heard.clear() for side in told._all.values()])
    lost(told).client(WRITE).new_primary(GONE, I, PARSED, I).expect_primary(WRITE).primary(*WRITTEN)
    told.expect_client(*WRITTEN)
    use = build.bind("", "t") + build.execute() + S
    told.client(use).expect_primary(use).primary(BOUND, *WRITTEN).expect_client(BOUND, *WRITTEN)
    told.client(USE).expect_primary(build.close(b"S", "s") + PARSE + S).primary(CLOSED, GONE, I)
    told.expect_client(GONE, I)
    told.cuts()


def test_its_error_fails_the_transaction_that_it_is_used_in():
    told = unmade(transactions="until_write").client(Q("begin"), USE).expect_primary(MAKING)
    told.expect_client(done("BEGIN"), T).primary(CLOSED, GONE, I).expect_client(GONE, FAILED)
    told.client(Q("rollback")).expect_client(done("ROLLBACK"), I).expect_primary()
    told.client(Q("begin"), WRITE).expect_client(done("BEGIN"), T).expect_primary(OPENING.data, WRITE)
    told.primary(OPENED, done("INSERT 0 1"), T).expect_client(done("INSERT 0 1"), T)
    told.client(USE).expect_primary(MAKING).primary(CLOSED, GONE, FAILED).expect_client(GONE, FAILED)
    told.client(Q("rollback")).expect_primary(Q("rollback"))
    told.run()


def test_the_transaction_that_it_is_used_in_is_opened_first_where_its_stage_is_set():
    """The search_path may decide whether it can be made."""
    local = "set local app.t = '7'"
    told = unmade(transactions="until_write").client(Q("begin"), Q(local)).replica(OPENED, done("SET"), T)
    told.expect_client(done("BEGIN"), T, done("SET"), T)
    told.client(USE).expect_primary(OPENING.data, run(local).data, S)
    told.primary(OPENED, PARSED, BOUND, done("SET"), CLOSED, T).expect_primary(MAKING)
    told.do(lambda: told.sides.default.heard.clear()).primary(CLOSED, *MADE[:3], T).expect_replica(LATE, USE)
    told.replica(*MADE[:3], BOUND, *INSIDE).expect_client(BOUND, *INSIDE)
    told.client(WRITE).expect_primary(run("select", row=True).data, WRITE)
    told.run()


def test_a_batch_of_which_only_its_beginning_has_come():
    told = unmade().client(build.bind("", "s") + build.describe() + message(b"H")).expect_primary(MAKING)
    told.primary(CLOSED, GONE, I).expect_client(GONE).client(build.execute()).expect_client().client(S)
    told.expect_client(I).client(WRITE).expect_primary(WRITE)
    told.run()


def test_what_is_made_with_prepare_is_made_so_again():
    """Its types are in its text."""
    execute = Q("execute s (1)")
    told = unmade(CLOSED, PARSED, BOUND, GONE, I, make=Q(PREPARE), made=(done("PREPARE"), I))
    told.do(lambda: check(told.given_to_primary == AGAIN + S))
    told.client(execute).expect_primary(CLOSE_OWN.data, build.close(b"S", "s"), AGAIN, S)
    told.primary(CLOSED, CLOSED, CLOSED, PARSED, BOUND, GONE, I).expect_client(GONE, I)
    told.client(execute).expect_primary(CLOSE_OWN.data, build.close(b"S", "s"), AGAIN, S)
    told.primary(CLOSED, CLOSED, CLOSED, PARSED, BOUND, done("PREPARE"), CLOSED, I)
    told.expect_primary(build.describe(b"S", "s") + S).primary(PARAMETERS, DESCRIPTION, I)
    told.expect_replica(LATE, execute).expect_client()
    told.run()


def test_it_is_there_for_deallocate():
    leave = Q("deallocate s")
    told = unmade(GONE, I, make=Q(PREPARE), made=(done("PREPARE"), I)).client(leave)
    empty = build.close(b"S", "s") + build.parse("s", "")
    told.expect_primary(CLOSE_OWN.data, empty, leave)
    told.primary(CLOSED, CLOSED, PARSED, error("53200"), I).expect_client(error("53200"), I)
    told.client(leave).expect_primary(empty, leave).primary(CLOSED, PARSED, done("DEALLOCATE"), I)
    told.expect_client(done("DEALLOCATE"), I).client(USE).expect_primary(USE)
    told.run()


def test_an_unnamed_one_is_put_ahead_of_what_uses_it():
    parse, use = build.parse("", "insert into t values (1)"), build.bind() + build.execute() + S
    told = talk().client(parse + S).primary(PARSED, I).do(lambda: told.sides.client.heard.clear())
    lost(told).client(use).new_primary(GONE, I).expect_primary(parse, use).primary(GONE, I).expect_client(GONE, I)
    told.cuts()


def test_an_unnamed_one_that_a_lost_replica_had_is_put_ahead_too():
    """The primary may have an older one, which is not meant."""
    told = talk().client(build.parse("", "insert into t values (1)") + S).primary(PARSED, I)
    whole = build.parse("", "select 1") + build.bind() + build.execute() + S
    told.client(whole).replica(PARSED, BOUND, *ANSWER).ends("default").do(lambda: None)
    told.do(lambda: [side.heard.clear() for side in told._all.values()])
    use = build.bind() + build.execute() + S
    told.client(use).expect_primary(build.parse("", "select 1"), use)
    told.run()


def test_the_next_primary_is_asked_for_all_of_them_again():
    told = unmade()
    lost(told).client(WRITE).new_primary(*MADE).expect_primary(WRITE).primary(*WRITTEN).expect_client(*WRITTEN)
    told.client(USE).expect_replica(LATE, USE).expect_primary()
    told.run()


def test_parameters_that_differ_are_reported():
    told = lost(talk()).client(WRITE).do(lambda: None)
    told.new_primary(server_version="17.1", TimeZone="UTC")
    told.expect_client(build.parameter_status("server_version", "17.1"), build.parameter_status("TimeZone", "UTC"))
    told.expect_primary(WRITE).cuts()


def test_a_servers_fatal_is_held_back_until_it_is_known_whose_end_it_is():
    told = talk().primary(SHUTDOWN).ends("additional").client(READ).do(lambda: None)
    told.expect_client().expect_replica()
    told.do(lambda: told.session.go_on()).expect_replica(READ).replica(*ANSWER).expect_client(*ANSWER)
    told.cuts()
    assert [words for _, words in told.primaries_lost] == [SHUTDOWN]


def test_an_administrators_word_is_passed_on():
    told = talk().primary(SHUTDOWN).ends("additional").client(READ).expect_client()
    told.do(lambda: told.session.say_goodbye(SHUTDOWN)).expect_client(SHUTDOWN).expect_replica(X)
    told.run()


def test_a_replicas_answer_is_not_passed_on_meanwhile():
    told = talk().client(READ).expect_replica(READ).primary(SHUTDOWN).ends("additional").replica(*ANSWER)
    told.expect_client().do(lambda: told.session.say_goodbye(SHUTDOWN)).expect_client(SHUTDOWN)
    told.run()


@pytest.mark.parametrize("words", [error("57P05", "FATAL"), error("25P03", "FATAL"), error("XX000", "FATAL")])
def test_other_fatals_end_the_session(words):
    told = talk().primary(words).ends("additional")
    told.run()
    assert bytes(told.sides.client.heard) == words


def test_a_write_under_way_is_not_sent_again():
    told = talk().client(WRITE).expect_primary(WRITE).ends("additional")
    told.run()
    assert bytes(told.sides.client.heard) == fatal("closed the connection", IN_FLIGHT)
    assert told.primaries_lost == []


def test_a_read_under_way_is_asked_again():
    told = talk().do(lambda: setattr(told, "stale", "no_fresh_replica")).client(READ).expect_primary(READ)
    lost(told).expect_client().new_primary().expect_primary(READ).primary(*ANSWER).expect_client(*ANSWER)
    told.cuts()


def test_a_show_under_way_is_asked_again_behind_the_sessions_state():
    show = Q("show known.a")
    told = talk().client(Q("set known.a = '1'")).primary(done("SET"), I)
    told.do(lambda: (told.sides.client.heard.clear(), told.sides.additional.heard.clear()))
    lost(told.client(show).expect_primary(show)).expect_client().new_primary(given(3), I).expect_primary(show)
    told.do(lambda: check(told.given_to_primary == give(Settings(((b"known.a", b"1"),))).data + S))
    told.primary(row("1"), done("SHOW"), I).expect_client(row("1"), done("SHOW"), I)
    told.cuts()


def test_an_error_that_only_has_the_sqlstate_of_a_servers_end_is_none():
    """As a function may raise it."""
    raised = error("57P01")
    told = talk().do(lambda: setattr(told, "stale", "no_fresh_replica")).client(READ).expect_primary(READ)
    told.primary(raised, I).expect_client(raised, I).client(WRITE).expect_primary(WRITE)
    told.cuts()
    assert told.primaries_lost == []


def test_two_reads_under_way_are_asked_again_in_their_order():
    other = Q("select 2")
    told = talk().do(lambda: setattr(told, "stale", "no_fresh_replica")).client(READ, other)
    told.expect_primary(READ, other)
    lost(told).client(Q("select 3")).do(lambda: None).new_primary().expect_primary(READ, other, Q("select 3"))
    told.primary(*ANSWER, *ANSWER, *ANSWER).expect_client(*ANSWER, *ANSWER, *ANSWER)
    told.run()


def test_a_read_whose_answer_has_begun_is_not():
    told = talk().do(lambda: setattr(told, "stale", "no_fresh_replica")).client(READ).primary(ROW)
    told.expect_client(ROW).ends("additional")
    told.run()
    assert bytes(told.sides.client.heard) == fatal("closed the connection", IN_FLIGHT)


def test_a_transaction_ends_the_session():
    told = talk().client(Q("begin")).primary(done("BEGIN"), T).do(lambda: told.sides.client.heard.clear())
    told.ends("additional")
    told.run()
    assert bytes(told.sides.client.heard) == fatal("closed the connection", IN_FLIGHT)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("words", [(), (SHUTDOWN,)])
def test_a_transaction_that_is_lost_is_an_error(end, words):
    told = talk(aborts=True).client(Q("begin")).primary(done("BEGIN"), T)
    told.do(lambda: told.sides.client.heard.clear()).primary(*words) if words else told.do(
        lambda: told.sides.client.heard.clear())
    lost(told).do(lambda: told.session.go_on()).client(READ).do(lambda: check(b"C40001\0" in told.sides.client.heard))
    told.do(lambda: told.sides.client.heard.clear()).client(Q("rollback to a"))
    told.do(lambda: check(b"C25P02\0" in told.sides.client.heard)).do(lambda: told.sides.client.heard.clear())
    told.client(Q(end)).expect_client(done("ROLLBACK"), I)
    told.client(READ).expect_replica(READ).replica(*ANSWER).expect_client(*ANSWER).expect_primary(Q("begin"))
    told.run()


@pytest.mark.parametrize("end, answer", [("commit", b"C40001\0"), ("rollback", done("ROLLBACK"))])
def test_a_commit_of_it_does_not_seem_to_have_gone_well(end, answer):
    """A driver looks at errors, not at the tag that says ROLLBACK."""
    for ending in (Q(end), batch(end)):
        told = talk(aborts=True).client(Q("begin"), WRITE).primary(done("BEGIN"), T).primary(done("INSERT 0 1"), T)
        lost(told.do(lambda told=told: told.sides.client.heard.clear())).client(ending)
        told.do(lambda told=told: check(answer in told.sides.client.heard))
        told.do(lambda told=told: check(told.sides.client.heard.endswith(I)))
        told.do(lambda told=told: told.sides.client.heard.clear())
        told.client(READ).expect_replica(READ).replica(*ANSWER).expect_client(*ANSWER)
        told.run()


def test_what_is_not_known_of_the_session_ends_it():
    told = talk().client(Q("select nextval('s')")).primary(*ANSWER).do(lambda: told.sides.client.heard.clear())
    told.ends("additional")
    told.run()
    heard = bytes(told.sides.client.heard)
    assert heard.startswith(b"E") and b"It cannot go on with another connection: the session has" in heard


def test_what_waits_too_long_gets_an_error():
    told = lost(talk(patience=0.0)).client(WRITE).do(lambda: None).do(lambda: None)
    told.expect_client(PRIMARY_AWAY_ERROR, I).client(READ).expect_replica(READ)
    told.cuts()


@pytest.mark.parametrize("timeout, waits", [("1ms", False), ("0", True), ("1h", True)])
def test_statement_timeout_counts_the_wait(timeout, waits):
    told = talk(defaults=READ_COMMITTED._replace(statement_timeout=timeout))
    told = lost(told).client(WRITE).do(lambda: None).do(lambda: sleep(0.01)).do(lambda: None)
    told.do(lambda: check((b"C57014\0" in told.sides.client.heard) is not waits)).run()


def test_the_sessions_own_statement_timeout_counts_before_the_logins():
    told = talk(defaults=READ_COMMITTED._replace(statement_timeout="1h"))
    own = Settings(((b"statement_timeout", b"1ms"),))
    told.do(lambda: setattr(told.session.splitter._state, "settings", own))
    lost(told).client(WRITE).do(lambda: None).do(lambda: sleep(0.01)).do(lambda: None)
    told.do(lambda: check(b"C57014\0" in told.sides.client.heard)).run()


def test_a_batch_of_the_extended_protocol_that_waits_too_long():
    """Up to its Sync nothing counts, as on a server."""
    insert = build.parse("", "insert into t values (1)") + build.bind() + build.execute()
    told = lost(talk(patience=0.0)).client(insert + S).do(lambda: None).do(lambda: None)
    told.expect_client(PRIMARY_AWAY_ERROR, I).client(READ).expect_replica(READ).run()


def test_a_message_that_is_not_seen_whole_and_waits_too_long_ends_the_session():
    long = Q("insert into t values ('" + "x" * 70000 + "')")
    told = lost(talk(patience=0.0)).client(long[:65536]).do(lambda: None)
    told.run()
    assert b"SFATAL\0VFATAL\0C57P03\0" in bytes(told.sides.client.heard)


def test_a_cancel_ends_what_waits():
    told = lost(talk()).client(WRITE).do(lambda: None).do(lambda: check(told.session.cancel_waiting()))
    told.do(lambda: check(b"C57014\0" in told.sides.client.heard)).do(lambda: told.sides.client.heard.clear())
    told.client(READ).expect_replica(READ).run()


def test_a_client_that_goes_while_it_waits():
    lost(talk()).client(WRITE).ends("client").expect_replica(X).run()


def test_a_connection_that_comes_as_the_client_leaves_is_closed():
    late = Side("primary")

    def meet() -> None:
        told.sides.client.eof = "closed the connection"
        told.session.offer_primary(NewPrimary(late, told.session.splitter.restoration(), {}, None))

    told = lost(talk()).client(WRITE).do(meet)
    told.run()
    assert late.closed


def test_a_second_replica_does_not_take_the_place_of_one_that_works():
    second = Side("replica")
    told = talk().client(READ).expect_replica(READ).do(lambda: told.session.offer_replica(second)).do(lambda: None)
    told.replica(*ANSWER).expect_client(*ANSWER)
    told.run()
    assert second.closed


def test_both_are_lost():
    told = lost(talk().ends("default")).client(READ).do(lambda: None).expect_client()
    told.new_primary().expect_primary(READ).primary(*ANSWER).expect_client(*ANSWER)
    told.cuts()


def test_a_server_that_may_not_be_written_to_is_left():
    told = talk().do(lambda: told.session.cut("a former primary")).do(lambda: None).client(WRITE).do(lambda: None)
    told.expect_primary().new_primary().expect_primary(WRITE).run()
    told = talk().client(WRITE).do(lambda: told.session.cut("a former primary"))
    told.run()
    assert b"a former primary" in bytes(told.sides.client.heard)


def test_a_transaction_that_has_failed_there_is_lost_as_it_is():
    told = talk(aborts=True).client(Q("begin")).primary(done("BEGIN"), T).client(WRITE).primary(error("23505"), FAILED)
    lost(told.do(lambda: told.sides.client.heard.clear()))
    told.client(READ).do(lambda: check(b"C25P02\0" in told.sides.client.heard))
    told.do(lambda: told.sides.client.heard.clear())
    told.client(Q("commit")).expect_client(done("ROLLBACK"), I).run()


# --- transactions whose opening was under way -----------------------------------------------------------------------

INSIDE = (ROW, done("SELECT 1"), T)
OPENED = PARSED + BOUND + done("BEGIN") + CLOSED
SNAPSHOT = PARSED + BOUND + message(b"D", b"\0\0") + done("SELECT 1") + CLOSED
BEGIN_AND_READ = build.parse("", "begin") + build.bind() + build.execute() + batch("select 1")
BEGUN_AND_READ = (PARSED, BOUND, done("BEGIN"), PARSED, BOUND, *INSIDE)


def stale(told: Talk) -> Talk:
    return told.do(lambda: setattr(told, "stale", "no_fresh_replica"))


def begun(**over: object) -> Talk:
    """A transaction that no server knows of; the replica is not fresh, so that its first read is the primary's."""
    told = stale(talk(transactions="until_write", **over))
    return told.client(Q("begin")).expect_client(done("BEGIN"), T).expect_primary()


def reading() -> Talk:
    """One that has read on the replica, which is not fresh any more."""
    told = talk(transactions="until_write").do(lambda: setattr(told, "stale", ""))
    told.client(Q("begin"), READ).expect_client(done("BEGIN"), T).expect_replica(ON_REPLICA.data, READ)
    return stale(told.replica(OPENED, *INSIDE).expect_client(*INSIDE))


def ends_with(told: Talk, detail: str | None = IN_FLIGHT) -> None:
    told.do(lambda: told.sides.client.heard.clear()).ends("additional")
    told.run()
    assert bytes(told.sides.client.heard) == fatal("closed the connection", detail)


@pytest.mark.parametrize("read", [READ, batch("select 1"), Q("show known.a")], ids=["simple", "extended", "show"])
@pytest.mark.parametrize("opened", [b"", PARSED, OPENED], ids=["before it", "in the midst", "behind it"])
def test_the_first_read_of_a_transaction_is_asked_again_and_its_begin_with_it(read, opened):
    told = begun().client(read).expect_primary(OPENING.data, read).primary(opened)
    lost(told).expect_client().do(lambda: check(told.wanted == 1))
    told.new_primary().expect_primary(OPENING.data, read).primary(OPENED, *INSIDE).expect_client(*INSIDE)
    told.client(WRITE).expect_primary(WRITE).primary(done("INSERT 0 1"), T).expect_client(done("INSERT 0 1"), T)
    told.client(Q("commit")).expect_primary(Q("commit")).primary(done("COMMIT"), I).expect_client(done("COMMIT"), I)
    told.cuts()


def test_it_may_be_asked_of_the_replica():
    told = begun().client(READ).expect_primary(OPENING.data, READ).do(lambda: setattr(told, "stale", ""))
    lost(told).expect_replica(ON_REPLICA.data, READ).replica(OPENED, *INSIDE).expect_client(*INSIDE)
    told.client(Q("commit")).expect_client(done("COMMIT"), I)
    told.do(lambda: check(told.wanted == 0)).run()


def test_a_read_behind_others_on_the_replica_is_asked_again():
    again = (OPENING.data, run("select", row=True).data, READ)
    told = reading().client(READ).expect_primary(*again)
    told.expect_replica(END_ON_REPLICA).replica(done("COMMIT"), I)
    lost(told).expect_client().new_primary().expect_primary(*again)
    told.primary(OPENED, SNAPSHOT, *INSIDE).expect_client(*INSIDE)
    told.run()


def test_begin_and_read_in_one_batch_are_asked_again():
    told = stale(talk(transactions="until_write")).client(BEGIN_AND_READ).expect_primary(BEGIN_AND_READ)
    lost(told).expect_client().new_primary().expect_primary(BEGIN_AND_READ)
    told.primary(*BEGUN_AND_READ).expect_client(*BEGUN_AND_READ)
    told.client(Q("commit")).expect_primary(Q("commit"))
    told.cuts()


@pytest.mark.parametrize("begin", ["begin isolation level serializable", "begin isolation level repeatable read"])
def test_a_begin_that_is_not_held_is_asked_again_with_what_is_behind_it(begin):
    told = talk(transactions="until_write").client(Q(begin), READ).expect_primary(Q(begin), READ)
    lost(told).expect_client().new_primary().expect_primary(Q(begin), READ)
    told.primary(done("BEGIN"), T).primary(*INSIDE).expect_client(done("BEGIN"), T, *INSIDE)
    told.cuts()


def test_two_reads_behind_it_are_asked_again_in_their_order():
    other = Q("select 2")
    told = begun().client(READ, other).expect_primary(OPENING.data, READ, other)
    lost(told).expect_client().new_primary().expect_primary(OPENING.data, READ, other)
    told.primary(OPENED, *INSIDE, *INSIDE).expect_client(*INSIDE, *INSIDE)
    told.run()


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_what_has_set_its_stage_is_told_again(answered):
    """Lost while the question is under way that tells the primary of it, or while the read is behind that."""
    local = Q("set local app.t = '7'")
    answers = (OPENED, PARSED + BOUND + done("SET") + CLOSED + T)
    told = talk(transactions="until_write").do(lambda: setattr(told, "stale", "")).client(Q("begin"), local)
    told.replica(OPENED, done("SET"), T).expect_client(done("BEGIN"), T, done("SET"), T)
    stale(told).client(READ).expect_primary(OPENING.data, run("set local app.t = '7'").data, S)
    told.primary(*answers[:answered]).expect_primary(*[READ] * (answered == 2))
    lost(told).expect_client().new_primary(*(given(3), I) * (answered == 2))     # that it has touched the option
    told.do(lambda: told.sides.default.heard.clear())
    told.expect_primary(OPENING.data, run("set local app.t = '7'").data, S).primary(*answers).expect_primary(READ)
    told.primary(*INSIDE).expect_client(*INSIDE)
    told.run()


def test_a_servers_end_ahead_of_the_opening_is_held_back():
    told = begun().client(READ).expect_primary(OPENING.data, READ).primary(SHUTDOWN).ends("additional").do(lambda: None)
    told.expect_client().do(lambda: told.session.go_on()).new_primary().expect_primary(OPENING.data, READ)
    told.cuts()
    assert [words for _, words in told.primaries_lost] == [SHUTDOWN]


def test_a_first_read_whose_answer_has_begun_is_not_asked_again():
    ends_with(begun().client(READ).primary(OPENED, ROW).expect_client(ROW))


def test_a_first_read_that_has_failed_is_not_asked_again():
    ends_with(begun().client(READ).primary(OPENED, error("22012")).expect_client(error("22012")))


@pytest.mark.parametrize("batches", [(WRITE,), (READ, WRITE), (READ, Q("commit")), (Q("select nextval('s')"),)],
                         ids=["write", "read and write", "read and commit", "nextval"])
def test_what_may_have_an_effect_is_not_asked_again_with_its_begin(batches):
    ends_with(begun().client(*batches).expect_primary(OPENING.data, *batches))


def test_a_second_read_is_not_asked_again():
    told = begun().client(READ).primary(OPENED, *INSIDE).client(READ)
    ends_with(told.expect_primary(OPENING.data, READ, READ))


def test_a_transaction_that_the_primary_has_had_from_its_begin_on_is_not_opened_twice():
    """`hold_begin: false` promises the time of the BEGIN."""
    told = stale(talk(transactions="until_write", holds=False)).client(Q("begin")).primary(done("BEGIN"), T)
    ends_with(told.client(READ).expect_primary(Q("begin"), READ))


def test_a_question_about_a_statement_is_asked_again():
    told = talk().client(PARSE + S).primary(PARSED, I).expect_client(PARSED, I).expect_primary(PARSE + S)
    use, describe = build.bind("", "s") + build.execute() + S, build.describe(b"S", "s") + S
    lost(told.client(use).expect_primary(describe)).new_primary(PARSED, I).expect_primary(describe)
    told.primary(PARAMETERS, DESCRIPTION, I).expect_replica(LATE, use).expect_client()
    told.cuts()


def test_what_statements_give_is_asked_for_while_the_session_idles(monkeypatch):
    """Else nobody could tell whether the next primary's give the same."""
    monkeypatch.setattr("pgsplit.session.session.SETTLE_AFTER", 0.0)
    told = talk().client(PARSE + S).primary(PARSED, I).client(build.parse("t", "insert into t values (1)") + S)
    told.primary(PARSED, I).do(lambda: [side.heard.clear() for side in told._all.values()]).do(lambda: None)
    told.expect_primary(build.describe(b"S", "s"), build.describe(b"S", "t") + S)
    told.primary(PARAMETERS, DESCRIPTION, NOTHING, message(b"n"), I).expect_client().do(lambda: None).expect_primary()
    lost(told).client(WRITE).do(lambda: None).new_primary(*MADE, PARSED, NOTHING, message(b"n"), I)
    told.expect_primary(WRITE).do(lambda: check(told.given_to_primary.startswith(LATE)))
    told.run()


def test_one_that_cannot_be_described_keeps_the_others_waiting_for_a_moment(monkeypatch):
    monkeypatch.setattr("pgsplit.session.session.SETTLE_AFTER", 0.0)
    told = talk().client(PARSE + S, build.parse("t", "insert into t values (1)") + S).primary(PARSED, I, PARSED, I)
    told.do(lambda: [side.heard.clear() for side in told._all.values()]).do(lambda: None)
    told.expect_primary(build.describe(b"S", "s"), build.describe(b"S", "t") + S).primary(GONE, I).do(lambda: None)
    told.expect_primary(build.describe(b"S", "t") + S).primary(NOTHING, message(b"n"), I).do(lambda: None)
    told.expect_primary()
    told.run()


def test_in_a_batch_whose_beginning_has_left_the_server_is_asked():
    start = build.parse("", "insert into t values (1)") + build.bind() + build.execute()
    told = unmade().client(start + build.FLUSH).expect_primary(start, build.FLUSH).client(USE).expect_primary(USE)
    told.primary(PARSED, BOUND, done("INSERT 0 1"), error("26000"), I)
    told.expect_client(PARSED, BOUND, done("INSERT 0 1"), error("26000"), I)
    told.run()
