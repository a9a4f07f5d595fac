"""A draft as pgsplit's short form: values by PyYAML, above each the lines that it comes from."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Any, Final

import yaml

from ..config.settings import SETTINGS
from ..config.users import CERT, is_clear
from .draft import Draft
from .remarks import Meaning, Remark

WIDTH: Final = 118
ORDER: Final = ("listen", "servers", "primary", "replicas", "lb_policy", "users", "monitor", "tls", "upstream_tls",
                "ca",
                *(setting.name for setting in SETTINGS))
REST: Final = ((Meaning.MISSING, "What is missing"), (Meaning.OTHER, "What means something else here"),
               (Meaning.UNKNOWN, "What is not known"), (Meaning.NOTHING, "What means nothing here"),
               (Meaning.TAKEN, "What else was taken over"))


def written(draft: Draft) -> str:
    """The whole file. Nothing of a comment is a secret; the values are as they are."""
    parts = [_comment(f"{draft.name}, made into a configuration of pgsplit's: {summary(draft)}. Each comment has the "
                      "line that it is about; docs/migrating.md says what to do next."
                      + (" This file holds passwords: its mode is to be 0600." if draft.users else ""))]
    values: dict[str, Any] = dict(draft.values)
    remarks = sorted(draft.remarks, key=_place)
    if draft.users:
        values["users"] = _users(draft)
    for name in sorted(values, key=ORDER.index):
        about = [remark for remark in remarks if remark.target == name]
        parts.append("".join(map(_of, about)) + _yaml({name: values[name]}))
    for meaning, title in REST:
        rest = [remark for remark in remarks if remark.meaning is meaning and remark.target not in values]
        if rest:
            parts.append(f"# --- {title}\n#\n" + "".join(map(_of, rest)))
    return "\n".join(parts)


def summary(draft: Draft) -> str:
    """How many settings of the source became what."""
    counts = Counter(remark.meaning for remark in draft.remarks if remark.entry is not None)
    return ", ".join(f"{counts[meaning]} {words}" for meaning, words in (
        (Meaning.TAKEN, "taken over"), (Meaning.OTHER, "mean something else here"),
        (Meaning.NOTHING, "mean nothing here"), (Meaning.UNKNOWN, "not known"), (Meaning.MISSING, "lack something"))
        if counts[meaning] or meaning is Meaning.TAKEN)


def said(draft: Draft) -> list[str]:
    """Each remark in a line, in the order of the source, then those that are about no line of it."""
    return [str(remark) for remark in sorted(draft.remarks, key=_place)]


def _place(remark: Remark) -> tuple[bool, str, int]:
    return (True, "", 0) if remark.entry is None else (False, remark.entry.file, remark.entry.line)


def _users(draft: Draft) -> dict[str, str] | list[dict[str, str]]:
    """A mapping of names to secrets; with certificates a list, of what each logs in with at the servers."""
    if not draft.certificates:
        return draft.users
    monitor = draft.values.get("monitor")
    return [{"username": name, "password": secret} if name == monitor else
            {"username": name, "password": CERT, "upstream_password": secret}
            for name, secret in draft.users.items() if is_clear(secret) or secret.startswith("md5")]


def _of(remark: Remark) -> str:
    return _comment(str(remark))


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, WIDTH - 2, break_long_words=False,
                                                            break_on_hyphens=False, subsequent_indent="  "))


def _yaml(value: dict[str, Any]) -> str:
    flow = None if isinstance(next(iter(value.values())), dict | str) else False
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=flow or False)
