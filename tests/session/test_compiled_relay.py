"""What only the compiled relay does: it keeps reads that wait for their replica, and sleeps in the hub's place."""

from __future__ import annotations

import gc
import itertools
import socket
import threading
import time
from array import array
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket as gsocket
from hypothesis import given, settings
from hypothesis import strategies as st

from pgsplit.relay.leg import LIMIT
from pgsplit.split.decision import Upstream
from pgsplit.split.transaction import Place
from pgsplit.topology.host import GROUND, ground_moved
from pgsplit.wire.build import message
from tests.session.line import READ, ROWS, WRITE, Line
from tests.session.relays import make
from tests.session.talk import I, Q, T, done

LONG = 10**12          # ns


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line("compiled", "global")
    with gevent.Timeout(30):
        yield made
    made.close()


@pytest.fixture
def stale(line: Line) -> list[int]:
    """The line's replica is fresh as of 100, and the last write of this node was at 200; for which fences was asked."""
    assert line.context.freshness is not None
    line.context.freshness[0] = 100
    line.writes[1] = 200
    wanted: list[int] = []
    line.context.want = wanted.append
    line.context.fence_wait_ns = LONG
    return wanted


def reads(line: Line, *, fence_ns: int = 0) -> None:
    line.release(fence_ns=fence_ns)
    line.says("client", Q(READ))
    assert line.heard("replica") == b"" and not line.woken.ready()


def is_session_s(line: Line) -> bool:
    """The read is at the front of the client's inbox again, as if it had just come."""
    held = line.held()
    return held.running is None and held.sent == Q(READ) and bytes(line.flow.client.inbox).startswith(Q(READ))


def test_a_read_waits_for_its_replica_without_the_session(line: Line, stale: list[int]) -> None:
    reads(line)
    assert stale == [200]
    assert line.context.freshness is not None
    line.writes[0] = 250                    # a later write is not this read's
    for fresh_ns in (150, 200):
        line.context.freshness[0] = fresh_ns
        line.relay.fresher()
        assert line.heard("replica") == b""
    line.context.freshness[0] = 201
    sent_ns = time.monotonic_ns()
    line.relay.fresher()
    line.hears("replica", Q(READ))
    line.relay.fresher()
    line.says("replica", ROWS + I)
    line.hears("client", ROWS + I)
    assert line.relay.hurried == 0 and line.heard("replica") == b""
    held = line.held()
    assert held.replica == 1 and stale == [200]
    assert held.started_ns >= sent_ns       # its time begins when it is sent, as a session counts it


def test_the_session_s_own_fence_may_be_the_later_one(line: Line, stale: list[int]) -> None:
    reads(line, fence_ns=300)
    assert stale == [300]


def test_a_read_of_the_whole_cluster_waits_for_a_sample_that_is_begun_behind_it() -> None:
    line = Line("compiled", "cluster")
    with gevent.Timeout(30):
        wanted: list[int] = []
        line.context.want = wanted.append
        line.context.fence_wait_ns = LONG
        assert line.context.freshness is not None
        before = line.context.freshness[0] = time.monotonic_ns()
        reads(line)
        assert before < wanted[0] < time.monotonic_ns()
        line.context.freshness[0] = wanted[0]
        line.relay.fresher()
        assert line.heard("replica") == b""
        line.context.freshness[0] = wanted[0] + 1
        line.relay.fresher()
        line.hears("replica", Q(READ))
        line.says("replica", ROWS + I)
        line.hears("client", ROWS + I)
        line.says("client", Q(READ))            # the next one is another moment's
        assert line.heard("replica") == b"" and wanted[1] > wanted[0] + 1
        assert is_session_s(line)
    line.close()


def is_the_primary_s(line: Line, sql: bytes = Q(READ)) -> None:
    """It is answered there, without the session, and for that reason."""
    line.hears("primary", sql)
    line.says("primary", ROWS + I)
    line.hears("client", ROWS + I)
    assert line.heard("replica") == b"" and not line.woken.ready()
    held = line.held()
    assert held.last is not None and (held.primary, held.replica) == (1, 0)
    assert (held.last.upstream, held.last.reason) == (Upstream.ADDITIONAL, "no_fresh_replica")
    assert held.fence_ns >= held.started_ns > 0        # what it has seen there it is to see again


