"""Frames and the board."""

from __future__ import annotations

import os
import socket

import pytest

from pgsplit.process.board import LEAVING, Board
from pgsplit.process.channel import LIMIT, Channel, ChannelError, Frames, encode

MESSAGES = [{"a": 1}, [], "text", {"nested": {"list": [1, 2, 3]}}, None]


def test_frames_arrive_whole_however_they_are_cut():
    data = b"".join(encode(message) for message in MESSAGES)
    for size in range(1, len(data) + 1):
        frames, found = Frames(), []
        for start in range(0, len(data), size):
            found += frames.feed(data[start:start + size])
        assert found == MESSAGES


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", (LIMIT + 1).to_bytes(4, "big"), b"\0\0\0\3{]}"])
def test_bad_frames_are_refused(data):
    with pytest.raises(ChannelError):
        Frames().feed(data)


def test_a_message_that_is_too_long_is_not_sent():
    with pytest.raises(ChannelError):
        encode("x" * (LIMIT + 1))


def test_a_channel_never_blocks_and_carries_descriptors():
    one, other = (Channel(end) for end in socket.socketpair())
    reader, writer = os.pipe()
    one.send({"with": "a pipe"}, [writer])
    assert other.receive() in ([{"with": "a pipe"}], [])
    other.receive()
    os.write(other.descriptors[0], b"through")
    assert os.read(reader, 10) == b"through"
    for _ in range(100):
        one.send("x" * 100_000)
    assert one.outbox
    received = 0
    while received < 100:
        one.flush()
        received += len(other.receive() or [])
    one.close()
    assert other.receive() is None


def test_the_board_is_shared_by_fork_and_keeps_the_writes_of_the_dead():
    board = Board()
    slots = [board.slot(index) for index in range(3)]
    pid = os.fork()
    if pid == 0:
        slots[1].publish_write(42)
        slots[1].set_sessions(5)
        os._exit(0)
    os.waitpid(pid, 0)
    slots[0].publish_write(41)
    assert board.latest_write_ns() == slots[2].latest_write_ns() == 42
    board.forget(1)
    assert board.latest_write_ns() == 42


def test_a_board_is_shared_with_who_has_its_descriptor():
    one = Board()
    other = Board(os.dup(one.descriptor))
    slots = [one.slot(0), one.slot(1), other.slot(2)]
    slots[0].publish_write(41)
    slots[2].publish_write(42)
    assert one.latest_write_ns() == other.latest_write_ns() == 42
    slots[0].raise_timeline(7, 3)
    assert slots[2].timeline(7) == 3
    for slot, sessions in zip(slots, (1, -1, 0), strict=True):
        slot.set_sessions(sessions)
    assert (one.strangers([0]), one.strangers([2]), one.strangers([0, 2])) == ([2], [0], [])
    other.slot(1)                                       # the number in use does not fall
    assert len(one.sessions()) == 3


def test_only_who_numbers_alike_is_counted_together():
    board = Board()
    slots = [board.slot(index) for index in range(3)]
    for slot, numbering in zip(slots, (5, 5, -6), strict=True):
        slot.clear_counts(numbering)
    assert [slot.count(9, 1) for slot in slots] == [1, 2, 1]
    slots[2].clear_counts(5)
    assert [slot.count(9, 1) for slot in slots] == [3, 4, 5]


def test_workers_are_filled_in_blocks_one_after_the_other():
    board = Board()
    slots = [board.slot(index) for index in range(3)]

    def taker(*sessions: int) -> list[int]:
        for slot, count in zip(slots, sessions, strict=True):
            slot.set_sessions(count)
        return [index for index, slot in enumerate(slots) if sessions[index] >= 0 and not slot.lets_others_first()]

    assert taker(0, 0, 0) == taker(7, 0, 0) == [0]
    assert taker(8, 0, 0) == taker(8, 7, 0) == [1]
    assert taker(8, 8, 0) == taker(8, 8, 7) == [2]
    assert taker(8, 8, 8) == taker(15, 8, 8) == taker(9, 8, 8) == taker(8, 8, 8) == [0]     # closed ones come again
    assert taker(5003, 4997, 5001) == taker(5003, 5004, 5001) == [1]        # idle ones count for nothing
    assert taker(5003, 5005, 5001) == taker(5003, 5005, 5008) == [2]
    assert taker(0, 0, 5) == [2]
    assert taker(0, 0, 8) == taker(5, 0, 8) == [0]
    assert taker(-1, 3, 0) == [2]                           # is gone
    slots[2].set_load(600)                                  # is busy enough
    assert taker(3, 2, 0) == [1]
    slots[0].set_load(600)
    slots[1].set_load(600)
    slots[2].set_load(600)
    assert taker(3, 2, 0) == [0, 1, 2]
    slots[0].set_load(LEAVING)
    slots[1].set_load(0)
    assert taker(0, 1, 1) == taker(0, 40, 12) == [1]        # who leaves takes none, who is busy has enough
    slots[1].set_load(600)
    assert taker(0, 40, 12)[-1] == 2 and 1 not in taker(0, 40, 12) and 1 in taker(0, 20, 12)
