"""Facts of an SQL text (DESIGN section 5): pure, without a server's help, and on the safe side.

A wrong "primary" costs load; a wrong "replica" would be a wrong answer. So a text is a read only when every word of
it is known to be harmless. Without a catalogue some things cannot be seen and are documented limits: a user's
function behind an operator, a cast, a view or attribute notation (the replica's 25006 repairs those that write).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from ..sql.lexer import LONGEST_NAME, Kind, LexError, Token, tokens
from .calls import MODIFYING, READERS, has, second_word
from .catalogue import NO_DOUBT, Catalogue
from .commands import COMMANDS
from .cursors import cursor_of, declared_name
from .defining import defines
from .effects import effects_of, ends_of, of_block, settings_of
from .facts import DOUBT, EVERY, HINTABLE, REPLICA_CLOCK, UNCLEAR, Facts, Prepares, Tx, Verdict
from .function_lists import FunctionLists
from .options import is_shown_alike
from .reads import is_constant, why_not_read, without_clock, writes_nothing
from .set_commands import Change, changes_of, constants_of, sets_the_stage
from .transactions import begin_of, end_of, modes_of

NO_LISTS: Final = FunctionLists()
EMPTY: Final = Facts(Verdict.READ, "empty_query", effect_free=True, writes=False, wrote_nothing=True, empty=True)
READ: Final = Facts(Verdict.READ, "read", effect_free=True, writes=False)

# Of a text that only reads the clock, itself or by what it calls or names.
_CLOCK_MAY_BE_ALL: Final = frozenset({"clock", "hidden_doubt", "unknown_function"})
STAGING: Final = frozenset({"savepoint", "release", "rollback", "set", "select"})
LOADS_CODE: Final = frozenset({"load"})
EVERY_PIN: Final = ("advisory_lock", "hold_cursor", "listen", "temporary_object")
_HINT: Final = re.compile(r"/\*\s*pgsplit:\s*(primary|replica)\s*\*/")


def classify(sql: str, *, max_bytes: int = 65536, lists: FunctionLists = NO_LISTS,
             catalogue: Catalogue | None = None) -> Facts:
    """The facts of *sql*, which may hold several statements: it is as strong as its strongest.

    *max_bytes*: a longer text is not lexed; its first word decides. `standard_conforming_strings` is taken to be on.
    *lists*: functions that the operator knows. *catalogue*: of the database; without one it is not asked what a view,
    an operator or a function of the user's does.
    """
    if len(sql) > max_bytes:
        return _too_long(sql)
    try:
        found = tokens(sql)
    except LexError as error:
        return replace(DOUBT, reason="not_lexed", detail=str(error))
    if "\0" in sql:
        return replace(DOUBT, reason="not_lexed", detail="a zero byte")
    hint = next((match[1] for token in found if token.kind is Kind.COMMENT and (match := _HINT.fullmatch(token.text))),
                "")
    statements = list(_split(found))
    facts = _strongest([_known(words, lists, catalogue) for words in statements])
    if len(statements) == 1 and facts.reason == "sql_prepared_statement":
        facts = _prepared(sql, statements[0], facts)
    return _hinted(facts, hint)


def _too_long(sql: str) -> Facts:
    match = re.match(r"[\s(]*([A-Za-z]*)", sql)
    word = match[1].lower() if match else ""
    effects = () if word in MODIFYING else ("unknown_effect",)
    return Facts(Verdict.PRIMARY, "statement_too_long", word, (word.upper(),), effects=effects, cause=word,
                 defines=word not in MODIFYING)


def _split(found: list[Token]) -> Iterator[list[Token]]:
    """The statements of a text, without comments and empty ones."""
    words: list[Token] = []
    for token in found:
        if token.kind is Kind.PUNCTUATION and token.text == ";":
            if words:
                yield words
            words = []
        elif token.kind is not Kind.COMMENT:
            words.append(token)
    if words:
        yield words


def _strongest(statements: list[Facts]) -> Facts:
    if not statements:
        return EMPTY
    if len(statements) == 1:
        return statements[0]
    first = next((facts for facts in statements if facts.verdict is Verdict.PRIMARY), statements[0])
    prepared = any(facts.prepares or facts.deallocates or facts.reason == "sql_prepared_statement"
                   for facts in statements)
    return replace(
        first, parts=tuple(statements), commands=_all(facts.commands for facts in statements),
        effect_free=all(facts.effect_free for facts in statements), writes=any(facts.writes for facts in statements),
        wrote_nothing=all(facts.wrote_nothing for facts in statements),
        effects=_all(facts.effects for facts in statements),
        cause=next((facts.cause for facts in statements if facts.effects), ""),
        ends=_all(facts.ends for facts in statements), settings=_all(facts.settings for facts in statements),
        unsure=next((facts.unsure for facts in statements if facts.unsure), ""),
        releases=all(facts.releases for facts in statements), defines=any(facts.defines for facts in statements),
        changes=_all_changes(statements), stages=False, modes=None, cursor=None, declares=b"", begins=None, ends_as=b"",
        timed=None,
        executes=b"", prepares=None,
        deallocates=UNCLEAR if prepared else b"",
        tells_route=any(facts.tells_route for facts in statements),
        tells_lsn=any(facts.tells_lsn for facts in statements), min_lsns=_all(facts.min_lsns for facts in statements),
        tx=max((facts.tx for facts in statements if facts.tx), key=_TX_ORDER.index, default=None))


def _all_changes(statements: list[Facts]) -> tuple[Change, ...]:
    """Of several statements in one text, which end together; nothing where one is not plain, or ends a part of them."""
    if any(facts.tx or ("session_setting" in facts.effects and not facts.changes) for facts in statements):
        return ()
    return tuple(change for facts in statements for change in facts.changes)


def _all(tuples: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(word for words in tuples for word in words)


def _hinted(facts: Facts, hint: str) -> Facts:
    """A comment that is exactly ``/* pgsplit: primary */`` or ``replica`` decides, the latter among reads only."""
    if hint and facts.timed is not None:
        facts = replace(facts, timed=None)
    if hint == "primary" and facts.verdict is Verdict.READ and not facts.empty:
        return replace(facts, verdict=Verdict.PRIMARY, reason="hint_primary", hint=hint)
    if hint == "primary" and (facts.begins is not None or (facts.cursor is not None and facts.cursor.opens)):
        return replace(facts, begins=None, cursor=None, hint=hint)
    if hint == "replica" and facts.unsure:
        return replace(facts, unsure="", effect_free=False, hint=hint)
    if hint == "replica" and facts.verdict is Verdict.PRIMARY and facts.reason in HINTABLE:
        return replace(facts, verdict=Verdict.READ, reason="hint_replica", effect_free=False, hint=hint)
    return facts


# --- one statement ------------------------------------------------------------------------------------------------

def _known(words: list[Token], lists: FunctionLists, catalogue: Catalogue | None) -> Facts:
    facts = _as_named(words, lists, catalogue)
    if facts.reason in _CLOCK_MAY_BE_ALL and facts.cursor is None:
        timed = _but_for_the_clock(words, lists, catalogue)
        if timed.verdict is Verdict.READ:
            facts = replace(facts, timed=replace(timed, reason=REPLICA_CLOCK, detail=facts.detail,
                                                 wrote_nothing=facts.wrote_nothing, defines=facts.defines))
    return facts


def _but_for_the_clock(words: list[Token], lists: FunctionLists, catalogue: Catalogue | None) -> Facts:
    """What a statement, which is no read, would be if it were nothing to read the server's clock."""
    if lists.for_primary(words):
        return DOUBT
    if catalogue is None:
        return _listed(words, without_clock(words), lists)
    facts = _listed(words, without_clock(catalogue.masked(words, clock=True)), lists)
    doubt = catalogue.why_not(words, clock=True) if facts.verdict is Verdict.READ else NO_DOUBT
    if doubt.rule == "unknown_relation":
        return replace(facts, unsure=doubt.detail)
    return DOUBT if doubt.rule else facts


