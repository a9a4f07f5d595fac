"""The names that a text reads from: what stands behind FROM, JOIN and TABLE, and is no common table expression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..sql.lexer import Kind, Token

# In the arguments of these FROM is grammar (PostgreSQL manual 9.4, 9.9).
_WITH_FROM: Final = frozenset({"extract", "overlay", "substring", "trim"})
_ENDS: Final = frozenset(["where", "group", "order", "having", "limit", "offset", "union", "intersect", "except",
                          "window", "fetch", "for", "returning", "set"])
_BEFORE: Final = frozenset({"only", "lateral"})
_BEFORE_TABLE: Final = frozenset({"(", "union", "all", "intersect", "except", "as", "explain", "verbose", ")"})
_QUERIES: Final = frozenset({"select", "values", "with"})


def relations_in(words: list[Token]) -> list[str]:
    """Names without their schemas, in order; functions in FROM are none."""
    own = set(_common_table_expressions(words))
    return [name for name in _named(words) if name not in own]


class _Level:
    """Of parentheses: whether a FROM clause is open there, and whether a name of it is next."""

    __slots__ = ("expects", "from_is_grammar", "in_from")

    def __init__(self, expects: bool = False, from_is_grammar: bool = False) -> None:
        self.in_from = self.expects = expects
        self.from_is_grammar = from_is_grammar


def _named(words: list[Token]) -> Iterator[str]:
    levels = [_Level()]
    index = 0
    while index < len(words):
        token, level = words[index], levels[-1]
        text = token.text if token.kind in (Kind.WORD, Kind.PUNCTUATION) else ""
        before = words[index - 1].text if index else ""
        if text == "(":
            levels.append(_Level(level.expects, before in _WITH_FROM))
            level.expects = False
        elif text == ")":
            if len(levels) > 1:
                levels.pop()
        elif text == ",":
            level.expects = level.in_from
        elif _opens(words, index, level):
            level.in_from = level.expects = True
        elif text == "table" and (index == 0 or before in _BEFORE_TABLE):
            level.expects = True
        elif level.expects and text not in _BEFORE:
            level.expects = False
            if text in _QUERIES:
                level.in_from = False
            elif token.kind in (Kind.WORD, Kind.QUOTED):
                while index + 2 < len(words) and words[index + 1].text == "." and (
                        words[index + 2].kind in (Kind.WORD, Kind.QUOTED)):
                    index += 2
                after = words[index + 1].text if index + 1 < len(words) else ""
                rows_from = text == "rows" and after == "from"
                if after != "(" and not rows_from:
                    yield words[index].text
        elif text in _ENDS and before != ".":
            level.in_from = False
        index += 1


def _opens(words: list[Token], index: int, level: _Level) -> bool:
    """Whether behind the word at *index* a name is next."""
    token = words[index]
    if token.kind is not Kind.WORD or (index and words[index - 1].text == "."):
        return False
    return token.text == "join" or (
        token.text == "from" and not level.from_is_grammar and not _compares(words, index))


def _compares(words: list[Token], index: int) -> bool:
    """IS [NOT] DISTINCT FROM."""
    return index > 1 and words[index - 1].text == "distinct" and words[index - 2].text in ("is", "not")


def _common_table_expressions(words: list[Token]) -> Iterator[str]:
    """WITH name [(columns)] AS [[NOT] MATERIALIZED] ( …"""
    for index, token in enumerate(words):
        if token.text != "as" or token.kind is not Kind.WORD or index == 0:
            continue
        behind = index + 1
        while behind < len(words) and words[behind].text in ("not", "materialized"):
            behind += 1
        if behind >= len(words) or words[behind].text != "(":
            continue
        position = index - 1
        if words[position].text == ")":
            depth = 1
            while position > 0 and depth:
                position -= 1
                depth += (words[position].text == ")") - (words[position].text == "(")
            position -= 1
        if position >= 0 and words[position].kind in (Kind.WORD, Kind.QUOTED):
            yield words[position].text
