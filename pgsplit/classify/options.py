"""current_setting() of an option that is the session's own: both servers have it, since state is synced (G4)."""

from __future__ import annotations

import re
from typing import Final

from ..sql.lexer import Kind, Token
from .function_lists import HARMLESS

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


def _is_own(option: str) -> bool:
    match = _OWN.fullmatch(option)
    return match is not None and match[1].lower() not in _LIBRARIES
