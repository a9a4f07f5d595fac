"""The challenge to a user of whom nothing is known (mock_scram_secret in auth-scram.c), and answers that are wrong."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from typing import Final

from .scram import ITERATIONS
from .secret import Verifier

NONCE: Final = bytearray(secrets.token_bytes(32))
"""The server's mock_authentication_nonce. The arbiter imports this before it forks: all its workers have the same, over
reloads too, and so has the arbiter that takes its place (USR2), so that a name's salt changes no more than that of a
password that is in the list.
"""


def salt(user: str) -> bytes:
    return hmac.digest(NONCE, user.encode(errors="surrogateescape"), "sha256")[:16]


def verifier(user: str) -> Verifier:
    """One that no password fits."""
    return Verifier(ITERATIONS, salt(user), secrets.token_bytes(32), secrets.token_bytes(32))


def password(answer: bytes) -> bytes:
    """In the place of a client's PasswordMessage, in clear or md5. One that is empty or malformed is so still."""
    if answer.find(b"\0") == len(answer) - 1 > 0:
        return secrets.token_hex(16).encode() + b"\0"
    return re.sub(rb"[^\0]", b"x", answer)


def client_final(message: bytes) -> bytes:
    """SCRAM's client-final-message with another proof. One that is malformed stays so: the server has words for it."""
    without_proof, found, proof = message.rpartition(b",p=")
    try:
        size = len(base64.b64decode(proof, validate=True))
    except (binascii.Error, ValueError):
        return message
    return without_proof + found + base64.b64encode(secrets.token_bytes(size)) if found else message
