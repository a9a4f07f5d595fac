"""The message catalogue: every message type of protocol 3, its direction and its size bound.

PostgreSQL manual 55.7 "Message Formats"; the bounds are those of the server's `pq_getmessage`
(PQ_SMALL_MESSAGE_LIMIT for messages that hold only names, PQ_LARGE_MESSAGE_LIMIT otherwise).
"""

from __future__ import annotations

from typing import Final, NamedTuple

SMALL_LIMIT: Final = 10_000
LARGE_LIMIT: Final = 0x3FFFFFFF


class Message(NamedTuple):
    type: int        # the type byte
    name: str        # as the manual names it
    limit: int       # the length word may not exceed it


def _catalogue(*rows: tuple[bytes, str, int]) -> dict[int, Message]:
    return {byte[0]: Message(byte[0], name, limit) for byte, name, limit in rows}


FRONTEND: Final = _catalogue(
    (b"Q", "Query", LARGE_LIMIT),
    (b"P", "Parse", LARGE_LIMIT),
    (b"B", "Bind", LARGE_LIMIT),
    (b"D", "Describe", SMALL_LIMIT),
    (b"E", "Execute", SMALL_LIMIT),
    (b"C", "Close", SMALL_LIMIT),
    (b"H", "Flush", SMALL_LIMIT),
    (b"S", "Sync", SMALL_LIMIT),
    (b"F", "FunctionCall", LARGE_LIMIT),
    (b"d", "CopyData", LARGE_LIMIT),
    (b"c", "CopyDone", SMALL_LIMIT),
    (b"f", "CopyFail", SMALL_LIMIT),
    (b"X", "Terminate", SMALL_LIMIT),
    (b"p", "PasswordMessage", LARGE_LIMIT),
)

BACKEND: Final = _catalogue(
    (b"R", "Authentication", LARGE_LIMIT),
    (b"K", "BackendKeyData", SMALL_LIMIT),
    (b"S", "ParameterStatus", LARGE_LIMIT),
    (b"Z", "ReadyForQuery", SMALL_LIMIT),
    (b"E", "ErrorResponse", LARGE_LIMIT),
    (b"N", "NoticeResponse", LARGE_LIMIT),
    (b"A", "NotificationResponse", LARGE_LIMIT),
    (b"T", "RowDescription", LARGE_LIMIT),
    (b"t", "ParameterDescription", LARGE_LIMIT),
    (b"D", "DataRow", LARGE_LIMIT),
    (b"C", "CommandComplete", LARGE_LIMIT),
    (b"I", "EmptyQueryResponse", SMALL_LIMIT),
    (b"1", "ParseComplete", SMALL_LIMIT),
    (b"2", "BindComplete", SMALL_LIMIT),
    (b"3", "CloseComplete", SMALL_LIMIT),
    (b"n", "NoData", SMALL_LIMIT),
    (b"s", "PortalSuspended", SMALL_LIMIT),
    (b"G", "CopyInResponse", LARGE_LIMIT),
    (b"H", "CopyOutResponse", LARGE_LIMIT),
    (b"W", "CopyBothResponse", LARGE_LIMIT),
    (b"d", "CopyData", LARGE_LIMIT),
    (b"c", "CopyDone", SMALL_LIMIT),
    (b"V", "FunctionCallResponse", LARGE_LIMIT),
    (b"v", "NegotiateProtocolVersion", LARGE_LIMIT),
)

# The transaction status byte of ReadyForQuery.
IDLE: Final = ord("I")
IN_TRANSACTION: Final = ord("T")
FAILED: Final = ord("E")
