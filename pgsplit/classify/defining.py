"""Which statements may change definitions: of functions, views, policies, types … that other statements rest on."""

from __future__ import annotations

from typing import Final

from ..sql.lexer import Kind, Token
from .catalogue import Catalogue

_DEFINING: Final = frozenset({"create", "alter", "drop", "import"})
# Of these the session alone has what it makes, and is pinned while it does.
_TEMPORARY: Final = frozenset({"temp", "temporary"})
_HARMLESS_KINDS: Final = frozenset({"table", "sequence"})
_NOT_UNDERSTOOD: Final = frozenset({"not_lexed", "doubt"})


def defines(words: list[Token], reason: str, catalogue: Catalogue) -> bool:
    """Whether the statement *words*, which goes to the primary for *reason*, may change definitions. What a trigger
    does is not seen.
    """
    first = words[0].text if words[0].kind is Kind.WORD else ""
    if first in _DEFINING:
        opening = {token.text for token in words[1:5] if token.kind is Kind.WORD}
        return not (opening & _TEMPORARY and opening & _HARMLESS_KINDS)
    return reason == "select_into" or reason in _NOT_UNDERSTOOD or catalogue.may_define(words)
