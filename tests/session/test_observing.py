"""mode: observe: everything goes to the primary and nothing waits, and what a replica would have had is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from pgsplit.classify.classifier import Classifier
from pgsplit.relay.counting import SessionCounter
from pgsplit.split.repeat import repeat_of
from pgsplit.split.transaction import Defaults
from pgsplit.stats.counters import ListenerStats
from pgsplit.stats.digests import Digests
from pgsplit.stats.observed import OTHERS, Observed, Sender
from pgsplit.stats.offload import BY_NAME
from tests.session.line import READ, ROWS, WRITE, Line
from tests.session.relays import FORMS
from tests.session.talk import ROW, I, Q, T, X, done
from tests.session.test_reads import Counted, counts

ONE = ROW + done("SELECT 1")
SENDER = Sender("a", "u", "d")


class Observes(Counted):
    """All that the client says is the primary's, and its answers come back."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(observes=True, **{"transactions": "until_write", "replica": False, **arguments})

    def says(self, *texts: str) -> Observes:
        """*texts*, each with the transaction status behind it."""
        open_ = False
        for text in texts:
            word = text.split()[0]
            open_ = word == "begin" or (open_ and word not in ("commit", "rollback"))
            answer = ONE if word in ("select", "show", "fetch") else done(word.upper())
            self.client(Q(text)).primary(answer + (T if open_ else I))
        return self

    def reads(self, cut: int = 0) -> dict[str, int]:
        self.stats = ListenerStats()
        self.counter = SessionCounter(self.stats, Digests(), self.stats.observed.of(SENDER))
        self.client(X)
        self.run(cut)
        return counts(self.stats)


@pytest.mark.parametrize(("texts", "expected"), [
    (["select 1", "insert into t values (1)", "select 2"], {"observed": 2}),
    (["begin", "select 1", "select 2", "commit"], {"observed": 2}),
    (["begin", "select 1", "insert into t values (1)", "select 2", "commit", "select 3"],
     {"observed": 2, "after_write": 1}),
    (["begin", "select now()", "select 1", "commit"], {"clock": 2}),
    (["begin", "savepoint a", "set local x.y = 'z'", "select 1", "commit"], {"observed": 1}),
    (["begin", "set transaction isolation level serializable", "select 1", "commit"], {"before_write": 1}),
    (["begin; select 1; commit", "select 1"], {"before_write": 1, "observed": 1}),
    (["begin", "set x.y = 'z'", "select 1", "commit"], {"before_write": 1}),
    (["begin isolation level repeatable read", "select 1", "commit"], {"isolation": 1}),
    (["begin read only", "select 1", "commit"], {"observed": 1}),
    (["select now()", "/* pgsplit: primary */ select 1"], {"clock": 1, "asked_for": 1}),
    (["create temp table x (a int)", "select 1", "begin", "select 1", "commit"], {"pinned": 2}),
    (["begin", "lock table t", "select 1", "rollback"], {"after_write": 1}),
])
def test_what_is_counted(texts: list[str], expected: dict[str, int]) -> None:
    for cut in (0, 7):
        assert Observes().says(*(text for text in texts if not text.startswith("/"))).client(
            *[Q(text) for text in texts if text.startswith("/")]).primary(
            *[ONE + I for text in texts if text.startswith("/")]).reads(cut) == expected


def test_transactions_by_their_setting() -> None:
    texts = "begin", "select 1", "commit", "select 1"
    assert Observes(transactions="primary").says(*texts).reads() == {"before_write": 1, "observed": 1}
    assert Observes(transactions="read_only").says("begin read only", "select 1", "commit").reads() == {"observed": 1}
    serializable = Defaults("serializable")
    assert Observes(defaults=serializable).says(*texts).reads() == {"isolation": 1, "observed": 1}


def test_no_replica_is_asked_though_there_is_one() -> None:
    """And none is waited for: nothing is fenced."""
    talk = Observes(replica=True).says("select 1").do(lambda: talk.session.replica_may_be_had(True))
    talk.do(lambda: setattr(talk, "stale", "no_fresh_replica")).says("select 2")
    assert talk.reads() == {"observed": 2}
    assert talk.wanted == 0


def test_reads_are_counted_by_who_sent_them() -> None:
    talk = Observes().says("select 1", "select now()")
    talk.reads()
    assert [(sender, reads.sums()["reads"], reads.sums()["moves"]) for sender, reads in talk.stats.observed] == [
        (SENDER, 2, 1)]


def test_who_comes_when_there_are_enough_is_counted_together() -> None:
    observed = Observed(most=2)
    for number in range(5):
        observed.of(Sender("a", str(number), "d")).keep(0, 1, 1)
    assert {sender.user: reads.sums()["reads"] for sender, reads in observed} == {"0": 1, "1": 1, OTHERS: 3}
    assert observed.of(Sender("a", "0", "d")) is observed.of(Sender("a", "0", "d"))


# --- the relay's ------------------------------------------------------------------------------------------------

@pytest.fixture(params=FORMS)
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    stats = ListenerStats()
    made = Line(request.param, observed=stats.observed.of(SENDER), replica=False)
    made.context.without, made.context.freshness = True, None
    made.context.begins_as = BY_NAME["observed"]
    with gevent.Timeout(30):
        yield made
    made.close()


def test_the_relay_repeats_all_to_the_primary_and_counts(line: Line) -> None:
    line.release()
    for text, answer, status in (
            (READ, ROWS, I), (WRITE, done("UPDATE 1"), I), ("begin", done("BEGIN"), T), (READ, ROWS, T),
            (READ, ROWS, T),
            (WRITE, done("UPDATE 1"), T), (READ, ROWS, T), ("commit", done("COMMIT"), I), (READ, ROWS, I)):
        line.repeats(Q(text), "primary", answer + status)
    line.held()
    line.table.drain()
    assert line.observed is not None
    found = {name: line.observed.kept[2 * place] for name, place in BY_NAME.items() if line.observed.kept[2 * place]}
    assert found == {"observed": 4, "after_write": 1}
    assert line.observed.replica == 0
    decisions = line.stats.decisions
    assert decisions["primary", "observed"] == 2 and ("replica", "read") not in decisions


def test_the_relay_goes_on_with_a_transaction_that_would_be_on_a_replica(line: Line) -> None:
    line.release(ord("T"), inside=BY_NAME["observed"])
    line.repeats(Q(READ), "primary", ROWS + T)
    assert line.held().inside == BY_NAME["observed"]
    assert line.observed is not None and line.observed.sums()["moves"] == 1


def test_what_would_move_a_transaction_is_the_sessions() -> None:
    classify = Classifier(10, 65536)
    clock = classify(b"select now()")
    assert repeat_of(clock) is not None and repeat_of(clock, observes=True) is None
    assert repeat_of(classify(b"select a from t"), observes=True) is not None
