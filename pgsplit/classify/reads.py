"""What keeps a statement that begins as a read from being one (DESIGN section 5)."""

from __future__ import annotations

from typing import Final

from ..sql.lexer import Kind, Token
from . import server_local
from .calls import MODIFYING, calls_in
from .effects import NO_SESSION_EFFECT, SESSION_FUNCTIONS, UNLOCKING
from .function_lists import HARMLESS
from .functions import SAFE
from .options import with_plain_options

LOCKING: Final = frozenset({"update", "share", "no", "key"})
CONSTANT: Final = frozenset({"select", ",", "null", "true", "false"})
_CLOCK_WORDS: Final = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})


def is_constant(words: list[Token]) -> bool:
    """SELECT 1: nothing in it runs code of the database's own, as a view, an operator, a function or the check of a
    domain may.
    """
    return words[0].text == "select" and all(
        token.kind is Kind.NUMBER or (token.kind is not Kind.STRING and token.text in CONSTANT)
        or (token.kind is Kind.STRING and words[index].text in CONSTANT) for index, token in enumerate(words[1:]))


def writes_nothing(words: list[Token]) -> bool:
    """SELECT f() of a built-in function that answers for the server or its session, and takes no argument."""
    texts = [token.text for token in words]
    return (texts[0] == "select" and len(words) == 4 and texts[2:] == ["(", ")"] and words[1].kind is Kind.WORD
            and (texts[1] in UNLOCKING or server_local.is_local_function(texts[1])))


def why_not_read(words: list[Token]) -> tuple[str, str, bool]:
    """(rule, what matched it, may it have written); an empty rule for a read."""
    words = with_plain_ages(with_plain_options(words))
    found = why_not_words(words)
    return found if found[0] else unsafe_call(words)


def with_plain_ages(words: list[Token]) -> list[Token]:
    """*words* with a harmless function in the place of each age(a, b): of one argument alone it reads the clock."""
    found = words
    for index, token in enumerate(words[:-1]):
        if token.text == "age" and token.kind is Kind.WORD and words[index + 1].text == "(" and (
                _arguments(words, index + 1) == 2):
            found = [*found[:index], Token(Kind.WORD, HARMLESS, token.start), *found[index + 1:]]
    return found


def without_clock(words: list[Token]) -> list[Token]:
    """*words* with something harmless in the place of whatever reads the server's clock when it runs. Strings such as
    'now' stay: they are read when a statement is prepared, and so is what they become.
    """
    words = with_plain_ages(words)
    found = words
    for index, token in enumerate(words):
        if token.kind is not Kind.WORD or token.text not in server_local.CLOCK:
            continue
        if index + 1 < len(words) and words[index + 1].text == "(":
            found = [*found[:index], token._replace(text=HARMLESS), *found[index + 1:]]
        elif token.text in _CLOCK_WORDS and not (index and words[index - 1].text == "."):
            found = [*found[:index], token._replace(text="null"), *found[index + 1:]]
    return found


def _arguments(words: list[Token], opening: int) -> int:
    """Between the parenthesis at *opening* and its end."""
    depth, commas = 0, 0
    for token in words[opening:]:
        if token.kind is Kind.PUNCTUATION:
            depth += (token.text in ("(", "[")) - (token.text in (")", "]"))
            commas += token.text == "," and depth == 1
            if depth == 0:
                return commas + 1
    return 0


def why_not_words(words: list[Token], *, into: bool = True) -> tuple[str, str, bool]:
    """The same, but for the functions that are called. *into*: INTO makes a table, as it does not in PL/pgSQL."""
    for index, token in enumerate(words):
        text = token.text
        if token.kind is Kind.WORD:
            after = words[index + 1].text if index + 1 < len(words) else ""
            before = words[index - 1].text if index else ""
            if text == "into" and into:
                return "select_into", text, True
            if text == "for" and after in LOCKING:
                return "locking_clause", f"for {after}", True
            if text in MODIFYING and before not in (".", "as") and before != "for":
                return "data_modifying_with", text, True
            if text in server_local.CLOCK and before != "." and (after == "(" or text in _CLOCK_WORDS):
                return "clock", text, False
        if token.kind in (Kind.WORD, Kind.QUOTED):
            if server_local.is_local_relation(text):
                return "server_local_relation", text, False
            if text in server_local.SEQUENCE_COLUMNS:
                return "sequence_row", text, False
        elif token.kind is Kind.STRING and server_local.is_clock_string(text):
            return "clock", f"'{text.strip().lower()[:40]}'", False
    return "", "", False


def unsafe_call(words: list[Token]) -> tuple[str, str, bool]:
    for name, qualified in calls_in(words):
        if not qualified and name in SAFE:
            continue
        rule = rule_of_call(name) if not qualified else "function" if name in SESSION_FUNCTIONS else ""
        return rule or "unknown_function", name, rule not in ("clock", "server_local_function")
    return "", "", False


def rule_of_call(name: str) -> str:
    """The rule that keeps calls of the server's own function *name* from replicas; none for one that is not known."""
    if name in server_local.CLOCK:
        return "clock"
    if server_local.is_local_function(name):
        return "server_local_function"
    return "function" if name in NO_SESSION_EFFECT or name in SESSION_FUNCTIONS else ""
