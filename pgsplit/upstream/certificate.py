"""What is read of a certificate: its channel binding data, tls-server-end-point (RFC 5929 4.1), and its last day."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

# The hash of the certificate's signature algorithm; for md5 and sha1 RFC 5929 prescribes SHA-256.
# An algorithm without a hash of its own (Ed25519, RSASSA-PSS) has no binding, so -PLUS is not offered.
_HASHES: Final = {
    bytes.fromhex("2a864886f70d010104"): "sha256",    # md5WithRSAEncryption
    bytes.fromhex("2a864886f70d010105"): "sha256",    # sha1WithRSAEncryption
    bytes.fromhex("2a864886f70d01010b"): "sha256",
    bytes.fromhex("2a864886f70d01010c"): "sha384",
    bytes.fromhex("2a864886f70d01010d"): "sha512",
    bytes.fromhex("2a864886f70d01010e"): "sha224",
    bytes.fromhex("2a8648ce3d0401"): "sha256",        # ecdsa-with-SHA1
    bytes.fromhex("2a8648ce3d040301"): "sha224",
    bytes.fromhex("2a8648ce3d040302"): "sha256",
    bytes.fromhex("2a8648ce3d040303"): "sha384",
    bytes.fromhex("2a8648ce3d040304"): "sha512",
}


def end_point(der: bytes) -> bytes | None:
    """None when the certificate's signature algorithm defines no binding, or it cannot be read."""
    try:
        name = _HASHES.get(_signature_algorithm(der))
    except (IndexError, ValueError):
        return None
    return hashlib.new(name, der).digest() if name else None


def not_after(der: bytes) -> float | None:
    """When it ends, in Unix seconds; None when it cannot be read (RFC 5280 4.1.2.5)."""
    try:
        position, _ = _enter(der, _enter(der, 0, 0x30)[0], 0x30)
        if der[position] == 0xA0:                                    # version
            _, position = _enter(der, position, 0xA0)
        for tag in (0x02, 0x30, 0x30):                               # serialNumber, signature, issuer
            _, position = _enter(der, position, tag)
        validity, _ = _enter(der, position, 0x30)
        _, second = _enter(der, validity, der[validity])
        start, end = _enter(der, second, der[second])
        text = der[start:end].decode("ascii")
        if der[second] == 0x17:                                      # UTCTime: years from 1950 to 2049
            text = ("20" if int(text[:2]) < 50 else "19") + text
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError):
        return None


def _signature_algorithm(der: bytes) -> bytes:
    """Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID … }, … } (RFC 5280 4.1)."""
    start, _ = _enter(der, 0, 0x30)
    _, behind_tbs = _enter(der, start, 0x30)
    algorithm, _ = _enter(der, behind_tbs, 0x30)
    oid, end = _enter(der, algorithm, 0x06)
    return der[oid:end]


def _enter(der: bytes, position: int, tag: int) -> tuple[int, int]:
    """(start, end) of the content of the element at *position*."""
    if der[position] != tag:
        raise ValueError("unexpected tag")
    length, start = der[position + 1], position + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(der[start:start + size], "big"), start + size
    return start, start + length
