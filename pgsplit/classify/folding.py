"""Texts that differ in their literals only: clients that write values into their SQL never send the same text twice.

A text is folded only where regular expressions do it: no comment, no quoted identifier, no dollar, no backslash, no
string in pieces. Its lexical structure is then plain to see, and two texts with one folded form have the same tokens
but for the values of constants.
"""

from __future__ import annotations

import re
from typing import Final

from .facts import Facts

_UNPLAIN: Final = re.compile(rb'["$\\\x00-\x02]|--|/\*|&\'').search
_STRING: Final = re.compile(rb"'[^']*'")
_NUMBER: Final = re.compile(rb"(?<![\w.\x80-\xff])[0-9]+(?:\.[0-9]+)?(?![\w.\x80-\xff])")
_IN_PIECES: Final = re.compile(rb"\x01\s+\x01").search        # one string, PostgreSQL manual 4.1.2.1
# Where strings are more than values: see server_local.CLOCK_STRING, and `options` for the name of a setting.
_TELLING: Final = re.compile(rb"now|today|tomorrow|yesterday|current_setting", re.IGNORECASE).search


def fold(sql: bytes) -> bytes | None:
    """*sql* with \\x01 for each quoted string and \\x02 for each whole number; None when it is not to be folded."""
    if _UNPLAIN(sql) is not None:
        return None
    if b"'" in sql:
        if _TELLING(sql) is not None:
            return None
        sql = _STRING.sub(b"\x01", sql)
        if b"'" in sql or _IN_PIECES(sql) is not None:
            return None
    return _NUMBER.sub(b"\x02", sql)


def independent_of_literals(facts: Facts) -> bool:
    """Whether other values of its constants would give the same facts."""
    plain = facts.reason in _INDEPENDENT or (facts.reason == "clock" and facts.timed is not None)
    return plain and not (facts.effects or facts.settings or facts.ends)


_INDEPENDENT: Final = frozenset({"read", "write", "write_digest", "locking_clause", "listed_function", "ddl"})


def unfolded(text: bytes) -> bytes:
    """A text that has the same tokens as those that *text* is the folded form of."""
    return text.replace(b"\x01", b"''").replace(b"\x02", b"0")
