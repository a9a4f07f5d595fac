"""TLS and passwords of the admin page; when a certificate ends."""

from __future__ import annotations

import datetime
import hashlib
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from werkzeug.security import check_password_hash

from admin.problems import _of_certificates
from pgsplit.demo import ports
from pgsplit.upstream.certificate import not_after

APP = Path(__file__).resolve().parents[2] / "app.py"


def certificate(days: float) -> bytes:
    """PEM, with its key; it ends in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=20000))
            .not_valid_after(now + datetime.timedelta(days=days)).sign(key, hashes.SHA256()))
    return made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.mark.parametrize("days", [-3000, 1, 300, 30000])        # UTCTime and GeneralizedTime
def test_the_end_of_a_certificate_is_read(days):
    pem = certificate(days)
    expected = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    der = ssl.PEM_cert_to_DER_cert(pem.decode().partition("-----BEGIN PRIVATE")[0].strip() + "\n")
    assert not_after(der) == expected
    assert not_after(b"nonsense") is None


@pytest.mark.parametrize(("days", "said"), [
    (-1, "The certificate of listener l has ended"), (3, "The certificate of listener l ends in"), (100, None)])
def test_the_overview_says_so(tmp_path, days, said):
    file = tmp_path / "server.pem"
    file.write_bytes(certificate(days))
    found = list(_of_certificates({"listeners": [{"name": "l", "certificate": str(file)}]}))
    assert [problem.words.startswith(said) for problem in found] == ([True] if said else [])


def test_a_file_that_is_gone_is_no_news_here(tmp_path):
    assert list(_of_certificates({"listeners": [{"name": "l", "certificate": str(tmp_path / "nothing")}]})) == []


def test_the_page_over_tls(cluster, pgsplit_server):
    keys = {"certificate": str(cluster.key_pair.certificate), "key": str(cluster.key_pair.key)}
    admin = f"{ports.HOST}:{ports.choose()}"
    proxy = pgsplit_server(admin={"address": admin, "tls": keys, "password": hashed("open")})
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = f"https://{admin}"
    with urllib.request.urlopen(f"{address}/healthz", context=context, timeout=30) as answer:
        assert answer.read() == b"ok\n"
    with urllib.request.urlopen(f"{address}/login", context=context, timeout=30) as answer:
        assert "Secure" in answer.headers["Set-Cookie"]
    assert not (proxy.run_dir / "admin-password").exists()


def hashed(password: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, APP, "hash-password", *arguments], input=f"{password}\n",
                          capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_hash_password():
    assert check_password_hash(hashed("swordfish"), "swordfish")
    token = dict(line.split(": ", 1) for line in hashed("", "--token").splitlines())
    assert hashlib.sha256(token["token"].strip().encode()).hexdigest() == token["sha256"].strip()
    empty = subprocess.run([sys.executable, APP, "hash-password"], input="\n", capture_output=True, text=True)
    assert empty.returncode == 1 and "empty password" in empty.stderr
