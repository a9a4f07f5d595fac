"""The startup phase: messages without a type byte (PostgreSQL manual 55.2.1, 55.2.9, 55.2.10, 55.7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ..errors import ProtocolViolation, ServerError

PROTOCOL_3_0: Final = 3 << 16
CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104

MAX_STARTUP_LENGTH: Final = 10_000     # the server's MAX_STARTUP_PACKET_LENGTH

_CODE = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class SSLRequest:
    pass


@dataclass(frozen=True, slots=True)
class GSSENCRequest:
    pass


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """*pid* and *key* as BackendKeyData gave them; the key has 4 bytes, up to 256 in protocol 3.2."""

    pid: int
    key: bytes


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """*parameters* in the order given; *major* and *minor* are the version the client asked for."""

    major: int
    minor: int
    parameters: dict[str, str]

    @property
    def user(self) -> str:
        return self.parameters.get("user", "")

    @property
    def database(self) -> str:
        return self.parameters.get("database") or self.user


Startup = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage


def check_length(length: int) -> None:
    """:raises ProtocolViolation: when the length word of a startup message is impossible."""
    if not 8 <= length <= MAX_STARTUP_LENGTH:
        raise ProtocolViolation("invalid length of startup packet")


def parse(body: bytes) -> Startup:
    """*body* is what follows the length word.

    :raises ProtocolViolation: for a malformed body; ServerError 0A000 for a major version that is not 3.
    """
    (code,) = _CODE.unpack_from(body)
    rest = body[4:]
    if code == SSL_REQUEST:
        return SSLRequest()
    if code == GSSENC_REQUEST:
        return GSSENCRequest()
    if code == CANCEL_REQUEST:
        if not 8 <= len(rest) <= 260:
            raise ProtocolViolation("invalid length of a cancel request")
        return CancelRequest(_CODE.unpack_from(rest)[0], rest[4:])
    major, minor = code >> 16, code & 0xFFFF
    if major != 3:
        raise ServerError("0A000", f"unsupported frontend protocol {major}.{minor}: pgsplit supports 3.0",
                          severity="FATAL")
    return StartupMessage(major, minor, _parameters(rest))


def _parameters(rest: bytes) -> dict[str, str]:
    if not rest.endswith(b"\0"):
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    words = rest[:-1].split(b"\0")
    if words.pop() != b"" or len(words) % 2:
        raise ProtocolViolation("invalid startup packet layout: expected pairs of name and value")
    texts = [word.decode(errors="surrogateescape") for word in words]
    names = texts[0::2]
    if "" in names:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    return dict(zip(names, texts[1::2], strict=True))