def test_a_read_that_has_waited_long_enough_is_the_primary_s(line: Line, stale: list[int]) -> None:
    in_vain: list[int] = []
    gave_up: list[int] = []
    line.context.fence_wait_ns, line.context.waited_in_vain = 5_000_000, in_vain.append
    line.context.gave_up = gave_up.append
    line.release()
    began_ns = time.monotonic_ns()
    line.says("client", Q(READ))
    is_the_primary_s(line)
    assert gave_up == [200] and len(in_vain) == 1 and in_vain[0] >= began_ns + 5_000_000 and not line.context.waited
    line.table.drain()
    assert line.stats.decisions == {("primary", "no_fresh_replica"): 1} and line.stats.statements_primary == 1


def test_in_a_transaction_that_is_nowhere_yet_it_is_the_session_s(line: Line, stale: list[int]) -> None:
    gave_up: list[int] = []
    line.context.fence_wait_ns, line.context.gave_up = 5_000_000, gave_up.append
    line.release(tx=T[-1], place=Place.HELD)
    line.says("client", Q(READ))
    assert line.wakes() and line.context.waited
    assert is_session_s(line) and line.heard("primary") == b"" and gave_up == []      # the session counts it


def test_without_a_time_to_wait_it_is_the_primary_s_at_once(line: Line, stale: list[int]) -> None:
    gave_up: list[int] = []
    line.context.fence_wait_ns, line.context.gave_up = 0, gave_up.append
    line.release()
    line.says("client", Q(READ))
    is_the_primary_s(line)
    assert gave_up == [200] and stale == []


@pytest.mark.parametrize("known", ["cleared", "stale"])
def test_where_others_wait_in_vain_nobody_waits(line: Line, stale: list[int], known: str) -> None:
    """Whether the session has been let read there since anything else has changed, or lacked nothing but freshness."""
    gave_up: list[int] = []
    line.context.gave_up = gave_up.append
    assert line.context.freshness is not None
    line.context.freshness[1] = time.monotonic_ns() + LONG
    line.context.cleared = line.context.stale = -1
    setattr(line.context, known, GROUND[0])
    line.release()
    line.says("client", Q(READ))
    is_the_primary_s(line)
    assert gave_up == [200] and stale == []
    line.context.freshness[1] = 0
    line.context.cleared = GROUND[0]
    reads(line)                             # and waits again when they have had their rest
    assert stale == [line.writes[0]] and is_session_s(line)     # what the primary has answered may have written


def test_a_session_of_which_nothing_is_known_says_itself_where_it_reads(line: Line, stale: list[int]) -> None:
    assert line.context.freshness is not None
    line.context.freshness[1] = time.monotonic_ns() + LONG
    line.context.cleared = -1
    line.release()
    line.says("client", Q(READ))
    assert line.wakes() and line.heard("primary") == b""


def test_cells_that_are_no_host_s_are_refused(line: Line) -> None:
    line.context.freshness = array("q", [2**62])
    with pytest.raises(ValueError, match="two cells"):
        line.relay.release(line.flow, line.context, 0, I[-1], False, 0)


@pytest.mark.parametrize("happens", [
    lambda line: line.says("client", Q(WRITE)),
    lambda line: line.far["client"].close(),
    lambda line: line.says("replica", b"S\0\0\0\x08a\0b\0"),
    lambda line: line.says("replica", ROWS + I),
    lambda line: line.far["replica"].close(),
    lambda line: line.says("primary", b"S\0\0\0\x08a\0b\0"),
    lambda line: line.far["primary"].close(),
    lambda line: line.relay.raise_(line.flow),
    lambda line: (ground_moved(), line.relay.fresher()),
], ids=["a batch", "the client's end", "a replica's parameter", "an answer to nothing", "the replica's end",
        "the primary's parameter", "the primary's end", "a raise", "the ground moves"])
def test_whatever_happens_meanwhile_is_the_session_s(line: Line, stale: list[int],
                                                     happens: Callable[[Line], object]) -> None:
    reads(line)
    happens(line)
    assert line.wakes() and is_session_s(line) and line.relay.hurried == 0
    assert line.context.freshness is not None
    line.context.freshness[0] = 2**62
    line.relay.fresher()                    # comes too late
    if line.flow.default.eof is None:
        assert line.heard("replica") == b""


def test_who_looks_at_the_session_meanwhile_wakes_it(line: Line, stale: list[int]) -> None:
    reads(line)
    assert is_session_s(line)
    assert line.wakes() and line.relay.hurried == 0


def test_a_flow_that_is_closed_waits_no_more(line: Line, stale: list[int]) -> None:
    reads(line)
    line.relay.close(line.flow)
    assert line.relay.hurried == 0
    line.relay.fresher()


