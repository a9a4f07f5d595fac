"""Transactions that a relay goes on with by itself while the primary does not know of them; in both forms."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from pgsplit.split.decision import Upstream
from pgsplit.split.statements import Statement
from pgsplit.split.transaction import END_ON_REPLICA, ENDED, ON_REPLICA, OPENED, OPENING, Place
from pgsplit.topology.host import GROUND
from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.session.line import READ, ROWS, WRITE, Line, classified
from tests.session.relays import FORMS
from tests.session.talk import BOUND, FAILED, PARSED, I, Q, S, T, batch, done, error


@pytest.fixture(params=FORMS)
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    made = Line(request.param)
    made.context.holds_begin = True
    with gevent.Timeout(30):
        yield made
    made.close()


def here(line: Line, sql: bytes, answer: bytes) -> None:
    """The relay itself answers, and asks nobody."""
    line.says("client", sql)
    line.hears("client", answer)
    assert not line.woken.ready()


def opens(line: Line, sql: bytes, server: str, answer: bytes) -> None:
    """*sql* goes to *server* behind what opens its transaction, of which the client sees nothing."""
    line.says("client", sql)
    line.hears(server, (ON_REPLICA if server == "replica" else OPENING).data + sql)
    line.says(server, OPENED + answer)
    line.hears("client", answer)
    line.look()
    assert not line.woken.ready()


def test_a_transaction_that_only_reads(line: Line) -> None:
    line.release()
    here(line, Q("begin"), done("BEGIN") + T)
    opens(line, Q(READ), "replica", ROWS + T)
    line.repeats(Q("select a from t where b = 2"), "replica", ROWS + T)
    here(line, Q("commit"), done("COMMIT") + I)
    line.hears("replica", END_ON_REPLICA)
    held = line.held()
    assert (held.replica, held.primary, held.tx, held.place, held.ending) == (2, 0, ord("I"), Place.PRIMARY, 1)
    assert held.transaction_ns == 0 and str(held.last) == "pgsplit: transaction_ended" and not held.opening
    line.table.drain()
    stats = line.stats
    assert (stats.statements, stats.statements_replica, stats.statements_primary) == (4, 2, 0)
    assert (stats.transactions, stats.transactions_commit) == (1, 1)
    assert stats.decisions == {("pgsplit", "begin_held"): 1, ("replica", "read"): 2,
                               ("pgsplit", "transaction_ended"): 1}
    assert line.heard("primary") == b""


@pytest.mark.parametrize("together", [True, False])
def test_the_end_that_a_replica_answers_later_is_nobodys(line: Line, together: bool) -> None:
    line.release()
    for _ in range(3):
        here(line, Q("begin"), done("BEGIN") + T)
        line.says("client", Q(READ))
        line.hears("replica", ON_REPLICA.data + Q(READ))
        line.says("replica", OPENED + ROWS + T)
        line.hears("client", ROWS + T)
        here(line, Q("commit"), done("COMMIT") + I)
        line.hears("replica", END_ON_REPLICA)
        if not together:
            line.says("replica", ENDED)
        line.says("client", Q(READ))
        line.hears("replica", Q(READ))
        line.says("replica", (ENDED if together else b"") + ROWS + I)
        line.hears("client", ROWS + I)
        assert not line.woken.ready()
    assert line.held().ending == 0


def test_a_begin_that_goes_to_the_primary_at_once_is_the_sessions(line: Line) -> None:
    """`hold_begin` is false: no relay knows that what follows may be a replica's."""
    line.context.holds_begin, line.context.leaves_begin = False, True
    line.release()
    line.says("client", Q("begin"))
    line.wakes()
    assert line.heard("primary") == line.heard("client") == b""


def test_a_write_that_comes_first_opens_it_on_the_primary(line: Line) -> None:
    line.release()
    here(line, Q("begin"), done("BEGIN") + T)
    opens(line, Q(WRITE), "primary", done("UPDATE 1") + T)
    assert line.published == []
    line.repeats(Q(READ), "primary", ROWS + T)
    line.repeats(Q("commit"), "primary", done("COMMIT") + I)
    assert len(line.published) == 1
    held = line.held()
    assert (held.primary, held.replica, held.place, held.ending) == (3, 0, Place.PRIMARY, 0)


def test_begin_and_commit_alone(line: Line) -> None:
    line.release()
    for _ in range(3):
        here(line, Q("begin"), done("BEGIN") + T)
        here(line, Q("commit"), done("COMMIT") + I)
    assert line.heard("replica") == line.heard("primary") == b""
    assert line.held().tx == ord("I")


def test_extended_batches_and_prepared_statements(line: Line) -> None:
    for name, sql in ((b"b", "begin"), (b"c", "commit"), (b"r", READ), (b"w", WRITE)):
        statement = line.statements[name] = Statement(name, sql.encode(), classified(sql), b"")
        statement.route = line.table.routes[classified(sql).text]
        statement.default = name == b"r"

    def run(name: str) -> bytes:
        return build.bind("", name) + build.describe() + build.execute() + S

    line.release()
    here(line, batch("begin"), PARSED + BOUND + message(b"n") + done("BEGIN") + T)
    opens(line, batch(READ), "replica", PARSED + BOUND + ROWS + T)
    here(line, batch("commit"), PARSED + BOUND + message(b"n") + done("COMMIT") + I)
    line.hears("replica", END_ON_REPLICA)
    here(line, run("b"), BOUND + message(b"n") + done("BEGIN") + T)
    line.says("client", run("r"))
    line.hears("replica", ON_REPLICA.data + run("r"))
    line.says("replica", ENDED + OPENED + BOUND + ROWS + T)
    line.hears("client", BOUND + ROWS + T)
    here(line, run("c"), BOUND + message(b"n") + done("COMMIT") + I)
    line.hears("replica", END_ON_REPLICA)
    here(line, run("b"), BOUND + message(b"n") + done("BEGIN") + T)
    opens(line, run("w"), "primary", BOUND + done("UPDATE 1") + T)
    assert line.held().unnamed == build.parse("", "commit")


