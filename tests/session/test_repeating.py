"""What a relay repeats by itself, and that it leaves everything else to the session untouched; in both forms."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket as gsocket

from pgsplit.split.decision import Upstream
from pgsplit.split.repeat import Repeat, repeat_of
from pgsplit.split.statements import Statement
from pgsplit.split.token import Term, Token
from pgsplit.topology.host import GROUND, ground_moved
from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.session.line import READ, ROWS, WRITE, Line, classified
from tests.session.relays import FORMS
from tests.session.talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, batch, done, error

LATER = 10**14      # ns, longer than a test takes


@pytest.fixture(params=FORMS)
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    made = Line(request.param)
    with gevent.Timeout(30):
        yield made
    made.close()


def test_a_read_goes_to_the_replica_and_its_answer_back(line: Line) -> None:
    line.release()
    for number in (1, 23, 456):
        line.repeats(Q(f"select a from t where b = {number}"), "replica", ROWS + I)
    held = line.held()
    assert (held.replica, held.primary, held.running, held.tx) == (3, 0, None, ord("I"))
    assert held.last is not None and str(held.last) == "replica: read"
    assert held.unnamed == b"" and held.primary_unnamed is None and held.fence_ns == 0
    assert [entry[2:4] for entry in line.context.recent] == [(Upstream.DEFAULT, held.last)] * 3
    line.table.drain()
    stats = line.stats
    assert (stats.statements, stats.statements_select, stats.statements_replica) == (3, 3, 3)
    assert (stats.transactions, stats.transactions_commit) == (3, 3)
    assert (stats.messages_frontend, stats.messages_backend) == (3, 12)
    assert stats.decisions == {("replica", "read"): 3} and sum(stats.latency_replica.counts) == 3


@pytest.mark.parametrize("sql, server, answer", [
    (READ, "replica", ROWS + I), (WRITE, "primary", done("UPDATE 1") + I)], ids=["a read", "a write"])
def test_what_is_under_way_when_texts_are_learnt_anew_is_counted(
        line: Line, sql: str, server: str, answer: bytes) -> None:
    """As when the definitions of the database have been read."""
    line.release()
    line.says("client", Q(sql))
    line.hears(server, Q(sql))
    line.table.forget()
    line.says(server, answer)
    line.hears("client", answer)
    line.held()
    for _ in range(2):
        line.table.drain()
        assert line.stats.statements == 1


def test_a_transaction_stays_on_the_primary(line: Line) -> None:
    line.release()
    line.repeats(Q("begin"), "primary", done("BEGIN") + T)
    line.repeats(Q(READ), "primary", ROWS + T)
    line.repeats(Q("update t set a = 2"), "primary", done("UPDATE 1") + T)
    assert line.published == []
    line.repeats(Q("commit"), "primary", done("COMMIT") + I)
    assert len(line.published) == 1
    line.repeats(Q("update t set a = 3"), "primary", done("UPDATE 1") + I)
    assert len(line.published) == 2
    held = line.held()
    assert (held.primary, held.replica, held.tx, held.tx_wrote) == (5, 0, ord("I"), False)
    assert held.fence_ns == line.published[-1] and held.transaction_ns == 0
    line.table.drain()
    stats = line.stats
    assert (stats.transactions, stats.transactions_commit, stats.statements_update, stats.statements_other) == (
        2, 2, 2, 2)
    assert stats.decisions == {("primary", "transaction_control"): 2, ("primary", "transaction_open"): 1,
                               ("primary", "write"): 2}


def test_what_a_released_transaction_wrote_is_published_by_its_commit(line: Line) -> None:
    line.release(ord("T"), tx_wrote=True)
    line.repeats(Q(READ), "primary", ROWS + T)
    assert line.held().tx_wrote
    line.release(ord("T"), tx_wrote=True)
    line.repeats(Q("commit"), "primary", done("COMMIT") + I)
    assert len(line.published) == 1


def test_extended_batches(line: Line) -> None:
    line.release()
    answer = PARSED + BOUND + ROWS + I
    line.repeats(batch(READ), "replica", answer)
    line.repeats(batch("select $1"), "replica", answer)
    held = line.held()
    assert held.unnamed == build.parse("", "select $1") and held.unnamed_on is Upstream.DEFAULT
    assert held.primary_unnamed is None
    line.release(ord("T"))
    line.repeats(batch(READ), "primary", PARSED + BOUND + ROWS + T)
    held = line.held()
    assert held.unnamed == build.parse("", READ) and held.unnamed_on is Upstream.ADDITIONAL and held.primary_unnamed
    line.release(ord("T"))
    line.repeats(Q(READ), "primary", ROWS + T)
    held = line.held()
    assert held.unnamed == b"" and held.primary_unnamed is False


def test_a_named_statement_where_the_upstream_has_it(line: Line) -> None:
    statement = Statement(b"s", READ.encode(), classified(READ), b"")
    statement.route = line.table.routes[classified(READ).text]
    line.statements[b"s"] = statement
    run = build.bind("", "s") + build.describe() + build.execute() + S
    line.release()
    line.says("client", run)
    assert line.wakes() and line.heard("replica") == b""
    line.relay.consume(line.flow.client, len(run))
    assert line.held().replica == 0
    statement.default = True
    line.release()
    line.repeats(run, "replica", BOUND + ROWS + I)
    held = line.held()
    assert held.replica == 1 and held.unnamed is None
    statement.default = False
    line.release(ord("T"))
    line.repeats(run, "primary", BOUND + ROWS + T)
    line.held()
    statement.only_primary = True
    line.release(ord("T"))
    line.says("client", run)
    assert line.wakes()


NOT_PLAIN = {
    "a text that is not known": Q("select b from t"),
    "two batches": Q(READ) * 2,
    "part of a message": Q(READ)[:-3],
    "only a header": b"Q\0\0",
    "a byte": b"Q",
    "bytes behind the text": message(b"Q", READ.encode() + b"\0x"),
    "no terminator": message(b"Q", READ.encode()),
    "no Sync": batch(READ)[:-5],
    "a Flush": batch(READ)[:-5] + message(b"H") + S,
    "a commit outside a transaction": Q("commit"),
    "a named Parse": batch(READ, name="s"),
    "a portal with a name": build.parse("", READ) + build.bind("p", "") + build.execute() + S,
    "a limit of rows": batch(READ).replace(b"E\0\0\0\x09\0\0\0\0\0", b"E\0\0\0\x09\0\0\0\0\x05"),
    "two Executes": batch(READ)[:-5] + build.execute() + S,
    "a name that is not known": build.bind("", "s") + build.execute() + S,
    "a goodbye": build.TERMINATE,
    "a Sync": S,
    "a length beyond all": b"Q\xff\xff\xff\xff" + b"x" * 20,
    "a Parse longer than it is": b"P\0\0\x10\0" + batch(READ)[5:],
    "a Bind longer than it is": batch(READ).replace(build.bind("", ""), b"B\x7f\xff\xff\xff" + build.bind("", "")[5:]),
    "a Parse without an end": message(b"P", b"\0" + READ.encode()) + build.bind("", "") + build.execute() + S,
    "much": Q("select '" + "x" * 20_000 + "'"),
    "nothing that is a message": bytes(range(40)),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_is_not_plain_is_the_session_s(line: Line, what: str) -> None:
    data = NOT_PLAIN[what]
    line.release()
    line.says("client", data)
    assert line.wakes()
    assert bytes(line.flow.client.inbox) == data
    held = line.held()
    assert (held.replica, held.primary, held.running, held.sent) == (0, 0, None, b"")
    assert line.heard("replica") == line.heard("primary") == b""


@pytest.mark.parametrize("text", [Q(READ), batch(READ), Q(WRITE)], ids=["read", "extended read", "write"])
def test_a_batch_may_come_in_pieces(line: Line, text: bytes) -> None:
    for cut in range(1, len(text)):
        line.release()
        line.says("client", text[:cut])
        assert line.wakes()
        line.says("client", text[cut:])
        line.whole(line.flow.client, len(text))
        assert line.held().running is None
        assert bytes(line.flow.client.inbox) == text
        line.relay.consume(line.flow.client, len(text))
        line.relay.wait(line.flow, 0.01)        # what has happened until now
    assert line.heard("replica") == line.heard("primary") == b""


NOT_PLAIN_ANSWERS = {
    "an error": error("22012") + I,
    "a fatal error": error("57P01", "FATAL"),
    "a notice": build.notice_response("NOTICE", "00000", "x") + ROWS + I,
    "a parameter": build.parameter_status("TimeZone", "UTC") + ROWS + I,
    "a notification": message(b"A", b"\0\0\0\1x\0y\0") + ROWS + I,
    "two commands": ROWS + ROWS + I,
    "no command": ROW + I,
    "another command": ROW + done("UPDATE 1") + I,
    "a command like it": ROW + done("SELECTED 1") + I,
    "a failed transaction": ROWS + FAILED,
    "part of it": ROW,
    "a copy": message(b"H", b"\0\0\0") + ROWS + I,
    "two answers": (ROWS + I) * 2,
    "a length that is not": b"D\0\0\0\x03" + ROWS + I,
    "a message across the end": b"D\0\0\0\x70" + ROWS + I,
}


@pytest.mark.parametrize("what", NOT_PLAIN_ANSWERS)
@pytest.mark.parametrize("server", ["replica", "primary"])
def test_an_answer_that_is_not_plain_is_the_session_s(line: Line, server: str, what: str) -> None:
    answer = NOT_PLAIN_ANSWERS[what]
    line.release(ord("I" if server == "replica" else "T"), fence_ns=7)
    line.says("client", Q(READ))
    line.hears(server, Q(READ))
    line.says(server, answer)
    assert line.wakes()
    held = line.held()
    assert held.running is not None and held.running.upstream.text == server
    assert held.sent == Q(READ) and held.started_ns > 0 and held.replica == held.primary == 0 and held.fence_ns == 7
    flow = line.flow
    leg = flow.default if server == "replica" else flow.additional
    assert bytes(leg.inbox) == answer
    assert bytes(flow.client.inbox) == (Q(READ) if server == "replica" else b"")
    assert line.heard("client") == b""


def test_an_answer_may_come_in_pieces(line: Line) -> None:
    answer = ROWS + I
    for cut in range(1, len(answer)):
        line.release()
        line.says("client", Q(READ))
        line.hears("replica", Q(READ))
        line.says("replica", answer[:cut])
        assert line.wakes()
        line.says("replica", answer[cut:])
        line.whole(line.flow.default, len(answer))
        assert line.held().running is not None
        assert bytes(line.flow.default.inbox) == answer
        line.relay.consume(line.flow.default, len(answer))
        line.relay.consume(line.flow.client, len(Q(READ)))
        line.relay.wait(line.flow, 0.01)
    assert line.heard("client") == b""


def test_what_comes_while_a_batch_is_under_way(line: Line) -> None:
    line.release()
    line.says("client", Q(READ))
    line.hears("replica", Q(READ))
    line.says("client", Q(WRITE))
    assert line.wakes()
    held = line.held()
    assert held.running is not None and held.running.upstream is Upstream.DEFAULT
    assert bytes(line.flow.client.inbox) == Q(READ) + Q(WRITE)
    assert line.heard("replica") == line.heard("primary") == b""


def test_what_a_server_says_unasked(line: Line) -> None:
    line.release()
    line.says("primary", build.parameter_status("TimeZone", "UTC"))
    assert line.wakes() and line.held().running is None
    assert bytes(line.flow.additional.inbox) == build.parameter_status("TimeZone", "UTC")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("consistency, fence_ns, fresh_ns, written, fresh", [
    ("session", 10, 11, 99, True), ("session", 10, 10, 0, False), ("global", 10, 99, 98, True),
    ("global", 10, 99, 99, False), ("global", 99, 99, 10, False), ("eventual", 10, 5, 99, True),
])
def test_a_replica_is_read_from_while_it_is_fresh(form: str, consistency: str, fence_ns: int, fresh_ns: int,
                                                  written: int, fresh: bool) -> None:
    line = Line(form, consistency)
    try:
        assert line.context.freshness is not None
        line.context.freshness[0] = fresh_ns
        line.writes[1] = written
        line.release(fence_ns=fence_ns)
        line.says("client", Q(READ))
        assert fresh or line.wakes()
        assert line.heard("replica") == (Q(READ) if fresh else b"")
    finally:
        line.close()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("consistency, staleness_ns, own_ns, fresh_ns, fresh", [
    ("cluster", 0, -LATER, 0, False), ("cluster", 0, -LATER, LATER, True), ("cluster", 0, 2 * LATER, LATER, False),
    ("bounded", LATER, -LATER, 0, True), ("bounded", 0, -LATER, 0, False),
    ("bounded", LATER, -LATER, -2 * LATER, False), ("bounded", LATER, 0, 0, False),
])
def test_a_replica_is_read_from_while_it_is_fresh_by_the_clock(form: str, consistency: str, staleness_ns: int,
                                                               own_ns: int, fresh_ns: int, fresh: bool) -> None:
    """Moments are told from now. What this node has written does not matter."""
    line = Line(form, consistency)
    try:
        assert line.context.freshness is not None
        now = time.monotonic_ns()
        line.context.freshness[0] = now + fresh_ns
        line.context.staleness_ns = staleness_ns
        line.writes[1] = now + 5 * LATER
        line.release(fence_ns=now + own_ns)
        line.says("client", Q(READ))
        assert fresh or line.wakes()
        assert line.heard("replica") == (Q(READ) if fresh else b"")
    finally:
        line.close()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("consistency", ["eventual", "session", "global"])
def test_who_has_asked_for_a_position_reads_when_the_session_has_found_it_reached(form: str, consistency: str) -> None:
    line = Line(form, consistency)
    try:
        line.context.fence_wait_ns = LATER
        line.context.ask_for(Token(Term("7", 1), 0x3000148))
        line.release()
        line.says("client", Q(READ))
        assert line.wakes() and line.held().running is None and line.heard("replica") == b""
        line.relay.consume(line.flow.client, len(Q(READ)))
        line.context.cleared = GROUND[0]
        line.context.ask_for(Token(Term("7", 1), 0x3000148))        # the same
        line.release()
        line.repeats(Q(READ), "replica", ROWS + I)
        line.held()
        line.context.ask_for(None)
        assert line.context.cleared == -1
    finally:
        line.close()


@pytest.mark.parametrize("form", FORMS)
def test_reads_go_to_the_primary_where_there_is_no_replica(form: str) -> None:
    line = Line(form, replica=False)
    try:
        line.context.freshness = None
        line.release()
        line.says("client", Q(READ))            # the session has not said that it shall
        assert line.wakes() and line.held().running is None
        line.relay.consume(line.flow.client, len(Q(READ)))
        line.context.without = True
        line.release()
        line.repeats(Q(READ), "primary", ROWS + I)
        line.repeats(Q(WRITE), "primary", done("UPDATE 1") + I)
        held = line.held()
        assert (held.replica, held.primary) == (0, 2)
        line.table.drain()
        assert line.stats.decisions == {("primary", "no_replica"): 1, ("primary", "write"): 1}
        assert line.stats.statements_primary == 2
    finally:
        line.close()


def test_reads_go_to_the_primary_where_the_operator_has_sent_them(line: Line) -> None:
    line.context.cleared = -1
    line.context.ordered = GROUND[0]
    line.release()
    line.repeats(Q(READ), "primary", ROWS + I)
    held = line.held()
    assert str(held.last) == "primary: reads_to_primary" and held.primary == 1
    line.release()
    ground_moved()                              # the order may have been taken back
    line.says("client", Q(READ))
    assert line.wakes() and line.heard("primary") == line.heard("replica") == b""


@pytest.mark.parametrize("form", FORMS)
def test_a_session_with_one_upstream(form: str) -> None:
    line = Line(form, replica=False)
    try:
        line.context.sole = True
        line.release()
        line.repeats(Q(READ), "primary", ROWS + I)
        line.repeats(Q("begin"), "primary", done("BEGIN") + T)
        line.repeats(Q("update t set a = 9"), "primary", done("UPDATE 1") + T)
        line.repeats(Q("commit"), "primary", done("COMMIT") + I)
        held = line.held()
        assert (held.replica, held.primary, str(held.last)) == (4, 0, "primary: sole_upstream")
        assert len(line.published) == 2      # the commit, and the read: a view may have written
        line.table.drain()
        stats = line.stats
        assert stats.decisions == {("primary", "sole_upstream"): 4}
        assert (stats.statements, stats.statements_replica, stats.transactions_commit) == (4, 4, 2)
        assert sum(stats.latency_primary.counts) == 4
    finally:
        line.close()


def test_nothing_is_read_from_a_replica_when_the_ground_has_moved(line: Line) -> None:
    line.release()
    line.repeats(Q(READ), "replica", ROWS + I)
    ground_moved()
    line.repeats(Q("update t set a = 1"), "primary", done("UPDATE 1") + I)
    line.says("client", Q(READ))
    assert line.wakes() and line.heard("replica") == b""


def test_a_text_that_is_forgotten_is_asked_about_again(line: Line) -> None:
    line.release()
    line.repeats(Q(READ), "replica", ROWS + I)
    line.table.forget()
    line.says("client", Q(READ))
    assert line.wakes() and line.stats.statements == 1


def test_nothing_is_released_over_bytes_that_wait(line: Line) -> None:
    line.says("client", Q(READ))
    line.relay.wait(line.flow)
    line.relay.release(line.flow, line.context, 0, ord("I"), False, 0)
    assert line.relay.hold(line.flow) is None


def test_an_end_wakes_the_session(line: Line) -> None:
    line.release()
    line.far["replica"].close()
    assert line.wakes() and line.flow.default.eof == "closed the connection"
    assert line.held().running is None


def test_raise_wakes_the_session(line: Line) -> None:
    line.release()
    line.relay.raise_(line.flow)
    assert line.wakes()


def test_both_forms_do_the_same() -> None:
    """Anything, in any order: what everybody hears, and what the session is told, is the same in both."""
    dice = random.Random(11)
    sent = [Q(READ), Q("update t set a = 5"), Q("begin"), Q("commit"), batch(READ), *NOT_PLAIN.values()]
    answers = [ROWS + I, ROWS + T, done("BEGIN") + T, done("UPDATE 1") + T, done("UPDATE 1") + I, done("COMMIT") + I,
               PARSED + BOUND + ROWS + I, *NOT_PLAIN_ANSWERS.values()]
    for _ in range(150):
        script = [dice.choice(sent[:5] if dice.random() < 0.7 else sent)]
        for _ in range(dice.randrange(8)):      # by turns: what a server says, and the client's next
            script.append(dice.choice(answers[:7] if dice.random() < 0.8 else answers))
            script.append(dice.choice(sent[:5] if dice.random() < 0.8 else sent))
        tx = ord(dice.choice("IIT"))
        with gevent.Timeout(30):
            assert story("pure Python", script, tx) == story("compiled", script, tx)


def story(form: str, script: list[bytes], tx: int) -> list[Any]:
    line = Line(form)
    try:
        line.release(tx)
        told: list[Any] = []
        server = ""
        for number, data in enumerate(script):
            line.says("client" if number % 2 == 0 else server, data)
            heard: dict[str, bytes] = {}
            while not (heard or line.woken.ready()):
                heard = {name: sock.recv(65536) for name, sock in line.far.items() if readable(sock)}
                gevent.sleep(0.0005)
            line.look()
            if not heard:
                break
            told.append(heard)
            [server] = heard
        held = line.held()
        flow = line.flow
        line.table.drain()
        told += [held._replace(fence_ns=bool(held.fence_ns), answered_ns=bool(held.answered_ns),
                               transaction_ns=bool(held.transaction_ns),
                               started_ns=bool(held.started_ns) and held.running is not None),
                 bytes(flow.client.inbox), bytes(flow.default.inbox), bytes(flow.additional.inbox),
                 len(line.published), line.stats.statements, line.stats.messages_backend, line.stats.messages_frontend,
                 line.stats.transactions, line.stats.transactions_commit, line.stats.decisions,
                 sum(line.stats.latency_replica.counts), sum(line.stats.latency_primary.counts)]
        return told
    finally:
        line.close()


def readable(sock: gsocket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        sock.setblocking(True)


@pytest.mark.parametrize("sql, tag", [
    (READ, b"SELECT"), ("with x as (select 1) select * from x", b"SELECT"), ("values (1)", b"SELECT"),
    ("insert into t values (1)", b"INSERT"), ("delete from t", b"DELETE"), ("BEGIN;", b"BEGIN"), ("end", b"COMMIT"),
    ("Commit  Work ;", b"COMMIT"), ("select 1; select 2", b""), ("", b""), ("rollback", b""),
    ("commit prepared 'x'", b""),
    ("set a.b = 1", b""), ("begin isolation level serializable", b""), ("select set_config('a.b', '1', false)", b""),
    ("create table t (a int)", b""), ("listen x", b""), ("prepare p as select 1", b""), ("execute p", b""),
    ("with x as (delete from t returning *) select * from x", b""), ("select pg_advisory_lock(1)", b""),
    ("show pgsplit.last_route", b""), ("savepoint a", b""), ("copy t from stdin", b""), ("vacuum", b""),
    ("commit and chain", b""), ("select unknown_function()", b""),
])
def test_which_texts_are_repeated(sql: str, tag: bytes) -> None:
    repeat: Repeat | None = repeat_of(classified(sql))
    assert (repeat.tag if repeat is not None else b"") == tag


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("last_words", [error("57P01", "FATAL"), b""])
def test_an_answer_of_a_replica_is_the_session_s_once_the_primary_has_spoken(form: str, last_words: bytes) -> None:
    line = Line(form)
    try:
        line.release()
        line.repeats(Q(READ), "replica", ROWS + I)
        line.says("client", Q(READ))
        line.hears("replica", Q(READ))
        line.far["replica"].sendall(ROWS + I)               # both before the relay has its turn
        if last_words:
            line.far["primary"].sendall(last_words)
        else:
            line.far["primary"].close()
        assert line.wakes() and line.heard("client") == b""
    finally:
        line.close()
