"""PgBouncer's client_tls_* and server_tls_*, each read together."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Final

from .draft import Draft, Value
from .remarks import Meaning
from .rules import is_off
from .source import Entry
from .tls import Block, ciphers, curve, protocols

Take = Callable[[str], Entry | None]
"""The setting of that name, which is then dealt with."""

CLIENT_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
LOOSE: Final = ("allow", "prefer")


def client_tls(draft: Draft, take: Take, directory: str) -> None:
    mode = take("client_tls_sslmode")
    word = mode.value.lower() if mode is not None else "disable"
    if mode is not None and word not in CLIENT_MODES:
        return draft.wrong(mode, f"is not one of {', '.join(CLIENT_MODES)}")
    block: Block = {}
    used = word != "disable"
    for name, field in (("client_tls_cert_file", "certificate"), ("client_tls_key_file", "key"),
                        ("client_tls_ca_file", "client_ca")):
        _file(draft, take(name), block, field, "tls", directory,
              word.startswith("verify") if field == "client_ca" else used)
    for name, read in (("client_tls_protocols", protocols), ("client_tls_ciphers", ciphers),
                       ("client_tls_ecdhcurve", curve)):
        entry = take(name)
        if entry is not None and used:
            read(draft, entry, block, "tls")
        elif entry is not None:
            draft.nothing(entry, "clients have no TLS")
    if not used:
        if mode is not None:
            draft.nothing(mode, "clients have no TLS here either, where tls: is left out")
        return None
    assert mode is not None
    if "certificate" not in block or "key" not in block:
        return draft.missing("tls: needs client_tls_cert_file and client_tls_key_file", "tls", mode)
    if word not in LOOSE:
        block["mode"] = "require"
    if word.startswith("verify"):
        block["require_client_certificate"] = "true"
        if "client_ca" not in block:
            return draft.missing("tls: client_ca is the file of the CA: client_tls_ca_file", "tls", mode)
        draft.taken(mode, "tls", text="the password is asked for all the same")
    else:
        draft.taken(mode, "tls")
    draft.values["tls"] = _value(block)
    return None


def server_tls(draft: Draft, take: Take, directory: str) -> None:
    mode = take("server_tls_sslmode")
    word = mode.value.lower() if mode is not None else "prefer"
    if mode is not None and word not in CLIENT_MODES:
        return draft.wrong(mode, f"is not one of {', '.join(CLIENT_MODES)}")
    ours = {"disable": "disable", "require": "require", "verify-ca": "verify", "verify-full": "verify"}.get(
        word, "disable" if draft.local() else "require")
    block: Block = {}
    ca: Block = {}
    _file(draft, take("server_tls_ca_file"), ca, "ca", "ca", directory, ours == "verify")
    for name, field in (("server_tls_cert_file", "certificate"), ("server_tls_key_file", "key")):
        _file(draft, take(name), block, field, "upstream_tls", directory, ours != "disable")
    for name, read in (("server_tls_protocols", protocols), ("server_tls_ciphers", ciphers)):
        entry = take(name)
        if entry is not None and ours != "disable":
            read(draft, entry, block, "upstream_tls")
        elif entry is not None:
            draft.nothing(entry, "servers are reached without TLS")
    if word in LOOSE:
        _loose(draft, mode, ours)
    elif word == "verify-full" and mode is not None:
        draft.other(mode, "the CA's signature is checked, and not that the certificate is of that host: give a CA that "
                          "signs these servers alone, or exact names in Envoy's form (match_typed_subject_alt_names)",
                    "upstream_tls", loud=True)
    elif mode is not None:
        draft.taken(mode, "upstream_tls")
    draft.values["upstream_tls"] = _value({"mode": ours, **block}) if block else ours
    if ours == "verify" and "ca" in ca:
        draft.values["ca"] = ca["ca"]
    elif ours == "verify":
        draft.missing("ca: the file of the CA's certificate: server_tls_ca_file", "upstream_tls", mode)
    return None


def _loose(draft: Draft, mode: Entry | None, ours: str) -> None:
    """TLS where the server has it, which pgsplit does not do: one or the other."""
    text = ("pgsplit has TLS to its servers, or has none, and does not try: " + (
        "they are on this machine, so none" if ours == "disable" else
        "TLS it is; upstream_tls: disable where they have none (ssl = off)"))
    if mode is None:
        text = f"server_tls_sslmode is not set, which is prefer: {text}"
    draft.note(mode, Meaning.OTHER, text, "upstream_tls", loud=ours != "disable")


def _file(draft: Draft, entry: Entry | None, block: Block, field: str, target: str, directory: str,
          used: bool) -> None:
    if entry is None:
        return
    if is_off(entry.value):
        draft.nothing(entry, "names no file")
    elif not used:
        draft.nothing(entry, "is not used with that sslmode")
    else:
        block[field] = posixpath.join(directory, entry.value)
        draft.taken(entry, target, text="" if entry.value.startswith("/") else f"taken from {directory or 'here'}")


def _value(block: Block) -> Value:
    first = ("mode", "certificate", "key")
    return {name: block[name] for name in (*first, *(name for name in block if name not in first)) if name in block}
