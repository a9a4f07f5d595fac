"""A certificate authority that lives for one run, so that no private key has to be shipped or kept."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = datetime.timedelta(days=30)
CERTIFICATES_ONLY = x509.KeyUsage(
    key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False)


@dataclass(frozen=True)
class KeyPair:
    """PEM files of a certificate and of its private key (mode 0600)."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates for the servers of one run; ``ca`` is its own certificate's file, for clients that verify."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lists = 0
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("pgsplit demo authority")
        certificate = (_builder(self._name, self._name, self._key.public_key())
                       .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                       .add_extension(CERTIFICATES_ONLY, critical=True)
                       .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
                       .sign(self._key, hashes.SHA256()))
        self.ca = directory / "ca.crt"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")) -> KeyPair:
        """A key pair in ``<name>.crt`` and ``<name>.key``, good for *hosts* (names and addresses)."""
        return self._issue(name, name, [_general_name(host) for host in hosts])

    def issue_client(self, common_name: str, emails: Sequence[str] = (), file: str = "") -> KeyPair:
        """A client's key pair in ``<file>.crt`` and ``<file>.key``; *file* is the common name by default."""
        return self._issue(file or common_name, common_name, [x509.RFC822Name(email) for email in emails])

    def crl(self, *revoked: KeyPair, next_update: datetime.timedelta = LIFETIME) -> Path:
        """The file of a list of revoked certificates, ``<number>.crl``."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (x509.CertificateRevocationListBuilder().issuer_name(self._name)
                   .last_update(now - datetime.timedelta(days=1)).next_update(now + next_update))
        for pair in revoked:
            serial = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build())
        self._lists += 1
        path = self._directory / f"{self._lists}.crl"
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _issue(self, name: str, common_name: str, names: list[x509.GeneralName]) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._name, key.public_key()).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = KeyPair(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        with open(pair.key, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption()))
        return pair


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + LIFETIME))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
