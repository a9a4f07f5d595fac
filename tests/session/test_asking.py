"""Sockets that the compiled relay watches for others, and questions that are answered in its loop."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from pgsplit.wire.build import message
from tests.session.relays import make

QUESTION = b"a question"
TAG, READY = message(b"C", b"SELECT 1\0"), message(b"Z", b"I")


def row(*cells: bytes | None) -> bytes:
    body = struct.pack(">H", len(cells))
    for cell in cells:
        body += b"\xff\xff\xff\xff" if cell is None else struct.pack(">I", len(cell)) + cell
    return message(b"D", body)


def plain(*cells: bytes | None) -> bytes:
    return message(b"2") + row(*cells) + TAG + READY


class Asked:
    """A socket that is watched, its far end, and what its owner was told."""

    def __init__(self) -> None:
        self.relay: Any = make("compiled")
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.heard = 0
        self.answers: list[tuple[list[bytes | None] | None, bytes]] = []
        self.watched = self.relay.watch("server", self.near, self._hear)

    def _hear(self) -> None:
        self.heard += 1

    def ask(self) -> None:
        assert self.relay.ask(self.watched, QUESTION, lambda cells, data: self.answers.append((cells, data)))
        assert self.far.recv(100) == QUESTION

    def says(self, data: bytes) -> None:
        if data:
            self.far.sendall(data)
        else:
            self.far.shutdown(socket.SHUT_WR)
        for _ in range(20):
            gevent.sleep(0.001)
            if self.answers:
                break

    def close(self) -> None:
        self.relay.unwatch(self.watched)
        self.near.close()
        self.far.close()


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked()
    with gevent.Timeout(30):
        yield made
    made.close()


@pytest.mark.parametrize("cells", [(), (b"f",), (b"f", b"0/1", None, b"00000001", b"1764000000000000"), (b"",) * 7,
                                   (b"x" * 3000, None)])
def test_an_answer_of_one_row_is_told_as_its_cells(asked: Asked, cells: tuple[bytes | None, ...]) -> None:
    asked.ask()
    asked.says(plain(*cells))
    assert asked.answers == [(list(cells), plain(*cells))] and asked.heard == 0


def test_what_is_cut_is_told_as_it_has_come_and_the_rest_is_its_owner_s(asked: Asked) -> None:
    whole = plain(b"t", b"0/2000000", None)
    for size in range(1, len(whole)):
        asked.answers.clear()
        asked.ask()
        asked.says(whole[:size])
        assert asked.answers == [(None, whole[:size])]
        before = asked.heard
        asked.far.sendall(whole[size:])
        while asked.heard == before:
            gevent.sleep(0.001)
        assert asked.near.recv(65536) == whole[size:]


@pytest.mark.parametrize("data", [
    message(b"E", b"SERROR\0C42501\0Mno\0\0") + READY,
    message(b"N", b"SNOTICE\0C00000\0Mso\0\0") + plain(b"f"),
    plain(b"f") + plain(b"f"),
    message(b"2") + row(b"f") + row(b"f") + message(b"C", b"SELECT 2\0") + READY,
    message(b"2") + message(b"C", b"SELECT 0\0") + READY,
    message(b"2") + row(b"f") + TAG + message(b"Z", b"T"),
    message(b"2") + message(b"D", b"\0\1\0\0\0\2f") + TAG + READY,
    message(b"2") + message(b"D", b"\0\2\0\0\0\1f") + TAG + READY,
    message(b"2") + message(b"D", b"\0\1\xff\xff\xff\xfef") + TAG + READY,
    message(b"2") + message(b"D", b"\0\1\x7f\xff\xff\xfff") + TAG + READY,
    message(b"2") + b"D\0\0\0\x04" + TAG + READY,
    message(b"2") + b"D\xff\xff\xff\xff" + TAG + READY,
    b"Z\0\0\0\x05I", b"2\0\0\0\x04D",
], ids=range(14))
def test_whatever_else_comes_is_told_whole(asked: Asked, data: bytes) -> None:
    asked.ask()
    asked.says(data)
    assert asked.answers == [(None, data)]


def test_the_peer_s_end_is_an_answer_of_nothing(asked: Asked) -> None:
    asked.ask()
    asked.says(b"")
    assert asked.answers == [(None, b"")]


def test_what_nobody_has_asked_for_is_its_owner_s(asked: Asked) -> None:
    asked.far.sendall(b"something")
    while not asked.heard:
        gevent.sleep(0.001)
    assert asked.near.recv(100) == b"something" and not asked.answers


def test_who_asks_no_more_is_told_nothing(asked: Asked) -> None:
    asked.ask()
    asked.relay.ask_no_more(asked.watched)
    asked.says(plain(b"f"))
    assert not asked.answers and asked.heard > 0 and asked.near.recv(65536) == plain(b"f")


def test_a_socket_that_is_watched_no_more_can_be_asked_nothing(asked: Asked) -> None:
    asked.ask()
    for _ in range(2):
        asked.relay.unwatch(asked.watched)
    asked.says(plain(b"f"))
    assert not asked.answers and not asked.heard
    assert not asked.relay.ask(asked.watched, QUESTION, lambda cells, data: None)


def test_a_question_for_which_there_is_no_room_is_not_sent(asked: Asked) -> None:
    asked.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    try:
        while True:
            asked.near.send(b"x" * 4096)
    except BlockingIOError:
        pass
    assert not asked.relay.ask(asked.watched, QUESTION, lambda cells, data: None)


def test_a_question_that_leaves_in_part_ends_the_connection(asked: Asked) -> None:
    asked.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert asked.relay.ask(asked.watched, bytes(1 << 24), lambda cells, data: asked.answers.append((cells, data)))
    while not asked.answers:
        gevent.sleep(0.001)
    assert asked.answers == [(None, b"")]


def test_a_bell_wakes_who_waits_from_what_was_heard(asked: Asked) -> None:
    bell = asked.relay.bell()
    assert not bell.wait(0.01)
    watched = asked.relay.watch("again", asked.near.dup(), bell.set)
    asked.far.sendall(b"something")
    assert bell.wait(20)
    bell.set()
    bell.clear()
    assert not bell.wait(0.01)
    bell.set()
    assert bell.wait()
    asked.relay.unwatch(watched)
