"""Envoy's tls_params on a TLS context, a listener's or a cluster's."""

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
