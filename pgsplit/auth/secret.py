"""A secret of the user list: a clear password, an md5 hash or a SCRAM verifier; or `cert`, in the place of one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

_IS_MD5: Final = re.compile(r"md5[0-9a-fA-F]{32}").fullmatch
_IS_VERIFIER: Final = re.compile(r"SCRAM-SHA-256\$(\d{1,9}):([^$:]+)\$([^$:]+):([^$:]+)").fullmatch


class Kind(Enum):
    CLEAR = "a clear password"
    MD5 = "an md5 hash"
    SCRAM = "a SCRAM verifier"
    CERT = "cert and no upstream_password"


@dataclass(frozen=True, slots=True, repr=False)
class Verifier:
    """PostgreSQL's stored form: ``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`` (RFC 5803)."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "Verifier(***)"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """What pgsplit knows of a user's password. Its repr shows the kind only."""

    kind: Kind
    text: str
    verifier: Verifier | None = None

    def __repr__(self) -> str:
        return f"Secret({self.kind.value})"


def parse(text: str) -> Secret:
    """Which kind *text* is. Never fails: what has not the full shape of a hash or verifier is a clear password.

    But for ``cert``, which is none: the client shows a certificate.
    """
    if text == "cert":
        return Secret(Kind.CERT, "")
    if _IS_MD5(text):
        return Secret(Kind.MD5, text)
    verifier = parse_verifier(text)
    return Secret(Kind.SCRAM, text, verifier) if verifier else Secret(Kind.CLEAR, text)


def parse_verifier(text: str) -> Verifier | None:
    """None when *text* is not a well-formed verifier."""
    match = _IS_VERIFIER(text)
    if match is None:
        return None
    try:
        salt, stored_key, server_key = (base64.b64decode(match[i], validate=True) for i in (2, 3, 4))
    except (binascii.Error, ValueError):
        return None
    if not salt or len(stored_key) != 32 or len(server_key) != 32 or not int(match[1]):
        return None
    return Verifier(int(match[1]), salt, stored_key, server_key)


def verifier_text(verifier: Verifier) -> str:
    """As PostgreSQL stores it, and a user list may hold it (RFC 5803)."""
    salt, stored, server = (base64.b64encode(part).decode() for part in (verifier.salt, verifier.stored_key,
                                                                         verifier.server_key))
    return f"SCRAM-SHA-256${verifier.iterations}:{salt}${stored}:{server}"


def md5_secret(password: str, user: str) -> str:
    """PostgreSQL's md5 hash of a password, which its user's name salts."""
    return "md5" + _md5((password + user).encode(errors="surrogateescape"))


def md5_response(secret: Secret, user: str, salt: bytes) -> str:
    """The answer to AuthenticationMD5Password (PostgreSQL manual 55.2.1): from a clear password or an md5 hash."""
    if secret.kind is Kind.MD5:
        inner = secret.text[3:].lower()
    else:
        inner = _md5((secret.text + user).encode(errors="surrogateescape"))
    return "md5" + _md5(inner.encode() + salt)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
