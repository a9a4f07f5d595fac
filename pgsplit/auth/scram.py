"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677, RFC 5929; PostgreSQL manual 55.3), both sides of it.

Sans-I/O: messages in, messages out. PBKDF2 is slow by design, so whoever drives an exchange passes in how it is
computed (`Salted`), and may do it on another thread and remember the result.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..errors import ServerError
from .secret import Kind, Secret, Verifier

SCRAM: Final = "SCRAM-SHA-256"
SCRAM_PLUS: Final = "SCRAM-SHA-256-PLUS"
ITERATIONS: Final = 4096
STALE: Final = "the SCRAM verifier in user_list is older than the password on the server"
MAX_ITERATIONS: Final = 1_000_000      # about half a second; PostgreSQL's default is 4096

Salted = Callable[[bytes, bytes, int], bytes]
"""PBKDF2 of (password, salt, iterations)."""


class ScramError(ServerError):
    """An exchange that cannot go on: a malformed message, or a proof that does not hold."""

    def __init__(self, message: str, sqlstate: str = "08P01") -> None:
        super().__init__(sqlstate, message, severity="FATAL")


def salted_password(password: bytes, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations)


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What proves a user to a server (client_key) and a server to a user (server_key), for one salt and count."""

    salt: bytes
    iterations: int
    client_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "Keys(***)"


def normalise(password: str) -> bytes:
    """SASLprep (RFC 4013); what it does not allow is used as it stands, as PostgreSQL does."""
    raw = password.encode(errors="surrogateescape")
    if password.isascii():
        return raw
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    prepared = unicodedata.normalize("NFKC", mapped)
    prohibited = (stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
                  stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
                  stringprep.in_table_c9, stringprep.in_table_a1)
    if not prepared or any(table(c) for c in prepared for table in prohibited):
        return raw
    if any(map(stringprep.in_table_d1, prepared)) and (
            any(map(stringprep.in_table_d2, prepared))
            or not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1]))):
        return raw
    return prepared.encode()


def keys_of(salted: bytes, salt: bytes, iterations: int) -> Keys:
    return Keys(salt, iterations, _hmac(salted, b"Client Key"), _hmac(salted, b"Server Key"))


def verifier_of(keys: Keys) -> Verifier:
    return Verifier(keys.iterations, keys.salt, _sha256(keys.client_key), keys.server_key)


class ScramClient:
    """pgsplit towards an upstream.

    *secret* is a clear password, or *keys* are those recovered from a verifier. *binding* is the
    tls-server-end-point data when the server offers -PLUS on a TLS leg, else None.
    """

    def __init__(self, salted: Salted, *, secret: Secret | None = None, keys: Keys | None = None,
                 binding: bytes | None = None) -> None:
        self._salted = salted
        self._secret = secret
        self._keys = keys
        self._binding = binding
        self._header = b"p=tls-server-end-point,," if binding is not None else b"n,,"
        self._nonce = _nonce()
        self._bare = b"n=*,r=" + self._nonce      # the server knows the user's name from the StartupMessage
        self._auth_message = b""
        self._server_key = b""

    @property
    def mechanism(self) -> str:
        return SCRAM_PLUS if self._binding is not None else SCRAM

    def first(self) -> bytes:
        return self._header + self._bare

    def final(self, server_first: bytes) -> bytes:
        """:raises ScramError: for a malformed message, or a verifier that is not of the server's password."""
        nonce, salt, iterations = parse_server_first(server_first)
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ScramError("the server's SCRAM nonce does not continue ours")
        keys = self._keys_for(salt, iterations)
        self._server_key = keys.server_key
        bound = base64.b64encode(self._header + (self._binding or b""))
        without_proof = b"c=" + bound + b",r=" + nonce
        self._auth_message = b",".join((self._bare, server_first, without_proof))
        proof = _xor(keys.client_key, _hmac(_sha256(keys.client_key), self._auth_message))
        return without_proof + b",p=" + base64.b64encode(proof)

    def verify(self, server_final: bytes) -> None:
        """:raises ScramError: when the server does not know the password either."""
        fields = _fields(server_final)
        if b"e" in fields:
            raise ScramError(f"the server refused the SCRAM exchange: {fields[b'e'].decode(errors='replace')}", "28P01")
        expected = _hmac(self._server_key, self._auth_message)
        if not hmac.compare_digest(_b64(fields.get(b"v", b"")), expected):
            raise ScramError("the server's SCRAM signature is wrong: it does not know this password", "28P01")

    def _keys_for(self, salt: bytes, iterations: int) -> Keys:
        if self._keys is not None:
            if (self._keys.salt, self._keys.iterations) != (salt, iterations):
                raise StaleVerifier()
            return self._keys
        if self._secret is None or self._secret.kind is not Kind.CLEAR:
            raise ScramError("no password for the server's SCRAM request", "28000")
        return keys_of(self._salted(normalise(self._secret.text), salt, iterations), salt, iterations)


class StaleVerifier(ScramError):
    """The password was set anew on the server after the verifier was copied into the user list."""

    def __init__(self) -> None:
        super().__init__(STALE, "28P01")


