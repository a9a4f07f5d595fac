"""What an entry's message says of a statement: postgres.c's wording, which is not translated in English logs."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_SAID: Final = re.compile(
    r"(?:duration: (?P<ms>\d+\.\d+) ms(?:  |\Z))?"
    r"(?:(?P<what>statement|parse|bind|execute fetch from|execute)(?: (?P<name>.*?))?: (?P<sql>.*)"
    r"|(?P<call>fastpath function call): .*)?", re.DOTALL)
_PREPARE: Final = re.compile(r"prepare: (.*)", re.DOTALL)
# Behind or ahead of which another session has the number of the process.
OTHER_SESSION: Final = ("disconnection: ", "connection received: ")
UNNAMED: Final = "<unnamed>"
CALL: Final = "fastpath function call"


class Said(NamedTuple):
    """*what*: the phase that the log names; empty where it tells a duration alone, of what it has told before. *name*:
    of the prepared statement, and of its portal behind a slash.
    """

    what: str
    name: str
    sql: str
    ms: float | None


def said(message: str) -> Said | None:
    """None for an entry that is about no statement."""
    if not message.startswith(("duration: ", "statement: ", "execute ", "parse ", "bind ", CALL)):
        return None
    found = _SAID.fullmatch(message)
    if found is None:
        return None
    ms = float(found["ms"]) if found["ms"] else None
    what = found["call"] or found["what"] or ""
    return Said(what, found["name"] or "", found["sql"] or "", ms) if what or ms is not None else None


def prepared(detail: str) -> str:
    """The PREPARE that the DETAIL of an EXECUTE shows; empty where it shows none."""
    found = _PREPARE.match(detail)
    return found[1] if found is not None else ""
