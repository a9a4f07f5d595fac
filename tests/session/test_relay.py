"""The relay on real sockets: order, back-pressure, the ends of legs, waking and time-outs."""

from __future__ import annotations

import os
import socket
from array import array
from contextlib import suppress

import gevent
import pytest
from gevent import socket as gsocket

from pgsplit.relay.leg import LIMIT
from pgsplit.relay.lingering import linger
from pgsplit.relay.pyrelay import Event
from pgsplit.wire.build import message
from tests.session.relays import FORMS, make


class Ends:
    """A flow over two socket pairs, and the far ends of both."""

    def __init__(self, form: str) -> None:
        self.relay = make(form)
        near, far = socket.socketpair()
        self.client = gsocket.socket(fileno=far.detach())
        there, server = socket.socketpair()
        self.server = gsocket.socket(fileno=server.detach())
        self.left = self.relay.adopt("client", near)
        self.right = self.relay.adopt("server", there)
        self.flow = self.relay.open(self.left, None, self.right)
        self.relay.wait(self.flow)

    def close(self) -> None:
        self.relay.close(self.flow)
        self.client.close()
        self.server.close()


@pytest.fixture(params=FORMS)
def ends(request):
    made = Ends(request.param)
    with gevent.Timeout(20):
        yield made
    made.close()


def pump(ends: Ends) -> None:
    """Forward everything to the right until the left ends, as a session does."""
    while True:
        if ends.left.inbox and not ends.right.congested:
            ends.relay.forward(ends.left, ends.right, len(ends.left.inbox))
        if ends.left.eof and not ends.left.inbox and not ends.right.outbox:
            ends.relay.shut_down(ends.right)
            return
        ends.relay.wait(ends.flow)


