"""Which names before a parenthesis may be function calls: everything that is not known to be grammar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..sql.lexer import Kind, Token
from .commands import BEFORE_NAMES, GRAMMAR, GRAMMAR_BEHIND, TYPES
from .functions import SAFE

READERS: Final = frozenset({"select", "values", "table", "with", "("})
MODIFYING: Final = frozenset({"insert", "update", "delete", "merge"})
# Words after which a name before a parenthesis may be a call; behind any other word it is an alias.
_OPERATOR_WORDS: Final = frozenset({"and", "or", "not", "in", "like", "ilike", "similar", "to", "between", "symmetric",
                                    "is", "from", "distinct", "all", "any", "some", "escape", "case", "when", "then",
                                    "else", "select", "where", "having", "on", "by", "limit", "offset", "values",
                                    "using", "lateral", "join", "overlaps", "zone", "union", "except",
                                    "intersect", "array", "row", "collate", "isnull", "notnull", "fetch", "first",
                                    "next", "range", "rows", "groups", "variadic", "default", "end", "operator",
                                    "placing", "for", "passing", "interval", "only", "ordinality",
                                    # PL/pgSQL's
                                    "perform", "if", "elsif", "elseif", "while", "assert", "query", "call",
                                    "reverse", "slice", "loop", "constant", "raise", "message", "return"})
_KEYWORDS: Final = GRAMMAR | GRAMMAR_BEHIND.keys() | _OPERATOR_WORDS


def has(words: list[Token], word: str) -> bool:
    return any(token.kind is Kind.WORD and token.text == word for token in words)


def second_word(words: list[Token]) -> str:
    return words[1].text if len(words) > 1 else ""


def calls_in(words: list[Token]) -> Iterator[tuple[str, bool]]:
    """Names before a parenthesis that may be functions: (name, qualified by another schema than pg_catalog)."""
    for index in range(1, len(words)):
        token = words[index]
        if token.text != "(" or token.kind is not Kind.PUNCTUATION:
            continue
        name = words[index - 1]
        if name.kind not in (Kind.WORD, Kind.QUOTED):
            continue
        before = words[index - 2] if index > 1 else None
        if before is not None and before.text == "." and before.kind is Kind.PUNCTUATION:
            schema = words[index - 3] if index > 2 else None
            built_in = schema is not None and schema.text == "pg_catalog" and not (
                index > 3 and words[index - 4].text == ".")
            yield name.text, not built_in
        elif not _is_no_call(words, index, name, before):
            yield name.text, name.kind is Kind.QUOTED


def _is_no_call(words: list[Token], index: int, name: Token, before: Token | None) -> bool:
    """Grammar, a type with its modifiers, an alias with its columns, the name of a common table expression."""
    if name.kind is Kind.WORD and (name.text in GRAMMAR or (
            before is not None and before.text in GRAMMAR_BEHIND.get(name.text, ()))):
        return True
    if before is None:
        return False
    if name.text == "operator" and _names_operator(words, index):
        return True
    if before.kind is Kind.PUNCTUATION and before.text == "::":
        return True
    if name.kind is Kind.WORD and name.text in TYPES and not _may_be_function(name.text):
        return True
    if before.kind is Kind.QUOTED or before.text == ")":
        return True
    if before.kind is Kind.WORD:
        if before.text in BEFORE_NAMES:
            return True
        return (before.text == "with" or before.text not in _KEYWORDS) and before.text not in _OPERATOR_WORDS
    return before.text == "," and _is_cte(words, index)


def _names_operator(words: list[Token], index: int) -> bool:
    """OPERATOR(schema.+): what stands last in its parentheses is an operator, as in no call."""
    end = next((position for position in range(index, len(words)) if words[position].text == ")"), 0)
    return words[end - 1].kind is Kind.OPERATOR if end else False


def _may_be_function(name: str) -> bool:
    return name in SAFE


def _is_cte(words: list[Token], index: int) -> bool:
    """Whether the parenthesis at *index* closes before ``AS [NOT] [MATERIALIZED] ( SELECT …``."""
    depth = 0
    for position in range(index, len(words)):
        text = words[position].text if words[position].kind is Kind.PUNCTUATION else ""
        depth += (text == "(") - (text == ")")
        if depth == 0:
            rest = [token.text for token in words[position + 1:position + 6]]
            rest = [text for text in rest if text not in ("not", "materialized")]
            return len(rest) > 2 and rest[:2] == ["as", "("] and rest[2] in {*READERS, *MODIFYING}
    return False
