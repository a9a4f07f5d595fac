"""Reads are counted by who has answered them and by what has kept them: by the session, and the same by its relay."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from pgsplit.classify.classifier import Classifier
from pgsplit.relay.counting import SessionCounter
from pgsplit.split.batch import Batch
from pgsplit.split.decision import Upstream
from pgsplit.split.transaction import OPENED, OPENING
from pgsplit.stats.counters import ListenerStats
from pgsplit.stats.digests import Digests
from pgsplit.stats.offload import BY_NAME
from pgsplit.wire import build
from tests.session.line import READ, ROWS, WRITE, Line
from tests.session.relays import FORMS
from tests.session.talk import BOUND, FAILED, PARSED, ROW, I, Q, S, T, Talk, X, batch, done, error

NOW, ONE = "select now()", done("SELECT 1")
ANSWERED = {NOW: ROWS, READ: ROWS, WRITE: done("UPDATE 1"), "begin": done("BEGIN"),
            "commit": done("COMMIT")}


def counts(stats: ListenerStats) -> dict[str, int]:
    """The reads, by `replica` or what has kept them."""
    totals = stats.to_dict("p")
    root = "postgres.p.reads_kept."
    kept = {name.removeprefix(root): count for name, count in totals.items() if name.startswith(root)}
    assert sum(kept.values()) == totals["postgres.p.reads.primary"]
    assert set(kept) == {name.rpartition(".")[2] for name in totals if ".reads_kept_us." in name}
    return kept | ({"replica": count} if (count := totals["postgres.p.reads.replica"]) else {})


class Counted(Talk):
    """A conversation whose answers are counted, with the real classifier."""

    classify = staticmethod(Classifier(1000, 65536))

    def answered(self, upstream: Upstream, batch: Batch, now: int, tx: int) -> None:
        self.counter.answered(upstream, batch, now, tx)

    def reads(self, cut: int = 0) -> dict[str, int]:
        self.stats = ListenerStats()
        self.counter = SessionCounter(self.stats, Digests())
        self.client(X)
        self.run(cut)
        return counts(self.stats)

    def passes(self, server: str, data: bytes, answer: bytes) -> Counted:
        self.client(data)
        (self.replica if server == "replica" else self.primary)(answer)
        return self


@pytest.mark.parametrize(("sql", "group"), [
    ("select now()", "clock"), ("select current_date", "clock"), ("select f(1)", "function"),
    ("select version()", "server_local"), ("show work_mem", "server_local"), ("select * from pg_locks", "server_local"),
    ("table pg_settings", "server_local"), ("fetch 10 from c", "cursor"),
    ("/* pgsplit: primary */ select 1", "asked_for"), ("values (f(1))", "function"),
    ("with a as (select now()) select * from a", "clock"), ("copy (select now()) to stdout", "clock")])
def test_what_in_a_text_keeps_it(sql: str, group: str) -> None:
    assert Counted().passes("primary", Q(sql), ROW + ONE + I).reads() == {group: 1}


@pytest.mark.parametrize("sql", [
    "insert into t values (now())", "select 1 for update", "select nextval('s')", "declare c cursor for select 1",
    "explain analyze select 1", "set x = 1", "call p()", "select into a from t", "begin", "do $$ $$", "garbage",
    "close c"])
def test_what_is_no_read(sql: str) -> None:
    assert Counted().passes("primary", Q(sql), done("SET") + I).reads() == {}


def test_outside_a_transaction() -> None:
    talk = Counted().passes("replica", Q("select 1"), ROW + ONE + I).passes("replica", Q(""), build.message(b"I") + I)
    talk.passes("replica", batch("select a from t"), PARSED + BOUND + ROW + ONE + I)
    talk.do(lambda: setattr(talk, "stale", "no_fresh_replica"))
    talk.passes("primary", Q("select 2"), ROW + ONE + I).do(lambda: setattr(talk, "stale", ""))
    talk.client(Q("select 3")).replica(error("XX000"), I).primary(ROW, ONE, I)
    assert talk.reads() == {"replica": 2, "no_fresh_replica": 1, "replica_error": 1}
    assert Counted(replica=False).passes("primary", Q("select 1"), ROW + ONE + I).reads() == {"no_replica": 1}
    assert Counted(sole=True).passes("primary", Q("select now()"), ROW + ONE + I).reads() == {"sole": 1}


def joined(*texts: str) -> bytes:
    """One batch of several statements."""
    return b"".join(build.parse("", sql) + build.bind() + build.execute() for sql in texts) + S


def answers(*tags: str) -> bytes:
    return b"".join(PARSED + BOUND + done(tag) for tag in tags)


@pytest.mark.parametrize(("texts", "status", "expected"), [
    (("begin", "select 1"), T, {"before_write": 1}),
    (("begin read only", "select 1"), T, {"read_only": 1}),
    (("begin isolation level repeatable read", "select 1"), T, {"isolation": 1}),
    (("begin isolation level serializable read only", "select 1"), T, {"read_only": 1}),
    (("begin", "select now()", "select 1"), T, {"before_write": 1, "clock": 1}),
    (("begin", "insert into t values (1)", "select 1", "select now()"), T, {"after_write": 2}),
    (("begin", "select 1", "insert into t values (1)", "commit", "select 2"), I, {"before_write": 1, "batch": 1}),
    (("select 1", "insert into t values (1)"), I, {"batch": 1})])
@pytest.mark.parametrize("simple", [False, True])
def test_reads_in_a_batch_with_other_statements(texts: tuple[str, ...], status: bytes, expected: dict[str, int],
                                               simple: bool) -> None:
    data = Q(";".join(texts)) if simple else joined(*texts)
    answer = b"".join(map(done, texts)) if simple else answers(*texts)
    for cut in (0, 7):
        assert Counted().passes("primary", data, answer + status).reads(cut) == expected


def test_a_begin_ahead_of_reads_goes_to_the_replica_with_them() -> None:
    talk = Counted(transactions="until_write").client(joined("begin", "select 1", "select 2"))
    assert talk.replica(answers("BEGIN", "SELECT 1", "SELECT 1"), T).reads() == {"replica": 2}


def test_what_has_moved_a_transaction_keeps_what_follows() -> None:
    talk = Counted(transactions="until_write").client(Q("begin"), Q("select now()"))
    talk.primary(OPENED, ROW, ONE, T).passes("primary", Q("select 1"), ROW + ONE + T)
    talk.passes("primary", Q("insert into t values (1)"), done("INSERT 0 1") + T)
    talk.passes("primary", Q("select 2"), ROW + ONE + T).passes("primary", Q("commit"), done("COMMIT") + I)
    talk.passes("replica", Q("select 3"), ROW + ONE + I)
    assert talk.reads() == {"clock": 2, "after_write": 1, "replica": 1}


def test_a_transaction_that_no_replica_could_go_on_with() -> None:
    talk = Counted(transactions="until_write").client(Q("begin"))
    talk.do(lambda: setattr(talk, "stale", "no_fresh_replica")).client(Q("select 1")).primary(OPENED, ROW, ONE, T)
    talk.do(lambda: setattr(talk, "stale", "")).passes("primary", Q("select 2"), ROW + ONE + T)
    assert talk.reads() == {"no_fresh_replica": 2}
    talk = Counted(transactions="until_write").client(Q("begin"), Q("select 1")).replica(OPENED, error("XX000"), FAILED)
    talk.primary(OPENED, ROW, ONE, T).passes("primary", Q("insert into t values (1)"), done("INSERT 0 1") + T)
    assert talk.passes("primary", Q("select 2"), ROW + ONE + T).reads() == {"replica_error": 1, "after_write": 1}
    talk = Counted(transactions="until_write").client(Q("begin"), joined("select 1", "insert into t values (1)"))
    assert talk.primary(OPENED, answers("SELECT 1", "INSERT 0 1"), T).reads() == {"before_write": 1}


def test_own_questions_are_counted_and_are_no_statements() -> None:
    talk = Counted().passes("primary", Q("select f()"), ROW + ONE + I).client(Q("select 1"))
    talk.primary(PARSED, BOUND, done("SELECT 0"), build.message(b"3"), I).replica(ROW, ONE, I)
    assert talk.reads() == {"function": 1, "replica": 1}
    totals = talk.stats.to_dict("p")
    assert totals["postgres.p.own.primary.functions"] == 1 and "postgres.p.own_us.primary.functions" in totals
    assert sum(talk.stats.latency_primary.counts) == 1


# --- the relay's ------------------------------------------------------------------------------------------------

@pytest.fixture(params=FORMS)
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    made = Line(request.param)
    made.learn(NOW)
    with gevent.Timeout(30):
        yield made
    made.close()


def relayed(line: Line) -> dict[str, int]:
    line.table.drain()
    found = counts(line.stats)
    line.table.drain()
    assert counts(line.stats) == found
    return found


def passes(line: Line, *texts: str, status: bytes = T) -> None:
    for sql in texts:
        line.repeats(Q(sql), "primary", ANSWERED[sql] + (I if sql == "commit" else status))


def test_the_relay_counts_reads_of_transactions_by_what_keeps_them(line: Line) -> None:
    line.release()
    line.repeats(Q(READ), "replica", ROWS + I)
    passes(line, NOW, status=I)
    passes(line, "begin", READ, NOW, WRITE, READ, NOW, "commit", "begin", READ, "commit")
    assert relayed(line) == {"replica": 1, "before_write": 2, "clock": 2, "after_write": 2}
    assert line.held().inside == BY_NAME["before_write"]


def test_the_relay_goes_on_with_what_the_session_knows(line: Line) -> None:
    line.release(ord("T"), inside=BY_NAME["isolation"])
    line.context.begins_as = BY_NAME["read_only"]
    passes(line, READ, NOW)
    assert line.held().inside == BY_NAME["isolation"]
    line.release(ord("T"), inside=BY_NAME["isolation"])
    passes(line, READ, "commit", "begin", READ)
    assert line.held().inside == BY_NAME["read_only"]
    assert relayed(line) == {"isolation": 2, "clock": 1, "read_only": 1}


@pytest.mark.parametrize(("mover", "own", "then"), [(WRITE, {}, "after_write"), (NOW, {"clock": 1}, "clock")])
def test_the_relay_knows_what_has_moved_a_transaction(line: Line, mover: str, own: dict[str, int], then: str) -> None:
    line.context.holds_begin = True
    line.release()
    line.says("client", Q("begin"))
    line.hears("client", done("BEGIN") + T)
    line.says("client", Q(mover))
    line.hears("primary", OPENING.data + Q(mover))
    line.says("primary", OPENED + ANSWERED[mover] + T)
    line.hears("client", ANSWERED[mover] + T)
    passes(line, READ)
    assert line.held().inside == BY_NAME[then]
    expected = dict(own)
    expected[then] = expected.get(then, 0) + 1
    assert relayed(line) == expected


def test_the_relay_counts_reads_that_have_no_replica(line: Line) -> None:
    line.context.sole = True
    line.release()
    passes(line, READ, NOW, status=I)
    line.held()
    line.context.sole = False
    line.context.without, line.context.cleared = True, -1
    line.release()
    passes(line, READ, NOW, status=I)
    assert relayed(line) == {"sole": 2, "no_replica": 1, "clock": 1}
