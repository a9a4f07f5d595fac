"""The startup phase: messages without a type byte (PostgreSQL manual 55.2.1, 55.2.9, 55.2.10, 55.7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ..errors import ProtocolViolation, Unanswered

PROTOCOL_3_0: Final = 3 << 16
PROTOCOL_3_2: Final = PROTOCOL_3_0 + 2     # PostgreSQL 18: cancel keys are longer than 4 bytes
CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104

MAX_KEY: Final = 256                   # bytes of a cancel key, in protocol 3.2
MAX_STARTUP_LENGTH: Final = 10_000     # the server's MAX_STARTUP_PACKET_LENGTH, behind the length word

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
    """*parameters* in the order given; *major* and *minor*: the version asked for, later the one agreed on."""

    major: int
    minor: int
    parameters: dict[str, str]

    @property
    def protocol(self) -> int:
        return self.major << 16 | self.minor

    @property
    def user(self) -> str:
        return self.parameters.get("user", "")

    @property
    def database(self) -> str:
        return self.parameters.get("database") or self.user


CODES: Final[dict[type, int]] = {SSLRequest: SSL_REQUEST, GSSENCRequest: GSSENC_REQUEST}

Startup = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage


def check_length(length: int) -> None:
    """:raises Unanswered: when the length word of a startup message is impossible."""
    if not 8 <= length <= 4 + MAX_STARTUP_LENGTH:
        raise Unanswered("invalid length of startup packet")


def parse(body: bytes) -> Startup:
    """*body* is what follows the length word. Of a version whose major number is not 3 the rest is not read.

    :raises Unanswered: for a CancelRequest of a wrong length; ProtocolViolation for a malformed StartupMessage.
    """
    (code,) = _CODE.unpack_from(body)
    rest = body[4:]
    if code == SSL_REQUEST:
        return SSLRequest()
    if code == GSSENC_REQUEST:
        return GSSENCRequest()
    if code == CANCEL_REQUEST:
        if not 4 < len(rest) <= 4 + MAX_KEY:
            raise Unanswered("invalid length of cancel request packet")
        return CancelRequest(_CODE.unpack_from(rest)[0], rest[4:])
    major, minor = code >> 16, code & 0xFFFF
    return StartupMessage(major, minor, _parameters(rest) if major == 3 else {})


def _parameters(rest: bytes) -> dict[str, str]:
    """Pairs of zero-terminated name and value; one more zero byte ends them, and the message."""
    words = rest.split(b"\0")
    if words[-2:] != [b"", b""] or len(words) % 2 or b"" in words[:-2:2]:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    texts = [word.decode(errors="surrogateescape") for word in words[:-2]]
    return dict(zip(texts[0::2], texts[1::2], strict=True))