def _as_named(words: list[Token], lists: FunctionLists, catalogue: Catalogue | None) -> Facts:
    """With what the operator and the database say of the names in it."""
    if catalogue is None:
        return _listed(words, words, lists) if lists else _statement(words)
    facts = _listed(words, catalogue.masked(words), lists)
    if facts.reason == "unknown_function":
        facts = replace(facts, detail=catalogue.about(facts.detail))
    if facts.verdict is Verdict.READ:
        doubt = catalogue.why_not(words)
        if not doubt.rule:
            return facts
        if doubt.rule == "unknown_relation":
            return replace(facts, unsure=doubt.detail)
        leaves = doubt.rule == "hidden_doubt" and catalogue.may_leave(words)
        facts = replace(facts, verdict=Verdict.PRIMARY, reason=doubt.rule, detail=doubt.detail, effect_free=False,
                        writes=doubt.rule != "relation_kind", cause=doubt.detail if leaves else "",
                        effects=("unknown_effect",) if leaves else ())
    elif "unknown_effect" in facts.effects and words[0].text != "execute" and not catalogue.may_leave(words):
        facts = replace(facts, effects=tuple(effect for effect in facts.effects if effect != "unknown_effect"))
    if facts.cursor is not None and facts.cursor.opens and catalogue.why_not(words[facts.cursor.query:]).rule:
        facts = replace(facts, cursor=None)
    if writes_nothing(words) and not catalogue.has_function(words[1].text):
        facts = replace(facts, writes=False, wrote_nothing=True)
    return replace(facts, defines=defines(words, facts.reason, catalogue))


