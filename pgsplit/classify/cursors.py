"""DECLARE, FETCH, MOVE and CLOSE: which cursor a statement is about (PostgreSQL manual, part VI)."""

from __future__ import annotations

from typing import NamedTuple

from ..sql.lexer import LONGEST_NAME, Kind, Token


class Cursor(NamedTuple):
    """*name*: of the cursor; empty for all of them. *query*: of a DECLARE, where among its words the query begins."""

    verb: str
    name: bytes
    query: int = 0

    @property
    def opens(self) -> bool:
        return self.verb == "declare"


def cursor_of(words: list[Token]) -> Cursor | None:
    """The cursor that the statement *words* is about; None where that is not understood, and for one WITH HOLD."""
    verb = words[0].text
    if len(words) < 2:
        return None
    if verb == "declare":
        texts = [token.text if token.kind is Kind.WORD else "" for token in words]
        query = texts.index("for") + 1 if "for" in texts else len(texts)
        head = texts[2:query]
        if "cursor" not in head or "with" in head or query >= len(words):
            return None
        return _named(verb, words[1], query)
    if verb == "close" and len(words) == 2 and words[1].kind is Kind.WORD and words[1].text == "all":
        return Cursor(verb, b"")
    return _named(verb, words[-1]) if verb != "close" or len(words) == 2 else None


def declared_name(words: list[Token]) -> bytes:
    """The name of the cursor that a DECLARE makes, WITH HOLD or not; empty where it is not understood."""
    cursor = _named(words[0].text, words[1]) if words[0].text == "declare" and len(words) > 1 else None
    return cursor.name if cursor is not None else b""


def _named(verb: str, token: Token, query: int = 0) -> Cursor | None:
    if token.kind not in (Kind.WORD, Kind.QUOTED):
        return None
    name = token.text.encode("latin-1")
    return Cursor(verb, name, query) if name and len(name) <= LONGEST_NAME else None
