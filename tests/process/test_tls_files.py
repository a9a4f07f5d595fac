"""A TLS file that cannot be used is named, with what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pgsplit.config.model import ServerTls
from pgsplit.demo.certificates import Authority
from pgsplit.errors import ConfigError
from pgsplit.process.files import load_config
from pgsplit.process.tls_files import wrong_with_certificates, wrong_with_pair


@pytest.fixture
def pair(tmp_path) -> ServerTls:
    issued = Authority(tmp_path).issue("server")
    return ServerTls(certificate=str(issued.certificate), key=str(issued.key))


def der(path: str) -> bytes:
    import ssl

    return ssl.PEM_cert_to_DER_cert(Path(path).read_text())


def encrypted(path: str, form: serialization.PrivateFormat) -> bytes:
    key = serialization.load_pem_private_key(Path(path).read_bytes(), None)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))


def test_a_good_pair(pair, tmp_path):
    assert wrong_with_pair(pair) is None
    both = tmp_path / "both.pem"
    both.write_bytes(Path(pair.key).read_bytes() + Path(pair.certificate).read_bytes())
    assert wrong_with_pair(ServerTls(certificate=str(both), key=str(both))) is None


@pytest.mark.parametrize("content, why", [
    (None, "No such file or directory"),
    (b"", "is empty"),
    (b"nonsense", "holds something else, no certificate in PEM (-----BEGIN CERTIFICATE-----)"),
    ("key", "holds a key, no certificate in PEM (-----BEGIN CERTIFICATE-----)"),
    ("der", "is in DER form, no certificate in PEM (-----BEGIN CERTIFICATE-----)"),
    (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate in it is damaged"),
])
def test_the_certificate(pair, content, why):
    made = {"key": lambda: Path(pair.key).read_bytes(), "der": lambda: der(pair.certificate)}
    given = made[content]() if isinstance(content, str) else content
    os.unlink(pair.certificate)
    if given is not None:
        Path(pair.certificate).write_bytes(given)
    for found in (wrong_with_pair(pair), wrong_with_certificates(pair.certificate)):
        assert found is not None and found.startswith(f"{pair.certificate}: {why}"), found


@pytest.mark.parametrize("content, why", [
    (None, "No such file or directory"),
    (b"", "is empty"),
    (b"nonsense", "holds something else, no key in PEM (-----BEGIN PRIVATE KEY-----)"),
    ("certificate", "holds a certificate, no key in PEM (-----BEGIN PRIVATE KEY-----)"),
    ("pkcs8", "the key is encrypted, and nobody is asked for its passphrase"),
    ("traditional", "the key is encrypted, and nobody is asked for its passphrase"),
    (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "the key is damaged"),
])
def test_the_key(pair, content, why):
    made = {"certificate": lambda: Path(pair.certificate).read_bytes(),
            "pkcs8": lambda: encrypted(pair.key, serialization.PrivateFormat.PKCS8),
            "traditional": lambda: encrypted(pair.key, serialization.PrivateFormat.TraditionalOpenSSL)}
    given = made[content]() if isinstance(content, str) else content
    os.unlink(pair.key)
    if given is not None:
        Path(pair.key).write_bytes(given)
    found = wrong_with_pair(pair)
    assert found is not None and found.startswith(f"{pair.key}: {why}"), found


def test_both(pair, tmp_path):
    other = Authority(tmp_path).issue("other")
    wrong = ServerTls(certificate=pair.certificate, key=str(other.key))
    assert wrong_with_pair(wrong) == f"the key {other.key} is not that of the certificate {pair.certificate}"
    assert wrong_with_pair(ServerTls(certificate=str(tmp_path), key=pair.key)) == f"{tmp_path}: Is a directory"


def test_they_are_named_where_they_stand(pair, tmp_path):
    """The CA of both clusters once."""
    Path(tmp_path, "ca.crt").write_text("nonsense")
    file = tmp_path / "pgsplit.yaml"
    file.write_text(f"listen: 127.0.0.1:6432\nprimary: a:1\nreplicas: [b:1]\nusers: {{u: p}}\nupstream_tls: verify\n"
                    f"ca: ca.crt\ntls: {{certificate: {pair.certificate}, key: missing.key}}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    assert caught.value.problems == [
        f"{file}:7: tls: {tmp_path}/missing.key: No such file or directory",
        f"{file}:6: ca: {tmp_path}/ca.crt: holds something else, no certificate in PEM (-----BEGIN CERTIFICATE-----)"]
