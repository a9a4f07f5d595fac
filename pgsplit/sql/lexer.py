"""PostgreSQL's lexical structure (manual 4.1) as one table of regular expressions.

The text is given as `str`; letters above ASCII are identifier characters whatever they are, so a text whose encoding
is not known may be decoded as Latin-1. Linear in the length of the text.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final, NamedTuple

from ..errors import PgSplitError

LONGEST_NAME: Final = 63        # bytes of an identifier; a server cuts a longer one (manual 4.1.1)


class LexError(PgSplitError):
    """A text that PostgreSQL's scanner would refuse, or that is not understood here."""


class Kind(IntEnum):
    WORD = 1          # an identifier or key word, folded to lower case
    QUOTED = 2        # a quoted identifier, without its quotes
    STRING = 3        # a string constant of any form; its value where that is plain
    NUMBER = 4
    PARAMETER = 5     # $1
    OPERATOR = 6
    PUNCTUATION = 7   # ( ) [ ] , ; . : :: := .. =>
    COMMENT = 8


class Token(NamedTuple):
    kind: Kind
    text: str
    start: int


# Only single characters repeat possessively here: before 3.11.5 Python matches possessive groups wrongly. What follows
# a repeated group cannot begin inside it, so there is nothing to try again.
# A string goes on in another quoted part when nothing but white space with a newline stands between (4.1.2.1).
_NEXT: Final = r"(?:[ \t\f\v]++|--[^\n\r]*+)*[\n\r](?:[ \t\n\r\f\v]++|--[^\n\r]*+(?:[\n\r]|\Z))*'"
_PLAIN: Final = rf"'[^']*+(?:(?:''|'{_NEXT})[^']*+)*'(?!'|{_NEXT})"
_BITS: Final = rf"'[^']*+(?:'{_NEXT}[^']*+)*'(?!{_NEXT})"         # no doubled quote in these
_ESCAPED: Final = rf"'(?:[^'\\]++|\\.|''|'{_NEXT})*'(?!'|{_NEXT})"
_QUOTED: Final = r'"(?:[^"]++|"")+"(?!")'
_DIGITS: Final = r"[0-9]++(?:_[0-9]++)*"
_LETTER: Final = r"A-Za-z_\u0080-\U0010ffff"

_TABLE: Final = (
    ("space", r"[ \t\n\r\f\v]++"),
    ("comment", r"--[^\n\r]*+"),
    ("block", r"/\*"),
    ("escaped", rf"[eE]{_ESCAPED}"),
    ("unicode", rf"[uU]&{_PLAIN}"),
    ("unicode_quoted", rf"[uU]&{_QUOTED}"),
    ("bits", rf"[bBxX]{_BITS}"),
    ("national", rf"[nN]{_PLAIN}"),
    ("string", _PLAIN),
    ("dollar", rf"\$(?:[{_LETTER}][{_LETTER}0-9]*+)?\$"),
    ("word", rf"[{_LETTER}][{_LETTER}0-9$]*+"),
    ("quoted", _QUOTED),
    ("parameter", r"\$[0-9]++"),
    ("number", (r"0[xX](?:_?[0-9A-Fa-f]++)+|0[oO](?:_?[0-7]++)+|0[bB](?:_?[01]++)+"
                rf"|(?:{_DIGITS}(?:\.(?!\.)(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?")),
    ("punctuation", r"::|:=|\.\.|=>(?![~!@#^&|`?+\-*/%<>=])|[()\[\],;.:]"),
    ("operator", r"(?:(?!--|/\*)[~!@#^&|`?+\-*/%<>=])+"),
)
_SCAN: Final = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _TABLE), re.DOTALL).match
_COMMENT_MARK: Final = re.compile(r"/\*|\*/")
_UPPER: Final = {ord(c): c.lower() for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}

_KINDS: Final = {"word": Kind.WORD, "string": Kind.STRING, "national": Kind.STRING, "bits": Kind.STRING,
                 "escaped": Kind.STRING, "unicode": Kind.STRING, "number": Kind.NUMBER,
                 "parameter": Kind.PARAMETER, "operator": Kind.OPERATOR, "punctuation": Kind.PUNCTUATION,
                 "comment": Kind.COMMENT}


def tokens(text: str) -> list[Token]:
    """All tokens and comments of *text*, standard_conforming_strings being on.

    :raises LexError: with the position and what is wrong there.
    """
    found: list[Token] = []
    position, end = 0, len(text)
    while position < end:
        match = _SCAN(text, position)
        if match is None:
            raise LexError(f"unexpected character or unterminated constant at position {position + 1}")
        name = match.lastgroup
        start, position = position, match.end()
        if name == "space":
            continue
        if name == "word":
            found.append(Token(Kind.WORD, match[0].translate(_UPPER), start))
        elif name == "quoted":
            found.append(Token(Kind.QUOTED, match[0][1:-1].replace('""', '"'), start))
        elif name == "block":
            position = _comment_end(text, position)
            found.append(Token(Kind.COMMENT, text[start:position], start))
        elif name == "dollar":
            position = _dollar_end(text, position, match[0])
            found.append(Token(Kind.STRING, text[match.end():position - len(match[0])], start))
        elif name == "unicode_quoted":
            raise LexError(f"an identifier with Unicode escapes at position {start + 1}")
        elif name == "string":
            found.append(Token(Kind.STRING, match[0][1:-1], start))
        else:
            found.append(Token(_KINDS[name or ""], match[0], start))
    return found


def _comment_end(text: str, position: int) -> int:
    """Behind the end of the comment whose opening ends at *position*; comments nest."""
    depth = 1
    for mark in _COMMENT_MARK.finditer(text, position):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    raise LexError("unterminated /* comment")


def _dollar_end(text: str, position: int, tag: str) -> int:
    end = text.find(tag, position)
    if end < 0:
        raise LexError("unterminated dollar-quoted string")
    return end + len(tag)
