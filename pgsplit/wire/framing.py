"""Finding messages in a buffer: one type byte, a four-byte length that counts itself, a body.

Nothing here copies a body. Positions are offsets into the buffer given; ``end`` is where its bytes stop.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from .. import compiled
from ..errors import ProtocolViolation
from .messages import Message

HEADER: Final = 5
_HEADER = struct.Struct(">BI")
_unpack_header = _HEADER.unpack_from

Buffer = bytes | bytearray | memoryview


def message_end(buffer: Buffer, start: int, end: int, catalogue: dict[int, Message]) -> int:
    """Where the message at *start* ends, which may lie beyond *end*; -1 while its header is incomplete.

    :raises ProtocolViolation: for a type that *catalogue* lacks, or a length the protocol does not allow.
    """
    if end - start < HEADER:
        if end > start and buffer[start] not in catalogue:
            raise unknown_type(buffer[start])
        return -1
    kind, length = _unpack_header(buffer, start)
    message = catalogue.get(kind)
    if message is None:
        raise unknown_type(kind)
    if not 4 <= length <= message.limit:
        raise ProtocolViolation(f"invalid length {length} of a {message.name} message")
    return start + 1 + int(length)


def unknown_type(kind: int) -> ProtocolViolation:
    return ProtocolViolation(f"invalid message type {kind} (0x{kind:02x})")


def skip(buffer: Buffer, start: int, end: int, passed: frozenset[int]) -> tuple[int, int]:
    """Go over complete messages whose type is in *passed*.

    Returns (position, count): the start of the first message that is not in *passed* or not complete,
    and how many were gone over. Lengths below 4 stop the scan; `message_end` then names the mistake.
    """
    count = alike = before = 0
    while end - start >= HEADER:
        kind, length = _unpack_header(buffer, start)
        if kind not in passed or length < 4 or start + 1 + length > end:
            break
        start += 1 + length
        count += 1
        if length != before:
            alike, before = 0, length
        elif (alike := alike + 1) == _ALIKE:
            alike, more = 0, _alike(buffer, start, end, kind, length)
            start += more * (1 + length)
            count += more
    return start, count


_ALIKE: Final = 8       # messages of one length, after which the next ones are looked at together


def _alike(buffer: Buffer, start: int, end: int, kind: int, length: int) -> int:
    """How many complete messages at *start* have this type and length: rows of one table often do."""
    size = 1 + length
    header = _HEADER.pack(kind, length)
    most = (end - start) // size
    for some in (min(most, 2 * _ALIKE), most):
        found = some
        for offset in range(HEADER):
            column = bytes(buffer[start + offset:start + found * size:size])
            found = min(found, len(column) - len(column.lstrip(header[offset:offset + 1])))
        if found < some:
            return found
    return most


_compiled = compiled.load("pgsplit.wire._framing")
if _compiled is not None:
    skip = _compiled.skip


def messages(buffer: Buffer, catalogue: dict[int, Message], start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The complete messages of *buffer* as (type, body): for short exchanges, not for the data path."""
    end = len(buffer)
    while True:
        stop = message_end(buffer, start, end, catalogue)
        if stop < 0 or stop > end:
            return
        yield buffer[start], bytes(buffer[start + HEADER:stop])
        start = stop