def test_bytes_arrive_in_order_and_no_more_are_held_than_the_limits_allow(ends):
    total = 8 * 1024 * 1024
    data = bytes(range(256)) * (total // 256)
    peaks = []

    def read_slowly() -> bytes:
        got = bytearray()
        while piece := ends.server.recv(50_000):
            got += piece
            peaks.append(len(ends.left.inbox) + len(ends.right.outbox))
            gevent.sleep(0)
        return bytes(got)

    reader = gevent.spawn(read_slowly)
    traffic = ends.left.traffic = ends.right.traffic = array("q", (5, 7))
    pumping = gevent.spawn(pump, ends)
    ends.client.sendall(data)
    ends.client.shutdown(socket.SHUT_WR)
    pumping.get()
    assert reader.get() == data
    assert max(peaks) <= 4 * LIMIT
    assert ends.left.received == ends.right.sent == total
    assert list(traffic) == [5 + ends.left.received + ends.right.received, 7 + ends.left.sent + ends.right.sent]


def test_a_leg_that_nobody_reads_from_stops_reading(ends):
    ends.client.setblocking(False)
    sent = 0
    for _ in range(1000):
        try:
            sent += ends.client.send(b"x" * 10_000)
        except BlockingIOError:
            gevent.sleep(0.001)
            if len(ends.left.inbox) >= LIMIT:
                break
    assert LIMIT <= len(ends.left.inbox) < 2 * LIMIT + 1
    ends.relay.consume(ends.left, len(ends.left.inbox))
    assert ends.relay.wait(ends.flow) & Event.DATA


def test_wait_finds_what_happened_before_it(ends):
    ends.server.sendall(b"hello")
    gevent.sleep(0.01)
    assert ends.relay.wait(ends.flow) & Event.DATA
    assert bytes(ends.right.inbox) == b"hello"


def test_wait_gives_up_after_its_time(ends):
    assert ends.relay.wait(ends.flow, 0.01) == Event.TIMEOUT


def test_raise_wakes_from_another_greenlet(ends):
    gevent.spawn_later(0.01, ends.relay.raise_, ends.flow)
    assert ends.relay.wait(ends.flow, 10) & Event.RAISED


def test_the_end_of_a_leg_is_told_with_its_last_bytes(ends):
    ends.server.sendall(b"last words")
    ends.server.close()
    gevent.sleep(0.01)
    assert ends.relay.wait(ends.flow) & Event.CLOSED or ends.relay.wait(ends.flow) & Event.CLOSED
    assert bytes(ends.right.inbox) == b"last words"
    assert ends.right.eof == "closed the connection"


def test_sending_to_a_peer_that_is_gone_is_no_error(ends):
    ends.client.close()
    for _ in range(10):
        ends.relay.send(ends.left, b"x" * 100_000)
        gevent.sleep(0.01)
    assert ends.left.eof


def test_a_replaced_leg_is_closed(ends):
    near, far = socket.socketpair()
    leg = ends.relay.adopt("replica", near, b"leftover")
    ends.relay.attach_default(ends.flow, leg)
    assert ends.relay.wait(ends.flow) & Event.DATA
    assert bytes(leg.inbox) == b"leftover"
    ends.relay.attach_default(ends.flow, None)
    assert leg.closed and far.recv(1) == b""
    far.close()


def test_a_fast_sender_does_not_keep_all_others_waiting(ends):
    """What has been forwarded is not read again before the hub has had its turn."""
    ends.client.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += os.write(ends.client.fileno(), b"x" * 65536)
    while len(ends.left.inbox) < LIMIT:
        ends.relay.wait(ends.flow)
    with suppress(BlockingIOError):
        while True:
            sent += os.write(ends.client.fileno(), b"x" * 65536)
    assert sent > 4 * LIMIT
    done = 0
    while done < sent:
        burst = 0
        while ends.left.inbox:
            burst += len(ends.left.inbox)
            ends.relay.consume(ends.left, len(ends.left.inbox))
        assert burst < 2 * LIMIT
        done += burst
        if done < sent:
            ends.relay.wait(ends.flow)


def test_the_compiled_relay_passes_rows_on_whole_until_something_else_comes():
    ends = Ends("compiled")
    row, long, ready = message(b"D", b"r" * 1000), message(b"d", b"l" * 500_000), message(b"Z", b"I")
    answer = row * 3000 + long + row * 700
    with gevent.Timeout(20):
        far = gevent.spawn(lambda: (gevent.sleep(0.05), receive(ends.client, len(answer)))[1])     # slow at first
        gevent.spawn(ends.server.sendall, answer + ready)
        rows = left = 0
        while bytes(ends.right.inbox) != ready:
            ends.relay.pass_rows(ends.flow, ends.right, left)
            ends.relay.wait(ends.flow)
            assert len(ends.left.outbox) < 4 * LIMIT
            more, left = ends.relay.rows_passed(ends.flow)
            rows += more
        assert (rows, left) == (3701, 0)
        assert far.get() == answer
    assert ends.relay.rows_passed(ends.flow) is None
    ends.close()


def receive(sock: gsocket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := sock.recv(65536)):
        data += piece
    return bytes(data)


def test_a_peer_that_is_sending_reads_the_last_words_and_meets_no_reset(ends):
    """A socket that is closed with input unread resets the connection."""
    near, far = tcp_pair()
    leg = ends.relay.adopt("client", near)
    ends.relay.send(leg, b"last words")
    ends.relay.shut_down(leg, lingers=True)
    far.sendall(b"x" * 100_000)
    ends.relay.close_leg(leg)
    gevent.sleep(0.05)
    far.sendall(b"more")                    # nor does this one
    gevent.sleep(0.05)
    far.sendall(b"and more")
    got = b""
    while piece := far.recv(100):
        got += piece
    assert got == b"last words"
    far.close()


def test_nobody_lingers_for_ever():
    near, far = tcp_pair()
    with gevent.Timeout(20):
        linger(near, 0.05)
        near.shutdown(socket.SHUT_WR)
        near.close()
        assert far.recv(1) == b""
        with pytest.raises(OSError):
            while True:
                far.send(b"x")
                gevent.sleep(0.01)
    far.close()


def tcp_pair() -> tuple[socket.socket, gsocket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = gsocket.create_connection(listening.getsockname())
        near, _ = listening.accept()
    return near, far
