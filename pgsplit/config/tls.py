"""What the tls contexts of listeners and of clusters have in common."""

from __future__ import annotations

from typing import Any, Final

from .fields import TLS_PARAMS
from .model import TlsParams
from .reader import Fields

VERSIONS: Final = ("TLSv1.2", "TLSv1.3")
TOO_OLD: Final = ("TLSv1.0", "TLSv1.1", "TLSv1")
AUTO: Final = "TLS.AUTO"


def read_params(common: Fields, owner: str, marks: dict[str, str]) -> TlsParams:
    """Of a common_tls_context; *marks* gain where each list of *owner* stands, as ``OWNER FIELD``."""
    params = common.mapping("tls_params", TLS_PARAMS)
    minimum, maximum = (params.scalar(f"tls_{end}_protocol_version", _version, None) for end in ("minimum", "maximum"))
    if minimum and maximum and minimum > maximum:
        name = "tls_minimum_protocol_version"
        params.notes.wrong(params.where(name), params.at(name), f"{minimum} is above the maximum, {maximum}")
    lists = {}
    for name in ("cipher_suites", "ecdh_curves"):
        lists[name] = tuple(params.words(name))
        marks[f"{owner} {name}"] = params.mark(name)
    return TlsParams(minimum=minimum or "TLSv1.2", maximum=maximum, **lists)


def _version(text: str) -> Any:
    """As Envoy writes it, TLSv1_2, or PostgreSQL, TLSv1.2; None for Envoy's TLS_AUTO."""
    version = text.replace("_", ".")
    if version in TOO_OLD:
        raise ValueError(f"{text} is not done: OpenSSL does not at its security level, {VERSIONS[0]} is the oldest")
    if version not in (*VERSIONS, AUTO):
        raise ValueError(f"{text!r} is not one of {', '.join(VERSIONS)}")
    return version if version != AUTO else None
