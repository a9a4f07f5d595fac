"""The answer to a question that pgsplit itself has asked on a connection."""

from __future__ import annotations

from typing import Final

from ..errors import ProtocolViolation, ServerError
from ..wire.parse import data_row, server_error
from .stream import Stream

# RowDescription, CommandComplete, NoticeResponse, ParameterStatus; in the extended protocol Parse- and BindComplete.
_NO_MATTER: Final = b"TCNS12"

# The plainest answer to Bind, Execute and Sync: one row.
_BOUND: Final = b"2\0\0\0\x04D"
_ONE_ROW: Final = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I"


def take_row(stream: Stream) -> list[bytes | None] | None:
    """The one row that a prepared statement has answered; None, and nothing is taken, where the answer is not that and
    nothing else.

    :raises ProtocolViolation: for a row that is shorter or longer than it says.
    :raises ConnectionLost: when the server goes away.
    """
    data = stream.take_received(_BOUND, _ONE_ROW)
    if data is None:
        return None
    body = data[len(_BOUND) + 4:-len(_ONE_ROW)]
    if int.from_bytes(data[len(_BOUND):len(_BOUND) + 4], "big") != len(body) + 4:
        raise ProtocolViolation(f"{stream.name} answered with a DataRow that is shorter or longer than it says")
    return data_row(body)


def take_rows(stream: Stream) -> tuple[list[list[bytes | None]], ServerError | None]:
    """The rows up to ReadyForQuery, and the error that ended them.

    :raises ServerError: FATAL; the connection is at its end.
    :raises ProtocolViolation: for what is no answer of rows, such as COPY.
    :raises ConnectionLost: when the server goes away.
    """
    rows: list[list[bytes | None]] = []
    failure: ServerError | None = None
    while True:
        kind, body = stream.read_message()
        if kind == ord("D"):
            rows.append(data_row(body))
        elif kind == ord("E"):
            failure = server_error(body)
            if failure.severity != "ERROR":
                raise failure
        elif kind == ord("Z"):
            return rows, failure
        elif kind not in _NO_MATTER:
            raise ProtocolViolation(f"{stream.name} answered with message type {kind}")
