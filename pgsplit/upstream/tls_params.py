"""What the TLS contexts of listeners and of clusters have in common: Envoy's tls_params, and whom they trust."""

from __future__ import annotations

import ssl
from typing import Final

from ..config.model import TlsParams

VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
CURVES: Final = {"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}     # Envoy's names, OpenSSL's


def apply(context: ssl.SSLContext, params: TlsParams) -> None:
    """:raises ssl.SSLError: for cipher suites, ValueError for a curve, that OpenSSL does not have."""
    context.minimum_version = VERSIONS[params.minimum]
    if params.maximum is not None:
        context.maximum_version = VERSIONS[params.maximum]
    if params.cipher_suites:
        context.set_ciphers(":".join(params.cipher_suites))
    for curve in params.ecdh_curves:
        context.set_ecdh_curve(CURVES.get(curve, curve))


def trust(context: ssl.SSLContext, ca: str, crl: str | None) -> None:
    """Certificates that the CAs in *ca* have signed. With *crl* none of a chain may be revoked, and each of its CAs
    must have a list there that has not run out, as with PostgreSQL's ssl_crl_file.

    :raises OSError: (ssl.SSLError among them) when a file cannot be used.
    """
    context.load_verify_locations(ca)
    if crl is not None:
        context.load_verify_locations(crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
