"""The operator's own knowledge: functions that may, or may not, read from replicas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate

from ..sql.lexer import Kind, Token

HARMLESS = "abs"        # a built-in function that everything is known of


class FunctionLists:
    """Patterns in the shell's way (``app.is_*``), for a function's name or ``schema.name``, folded as PostgreSQL folds.

    *replica*: taken for harmless; *primary*: never read from a replica, built-in ones too. *primary* wins.
    """

    def __init__(self, replica: Iterable[str] = (), primary: Iterable[str] = ()) -> None:
        self._replica = _pattern(replica)
        self._primary = _pattern(primary)

    def __bool__(self) -> bool:
        return bool(self._replica or self._primary)

    def for_primary(self, words: list[Token]) -> str:
        """The first function called that is listed for the primary, or nothing."""
        return next((name for _, _, name in names_before_parentheses(words) if _listed(self._primary, name)), "")

    def masked(self, words: list[Token]) -> tuple[list[Token], str]:
        """*words* with a harmless function in the place of each that is listed for replicas, and one of these."""
        found = ""
        for start, end, name in reversed(list(names_before_parentheses(words))):
            if _listed(self._replica, name):
                words = [*words[:start], Token(Kind.WORD, HARMLESS, words[start].start), *words[end:]]
                found = name
        return words, found


def _pattern(globs: Iterable[str]) -> re.Pattern[str] | None:
    translated = [translate(glob.strip()) for glob in globs if glob.strip()]
    return re.compile("|".join(translated)) if translated else None


def _listed(pattern: re.Pattern[str] | None, name: str) -> bool:
    return pattern is not None and bool(pattern.match(name) or pattern.match(name.rpartition(".")[2]))


def names_before_parentheses(words: list[Token]) -> Iterable[tuple[int, int, str]]:
    """Where a name stands before a parenthesis: (its first word, behind its last, the name)."""
    for index in range(1, len(words)):
        if words[index].text != "(" or words[index].kind is not Kind.PUNCTUATION:
            continue
        start = index - 1
        if words[start].kind not in (Kind.WORD, Kind.QUOTED):
            continue
        while start > 1 and words[start - 1].text == "." and words[start - 2].kind in (Kind.WORD, Kind.QUOTED):
            start -= 2
        yield start, index, "".join(token.text for token in words[start:index])
