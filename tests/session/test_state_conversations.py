"""One session on two servers, as conversations: settings, prepared statements, and pgsplit's own questions."""

from __future__ import annotations

import struct

import pytest

from pgsplit.split.settings import Settings, give
from pgsplit.split.state_query import state_query
from pgsplit.wire import build
from pgsplit.wire.build import message

from .talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, batch, done, error

CLOSED = message(b"3")
NO_DATA = message(b"n")
DESCRIPTION = message(b"T", b"\0\1a\0" + bytes(18))
INT4 = struct.pack(">HI", 1, 23)
PARAMETERS = message(b"t", INT4)
NOTHING = message(b"t", b"\0\0")


def row(*cells: str) -> bytes:
    values = b"".join(struct.pack(">I", len(cell)) + cell.encode() for cell in cells)
    return message(b"D", struct.pack(">H", len(cells)) + values)


def question(*pins: str) -> bytes:
    sql, values = state_query(pins, [], functions=False)
    return (build.parse("pgsplit", sql) + build.bind("", "pgsplit", values) + build.execute()
            + build.close(b"S", "pgsplit") + S)


def settings(*pairs: tuple[str, str], role: str = "none") -> bytes:
    """The primary's answer to the question."""
    rows = [row("s", *pair) for pair in pairs]
    return b"".join((PARSED, BOUND, *rows, row("i", "role", role), row("i", "session_authorization", "u"),
                     done("SELECT 3"), CLOSED, I))


def given(parts: int) -> bytes:
    """A replica's answer to *parts* statements put ahead, the first two of which reset everything."""
    plain = PARSED + BOUND + done("RESET") + CLOSED
    return plain * 2 + (PARSED + BOUND + row("x") + done("SELECT 1") + CLOSED) * (parts - 2)


TOKYO = Settings(((b"TimeZone", b"Asia/Tokyo"),))