class ScramServer:
    """pgsplit towards a client, from a verifier. *binding*: our certificate's tls-server-end-point data, on TLS."""

    def __init__(self, verifier: Verifier, binding: bytes | None) -> None:
        self._verifier = verifier
        self._binding = binding
        self._client_bare = b""
        self._header = b""
        self._server_first = b""
        self._nonce = b""

    @property
    def mechanisms(self) -> list[str]:
        return [SCRAM_PLUS, SCRAM] if self._binding is not None else [SCRAM]

    def first(self, mechanism: str, client_first: bytes) -> bytes:
        if mechanism not in self.mechanisms:
            raise ScramError("client selected an invalid SASL authentication mechanism")
        self._header, self._client_bare, nonce = parse_client_first(client_first)
        self._check_flag(mechanism)
        self._nonce = nonce + _nonce()
        salt = base64.b64encode(self._verifier.salt)
        self._server_first = b"r=%s,s=%s,i=%d" % (self._nonce, salt, self._verifier.iterations)
        return self._server_first

    def _check_flag(self, mechanism: str) -> None:
        flag = self._header[:1]
        if mechanism == SCRAM_PLUS:
            if not self._header.startswith(b"p=tls-server-end-point,"):
                raise ScramError("malformed SCRAM message: the client selected SCRAM-SHA-256-PLUS, but its message "
                                 "does not bind to tls-server-end-point")
        elif flag == b"p":
            raise ScramError("malformed SCRAM message: the client selected SCRAM-SHA-256 without channel binding, "
                             "but its message includes channel binding data")
        elif flag == b"y" and self._binding is not None:
            raise ScramError("SCRAM channel binding negotiation error: the client thinks that the server does not "
                             "support channel binding, but it does", "28000")

    def final(self, client_final: bytes) -> tuple[bytes, Keys]:
        """The last message, and the client's keys.

        :raises ScramError: 28P01 when the proof is wrong, without saying of whom.
        """
        without_proof, fields = parse_client_final(client_final)
        bound = self._header + (self._binding or b"" if self._header.startswith(b"p") else b"")
        if _b64(fields.get(b"c", b"")) != bound:
            raise ScramError("SCRAM channel binding check failed", "28000")
        if not hmac.compare_digest(fields.get(b"r", b""), self._nonce):
            raise ScramError("malformed SCRAM message: the nonce is not the one that was sent")
        auth_message = b",".join((self._client_bare, self._server_first, without_proof))
        keys = recover_keys(self._verifier, auth_message, _b64(fields.get(b"p", b"")))
        if keys is None:
            raise ScramError("password authentication failed", "28P01")
        return b"v=" + base64.b64encode(_hmac(self._verifier.server_key, auth_message)), keys


class ScramObserver:
    """Listens to an exchange that is relayed, and recovers the client's keys with the verifier's help."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._client_bare = b""
        self._server_first = b""

    def client_first(self, message: bytes) -> None:
        self._client_bare = parse_client_first(message)[1]

    def server_first(self, message: bytes) -> None:
        """:raises StaleVerifier: when the server's salt or count is not the verifier's."""
        _, salt, iterations = parse_server_first(message)
        if (salt, iterations) != (self._verifier.salt, self._verifier.iterations):
            raise StaleVerifier()
        self._server_first = message

    def client_final(self, message: bytes) -> Keys | None:
        """None when the proof is wrong: the server will say so."""
        without_proof, fields = parse_client_final(message)
        auth_message = b",".join((self._client_bare, self._server_first, without_proof))
        return recover_keys(self._verifier, auth_message, _b64(fields.get(b"p", b"")))


def recover_keys(verifier: Verifier, auth_message: bytes, proof: bytes) -> Keys | None:
    """ClientProof XOR ClientSignature is the ClientKey, which StoredKey checks (RFC 5802 section 3)."""
    if len(proof) != 32:
        return None
    client_key = _xor(proof, _hmac(verifier.stored_key, auth_message))
    if not hmac.compare_digest(_sha256(client_key), verifier.stored_key):
        return None
    return Keys(verifier.salt, verifier.iterations, client_key, verifier.server_key)


# --- messages (RFC 5802 section 7) ------------------------------------------------------------------------------

def parse_client_first(message: bytes) -> tuple[bytes, bytes, bytes]:
    """(gs2-header, client-first-message-bare, nonce)."""
    parts = message.split(b",", 2)
    if len(parts) < 3 or not (parts[0] in (b"n", b"y") or parts[0].startswith(b"p=")):
        raise ScramError("malformed SCRAM message: no gs2 header")
    if parts[1]:
        raise ScramError("client uses authorization identity, but it is not supported", "0A000")
    fields = _fields(parts[2])
    nonce = fields.get(b"r", b"")
    if b"m" in fields or b"n" not in fields or not nonce or not nonce.isascii():
        raise ScramError("malformed SCRAM message: client-first")
    return parts[0] + b",,", parts[2], nonce


def parse_server_first(message: bytes) -> tuple[bytes, bytes, int]:
    """(nonce, salt, iterations)."""
    fields = _fields(message)
    count = fields.get(b"i", b"")
    salt = _b64(fields.get(b"s", b""))
    if not count.isdigit() or len(count) > 10 or not int(count) or not salt or not fields.get(b"r"):
        raise ScramError("malformed SCRAM message: server-first")
    if int(count) > MAX_ITERATIONS:
        raise ScramError(f"the server asks for {int(count)} SCRAM iterations, pgsplit does {MAX_ITERATIONS} at most",
                         "28000")
    return fields[b"r"], salt, int(count)


def parse_client_final(message: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    without_proof, found, _ = message.rpartition(b",p=")
    if not found:
        raise ScramError("malformed SCRAM message: client-final has no proof")
    return without_proof, _fields(message)


def _fields(message: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for part in message.split(b","):
        name, found, value = part.partition(b"=")
        if not found or len(name) != 1 or name in fields:
            raise ScramError("malformed SCRAM message")
        fields[name] = value
    return fields


def _b64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ScramError("malformed SCRAM message: bad base64") from None


def _nonce() -> bytes:
    return base64.b64encode(secrets.token_bytes(18))


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
