"""What a statement that runs on the primary leaves behind in its session: the names of pins, and session_setting."""

from __future__ import annotations

import re
from typing import Final

from ..sql.lexer import Kind, Token
from . import server_local
from .calls import calls_in, has
from .functions import SAFE

SESSION_FUNCTIONS: Final = {
    "set_config": "session_setting",
    "setseed": "random_seed",
    **dict.fromkeys(("pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock",
                     "pg_try_advisory_lock_shared"), "advisory_lock"),
}
UNLOCKING: Final = frozenset({"pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all"})
# Functions that are not reads, of which it is known that they leave nothing behind in the session.
NO_SESSION_EFFECT: Final = frozenset([
    "nextval", "setval", "currval", "lastval", "pg_notify", "pg_advisory_unlock", "pg_advisory_unlock_shared",
    "pg_advisory_unlock_all", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared", "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared", "pg_current_wal_lsn", "pg_current_wal_insert_lsn",
    "pg_current_wal_flush_lsn", "pg_cancel_backend", "pg_terminate_backend", "pg_stat_clear_snapshot",
    "pg_reload_conf", "pg_switch_wal", "pg_export_snapshot", "lo_open", "lo_close", "lo_creat", "lo_create",
    "loread", "lowrite", "lo_lseek", "lo_lseek64", "lo_tell", "lo_tell64", "lo_truncate", "lo_truncate64",
    "lo_import", "lo_export", "lo_get", "lo_put", "lo_unlink", "lo_from_bytea", "current_query", "pg_read_file",
    "pg_stat_file", "pg_ls_dir",
])
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*")


def effects_of(words: list[Token]) -> tuple[tuple[str, ...], str]:
    """What a statement that runs on the primary leaves behind in its session, and what in the text causes it."""
    first = words[0].text
    if first == "create" and any(t.kind is Kind.WORD and t.text in ("temp", "temporary") for t in words[1:6]):
        found = {"temporary_object": "CREATE TEMPORARY"}
    elif any(t.kind in (Kind.WORD, Kind.QUOTED) and t.text.startswith("pg_temp") for t in words):
        found = {"temporary_object": "pg_temp"}
    else:
        found = {}
    if first == "declare" and has(words, "hold"):
        found["hold_cursor"] = "WITH HOLD"
    if first == "create":
        if not _creates_by_query(words):
            return tuple(found), "".join(found.values())
        if has(words, "execute"):
            found["unknown_effect"] = "EXECUTE"
    for name, qualified in calls_in(words):
        if name in SESSION_FUNCTIONS and not qualified:
            found.setdefault(SESSION_FUNCTIONS[name], name)
        elif qualified or not (name in SAFE or name in NO_SESSION_EFFECT or server_local.is_local_function(name)):
            found.setdefault("unknown_effect", name)
    if found.get("session_setting") and not _constant_settings(words):
        found["unknown_settings"] = "set_config"
    return tuple(found), next(iter(found.values()), "")


def _creates_by_query(words: list[Token]) -> bool:
    """CREATE TABLE … AS and its like run a query now; a view's, a function's or an index's expressions run later."""
    kinds = {token.text for token in words[1:5] if token.kind is Kind.WORD}
    return bool(kinds & {"table", "materialized"}) and has(words, "as")


def settings_of(words: list[Token]) -> tuple[str, ...]:
    """The customized options, which have a dot in their name, that a statement names as one (manual 20.16)."""
    names = []
    if words[0].text in ("set", "reset"):
        rest = [token.text for token in words[1:6]]
        if rest[0:1] and rest[0] in ("local", "session"):
            rest = rest[1:]
        if len(rest) > 2 and rest[1] == ".":
            names.append("".join(rest[:3]))
    names += [words[index + 2].text for index in _set_configs(words) if words[index + 2].kind is Kind.STRING]
    return tuple(name.lower() for name in names if "." in name)


# As in the bodies of functions (split/state_query.py): options that a block names, and whether it may compute a name.
_OPTION_IN_BLOCK: Final = re.compile(
    r"'([A-Za-z_][A-Za-z0-9_$]*\.[A-Za-z_][A-Za-z0-9_$.]*)'"
    r"|\b(?:set|reset)\s+(?:local\s+|session\s+)?([a-z_][a-z0-9_$]*\.[a-z_][a-z0-9_$.]*)", re.IGNORECASE)
_EXECUTES: Final = re.compile(r"\bexecute\b", re.IGNORECASE)
_SETS: Final = re.compile(r"\bset\b", re.IGNORECASE)
_COMPUTES: Final = re.compile(r"set_config\s*\(\s*[^'\s]", re.IGNORECASE)


def of_block(words: list[Token]) -> tuple[tuple[str, ...], bool]:
    """Of a DO statement: the customized options that its block may set, in lower case; whether it may set others."""
    bodies = [token.text for token in words if token.kind is Kind.STRING]
    names = {name.lower() for body in bodies for found in _OPTION_IN_BLOCK.findall(body) for name in found if name}
    computes = any(_COMPUTES.search(body) or (_EXECUTES.search(body) and _SETS.search(body)) for body in bodies)
    return tuple(sorted(names)), computes


def _set_configs(words: list[Token]) -> list[int]:
    """Where set_config with two arguments or more is called."""
    return [index for index in range(len(words) - 3) if words[index].text == "set_config"
            and words[index].kind in (Kind.WORD, Kind.QUOTED) and words[index + 1].text == "("]


def _constant_settings(words: list[Token]) -> bool:
    """Whether each set_config names its setting by a plain constant."""
    calls = sum(name == "set_config" for name, _ in calls_in(words))
    constant = [index for index in _set_configs(words) if words[index + 2].kind is Kind.STRING
                and _PLAIN_NAME.fullmatch(words[index + 2].text) and words[index + 3].text == ","]
    return calls == len(constant)


def ends_of(words: list[Token]) -> tuple[str, ...]:
    return ("advisory_lock",) if any(name in UNLOCKING for name, _ in calls_in(words)) else ()
