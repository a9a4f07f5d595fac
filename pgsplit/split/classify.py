"""Facts of an SQL text (DESIGN section 5): pure, without a server's help, and on the safe side.

A wrong "primary" costs load; a wrong "replica" would be a wrong answer. So a text is a read only when every word of
it is known to be harmless. Without a catalogue some things cannot be seen and are documented limits: a user's
function behind an operator, a cast, a view or attribute notation (the replica's 25006 repairs those that write).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from ..sql.lexer import Kind, LexError, Token, tokens
from . import server_local
from .commands import BEFORE_NAMES, COMMANDS, GRAMMAR, TYPES
from .facts import DOUBT, Facts, Tx, Verdict
from .functions import SAFE

EMPTY: Final = Facts(Verdict.READ, "empty_query", effect_free=True, writes=False, empty=True)
READ: Final = Facts(Verdict.READ, "read", effect_free=True, writes=False)

READERS: Final = frozenset({"select", "values", "table", "with", "("})
LOCKING: Final = frozenset({"update", "share", "no", "key"})
MODIFYING: Final = frozenset({"insert", "update", "delete", "merge"})
SESSION_FUNCTIONS: Final = {
    "set_config": "session_setting",
    "setseed": "session_setting",
    **dict.fromkeys(("pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock",
                     "pg_try_advisory_lock_shared"), "advisory_lock"),
    **dict.fromkeys(("lo_open", "lo_creat", "lo_create"), "large_object"),
}
# Functions that are not reads, of which it is known that they leave nothing behind in the session.
NO_SESSION_EFFECT: Final = frozenset([
    "nextval", "setval", "currval", "lastval", "pg_notify", "pg_advisory_unlock", "pg_advisory_unlock_shared",
    "pg_advisory_unlock_all", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared", "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared", "pg_is_in_recovery", "pg_current_wal_lsn", "pg_current_wal_insert_lsn",
    "pg_current_wal_flush_lsn", "pg_relation_size", "pg_total_relation_size", "pg_table_size", "pg_indexes_size",
    "pg_database_size", "pg_tablespace_size", "pg_cancel_backend", "pg_terminate_backend", "pg_blocking_pids",
    "pg_last_wal_replay_lsn", "pg_last_wal_receive_lsn", "pg_stat_clear_snapshot", "pg_reload_conf",
    "pg_switch_wal", "pg_export_snapshot", "pg_xact_status", "txid_status", "pg_last_xact_replay_timestamp",
    "pg_sequence_last_value", "lo_get", "lo_put", "lo_unlink", "lo_from_bytea", "pg_control_system",
    "pg_control_checkpoint", "current_query", "pg_read_file", "pg_stat_file", "pg_ls_dir",
])
_HINT: Final = re.compile(r"/\*\s*pgsplit:\s*(primary|replica)\s*\*/")


def classify(sql: str, *, max_bytes: int = 65536) -> Facts:
    """The facts of *sql*, which may hold several statements: it is as strong as its strongest.

    *max_bytes*: a longer text is not lexed; its first word decides. `standard_conforming_strings` is taken to be on.
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
    statements = [_statement(words) for words in _split(found)]
    return _hinted(_strongest(statements), hint)


def _too_long(sql: str) -> Facts:
    match = re.match(r"[\s(]*([A-Za-z]*)", sql)
    word = match[1].lower() if match else ""
    effect = "" if word in MODIFYING else "unknown_effect"
    return Facts(Verdict.PRIMARY, "statement_too_long", word, (word.upper(),), session_effect=effect)


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
    effects = [facts for facts in statements if facts.session_effect]
    return replace(
        first, commands=tuple(command for facts in statements for command in facts.commands),
        effect_free=all(facts.effect_free for facts in statements), writes=any(facts.writes for facts in statements),
        session_effect=effects[0].session_effect if effects else "",
        releases=all(facts.releases for facts in statements),
        tx=max((facts.tx for facts in statements if facts.tx), key=_TX_ORDER.index, default=None),
        async_commit=any(facts.async_commit for facts in statements))


