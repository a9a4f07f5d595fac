"""What the texts of a session make of its transactions' defaults: pgsplit itself asks the primary (split/state.py)."""

from __future__ import annotations

import re
from typing import Final

from ..classify.transactions import READ_COMMITTED
from ..split.transaction import SETTINGS

PLAIN: Final = {"default_transaction_isolation": READ_COMMITTED}
"""Those of a session that sets nothing, and whose role and database do not either."""

_SET: Final = re.compile(rf"\bset\s+(?:session\s+)?({'|'.join(SETTINGS)})\s*(?:=|\bto\b)\s*('(?:[^']|'')*'|[^\s;]+)",
                         re.IGNORECASE)
_CONFIG: Final = re.compile(rf"\bset_config\s*\(\s*'({'|'.join(SETTINGS)})'\s*,\s*('(?:[^']|'')*')\s*,\s*'?f",
                            re.IGNORECASE)
_RESET: Final = re.compile(rf"\breset\s+(?:session\s+)?({'|'.join(SETTINGS)}|all)\b|\bdiscard\s+(all)\b", re.IGNORECASE)
_MODES: Final = re.compile(r"\bset\s+session\s+characteristics\s+as\s+transaction\b([^;]*)", re.IGNORECASE)
_ISOLATION: Final = re.compile(r"isolation\s+level\s+(serializable|repeatable\s+read|read\s+(?:un)?committed)",
                               re.IGNORECASE)
_READ: Final = re.compile(r"\bread\s+(only|write)\b", re.IGNORECASE)
_DEFERRABLE: Final = re.compile(r"\b(not\s+)?deferrable\b", re.IGNORECASE)
_ON: Final = frozenset({"on", "true", "yes", "1"})


def changed(settings: dict[str, str], sql: str) -> dict[str, str]:
    """*settings* behind *sql*, a text that changes the session's settings; the same object where none of them is."""
    found = dict(settings)
    for match in _RESET.finditer(sql):
        name = (match[1] or match[2]).lower()
        if name == "all":
            found = dict(PLAIN)
        else:
            _put(found, name, "default")
    for match in (*_SET.finditer(sql), *_CONFIG.finditer(sql)):
        value = match[2]
        _put(found, match[1].lower(), value[1:-1] if value.startswith("'") else value)
    for match in _MODES.finditer(sql):
        modes = match[1]
        if (isolation := _ISOLATION.search(modes)) is not None:
            found["default_transaction_isolation"] = " ".join(isolation[1].lower().split())
        if (read := _READ.search(modes)) is not None:
            found["default_transaction_read_only"] = "on" if read[1].lower() == "only" else "off"
        if (deferrable := _DEFERRABLE.search(modes)) is not None:
            found["default_transaction_deferrable"] = "off" if deferrable[1] else "on"
    return found if found != settings else settings


def _put(settings: dict[str, str], name: str, value: str) -> None:
    value = value.lower()
    if value == "default":
        settings.pop(name, None)
        settings.update({key: plain for key, plain in PLAIN.items() if key == name})
    elif name.endswith(("_read_only", "_deferrable")):
        settings[name] = "on" if value in _ON else "off"
    else:
        settings[name] = value