def test_a_statement_that_the_replica_lacks_is_the_sessions(line: Line) -> None:
    statement = line.statements[b"r"] = Statement(b"r", READ.encode(), classified(READ), b"")
    statement.route = line.table.routes[classified(READ).text]
    line.release()
    here(line, Q("begin"), done("BEGIN") + T)
    line.says("client", build.bind("", "r") + build.execute() + S)
    assert line.wakes() and line.heard("replica") == line.heard("primary") == b""
    assert line.held().place is Place.HELD


def test_a_write_behind_a_read_is_the_sessions(line: Line) -> None:
    line.release()
    here(line, Q("begin"), done("BEGIN") + T)
    opens(line, Q(READ), "replica", ROWS + T)
    line.says("client", Q(WRITE))
    assert line.wakes() and line.heard("primary") == b""
    held = line.held()
    assert (held.place, held.tx, held.running, bytes(line.flow.client.inbox)) == (
        Place.REPLICA, ord("T"), None, Q(WRITE))


@pytest.mark.parametrize("said", [OPENED + error("22012") + FAILED, error("53200"), OPENED[:20], OPENED + ROWS + I,
                                  OPENED[:-5] + error("25P02") + FAILED])
@pytest.mark.parametrize("sql, server", [(READ, "replica"), (WRITE, "primary")])
def test_an_opening_that_does_not_go_well_is_the_sessions(line: Line, sql: str, server: str, said: bytes) -> None:
    if said == OPENED + ROWS + I and server == "primary":
        return      # the server says so, and knows
    line.release()
    here(line, Q("begin"), done("BEGIN") + T)
    line.says("client", Q(sql))
    line.hears(server, (ON_REPLICA if server == "replica" else OPENING).data + Q(sql))
    line.says(server, said)
    assert line.wakes() and line.heard("client") == b""
    held = line.held()
    assert held.opening and held.sent == Q(sql) and held.running is not None
    assert held.place is (Place.HELD if server == "replica" else Place.PRIMARY)
    assert held.running.upstream is (Upstream.DEFAULT if server == "replica" else Upstream.ADDITIONAL)
    leg = line.flow.default if server == "replica" else line.flow.additional
    assert bytes(leg.inbox) == said


def test_what_the_session_began_is_gone_on_with(line: Line) -> None:
    line.release(ord("T"), place=Place.HELD, ending=1)
    line.says("client", Q(READ))
    line.hears("replica", ON_REPLICA.data + Q(READ))
    line.says("replica", ENDED + OPENED + ROWS + T)
    line.hears("client", ROWS + T)
    assert not line.woken.ready()
    held = line.held()
    assert (held.place, held.ending, held.tx) == (Place.REPLICA, 0, ord("T"))
    line.release(ord("T"), place=Place.REPLICA)
    line.repeats(Q(READ), "replica", ROWS + T)
    here(line, Q("commit"), done("COMMIT") + I)
    assert line.held().ending == 1


def test_a_read_for_which_no_replica_is_fresh_is_not_answered_by_a_stale_one(line: Line) -> None:
    line.context.freshness[0] = 1
    line.context.fence_wait_ns = 1
    line.release(fence_ns=2)
    here(line, Q("begin"), done("BEGIN") + T)
    line.says("client", Q(READ))
    assert line.wakes() and line.heard("replica") == line.heard("primary") == b""
    held = line.held()
    assert held.place is Place.HELD and not held.opening and bytes(line.flow.client.inbox) == Q(READ)


def test_a_begin_that_is_not_to_be_held_is_the_primarys(line: Line) -> None:
    line.context.holds_begin = False
    line.release()
    line.repeats(Q("begin"), "primary", done("BEGIN") + T)
    line.repeats(Q(READ), "primary", ROWS + T)
    assert line.held().place is Place.PRIMARY


@pytest.mark.parametrize("sql", [Q("begin"), Q("rollback"), Q("savepoint a")])
def test_what_else_comes_in_it_is_the_sessions(line: Line, sql: bytes) -> None:
    line.release()
    here(line, Q("begin"), done("BEGIN") + T)
    line.says("client", sql)
    assert line.wakes() and line.heard("replica") == line.heard("primary") == b""
    assert line.held().place is Place.HELD


def test_reads_wait_for_a_fresh_replica_in_it_too(line: Line) -> None:
    """Only the compiled relay has them wait by itself."""
    if line.relay.form != "compiled":
        pytest.skip("PyRelay leaves them to the session")
    line.context.freshness[0] = 1
    line.context.fence_wait_ns = int(20e9)
    line.context.cleared = GROUND[0]
    line.release(fence_ns=2)
    here(line, Q("begin"), done("BEGIN") + T)
    line.says("client", Q(READ))
    assert line.heard("replica") == b""
    line.context.freshness[0] = 3
    line.relay.fresher()
    line.hears("replica", ON_REPLICA.data + Q(READ))
    line.says("replica", OPENED + ROWS + T)
    line.hears("client", ROWS + T)
    assert line.held().place is Place.REPLICA