def _hinted(facts: Facts, hint: str) -> Facts:
    """A comment that is exactly ``/* pgsplit: primary */`` or ``replica`` decides, the latter among reads only."""
    if hint == "primary" and facts.verdict is Verdict.READ and not facts.empty:
        return replace(facts, verdict=Verdict.PRIMARY, reason="hint_primary", hint=hint)
    if hint == "replica" and facts.verdict is Verdict.PRIMARY and facts.reason in _HINTABLE:
        return replace(facts, verdict=Verdict.READ, reason="hint_replica", effect_free=False, hint=hint)
    return facts


# --- one statement ------------------------------------------------------------------------------------------------

def _statement(words: list[Token]) -> Facts:
    first = words[0]
    asynchronous = any(token.text == "synchronous_commit" for token in words)
    facts = _by_first_word(first, words)
    return replace(facts, async_commit=True) if asynchronous else facts


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
    effect, detail = command.session_effect, ""
    if not effect and (command.scan or word in ("create", "declare")):
        effect, detail = _session_effect(words)
    tx = command.tx
    if word == "rollback" and _has(words, "to"):
        tx = Tx.SAVEPOINT
    if word == "prepare" and _second(words) == "transaction":
        return Facts(Verdict.PRIMARY, "transaction_control", commands=("PREPARE TRANSACTION",), tx=Tx.END)
    writes = command.writes
    if tx is Tx.END and _has(words, "prepared"):
        writes = True
    return Facts(Verdict.PRIMARY, command.reason, detail, (word.upper(),), writes=writes, session_effect=effect, tx=tx)


def _session_effect(words: list[Token]) -> tuple[str, str]:
    """What a statement that runs on the primary leaves behind in its session: (pin, cause)."""
    first = words[0].text
    if first == "create" and any(t.kind is Kind.WORD and t.text in ("temp", "temporary") for t in words[1:6]):
        return "temporary_object", "CREATE TEMPORARY"
    if any(t.kind in (Kind.WORD, Kind.QUOTED) and t.text.startswith("pg_temp") for t in words):
        return "temporary_object", "pg_temp"
    if first == "create":
        return "", ""
    if first == "declare":
        return ("hold_cursor", "WITH HOLD") if _has(words, "hold") else ("", "")
    for name, qualified in _calls(words):
        if name in SESSION_FUNCTIONS and not qualified:
            return SESSION_FUNCTIONS[name], name
        if qualified or not (name in SAFE or name in NO_SESSION_EFFECT or server_local.is_local_function(name)):
            return "unknown_effect", name
    return "", ""


def _read(words: list[Token], command: str) -> Facts:
    """SELECT and its like: looked through for whatever makes it a write, or ties it to the primary."""
    reason, detail, writes = _why_not_read(words)
    if not reason:
        return replace(READ, commands=(command,))
    effect, cause = _session_effect(words)
    if reason == "select_into" and any(t.text in ("temp", "temporary") for t in words):
        effect, cause = "temporary_object", "SELECT INTO TEMPORARY"
    return Facts(Verdict.PRIMARY, reason, detail or cause, (command,), writes=writes, session_effect=effect)


def _why_not_read(words: list[Token]) -> tuple[str, str, bool]:
    """(rule, what matched it, may it have written); an empty rule for a read."""
    for index, token in enumerate(words):
        text = token.text
        if token.kind is Kind.WORD:
            after = words[index + 1].text if index + 1 < len(words) else ""
            before = words[index - 1].text if index else ""
            if text == "into":
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
        elif token.kind is Kind.STRING and text.strip().lower() in server_local.CLOCK_STRINGS:
            return "clock", f"'{text.strip().lower()}'", False
    return _unsafe_call(words)


