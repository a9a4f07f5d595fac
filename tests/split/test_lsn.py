"""pgsplit.lsn and pgsplit.min_lsn: what the primary is told ahead of a statement, in every form of the protocol."""

from __future__ import annotations

import pytest

from pgsplit.classify.classifier import Classifier
from pgsplit.split.lsn import complain
from pgsplit.split.token import Refused, Term, Token, judge, parse
from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.session.talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, batch, done, error

TERM = Term("7301", 0x1A)
TOKEN = "7301/1A/0/3000148"
CLOSED = message(b"3")
DO_FAILED = PARSED + BOUND + error("22023")
SET = f"set pgsplit.min_lsn = '{TOKEN}'"
READ, WRITE, SHOW = "select n from t", "insert into t values (1)", "show pgsplit.lsn"
ANSWER = ROW + done("SELECT 1") + I
BY_VALUE = "select set_config('pgsplit.min_lsn', $1, false)"
CUTS = (0, 1, 2, 5)


class Asking(Talk):
    """With the classifier itself, in a session whose primary is on TERM."""

    classify = Classifier(100, 65536)
    term = TERM

    def forget(self, name: str = "additional") -> Asking:
        self.do(lambda: self._all[name].heard.clear())
        return self

    def asks_primary(self, *parts: str) -> Asking:
        """It has heard all of these, in this order."""
        def look() -> None:
            heard = bytes(self.sides.additional.heard).decode("latin-1")
            at = -1
            for part in parts:
                assert heard.find(part, at + 1) > at, f"{part!r} is not in {heard[at + 1:]!r}"
                at = heard.find(part, at + 1)

        self.do(look)
        return self.forget()


# --- the text ---------------------------------------------------------------------------------------------------------

def test_a_position_as_text():
    token = parse(TOKEN)
    assert token == Token(TERM, 0x3000148) and str(token) == TOKEN and parse(TOKEN.lower()) == token
    assert parse("7301/0000001A/0A/1").lsn == (10 << 32) + 1


