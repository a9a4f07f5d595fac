"""What can be seen in the text of a body: of a function, a view's query, a policy's or a domain's expression."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..sql.lexer import Kind, LexError, Token, tokens
from .calls import calls_in
from .effects import SESSION_FUNCTIONS
from .function_lists import FunctionLists, names_before_parentheses
from .functions import SAFE
from .options import with_plain_options
from .reads import rule_of_call, why_not_words, with_plain_ages, without_clock

# In a body these begin what is not in the text itself: a statement made at run time, a cursor that outlives the call.
_PLPGSQL: Final = {"execute": "EXECUTE", "open": "OPEN"}
_DEFINING: Final = re.compile(r"\b(?:create|alter|drop|import|execute|call|do)\b", re.IGNORECASE)
# Words of what outlasts its transaction in the session, or says nothing of it.
_LASTING: Final = frozenset({"deallocate", "discard", "execute", "hold", "listen", "load", "prepare", "reset", "temp",
                             "temporary", "unlisten"})
_LETTERS: Final = re.compile("[\x80-\U0010ffff]+")


@dataclass(frozen=True, slots=True)
class Look:
    """*flaw*: why the text is no read by itself, in words. Names are `folded`.

    *calls*: names that are called, built-in ones among them. *unknown*: those of them that are no built-in functions
    that are known to be safe. *names*: every identifier. *defines*: it may change definitions. *leaves*: what may leave
    something behind in the session.
    """

    flaw: str
    calls: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    defines: bool = True
    leaves: str = "?"


def folded(name: str) -> str:
    """*name* as names are compared: in what encoding its letters above ASCII are is not known."""
    return name if name.isascii() else _LETTERS.sub("\x80", name)


def look_at(text: str, lists: FunctionLists, *, plpgsql: bool = False, clock: bool = False) -> Look:
    """The statements or the expression of *text*. *clock*: to read the server's clock is no flaw."""
    try:
        words = [token for token in tokens(text) if token.kind is not Kind.COMMENT]
    except LexError as error:
        return Look(f"not understood: {error}")
    if not words:
        return Look("", defines=False, leaves="")
    return look_at_words(words, lists, plpgsql=plpgsql, defines=_DEFINING.search(text) is not None, clock=clock)


def look_at_words(words: list[Token], lists: FunctionLists, *, plpgsql: bool = False, defines: bool = False,
                  clock: bool = False) -> Look:
    flaw = lists.for_primary(words)
    words = lists.masked(words)[0]
    # Of the database's own functions every one whose name stands before a parenthesis, whatever else it may be there.
    calls = {folded(name.rpartition(".")[2]) for _, _, name in names_before_parentheses(words)}
    words = with_plain_ages(with_plain_options(without_clock(words) if clock else words))
    rule, detail, _ = why_not_words(words, into=not plpgsql)
    flaw = flaw or (f"{rule}: {detail}" if rule else "")
    if plpgsql and not flaw:
        flaw = next((_PLPGSQL[token.text] for token in words if token.kind is Kind.WORD and token.text in _PLPGSQL), "")
    unknown = set()
    for name, qualified in calls_in(words):
        calls.add(folded(name))
        if qualified or name not in SAFE:
            unknown.add(folded(name))
        if not qualified and not flaw and name not in SAFE and (rule := rule_of_call(name)):
            flaw = f"{rule}: {name}"
    return Look(flaw, frozenset(calls), frozenset(unknown), names_in(words), operators_in(words), defines,
                _leaves(words, calls))


def _leaves(words: list[Token], calls: set[str]) -> str:
    plain = [token.text for token in words if token.kind is Kind.WORD]
    for text in plain:
        if text in _LASTING or text.startswith("pg_temp"):
            return text
    # UPDATE … SET, also behind ON CONFLICT, is none of the session's.
    if plain.count("set") > plain.count("update") or any(
            token.text == "do" and words[index + 1].kind is Kind.STRING for index, token in enumerate(words[:-1])):
        return "set"
    return next((name for name in calls if name in SESSION_FUNCTIONS), "")


def is_built_in(name: str) -> bool:
    """Whether *name* is a function of the server's own of which something is known here."""
    return name in SAFE or bool(rule_of_call(name))


def names_in(words: list[Token]) -> frozenset[str]:
    return frozenset(folded(token.text) for token in words if token.kind in (Kind.WORD, Kind.QUOTED))


def operators_in(words: list[Token]) -> frozenset[str]:
    return frozenset(token.text for token in words if token.kind is Kind.OPERATOR)