def _unsafe_call(words: list[Token]) -> tuple[str, str, bool]:
    for name, qualified in _calls(words):
        if not qualified and name in SAFE:
            continue
        if not qualified and name in server_local.CLOCK:
            return "clock", name, False
        if not qualified and server_local.is_local_function(name):
            return "server_local_function", name, False
        if not qualified and name in NO_SESSION_EFFECT:
            return "function", name, True
        return ("function" if name in SESSION_FUNCTIONS else "unknown_function"), name, True
    return "", "", False


def _calls(words: list[Token]) -> Iterator[tuple[str, bool]]:
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
    if name.kind is Kind.WORD and name.text in GRAMMAR:
        return True
    if before is None:
        return False
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


def _has(words: list[Token], word: str) -> bool:
    return any(token.kind is Kind.WORD and token.text == word for token in words)


def _second(words: list[Token]) -> str:
    return words[1].text if len(words) > 1 else ""


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
        effect, _ = _session_effect(words) if direction != "from" else ("", "")
        return Facts(Verdict.PRIMARY, "copy", f"{direction} {target}"[:40], ("COPY",), session_effect=effect)
    return _read(words[1:], "COPY")


def _explain(words: list[Token]) -> Facts:
    """EXPLAIN of a read is one: both servers plan with the same statistics. EXPLAIN ANALYZE measures, and runs it."""
    analyze = any(token.kind is Kind.WORD and token.text in ("analyze", "analyse") for token in words)
    position = _behind_options(words)
    inner = _statement(words[position:]) if position < len(words) else DOUBT
    if not analyze and inner.verdict is Verdict.READ and not inner.empty:
        return replace(inner, commands=("EXPLAIN",))
    if not analyze:
        return Facts(Verdict.PRIMARY, "explain", commands=("EXPLAIN",), writes=False)
    return Facts(Verdict.PRIMARY, "explain", commands=("EXPLAIN",), writes=inner.writes,
                 session_effect=inner.session_effect)


def _behind_options(words: list[Token]) -> int:
    position = 1
    if _second(words) == "(":
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
    """SET LOCAL ends with the transaction; SET TRANSACTION and SET CONSTRAINTS too."""
    second = _second(words)
    local = second in ("local", "transaction", "constraints")
    return Facts(Verdict.PRIMARY, "session_setting", second[:40], ("SET",), writes=False,
                 session_effect="" if local else "session_setting")


def _reset(words: list[Token]) -> Facts:
    return Facts(Verdict.PRIMARY, "session_setting", _second(words)[:40], ("RESET",), writes=False,
                 session_effect="session_setting")


def _discard(words: list[Token]) -> Facts:
    everything = _second(words) == "all"
    return Facts(Verdict.PRIMARY, "session_setting", _second(words)[:40], ("DISCARD",), writes=False,
                 releases=everything)


_SPECIAL: Final = {"copy": _copy, "explain": _explain, "set": _set, "reset": _reset, "discard": _discard}
_TX_ORDER: Final = [Tx.BEGIN, Tx.SAVEPOINT, Tx.END]
_CLOCK_WORDS: Final = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
_HINTABLE: Final = frozenset({"clock", "unknown_function", "server_local_function", "server_local_relation",
                              "sequence_row"})
# Words after which a name before a parenthesis may be a call; behind any other word it is an alias.
_OPERATOR_WORDS: Final = frozenset({"and", "or", "not", "in", "like", "ilike", "similar", "to", "between", "symmetric",
                                    "is", "from", "distinct", "all", "any", "some", "escape", "case", "when", "then",
                                    "else", "select", "where", "having", "on", "by", "limit", "offset", "values",
                                    "using", "lateral", "join", "overlaps", "zone", "return", "union", "except",
                                    "intersect", "array", "row", "collate", "isnull", "notnull", "fetch", "first",
                                    "next", "range", "rows", "groups", "variadic", "default", "end", "operator",
                                    "placing", "for", "passing", "interval", "only", "ordinality"})
_KEYWORDS: Final = GRAMMAR | _OPERATOR_WORDS
