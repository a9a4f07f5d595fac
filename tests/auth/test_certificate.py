"""tls-server-end-point of certificates of every kind (RFC 5929 section 4.1)."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from pgsplit.upstream.certificate import end_point

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def certificate(key, algorithm, **sign) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, algorithm, **sign))
    return made.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("key", [RSA, EC], ids=["rsa", "ecdsa"])
@pytest.mark.parametrize("algorithm", [hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()],
                         ids=lambda algorithm: algorithm.name)
def test_the_hash_is_that_of_the_signature(key, algorithm):
    der = certificate(key, algorithm)
    assert end_point(der) == hashlib.new(algorithm.name, der).digest()


def test_an_algorithm_without_a_hash_of_its_own_has_no_binding():
    assert end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None
    assert end_point(certificate(RSA, hashes.SHA256(), rsa_padding=PSS)) is None


def test_what_is_no_certificate_has_no_binding():
    der = certificate(EC, hashes.SHA256())
    for size in (0, 1, 2, 10, 100):
        assert end_point(der[:size]) is None
    assert end_point(b"\x31" + der[1:]) is None
