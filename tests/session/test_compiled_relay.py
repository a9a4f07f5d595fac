"""What only the compiled relay does: it keeps reads that wait for their replica, and sleeps in the hub's place."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket as gsocket

from pgsplit.upstream.host import ground_moved
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
    line.relay.fresher()
    line.hears("replica", Q(READ))
    line.relay.fresher()
    line.says("replica", ROWS + I)
    line.hears("client", ROWS + I)
    assert line.relay.hurried == 0 and line.heard("replica") == b""
    assert line.held().replica == 1 and stale == [200]


def test_the_session_s_own_fence_may_be_the_later_one(line: Line, stale: list[int]) -> None:
    reads(line, fence_ns=300)
    assert stale == [300]


def test_a_read_that_has_waited_long_enough_is_the_session_s(line: Line, stale: list[int]) -> None:
    line.context.fence_wait_ns = 5_000_000
    line.release()
    line.says("client", Q(READ))
    assert line.wakes() and line.context.waited
    assert is_session_s(line) and line.relay.hurried == 0


def test_without_a_time_to_wait_it_is_the_session_s_at_once(line: Line, stale: list[int]) -> None:
    line.context.fence_wait_ns = 0
    line.release()
    line.says("client", Q(READ))
    assert line.wakes() and stale == [] and not line.context.waited


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
    """A client and a server that answer each other as fast as they can, in a thread; timers and sockets of the hub's
    are served all the same.
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