def test_writes_do_not_wait(line: Line, stale: list[int]) -> None:
    line.release()
    line.repeats(Q("begin"), "primary", done("BEGIN") + T)
    line.repeats(Q(READ), "primary", ROWS + T)
    line.repeats(Q("commit"), "primary", done("COMMIT") + I)
    line.repeats(Q(WRITE), "primary", done("UPDATE 1") + I)
    assert stale == []


# --- the loop and the hub ---------------------------------------------------------------------------------------------


def test_while_the_loop_is_busy_the_hub_has_its_turns(line: Line) -> None:
    """A client and a server that answer each other as fast as they can, in a thread; timers, sockets and threads of the
    hub's are served all the same.
    """
    client, replica = (socket.socket(fileno=line.far.pop(name).detach()) for name in ("client", "replica"))
    over = threading.Event()
    rounds = 0

    def flood() -> None:
        nonlocal rounds
        for sock in (client, replica):
            sock.settimeout(20)
        while not over.is_set() and rounds < 10**6:
            client.sendall(Q(READ))
            assert replica.recv(65536) == Q(READ)
            replica.sendall(ROWS + I)
            assert client.recv(65536) == ROWS + I
            rounds += 1

    line.release()
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        near, far = gsocket.socketpair()
        for number in range(30):
            before = rounds
            gevent.sleep(0.001)
            gevent.spawn(far.sendall, bytes([number]))
            assert near.recv(1) == bytes([number])
            assert gevent.get_hub().threadpool.apply(bytes, ([number],)) == bytes([number])
            while rounds < before + 50:             # by itself, in the hub's place
                gevent.sleep(0.02)
        assert not line.woken.ready()
    finally:
        over.set()
        while thread.is_alive():
            gevent.sleep(0.01)
        for sock in (client, replica, near, far):
            sock.close()
    assert line.held().replica == rounds


def test_after_a_rest_the_loop_goes_on(line: Line) -> None:
    line.release()
    for _ in range(3):
        for _ in range(20):
            line.repeats(Q(READ), "replica", ROWS + I)
        gevent.sleep(0.05)                          # the hub sleeps now
    line.relay.raise_(line.flow)
    assert line.wakes() and line.held().replica == 60


# --- long answers -----------------------------------------------------------------------------------------------------


def test_what_follows_rows_may_fill_an_inbox_that_is_larger_than_the_buffer() -> None:
    """reask_buffer is a replica's limit, and has none itself."""
    relay = make("compiled")
    (near, client), (there, server) = socket.socketpair(), socket.socketpair()
    left, right = relay.adopt("client", near), relay.adopt("replica", there)
    right.limit = 1 << 20
    flow = relay.open(left, right, None)
    relay.wait(flow)
    first, row, end = message(b"D", b"f" * 65_000), message(b"D", b"r" * 100), message(b"C", b"SELECT 9\0")
    rest = end + row * 5000
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    try:
        with gevent.Timeout(30):
            relay.pass_rows(flow, right, 0)
            server.sendall(first[:60_000])
            while not right.inbox:
                gevent.sleep(0.01)
            sending = threading.Thread(target=server.sendall, args=(first[60_000:] + rest,))
            sending.start()
            sending.join(0.1)               # as much as the kernel takes, before the relay looks
            relay.wait(flow)
            assert relay.rows_passed(flow) == (1, 0)
            while len(right.inbox) < len(rest):
                relay.wait(flow)
            assert bytes(right.inbox) == rest
            client.setblocking(True)
            assert client.recv(1 << 20, socket.MSG_WAITALL | socket.MSG_DONTWAIT) == first
    finally:
        relay.close(flow)
        sending.join()
        client.close()
        server.close()
    del relay, left, right, flow
    gc.collect()                            # what lay behind the buffer is looked at


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    return near, far


