"""What is wrong with a certificate, a key or a CA file, in words: OpenSSL's own are "PEM lib"."""

from __future__ import annotations

import re
import ssl
from typing import Final

from ..config.model import ServerTls, TlsParams
from ..upstream.tls_params import CURVES

CERTIFICATE: Final = re.compile(rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----")
LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----")
KEY: Final = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")
ENCRYPTED: Final = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)
DER: Final = b"\x30\x82"           # how a certificate or a key of more than 255 bytes begins without PEM around it

REASONS: Final = {
    "KEY_VALUES_MISMATCH": "the key {key} is not that of the certificate {certificate}",
    "KEY_TYPE_MISMATCH": "the key {key} is not that of the certificate {certificate}",
    "EE_KEY_TOO_SMALL": "{certificate}: its key is too short for OpenSSL's security level",
    "CA_KEY_TOO_SMALL": "{certificate}: the key of a CA in it is too short for OpenSSL's security level",
    "CA_MD_TOO_WEAK": "{certificate}: is signed with a digest too weak for OpenSSL's security level",
}


def wrong_with_pair(tls: ServerTls) -> str | None:
    """With a listener's certificate and key."""
    return wrong_with_certificates(tls.certificate) or _wrong_with_key(tls.key) or _wrong_together(tls)


def wrong_with_certificates(path: str) -> str | None:
    """With a file of certificates, such as a CA's."""
    content, why = _content(path)
    if why:
        return why
    if not CERTIFICATE.search(content):
        return f"{path}: {_what_else(content, KEY, 'a key')}, no certificate in PEM (-----BEGIN CERTIFICATE-----)"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        if error.reason in REASONS:
            return REASONS[error.reason].format(certificate=path)
        return f"{path}: a certificate in it is damaged ({error.reason or error})"
    return None


def wrong_with_trust(ca: str | None, crl: str | None) -> dict[str, str]:
    """With the files of a validation_context: field -> why."""
    found = {"trusted_ca": wrong_with_certificates(ca) if ca else None, "crl": wrong_with_crl(crl) if crl else None}
    return {field: why for field, why in found.items() if why}


def wrong_with_crl(path: str) -> str | None:
    """With a file of revocation lists."""
    content, why = _content(path)
    if why:
        return why
    if not LIST.search(content):
        found = _what_else(content, CERTIFICATE, "a certificate")
        return f"{path}: {found}, no revocation list in PEM (-----BEGIN X509 CRL-----)"
    if CERTIFICATE.search(content):
        return f"{path}: holds a certificate, too, which would be trusted: give revocation lists only"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        return f"{path}: a revocation list in it is damaged ({error.reason or error})"
    return None


def wrong_with_params(params: TlsParams) -> dict[str, str]:
    """With cipher suites and curves: field of tls_params -> why. OpenSSL itself says so only when none is good."""
    found, context = {}, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for word in params.cipher_suites:
        if word.startswith("@"):
            found["cipher_suites"] = f"{word} is no cipher suite"
        elif not _selects(context, word.lstrip("!+-")):
            found["cipher_suites"] = (f"{word} is no cipher suite that OpenSSL has for TLS 1.2 (those of TLS 1.3 are "
                                      "its own choice)")
    if params.cipher_suites and not found and not _selects(context, ":".join(params.cipher_suites)):
        found["cipher_suites"] = "no cipher suite is left"
    if len(params.ecdh_curves) > 1:
        found["ecdh_curves"] = "only one curve can be set"
    for curve in params.ecdh_curves:
        try:
            context.set_ecdh_curve(CURVES.get(curve, curve))
        except ValueError:
            found["ecdh_curves"] = f"{curve} is no curve that OpenSSL has"
    return found


def _selects(context: ssl.SSLContext, words: str) -> bool:
    try:
        context.set_ciphers(words)
    except ssl.SSLError:
        return False
    return True


def _wrong_with_key(path: str) -> str | None:
    content, why = _content(path)
    if why:
        return why
    if ENCRYPTED.search(content):
        return f"{path}: the key is encrypted, and nobody is asked for its passphrase (openssl pkey -in … -out …)"
    if not KEY.search(content):
        found = _what_else(content, CERTIFICATE, "a certificate")
        return f"{path}: {found}, no key in PEM (-----BEGIN PRIVATE KEY-----)"
    return None


def _wrong_together(tls: ServerTls) -> str | None:
    try:
        # A passphrase is given, so that OpenSSL asks for none at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except ssl.SSLError as error:
        words = REASONS.get(error.reason or "", "{key}: the key is damaged, or of a kind that OpenSSL does not have")
        return words.format(certificate=tls.certificate, key=tls.key)
    return None


def _content(path: str) -> tuple[bytes, str | None]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        return b"", f"{path}: {error.strerror}"
    return content, None if content.strip() else f"{path}: is empty"


def _what_else(content: bytes, other: re.Pattern[bytes], name: str) -> str:
    if content.startswith(DER):
        return "is in DER form"
    return f"holds {name}" if other.search(content) else "holds something else"
