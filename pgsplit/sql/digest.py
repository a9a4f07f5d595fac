"""A text without its literals: what may be counted, shown and logged."""

from __future__ import annotations

from typing import Final

from .lexer import Kind, LexError, Token, tokens

LITERALS: Final = frozenset({Kind.STRING, Kind.NUMBER, Kind.PARAMETER})
LIMIT: Final = 1000          # characters of a digest
# What a digest keeps apart, token by token, and nobody writes so.
_TIDY: Final = (("( ", "("), (" )", ")"), (" ,", ","), (" :: ", "::"), (" . ", "."), (" ;", ";"))


def digest(found: list[Token]) -> str:
    """Literals become ``?``, lists of them one ``?``, comments nothing, white space one blank."""
    words: list[str] = []
    for token in found:
        if token.kind is Kind.COMMENT:
            continue
        if token.kind not in LITERALS:
            words.append(_quoted(token.text) if token.kind is Kind.QUOTED else token.text)
        elif words[-2:] == ["?", ","]:
            words.pop()
        else:
            words.append("?")
    return " ".join(words)[:LIMIT]


def of_text(sql: str) -> str:
    """The digest of *sql*; of one that cannot be lexed only that."""
    try:
        return digest(tokens(sql))
    except LexError:
        return "(not lexed)"


def tidy(text: str) -> str:
    """A digest as it would be written."""
    for apart, together in _TIDY:
        text = text.replace(apart, together)
    return text


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
