"""Reading the bodies of the messages whose content pgsplit must know; all others are passed on unread."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..errors import ProtocolViolation, ServerError

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")


class Fields(NamedTuple):
    """What pgsplit needs of an ErrorResponse or NoticeResponse (PostgreSQL manual 55.8)."""

    severity: str      # never localised when the server is 9.6 or newer
    sqlstate: str
    message: str
    has_detail: bool


def error_fields(body: bytes) -> Fields:
    """Tolerant: a field that is absent is empty, one that is not UTF-8 is read as well as it can be."""
    found: dict[bytes, str] = {}
    for field in body.split(b"\0"):
        if field:
            found.setdefault(field[:1], field[1:].decode(errors="replace"))
    return Fields(found.get(b"V") or found.get(b"S", ""), found.get(b"C", ""), found.get(b"M", ""), b"D" in found)


def server_error(body: bytes) -> ServerError:
    """An upstream's ErrorResponse as an exception that still holds its bytes."""
    fields = error_fields(body)
    return ServerError(fields.sqlstate, fields.message, severity=fields.severity or "FATAL", raw=bytes(body))


def parameter_status(body: bytes) -> tuple[str, str]:
    """(name, value). The same few come with every login: ten thousand sessions share their strings."""
    return _usual_parameter(body) if len(body) <= 100 else _parameter(body)


def _parameter(body: bytes) -> tuple[str, str]:
    name, start = cstring(body, 0)
    return name, cstring(body, start)[0]


_usual_parameter = lru_cache(1024)(_parameter)


class ParameterStatuses(NamedTuple):
    """*messages* as the server sent them, and what they say."""

    messages: bytes
    values: Mapping[str, str]


def parameter_statuses(messages: bytes) -> ParameterStatuses:
    """Of whole ParameterStatus messages, one behind the other. Ten thousand sessions share the usual ones."""
    return _usual_statuses(messages) if len(messages) <= 4096 else _statuses(messages)


def _statuses(messages: bytes) -> ParameterStatuses:
    values: dict[str, str] = {}
    start = 0
    while start < len(messages):
        end = start + 1 + _U32.unpack_from(messages, start + 1)[0]
        name, value = parameter_status(messages[start + 5:end])
        values[name] = value
        start = end
    return ParameterStatuses(messages, values)


_usual_statuses = lru_cache(256)(_statuses)


def backend_key_data(body: bytes) -> tuple[int, bytes]:
    if not 8 <= len(body) <= 260:
        raise ProtocolViolation("invalid BackendKeyData message")
    return _U32.unpack_from(body)[0], body[4:]


def negotiate_protocol_version(body: bytes) -> int:
    """The newest version that the server speaks, of those not newer than what it was asked for.

    :raises ProtocolViolation: when the message is cut off.
    """
    if len(body) < 8:
        raise ProtocolViolation("invalid NegotiateProtocolVersion message")
    return int(_U32.unpack_from(body)[0])


def cstring(body: bytes, start: int) -> tuple[str, int]:
    """The zero-terminated string at *start* and the position behind it.

    :raises ProtocolViolation: when no terminator follows. Bytes that are not UTF-8 are kept as surrogates.
    """
    end = body.find(b"\0", start)
    if end < 0:
        raise ProtocolViolation("a string in a message lacks its terminator")
    return body[start:end].decode(errors="surrogateescape"), end + 1


def column_types(body: bytes) -> list[tuple[bytes, bytes]]:
    """Of each column of a RowDescription its name, and what its type is to a client: not of which table it comes.

    :raises ProtocolViolation: when it is cut off. NoData, which has no body, has no columns.
    """
    columns: list[tuple[bytes, bytes]] = []
    position = 2
    for _ in range(_U16.unpack_from(body)[0] if body else 0):
        end = body.find(b"\0", position)
        if end < 0 or end + 19 > len(body):
            raise ProtocolViolation("a column in a RowDescription is cut off")
        columns.append((body[position:end], body[end + 7:end + 19]))
        position = end + 19
    return columns


def data_row(body: bytes) -> list[bytes | None]:
    """The columns of a DataRow.

    :raises ProtocolViolation: when it is cut off.
    """
    columns: list[bytes | None] = []
    position = 2
    try:
        for _ in range(_U16.unpack_from(body)[0]):
            (length,) = _U32.unpack_from(body, position)
            position += 4
            if length == 0xFFFFFFFF:
                columns.append(None)
                continue
            columns.append(body[position:position + length])
            position += length
    except struct.error:
        position = len(body) + 1
    if position != len(body):
        raise ProtocolViolation("a DataRow is shorter or longer than it says")
    return columns