def _listed(words: list[Token], known: list[Token], lists: FunctionLists) -> Facts:
    """*known*: the same words, but for functions that need not be listed."""
    masked, found = lists.masked(known) if lists else (known, "")
    facts = _statement(masked)
    if facts.verdict is Verdict.PRIMARY:
        return replace(facts, cursor=None) if facts.cursor is not None and lists.for_primary(words) else facts
    if name := lists.for_primary(words):
        return replace(facts, verdict=Verdict.PRIMARY, reason="listed_function", detail=name)
    return replace(facts, reason="listed_function", detail=found, effect_free=False) if found else facts


def _statement(words: list[Token]) -> Facts:
    first = words[0]
    names = {token.text for token in words}
    facts = _by_first_word(first, words)
    if facts.effects == ("session_setting",):
        facts = replace(facts, changes=changes_of(words))
    if first.text in STAGING and sets_the_stage(words):
        facts = replace(facts, stages=True, modes=modes_of(words))
    if facts.reason == "cursor":
        cursor = cursor_of(words)
        if cursor is not None and cursor.opens and _statement(words[cursor.query:]).verdict is not Verdict.READ:
            cursor = None
        facts = replace(facts, cursor=cursor, declares=declared_name(words))
    if any(name[:7].lower() == "pgsplit" for name in names):
        text = "".join(token.text for token in words).lower()
        facts = replace(facts, tells_route="pgsplit.last_route" in text, tells_lsn="pgsplit.lsn" in text,
                        min_lsns=constants_of(words, "pgsplit.min_lsn"))
    return facts


def _by_first_word(first: Token, words: list[Token]) -> Facts:
    if first.kind is not Kind.WORD and first.text != "(":
        return replace(DOUBT, reason="doubt", detail=first.text[:20])
    word = first.text
    if word in READERS:
        return _read(words, "SELECT" if word == "(" else word.upper())
    special = _SPECIAL.get(word)
    if special is not None:
        return special(words)
    command = COMMANDS.get(word)
    if command is None:
        return replace(DOUBT, detail=word[:40])
    effects: tuple[str, ...] = (command.effect,) if command.effect else ()
    cause = word.upper() if effects else ""
    if not effects and (command.scan or word == "create"):
        effects, cause = effects_of(words)
    tx = command.tx
    if word == "rollback" and has(words, "to"):
        tx = Tx.SAVEPOINT
    if word == "prepare" and second_word(words) == "transaction":
        return Facts(Verdict.PRIMARY, "transaction_control", commands=("PREPARE TRANSACTION",), tx=Tx.END,
                     wrote_nothing=True)
    writes = command.writes
    if tx is Tx.END and has(words, "prepared"):
        writes = True
    facts = Facts(Verdict.PRIMARY, command.reason, cause, (word.upper(),), writes=writes,
                  wrote_nothing=not writes and word not in LOADS_CODE, effects=effects, cause=cause, ends=command.ends,
                  settings=settings_of(words) if "session_setting" in effects else (), tx=tx)
    if tx is Tx.BEGIN:
        facts = replace(facts, begins=begin_of(words))
    elif tx is Tx.END and not writes:
        facts = replace(facts, ends_as=end_of(words))
    if word == "do":
        names, computes = of_block(words)
        facts = replace(facts, settings=names, effects=(*facts.effects, *(("unknown_settings",) if computes else ())))
    if word == "execute" and len(words) > 1 and not why_not_read(words)[0]:
        facts = replace(facts, executes=_name(words[1]))
    return facts


def _name(token: Token) -> bytes:
    """A prepared statement's name as the server knows it; none for one that is cut to its bound there."""
    name = token.text.encode("latin-1") if token.kind in (Kind.WORD, Kind.QUOTED) else b""
    return name if len(name) <= LONGEST_NAME else b""


def _prepared(sql: str, words: list[Token], facts: Facts) -> Facts:
    """PREPARE name [(types)] AS statement; DEALLOCATE [PREPARE] {name | ALL}."""
    if words[0].text == "deallocate":
        rest = words[2:] if second_word(words) == "prepare" and len(words) > 2 else words[1:]
        if len(rest) != 1:
            return replace(facts, deallocates=UNCLEAR)
        every = rest[0].kind is Kind.WORD and rest[0].text == "all"
        return replace(facts, deallocates=EVERY if every else _name(rest[0]) or UNCLEAR)
    position = next((index for index, token in enumerate(words) if token.kind is Kind.WORD and token.text == "as"), 0)
    if not position or position + 1 >= len(words) or not _name(words[1]):
        return replace(facts, deallocates=UNCLEAR)
    text = sql[words[position + 1].start:].rstrip().rstrip(";")
    return replace(facts, prepares=Prepares(_name(words[1]), text.encode("latin-1"), sql.encode("latin-1")))


