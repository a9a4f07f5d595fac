"""Building messages, frontend's and backend's (PostgreSQL manual 55.7)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from .startup import PROTOCOL_3_0

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + _U32.pack(len(body) + 4) + body


def cstring(text: str) -> bytes:
    return text.encode(errors="surrogateescape") + b"\0"


# --- frontend -----------------------------------------------------------------------------------

SYNC: Final = message(b"S")
FLUSH: Final = message(b"H")
TERMINATE: Final = message(b"X")


def untyped(code: int, body: bytes = b"") -> bytes:
    """A message of the startup phase: length, code, body, and no type byte."""
    return _U32.pack(len(body) + 8) + _U32.pack(code) + body


def startup(parameters: Mapping[str, str], protocol: int = PROTOCOL_3_0) -> bytes:
    pairs = b"".join(cstring(name) + cstring(value) for name, value in parameters.items())
    return untyped(protocol, pairs + b"\0")


def query(sql: str) -> bytes:
    return message(b"Q", cstring(sql))


def parse(name: str, sql: str, types: Sequence[int] = ()) -> bytes:
    body = cstring(name) + cstring(sql) + _U16.pack(len(types)) + b"".join(map(_U32.pack, types))
    return message(b"P", body)


def bind(portal: str = "", statement: str = "", values: Sequence[bytes | None] = ()) -> bytes:
    """A Bind whose parameters and results are all in text form."""
    body = [cstring(portal), cstring(statement), _U16.pack(0), _U16.pack(len(values))]
    for value in values:
        body.append(b"\xff\xff\xff\xff" if value is None else _U32.pack(len(value)) + value)
    body.append(_U16.pack(0))
    return message(b"B", b"".join(body))


def describe(kind: bytes = b"P", name: str = "") -> bytes:
    return message(b"D", kind + cstring(name))


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message(b"E", cstring(portal) + _U32.pack(rows))


def close(kind: bytes = b"S", name: str = "") -> bytes:
    return message(b"C", kind + cstring(name))


def password(secret: bytes) -> bytes:
    """PasswordMessage, which ends in a zero byte; SASL responses do not and are built with `message`."""
    return message(b"p", secret + b"\0")


# --- backend ------------------------------------------------------------------------------------

def authentication(code: int, body: bytes = b"") -> bytes:
    return message(b"R", _U32.pack(code) + body)


def parameter_status(name: str, value: str) -> bytes:
    return message(b"S", cstring(name) + cstring(value))


def backend_key_data(pid: int, key: bytes) -> bytes:
    return message(b"K", _U32.pack(pid) + key)


def ready_for_query(status: int) -> bytes:
    return message(b"Z", bytes((status,)))


def error_response(severity: str, sqlstate: str, text: str, *, detail: str | None = None,
                   hint: str | None = None) -> bytes:
    return message(b"E", _fields(severity, sqlstate, text, detail, hint))


def notice_response(severity: str, sqlstate: str, text: str, *, detail: str | None = None,
                    hint: str | None = None) -> bytes:
    return message(b"N", _fields(severity, sqlstate, text, detail, hint))


def _fields(severity: str, sqlstate: str, primary: str, detail: str | None, hint: str | None) -> bytes:
    fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", primary), ("D", detail), ("H", hint)]
    present = [code.encode() + cstring(text.replace("\0", "")) for code, text in fields if text is not None]
    return b"".join(present) + b"\0"


def negotiate_protocol_version(newest: int, unrecognised: Sequence[str]) -> bytes:
    """*newest* is a whole version (196608 is 3.0), as servers send it; the manual calls it the minor version."""
    body = _U32.pack(newest) + _U32.pack(len(unrecognised)) + b"".join(map(cstring, unrecognised))
    return message(b"v", body)
