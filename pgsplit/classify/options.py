"""Settings and options that are the session's own, or are compared: both servers give the same (guarantee G4)."""

from __future__ import annotations

import re
from typing import Final

from ..sql.lexer import Kind, Token
from .function_lists import HARMLESS

# What a server's configuration may say that decides the bytes of an answer, or whether there is one.
RESULT_SETTINGS: Final = (
    "DateStyle", "IntervalStyle", "TimeZone", "array_nulls", "backslash_quote", "bytea_output", "client_encoding",
    "default_text_search_config", "escape_string_warning", "exit_on_error", "extra_float_digits",
    "gin_fuzzy_search_limit", "icu_validation_level", "lc_messages", "lc_monetary", "lc_numeric", "lc_time",
    "lo_compat_privileges", "lock_timeout", "quote_all_identifiers", "row_security", "search_path",
    "session_replication_role", "standard_conforming_strings", "statement_timeout", "timezone_abbreviations",
    "transform_null_equals", "xmlbinary", "xmloption",
)
_SYNCED: Final = frozenset(name.lower() for name in RESULT_SETTINGS)

# Customized options (manual 20.16) that are a library's: a server knows them once a session has loaded it there.
_LIBRARIES: Final = frozenset([
    "auth_delay", "auto_explain", "basebackup_to_shell", "basic_archive", "citus", "cron", "hnsw", "ivfflat", "isn",
    "orafce", "passwordcheck", "pg_hint_plan", "pg_partman_bgw", "pg_prewarm", "pg_stat_kcache", "pg_stat_statements",
    "pg_trgm", "pgaudit", "pgcrypto", "pglogical", "pgsplit", "plperl", "plpgsql", "plpgsql_check", "plpython3", "plr",
    "pltcl", "pltclu", "plv8", "postgis", "postgres_fdw", "sepgsql", "timescaledb", "vector",
])
_OWN: Final = re.compile(r"([a-z_][a-z0-9_$]*)\.[a-z_][a-z0-9_$]*(?:\.[a-z_][a-z0-9_$]*)*", re.IGNORECASE)


def with_plain_options(words: list[Token]) -> list[Token]:
    """*words* with a harmless function in the place of each current_setting('a.b' …) that a replica answers alike."""
    found = words
    for index in range(len(words) - 3):
        name, opening, option, after = words[index:index + 4]
        if (name.text == "current_setting" and name.kind in (Kind.WORD, Kind.QUOTED)
                and opening.text == "(" and opening.kind is Kind.PUNCTUATION
                and option.kind is Kind.STRING and _is_own(option.text)
                and after.kind is Kind.PUNCTUATION and after.text in (")", ",", "::")):
            found = [*found[:index], Token(Kind.WORD, HARMLESS, name.start), *found[index + 1:]]
    return found


def is_shown_alike(words: list[Token]) -> bool:
    """Whether SHOW, the statement *words*, gives the same on a replica."""
    if [token.text for token in words[1:]] == ["time", "zone"]:
        return True
    name = "".join(token.text for token in words[1:] if token.kind is Kind.WORD or token.text == ".")
    return len(words) in (2, 4) and _is_own(name)


def _is_own(option: str) -> bool:
    """Of a library's options a server knows nothing until a session has loaded it there."""
    if option.lower() in _SYNCED:
        return True
    match = _OWN.fullmatch(option)
    return match is not None and match[1].lower() not in _LIBRARIES