def _read(words: list[Token], command: str) -> Facts:
    """SELECT and its like: looked through for whatever makes it a write, or ties it to the primary."""
    reason, detail, writes = why_not_read(words)
    if not reason:
        return replace(READ, commands=(command,), wrote_nothing=is_constant(words))
    effects, cause = effects_of(words)
    if reason == "select_into" and any(t.text in ("temp", "temporary") for t in words):
        effects, cause = (*effects, "temporary_object"), "SELECT INTO TEMPORARY"
    return Facts(Verdict.PRIMARY, reason, detail or cause, (command,), writes=writes, effects=effects, cause=cause,
                 ends=ends_of(words), settings=settings_of(words) if "session_setting" in effects else ())


# --- statements that need a look ------------------------------------------------------------------------------------

def _copy(words: list[Token]) -> Facts:
    """COPY … TO STDOUT reads; from anywhere it writes; to a file or a program it acts on the server's machine."""
    depth, direction, target = 0, "", ""
    for index, token in enumerate(words):
        if token.kind is Kind.PUNCTUATION:
            depth += (token.text == "(") - (token.text == ")")
        elif depth == 0 and token.kind is Kind.WORD and token.text in ("to", "from"):
            direction, target = token.text, words[index + 1].text if index + 1 < len(words) else ""
            break
    if direction != "to" or target != "stdout":
        effects, cause = effects_of(words) if direction != "from" else ((), "")
        return Facts(Verdict.PRIMARY, "copy", f"{direction} {target}"[:40], ("COPY",), effects=effects, cause=cause)
    return _read(words[1:], "COPY")


def _explain(words: list[Token]) -> Facts:
    """EXPLAIN of a read is one: both servers plan with the same statistics. EXPLAIN ANALYZE measures, and runs it."""
    analyze = any(token.kind is Kind.WORD and token.text in ("analyze", "analyse") for token in words)
    position = _behind_options(words)
    inner = _statement(words[position:]) if position < len(words) else DOUBT
    if not analyze and inner.verdict is Verdict.READ and not inner.empty:
        return replace(inner, commands=("EXPLAIN",))
    if not analyze:
        return Facts(Verdict.PRIMARY, "explain", commands=("EXPLAIN",), writes=False, executes=inner.executes)
    return Facts(Verdict.PRIMARY, "explain", commands=("EXPLAIN",), writes=inner.writes, effects=inner.effects,
                 cause=inner.cause, ends=inner.ends, settings=inner.settings)


def _behind_options(words: list[Token]) -> int:
    position = 1
    if second_word(words) == "(":
        first = words[2].text if len(words) > 2 else ""
        if first in READERS:
            return position
        while position < len(words) and words[position].text != ")":
            position += 1
        return position + 1
    while position < len(words) and words[position].text in ("analyze", "analyse", "verbose"):
        position += 1
    return position


def _set(words: list[Token]) -> Facts:
    """SET LOCAL, SET TRANSACTION and SET CONSTRAINTS end with the transaction; but of a customized option that it
    has touched a server knows ever after that it exists.
    """
    second = second_word(words)
    settings = settings_of(words)
    lasting = settings or second not in ("local", "transaction", "constraints")
    return Facts(Verdict.PRIMARY, "session_setting", second[:40], ("SET",), writes=False, wrote_nothing=True,
                 settings=settings, effects=("session_setting",) if lasting else (), cause=f"SET {second[:40]}")


def _reset(words: list[Token]) -> Facts:
    second = second_word(words)
    return Facts(Verdict.PRIMARY, "session_setting", second[:40], ("RESET",), writes=False, wrote_nothing=True,
                 settings=settings_of(words), effects=("session_setting",), cause=f"RESET {second[:40]}")


def _show(words: list[Token]) -> Facts:
    if is_shown_alike(words):
        return replace(READ, commands=("SHOW",), wrote_nothing=True)
    return Facts(Verdict.PRIMARY, "server_local_setting", commands=("SHOW",), writes=False, wrote_nothing=True)


def _discard(words: list[Token]) -> Facts:
    second = second_word(words)
    everything = second == "all"
    return Facts(Verdict.PRIMARY, "session_setting", second[:40], ("DISCARD",), writes=False, releases=everything,
                 effects=("session_setting",) if everything else (), cause=f"DISCARD {second[:40]}",
                 ends=EVERY_PIN if everything else ("temporary_object",) if second in ("temp", "temporary") else (),
                 deallocates=EVERY if everything else b"")


_SPECIAL: Final = {"copy": _copy, "explain": _explain, "set": _set, "reset": _reset, "discard": _discard,
                   "show": _show}
_TX_ORDER: Final = [Tx.BEGIN, Tx.SAVEPOINT, Tx.END]
