"""Words for TLS that both programs have: protocols, ciphers, curves."""

from __future__ import annotations

from typing import Final

from .draft import Draft
from .source import Entry

VERSIONS: Final = {"tlsv1.2": "TLSv1.2", "tlsv1.3": "TLSv1.3"}
OLDER: Final = ("tlsv1.0", "tlsv1.1")
KEYWORDS: Final = ("default", "secure", "fast", "normal", "all", "legacy")     # PgBouncer's, for lists of its library's
NEWER_ONLY: Final = "TLS 1.2 and 1.3 are spoken: older clients and servers have none"

Block = dict[str, str]


def protocols(draft: Draft, entry: Entry, block: Block, target: str) -> None:
    """PgBouncer's list: ``secure`` (1.2 and 1.3), ``all``, or versions with commas between them."""
    words = [word for part in entry.value.replace(":", ",").split(",") if (word := part.strip().lower())]
    known = [VERSIONS[word] for word in words if word in VERSIONS]
    if not words or words == ["secure"]:
        return draft.nothing(entry, "is the default here, too")
    if not known:
        return draft.other(entry, NEWER_ONLY, target)
    if min(known) == max(known):
        block["min_protocol_version"] = min(known)
        if known[0] == "TLSv1.2":
            block["max_protocol_version"] = "TLSv1.2"
    if set(words) & set(OLDER):
        return draft.other(entry, NEWER_ONLY, target)
    return draft.taken(entry, target)


def ciphers(draft: Draft, entry: Entry, block: Block, target: str) -> None:
    if entry.value.lower() in ("", *KEYWORDS):
        return draft.nothing(entry, "OpenSSL's own choice holds")
    block["ciphers"] = entry.value
    return draft.taken(entry, target, text="for TLS 1.2: those of 1.3 are OpenSSL's own choice")


def curve(draft: Draft, entry: Entry, block: Block, target: str) -> None:
    if entry.value.lower() in ("", "auto", "none"):
        return draft.nothing(entry, "OpenSSL's own choice holds")
    if ":" in entry.value or "," in entry.value:
        return draft.other(entry, "one curve can be named (ecdh_curves), so OpenSSL's own choice holds", target)
    block["ecdh_curves"] = entry.value
    return draft.taken(entry, target)