def test_settings_are_asked_of_the_primary_and_given_to_the_replica_ahead_of_the_next_read():
    talk = Talk()
    talk.client(Q("set timezone = 'Asia/Tokyo'")).primary(done("SET"), I).expect_client(done("SET"), I)
    talk.expect_primary(Q("set timezone = 'Asia/Tokyo'"))
    talk.client(Q("select 1")).expect_primary(question()).expect_replica()
    talk.primary(settings(("TimeZone", "Asia/Tokyo"))).expect_client()
    talk.expect_replica(give(TOKYO).data, Q("select 1"))
    talk.replica(given(3), ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.client(Q("select 2")).expect_replica(Q("select 2")).expect_primary()
    talk.replica(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()
    assert [d.reason for d in talk.decisions] == ["session_setting", "read", "read"]


def test_settings_that_a_text_tells_are_not_asked_about():
    talk = Talk()
    talk.client(Q("set known.a = '1'")).primary(done("SET"), I).expect_primary(Q("set known.a = '1'"))
    talk.do(lambda: talk.sides.client.heard.clear())
    ahead = give(Settings(((b"known.a", b"1"),))).data
    talk.client(Q("select 1")).expect_replica(ahead, Q("select 1")).expect_primary()
    talk.replica(given(3), ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_a_reset_that_finds_nothing_to_reset_costs_nobody_anything():
    talk = Talk()
    talk.client(Q("reset all")).primary(done("RESET"), I).client(Q("select 1")).expect_replica(Q("select 1"))
    talk.expect_primary(Q("reset all"))
    talk.cuts()


def test_a_setting_that_failed_has_changed_nothing():
    talk = Talk()
    talk.client(Q("set known.a = '1'")).primary(error("22023"), I).client(Q("select 1")).expect_replica(Q("select 1"))
    talk.cuts()


A = Settings(((b"known.a", b"1"),))


def in_a_transaction(*statements: tuple[str, bytes, bytes]) -> Talk:
    """The *statements*, each with the primary's answer and status, behind a BEGIN; then nobody has heard anything."""
    talk = Talk()
    talk.client(Q("begin")).primary(done("BEGIN"), T)
    for sql, answer, status in statements:
        talk.client(Q(sql)).primary(answer, status)
    return talk.do(lambda: [side.heard.clear() for side in talk._all.values()])


SET = ("set known.a = '1'", done("SET"), T)
COMMIT = ("commit", done("COMMIT"), I)
ROLLBACK = ("rollback", done("ROLLBACK"), I)
SAVEPOINT = ("savepoint s", done("SAVEPOINT"), T)
FAILS = ("insert into t values (1/0)", error("22012"), FAILED)


def test_a_setting_in_a_transaction_is_given_to_the_replica_once_that_has_committed():
    talk = in_a_transaction(SET, COMMIT)
    talk.client(Q("select 1")).expect_replica(give(A).data, Q("select 1")).expect_primary()
    talk.replica(given(3), ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_the_last_of_several_settings_in_a_transaction_is_the_sessions():
    talk = in_a_transaction(("set known.a = '2'", done("SET"), T), SET, ("set local known.a = '3'", done("SET"), T),
                            COMMIT)
    talk.client(Q("select 1")).expect_replica(give(A).data, Q("select 1")).expect_primary()
    talk.replica(given(3), ROW, done("SELECT 1"), I)
    talk.cuts()


@pytest.mark.parametrize("ending", [
    pytest.param([SET, ROLLBACK], id="rollback"),
    pytest.param([SET, FAILS, ROLLBACK], id="rollback of a failed one"),
    pytest.param([SET, FAILS, ("commit", done("ROLLBACK"), I)], id="commit of a failed one"),
    pytest.param([SET, ("commit", error("23503"), I)], id="commit that fails"),
    pytest.param([SAVEPOINT, SET, FAILS, ("rollback to s", done("ROLLBACK"), T), COMMIT], id="behind a savepoint"),
])
def test_an_option_of_a_transaction_that_is_rolled_back_is_empty_and_nobody_is_asked(ending):
    talk = in_a_transaction(*ending)
    empty = give(Settings(((b"known.a", b""),))).data
    talk.client(Q("select 1")).expect_primary().expect_replica(empty, Q("select 1"))
    talk.replica(given(3), ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_a_setting_that_failed_in_a_transaction_needs_nothing_of_anybody():
    talk = in_a_transaction(("set known.a = '1'", error("22023"), FAILED), ROLLBACK)
    talk.client(Q("select 1")).expect_primary().expect_replica(Q("select 1"))
    talk.replica(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


@pytest.mark.parametrize("ending", [
    pytest.param([SAVEPOINT, SET, ("rollback to s", done("ROLLBACK"), T), COMMIT], id="rollback to"),
    pytest.param([SET, SAVEPOINT, COMMIT], id="savepoint"),
    pytest.param([SAVEPOINT, SET, ("release s", done("RELEASE"), T), COMMIT], id="release"),
    pytest.param([SET, ("commit and chain", done("COMMIT"), T), ROLLBACK], id="chain"),
    pytest.param([SET, ("rollback and chain", done("ROLLBACK"), T), COMMIT], id="rollback and chain"),
    pytest.param([SET, ("prepare transaction 'p'", done("PREPARE TRANSACTION"), I)], id="two phases"),
    pytest.param([SET, ("commit; begin", done("COMMIT") + done("BEGIN"), T), ROLLBACK], id="several statements"),
    pytest.param([SET, ("rollback; select 1", done("ROLLBACK") + ROW + done("SELECT 1"), I)], id="and a read"),
])
def test_a_setting_in_a_transaction_that_does_not_end_plainly_is_asked_about(ending):
    talk = in_a_transaction(*ending)
    talk.client(Q("select 1")).expect_primary(question()).expect_replica()
    talk.primary(settings()).expect_replica(Q("select 1"))
    talk.replica(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_a_role_that_the_replica_refuses_never_runs_the_batch_there():
    """The server skips the Query behind the failed statement up to the Sync that pgsplit then sends."""
    talk = Talk()
    talk.client(Q("set role x")).primary(done("SET"), I)
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    talk.client(Q("select 1")).primary(settings(role="x")).expect_primary(question())
    talk.expect_replica(give(Settings(role=b"x")).data, Q("select 1"))
    talk.replica(given(2), PARSED, error("22023")).expect_replica(S).replica(I).expect_client()
    talk.expect_primary(Q("select 1")).primary(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.client(Q("select 2")).expect_primary(Q("select 2")).expect_replica()
    talk.primary(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()
    assert [d.reason for d in talk.decisions] == ["session_setting", "read", "settings_refused",
                                                  "settings_refused"]


def test_what_was_given_in_a_batch_that_failed_is_given_again():
    talk = Talk()
    talk.client(Q("set timezone = 'Asia/Tokyo'")).primary(done("SET"), I)
    talk.client(batch("select 1/0")).primary(settings(("TimeZone", "Asia/Tokyo")))
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    talk.replica(given(3), PARSED, BOUND, error("22012"), I).expect_primary(batch("select 1/0"))
    talk.primary(PARSED, BOUND, error("22012"), I).expect_client(PARSED, BOUND, error("22012"), I)
    talk.client(Q("select 2")).expect_replica(give(TOKYO).data, Q("select 2")).expect_primary()
    talk.replica(given(3), ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_nothing_is_asked_behind_what_was_put_ahead_until_that_is_proven():
    talk = Talk()
    talk.client(Q("set timezone = 'Asia/Tokyo'")).primary(done("SET"), I)
    talk.client(batch("select 1"), batch("select 2")).primary(settings(("TimeZone", "Asia/Tokyo")))
    talk.expect_replica(give(TOKYO).data, batch("select 1"))
    talk.replica(given(3), PARSED, BOUND, ROW, done("SELECT 1"), I).expect_replica(batch("select 2"))
    talk.replica(PARSED, BOUND, ROW, done("SELECT 2"), I)
    talk.expect_client(done("SET"), I, *[PARSED, BOUND, ROW, done("SELECT 1"), I],
                       *[PARSED, BOUND, ROW, done("SELECT 2"), I])
    talk.cuts()


def test_what_the_primary_says_while_it_is_asked_is_the_clients():
    talk = Talk()
    said = message(b"A", b"\0\0\0\1chan\0\0") + build.parameter_status("TimeZone", "UTC")
    talk.client(Q("set x = 1")).primary(done("SET"), I).client(Q("select 1"))
    talk.primary(PARSED, said, BOUND, build.notice_response("NOTICE", "00000", "mine"), row("i", "role", "none"),
                 row("i", "session_authorization", "u"), done("SELECT 2"), CLOSED, I)
    talk.expect_client(done("SET"), I, said).replica(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.cuts()


def test_a_primary_that_will_not_say_keeps_the_session():
    talk = Talk()
    talk.client(Q("set x = 1")).primary(done("SET"), I).client(Q("select 1")).primary(error("42501"), I)
    talk.expect_primary(Q("set x = 1"), question(), Q("select 1")).expect_replica()
    talk.primary(ROW, done("SELECT 1"), I).expect_client(done("SET"), I, ROW, done("SELECT 1"), I)
    talk.cuts()
    assert [d.reason for d in talk.decisions] == ["session_setting", "pinned_unknown_effect"]


def test_a_fatal_while_the_primary_is_asked_ends_the_session():
    talk = Talk()
    fatal = error("57P01", "FATAL")
    talk.client(Q("set x = 1")).primary(done("SET"), I).client(Q("select 1")).primary(fatal).ends("additional")
    talk.expect_client(done("SET"), I, fatal)
    talk.run()


# --- prepared statements --------------------------------------------------------------------------------------

USE = build.bind("", "s", [b"1"]) + build.execute() + S
PARSE = build.parse("s", "select $1")
LATE = message(b"P", b"s\0select $1\0" + INT4) + build.describe(b"S", "s")


def prepared(talk: Talk) -> Talk:
    talk.client(PARSE, build.describe(b"S", "s"), S).primary(PARSED, PARAMETERS, DESCRIPTION, I)
    return talk.do(lambda: [side.heard.clear() for side in talk._all.values()])


def test_a_named_statement_is_parsed_late_on_the_replica_with_the_types_that_the_primary_resolved():
    talk = prepared(Talk())
    talk.client(USE).expect_replica(LATE, USE).expect_primary()
    talk.replica(PARSED, PARAMETERS, DESCRIPTION, BOUND, ROW, done("SELECT 1"), I)
    talk.expect_client(BOUND, ROW, done("SELECT 1"), I)
    talk.client(USE).expect_replica(USE).replica(BOUND, ROW, done("SELECT 1"), I)
    talk.expect_client(BOUND, ROW, done("SELECT 1"), I)
    talk.cuts()


def test_the_primary_is_asked_for_the_types_where_the_client_did_not_ask():
    talk = Talk()
    talk.client(PARSE, USE).primary(PARSED, BOUND, ROW, done("SELECT 1"), I)
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    talk.client(USE).expect_primary(build.describe(b"S", "s"), S).expect_replica()
    talk.primary(PARAMETERS, DESCRIPTION, I).expect_client().expect_replica(LATE, USE)
    talk.replica(PARSED, PARAMETERS, DESCRIPTION, BOUND, ROW, done("SELECT 1"), I)
    talk.expect_client(BOUND, ROW, done("SELECT 1"), I)
    talk.cuts()


def test_a_late_parse_with_another_result_is_not_the_same_statement():
    talk = prepared(Talk())
    other = message(b"T", b"\0\1b\0" + bytes(18))
    talk.client(USE).replica(PARSED, PARAMETERS, other, BOUND, ROW, done("SELECT 1"), I).expect_client()
    talk.expect_replica(LATE, USE).expect_primary(USE).primary(error("0A000"), I).expect_client(error("0A000"), I)
    talk.client(USE).expect_primary(USE).expect_replica().primary(error("0A000"), I)
    talk.cuts()
    assert talk.reasks == ["0A000"]


def test_a_late_parse_that_fails_leaves_the_answer_to_the_primary():
    talk = prepared(Talk())
    talk.client(USE).replica(error("42P01"), I).expect_primary(USE).primary(BOUND, ROW, done("SELECT 1"), I)
    talk.expect_client(BOUND, ROW, done("SELECT 1"), I)
    talk.cuts()


def test_a_statement_that_is_closed_and_parsed_again_is_closed_on_the_replica_too():
    talk = prepared(Talk())
    talk.client(USE).replica(PARSED, PARAMETERS, DESCRIPTION, BOUND, ROW, done("SELECT 1"), I)
    talk.client(build.close(b"S", "s"), build.parse("s", "select 2, $1"), build.describe(b"S", "s"), S)
    talk.primary(CLOSED, PARSED, PARAMETERS, DESCRIPTION, I)
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    late = message(b"P", b"s\0select 2, $1\0" + INT4) + build.describe(b"S", "s")
    talk.client(USE).expect_replica(build.close(b"S", "s"), late, USE)
    talk.replica(CLOSED, PARSED, PARAMETERS, DESCRIPTION, BOUND, ROW, done("SELECT 1"), I)
    talk.expect_client(BOUND, ROW, done("SELECT 1"), I)
    talk.client(USE).expect_replica(USE).replica(BOUND, ROW, done("SELECT 1"), I)
    talk.cuts()


def test_a_parse_that_the_primary_refuses_changes_nothing():
    """42P05: the name is taken, and means what it meant."""
    talk = prepared(Talk())
    talk.client(build.parse("s", "insert into t values ($1)"), S).primary(error("42P05"), I)
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    talk.client(USE).expect_replica(LATE, USE).expect_primary()
    talk.replica(PARSED, PARAMETERS, DESCRIPTION, BOUND, ROW, done("SELECT 1"), I)
    talk.cuts()


def test_what_a_pipelined_bind_means_is_known_only_behind_the_parse():
    talk = prepared(Talk())
    talk.client(build.close(b"S", "s"), build.parse("s", "insert into t values ($1)"), S, USE)
    talk.expect_replica().expect_primary(build.close(b"S", "s"), build.parse("s", "insert into t values ($1)"), S, USE)
    talk.primary(CLOSED, PARSED, I, BOUND, done("INSERT 0 1"), I)
    talk.expect_client(CLOSED, PARSED, I, BOUND, done("INSERT 0 1"), I)
    talk.client(USE).expect_primary(USE).expect_replica()
    talk.primary(BOUND, done("INSERT 0 1"), I)
    talk.cuts()
    assert talk.published >= 1


def test_an_unnamed_statement_that_was_described_before_it_is_bound():
    """pg8000's and others' way: Parse, Describe, Sync; then Bind, Execute, Sync."""
    talk = Talk()
    talk.client(build.parse("", "select $1"), build.describe(b"S"), S).primary(PARSED, PARAMETERS, DESCRIPTION, I)
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    use = build.bind("", "", [b"1"]) + build.execute() + S
    talk.client(use).expect_replica(message(b"P", b"\0select $1\0" + INT4), build.describe(b"S"), use).expect_primary()
    talk.replica(PARSED, PARAMETERS, DESCRIPTION, BOUND, ROW, done("SELECT 1"), I)
    talk.expect_client(BOUND, ROW, done("SELECT 1"), I)
    talk.cuts()


def test_a_query_elsewhere_ends_the_unnamed_statement():
    """26000, as on one server (manual 55.2.3)."""
    talk = Talk()
    talk.client(build.parse("", "insert into t values (1)"), S).primary(PARSED, I)
    talk.client(Q("select 1")).replica(ROW, done("SELECT 1"), I)
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    use = build.bind() + build.execute() + S
    talk.client(use).expect_primary(build.close(), use).primary(CLOSED, error("26000"), I)
    talk.expect_client(error("26000"), I)
    talk.cuts()


def test_a_lost_replica_loses_its_statements_only():
    talk = prepared(Talk())
    talk.client(USE).replica(PARSED, PARAMETERS, DESCRIPTION, BOUND, ROW, done("SELECT 1"), I)
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    talk.client(USE).ends("default").expect_client().expect_primary(USE)
    talk.primary(BOUND, ROW, done("SELECT 1"), I).expect_client(BOUND, ROW, done("SELECT 1"), I)
    talk.run()


def test_the_last_route_is_put_ahead_of_who_asks():
    talk = Talk()
    show = Q("show pgsplit.last_route")
    talk.client(Q("select 1")).replica(ROW, done("SELECT 1"), I).expect_client(ROW, done("SELECT 1"), I)
    talk.client(show)
    talk.do(lambda: talk.marks.append(bytes(talk.sides.additional.heard)))
    talk.primary(PARSED, BOUND, row("replica: read"), done("SELECT 1"), CLOSED, DESCRIPTION, ROW, done("SHOW"), I)
    talk.expect_client(DESCRIPTION, ROW, done("SHOW"), I)
    for cut in (0, 1, 2, 5):
        talk.marks = []
        talk.run(cut)
        assert b"replica: read" in talk.marks[0] and talk.marks[0].endswith(show)


def test_the_last_route_in_a_failed_transaction_is_an_error_as_any():
    talk = Talk()
    show = Q("show pgsplit.last_route")
    talk.client(Q("begin")).primary(done("BEGIN"), T)
    talk.client(Q("insert into t values (x)")).primary(error("42703"), FAILED)
    talk.do(lambda: [side.heard.clear() for side in talk._all.values()])
    talk.client(show).primary(error("25P02")).do(lambda: None)
    talk.do(lambda: talk.marks.append(bytes(talk.sides.additional.heard))).primary(FAILED)
    talk.expect_client(error("25P02"), FAILED)
    for cut in (0, 1, 2, 5):
        talk.marks = []
        talk.run(cut)
        assert talk.marks[0].endswith(show + S)