def test_of_a_long_answer_nothing_is_kept_back() -> None:
    """The server sends as PostgreSQL does, 8 KiB at a time, and goes on only when the client has all that was sent."""
    relay = make("compiled")
    (near, client), (there, server) = tcp_pair(), tcp_pair()
    left, right = relay.adopt("client", near), relay.adopt("primary", there)
    flow = relay.open(left, None, right)
    relay.wait(flow)
    row, ready = message(b"d", b"r" * 95), message(b"Z", b"I")
    pieces = [row * 30_000, row * 7, row * 20_000, row[:50], row[50:] + row * 40_000 + ready]
    heard = 0

    def hear() -> None:
        nonlocal heard
        while data := client.recv(1 << 20):
            heard += len(data)

    def say() -> None:
        sent = 0
        for piece in pieces:
            for at in range(0, len(piece), 8192):
                server.sendall(piece[at:at + 8192])
            sent += len(piece)
            while heard < sent - len(row) - len(ready) and not over.wait(0.001):      # part of a row may be kept
                pass

    over = threading.Event()
    threads = [threading.Thread(target=hear), threading.Thread(target=say)]
    for thread in threads:
        thread.start()
    rows = 0
    try:
        with gevent.Timeout(30):
            while not bytes(right.inbox).endswith(ready):
                relay.pass_rows(flow, right, 0)
                relay.wait(flow)
                rows += relay.rows_passed(flow)[0]
            assert bytes(right.inbox) == ready and rows == 90_008
            relay.forward(right, left, len(ready))
            while heard < rows * len(row) + len(ready):
                gevent.sleep(0.01)
    finally:
        over.set()
        relay.close(flow)
        for sock in (client, server):
            sock.close()
        while any(thread.is_alive() for thread in threads):
            gevent.sleep(0.01)


class Passing:
    """A session that passes on whole messages, and lets rows pass by themselves whenever it may."""

    def __init__(self, limit: int) -> None:
        self.relay = make("compiled")
        (near, far), (there, server) = socket.socketpair(), socket.socketpair()
        self.client, self.server = gsocket.socket(fileno=far.detach()), gsocket.socket(fileno=server.detach())
        self.left, self.right = self.relay.adopt("client", near), self.relay.adopt("replica", there)
        self.right.limit = limit
        self.flow = self.relay.open(self.left, self.right, None)
        self.row_left = self.left_over = self.passed = self.rows = 0

    def run(self, total: int) -> None:
        while self.right.received < total or self.right.inbox or self.left.outbox:
            self.relay.wait(self.flow, 0.005)       # nothing wakes it while rows pass
            if (passed := self.relay.rows_passed(self.flow)) is not None:
                self.passed += passed[0]
                self.row_left = passed[1]
            while self._step():
                pass
            if not self.left_over and not self.left.congested:
                self.relay.pass_rows(self.flow, self.right, self.row_left)

    def _step(self) -> bool:
        inbox = self.right.inbox
        if self.left.congested or not inbox:
            return False
        if begun := self.row_left or self.left_over:
            size = min(begun, len(inbox))
            self.row_left = max(0, self.row_left - size)
            self.left_over = max(0, self.left_over - size)
        elif len(inbox) < 5:
            return False
        else:
            whole, is_row = 1 + int.from_bytes(inbox[1:5], "big"), inbox[0] in b"Dd"
            if len(inbox) < whole <= LIMIT:
                return False
            size = min(whole, len(inbox))
            self.rows += is_row
            if is_row:
                self.row_left = whole - size
            else:
                self.left_over = whole - size
        self.relay.forward(self.right, self.left, size)
        return True

    def close(self) -> None:
        self.relay.close(self.flow)
        self.client.close()
        self.server.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"D", b"D", b"d", b"C", b"T", b"N"]),
                          st.sampled_from([0, 7, 100, 9_000, LIMIT - 6, LIMIT - 4, LIMIT, 150_000])), max_size=14),
       st.lists(st.sampled_from([1, 4, 5, 900, 8192, LIMIT, 200_000]), min_size=1, max_size=8),
       st.sampled_from([LIMIT, 3 * LIMIT, 1 << 20]))
def test_every_byte_arrives_in_its_place_whatever_passes_by_itself(messages, pieces, limit) -> None:
    stream = b"".join(message(kind, bytes([65 + number]) * size) for number, (kind, size) in enumerate(messages))
    session = Passing(limit)

    def say() -> None:
        at, sizes = 0, itertools.cycle(pieces)
        while at < len(stream):
            size = max(next(sizes), len(stream) // 200)
            session.server.sendall(stream[at:at + size])
            at += size

    def hear() -> bytes:
        got = bytearray()
        while len(got) < len(stream) and (data := session.client.recv(50_000)):
            got += data
        return bytes(got)

    try:
        with gevent.Timeout(30):
            speaking, hearing = gevent.spawn(say), gevent.spawn(hear)
            session.run(len(stream))
            assert hearing.get() == stream
            speaking.get()
        assert session.rows + session.passed == sum(kind in b"Dd" for kind, _ in messages)
    finally:
        session.close()