@pytest.mark.parametrize("text", ["0/3000148", "1A/0/3000148", "x/1A/0/1", "7301/1A/0/", "7301/1A/0/123456789",
                                  " " + TOKEN, TOKEN + "\n", "7301/-1/0/1", "٣/1/0/1", "nonsense"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError):
        parse(text)
    refused = judge(text, TERM)
    assert isinstance(refused, Refused) and refused.sqlstate == "22023" and "SHOW pgsplit.lsn" in refused.hint


@pytest.mark.parametrize("text, term, hint", [
    ("7302/1A/0/1", TERM, "another PostgreSQL cluster: this one is 7301"),
    ("7301/19/0/1", TERM, "timeline 19, and the primary is on timeline 1A"),
    (TOKEN, None, "has no primary"),
])
def test_a_position_of_another_term_is_refused(text, term, hint):
    refused = judge(text, term)
    assert isinstance(refused, Refused) and hint in refused.hint and f'"{text}"' in refused.message


def test_none_is_asked_for():
    assert judge("", TERM) is None and judge("", None) is None and judge(TOKEN, TERM) == parse(TOKEN)


# --- SHOW pgsplit.lsn -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("show", [Q(SHOW), batch(SHOW), Q("select current_setting('PGSPLIT.lsn')")])
def test_the_position_is_put_ahead_of_who_asks(show):
    talk = Asking().client(show).asks_primary("pg_current_wal_insert_lsn", "7301")
    talk.primary(PARSED, BOUND, ROW, done("SELECT 1"), CLOSED, ROW, done("SHOW"), I).expect_client(ROW, done("SHOW"), I)
    talk.cuts(CUTS)


def test_and_between_two_messages():
    head = build.parse("", SHOW) + build.bind() + build.execute()
    talk = Asking().client(build.parse("", "begin") + build.bind() + build.execute() + message(b"H")).forget()
    talk.client(head, message(b"H")).asks_primary("pg_current_wal_insert_lsn", SHOW)
    talk.client(S)
    talk.primary(PARSED, BOUND, done("BEGIN"), PARSED, BOUND, ROW, done("SELECT 1"), CLOSED, PARSED,
                 PARSED, BOUND, ROW, done("SELECT 1"), CLOSED, BOUND, ROW, done("SHOW"), T)
    talk.expect_client(PARSED, BOUND, done("BEGIN"), PARSED, BOUND, ROW, done("SHOW"), T)
    talk.run()


def test_there_too_what_an_error_has_left_is_closed_first():
    talk = Asking().client(Q(f"{WRITE}; {SHOW}")).primary(PARSED, BOUND, error("25001")).primary(I).forget()
    talk.client(build.parse("", "begin") + build.bind() + build.execute() + message(b"H")).forget()
    talk.client(build.parse("", SHOW) + build.bind() + build.execute(), message(b"H"))
    talk.asks_primary("Spgsplit\0", "pg_current_wal_insert_lsn", SHOW).client(S).forget("client")
    talk.primary(PARSED, BOUND, done("BEGIN"), CLOSED, PARSED, BOUND, ROW, done("SELECT 1"), CLOSED, PARSED,
                 PARSED, BOUND, ROW, done("SELECT 1"), CLOSED, BOUND, ROW, done("SHOW"), T)
    talk.expect_client(PARSED, BOUND, done("BEGIN"), PARSED, BOUND, ROW, done("SHOW"), T)
    talk.run()


@pytest.mark.parametrize("behind", [
    Q(f"{WRITE}; {SHOW}"), build.parse("", WRITE) + build.bind() + build.execute() + batch(SHOW),
    Q(f"begin; {WRITE}; commit; {SHOW}"),
])
def test_of_what_is_not_committed_or_has_just_been_it_says_nothing(behind):
    talk = Asking().client(behind).asks_primary("errcode = '25001'")
    talk.run()


def test_nor_in_a_transaction_that_has_written():
    talk = Asking().client(Q("begin")).primary(done("BEGIN"), T).client(Q(SHOW)).asks_primary("pg_current_wal_insert")
    talk.primary(PARSED, BOUND, ROW, done("SELECT 1"), CLOSED, ROW, done("SHOW"), T)
    talk.client(Q(WRITE)).primary(done("INSERT 0 1"), T).forget().client(Q(SHOW)).asks_primary("errcode = '25001'")
    talk.primary(PARSED, BOUND, error("25001"), FAILED)
    talk.cuts(CUTS)


def test_nor_of_what_a_pipeline_has_sent_before():
    begin = batch("begin")
    talk = Asking().client(begin + batch(WRITE) + batch(SHOW)).asks_primary("errcode = '25001'")
    talk.run()
    talk = Asking().client(begin + batch(WRITE) + batch("commit") + batch(SHOW))
    talk.asks_primary("commit", "pg_current_wal")
    talk.run()
    talk = Asking().client(batch(WRITE) + batch(SHOW)).asks_primary(WRITE, "pg_current_wal_insert_lsn")
    talk.run()


def test_what_is_given_at_the_login_is_asked_for_first():
    talk = Asking().do(lambda: talk.session.splitter.own_options_given())
    talk.client(Q(READ)).asks_primary("current_setting")
    talk.run()
    alone = Asking(replica=False, sole=True).do(lambda: alone.session.splitter.own_options_given())
    alone.client(Q(READ)).asks_primary("raise exception", READ)
    alone.run()


def test_without_a_term_there_is_none():
    talk = Asking().do(lambda: setattr(talk, "term", None)).client(Q(SHOW)).asks_primary("errcode = '55000'")
    talk.run()


# --- SET pgsplit.min_lsn ----------------------------------------------------------------------------------------------

def test_a_position_is_known_once_the_primary_has_confirmed_it():
    talk = Asking().client(Q(SET)).expect_primary(Q(SET))
    talk.do(lambda: asks_for(talk, None)).primary(done("SET"), I).do(lambda: asks_for(talk, TOKEN))
    talk.client(Q(READ)).expect_replica(Q(READ)).replica(ANSWER).expect_client(done("SET"), I, ANSWER)
    talk.client(Q("reset pgsplit.min_lsn")).primary(done("RESET"), I).do(lambda: asks_for(talk, None))
    talk.cuts(CUTS)


def asks_for(talk: Talk, text: str | None) -> None:
    assert talk.session.splitter.min_lsn == (parse(text) if text else None)


@pytest.mark.parametrize("sql", [
    "set pgsplit.min_lsn = 'nonsense'", "SET SESSION pgsplit.min_lsn TO 'nonsense'",
    "set local pgsplit.min_lsn = nonsense",
    "select set_config('pgsplit.min_lsn', 'nonsense', true)", "set pgsplit.min_lsn = '7302/1A/0/1'",
    "set \"pgsplit\".\"min_lsn\" to '7301/19/0/1'", "select 1; set pgsplit.min_lsn = 'nonsense'",
])
def test_a_wrong_one_is_the_primary_s_error(sql):
    """So its transaction fails, and the rest of the batch is skipped, as with any error."""
    talk = Asking().client(Q(sql)).asks_primary("raise exception using errcode = '22023'", sql)
    talk.primary(DO_FAILED).forget().do(lambda: None).primary(I).expect_client(error("22023"), I)
    talk.do(lambda: asks_for(talk, None))
    talk.run()
    talk = Asking().client(batch(sql)).asks_primary("raise exception using errcode = '22023'", sql)
    talk.primary(DO_FAILED, I).expect_client(error("22023"), I)
    talk.run()


def test_what_the_text_does_not_show_is_asked_for():
    talk = set_by_value("nonsense").asks_primary("raise exception using errcode", '"nonsense"', READ)
    talk.primary(DO_FAILED).forget().primary(I).expect_client(error("22023"), I)
    talk.client(Q(WRITE)).asks_primary("raise exception using errcode", WRITE)      # and so for all that is run
    talk.primary(CLOSED, DO_FAILED).forget().primary(I).expect_client(error("22023"), I)
    talk.client(Q(SET)).expect_primary(Q(SET)).primary(done("SET"), I)
    talk.do(lambda: asks_for(talk, TOKEN)).client(Q(READ)).expect_replica(Q(READ))
    talk.run()


def test_and_goes_to_a_replica_when_it_is_right():
    talk = set_by_value(TOKEN).expect_replica(Q(READ))
    talk.do(lambda: asks_for(talk, TOKEN)).run()


def set_by_value(text: str) -> Asking:
    """A driver has set it to a parameter; then comes a READ."""
    talk = Asking()
    talk.client(batch(BY_VALUE)).primary(PARSED, BOUND, ROW, done("SELECT 1"), I).forget().forget("client")
    told = [message(b"D", b"\0\3" + b"".join(len(cell).to_bytes(4, "big") + cell for cell in row)) for row in (
        (b"s", b"pgsplit.min_lsn", text.encode()), (b"i", b"role", b"none"), (b"i", b"session_authorization", b"u"))]
    talk.client(Q(READ)).asks_primary("current_setting").primary(PARSED, BOUND, *told, done("SELECT 3"), CLOSED, I)
    return talk


def test_in_a_transaction_the_primary_looks_itself():
    local = "select set_config('pgsplit.min_lsn', $1, true)"
    talk = Asking().client(Q("begin")).primary(done("BEGIN"), T).client(batch(local)).forget()
    talk.primary(PARSED, BOUND, ROW, done("SELECT 1"), T)
    talk.client(Q(READ)).asks_primary("current_setting('pgsplit.min_lsn', true)", "7301/0*1a/", READ)
    talk.primary(PARSED, BOUND, done("DO"), CLOSED, ROW, done("SELECT 1"), T)
    talk.client(Q(READ)).expect_primary(Q(READ))            # once
    talk.run()


def test_in_the_midst_of_what_has_come_together_too():
    local = "select set_config('pgsplit.min_lsn', $1, true)"
    talk = Asking().client(Q("begin")).primary(done("BEGIN"), T).client(batch(local)).forget()
    talk.primary(PARSED, BOUND, ROW, done("SELECT 1"), T).client(build.parse("s", READ) + message(b"H")).forget()
    talk.client(build.parse("", READ) + build.bind() + build.execute() + message(b"H"))
    talk.asks_primary(READ, "7301/0*1a/").run()


def test_the_complaint_cannot_be_left_by_what_it_quotes():
    data = complain(Refused("22023", "a'b \\ $pgsplit$ é\0", "c")).data
    assert b"message = 'a''b ? ?pgsplit? ??'" in data
