"""A position in the write-ahead log of one term, as text: freshness travels with it from one service to another.

`SHOW pgsplit.lsn` tells one, `SET pgsplit.min_lsn` asks to see it (docs/adr/0019). Sans-I/O.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(r"([0-9]{1,20})/([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
INVALID: Final = 'invalid value for parameter "pgsplit.min_lsn": '
_SHOWN: Final = 100         # characters of a text in its error
HINT: Final = ("It is what SHOW pgsplit.lsn tells: a system identifier, a timeline and a position, such as "
                "7301234567890123456/1/0/3000148.")


class Term(NamedTuple):
    """On which server positions compare."""

    system_identifier: str
    timeline: int


class Token(NamedTuple):
    term: Term
    lsn: int

    def __str__(self) -> str:
        return f"{self.term.system_identifier}/{self.term.timeline:X}/{self.lsn >> 32:X}/{self.lsn & 0xFFFFFFFF:X}"


class Refused(NamedTuple):
    """Why pgsplit does not do what one of its options asks for, as a server's ErrorResponse would say it."""

    sqlstate: str
    message: str
    hint: str


def parse(text: str) -> Token:
    """:raises ValueError: for what is no token."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no position")
    system_identifier, timeline, high, low = match.groups()
    return Token(Term(system_identifier, int(timeline, 16)), int(high, 16) << 32 | int(low, 16))


def judge(text: str, term: Term | None) -> Token | Refused | None:
    """What *text*, a value of pgsplit.min_lsn, asks for in a session on a primary of *term*; None: nothing.

    *term* None: the session has no primary, or which it is is not known.
    """
    if not text:
        return None
    message = f'{INVALID}"{text[:_SHOWN]}"'
    try:
        token = parse(text)
    except ValueError:
        return Refused("22023", message, HINT)
    if term is None:
        return Refused("22023", message, "The session has no primary whose system identifier and timeline are known.")
    if token.term.system_identifier != term.system_identifier:
        return Refused("22023", message, f"It is of another PostgreSQL cluster: this one is {term.system_identifier}.")
    if token.term.timeline != term.timeline:
        return Refused("22023", message, f"It is of timeline {token.term.timeline:X}, and the primary is on timeline "
                       f"{term.timeline:X}: what was committed there may be lost. RESET pgsplit.min_lsn and read anew.")
    return token
