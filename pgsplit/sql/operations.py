"""Tables and operations of a statement, for the statistics (`enable_sql_parsing`); they never route.

After Envoy's dynamic metadata: the operations are those of insert, update, select, drop, delete, create, alter, show.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, NamedTuple

import sqlparse
from sqlparse import tokens as kinds
from sqlparse.exceptions import SQLParseError

from .digest import LIMIT as CUT

OPERATIONS: Final = frozenset({"insert", "update", "select", "drop", "delete", "create", "alter", "show"})
NAMED_BEHIND: Final = frozenset({"from", "join", "into", "update", "table"})
_COMMANDS: Final = (
    "abort alter analyze begin call checkpoint close cluster comment commit copy create deallocate declare delete "
    "discard do drop end execute explain fetch grant import insert listen load lock merge move notify prepare reassign "
    "refresh reindex release reset revoke rollback savepoint security select set show start table truncate unlisten "
    "update vacuum values with")
COMMANDS: Final = frozenset(_COMMANDS.split())
"""How the commands of PostgreSQL begin (manual, part VI). sqlparse has a type for a third of them."""
LIMIT: Final = 4000          # characters: sqlparse's time grows faster than a text


class Operations(NamedTuple):
    tables: frozenset[str]
    operations: frozenset[str]


def operations(sql: str) -> Operations | None:
    """None when sqlparse cannot read *sql* (a digest): it fails, it finds a token that is none, or no command; or the
    text is too long for it.
    """
    if len(sql) > LIMIT:
        return None
    try:
        statements: tuple[Any, ...] = sqlparse.parse(sql)
    except (SQLParseError, RecursionError):
        return None
    words = []
    for statement in statements:
        found = [token for token in statement.flatten() if not token.is_whitespace and token.ttype not in kinds.Comment]
        if not _is_command(found):
            return None
        words += found
    if any(token.ttype in kinds.Error for token in (words[:-1] if len(sql) == CUT else words)):
        return None
    done = {token.value.lower() for token in words if token.ttype in kinds.Keyword} & OPERATIONS
    tables = {behind.value for token, behind in pairwise(words)
              if token.ttype in kinds.Keyword and token.value.lower() in NAMED_BEHIND and behind.ttype in kinds.Name}
    return Operations(frozenset(tables), frozenset(done))


def _is_command(words: list[Any]) -> bool:
    """Or nothing: what stands behind the last semicolon."""
    first = next((token.value for token in words if token.value not in "(;"), None)
    return first is None or first.split()[0].lower() in COMMANDS      # sqlparse has CREATE OR REPLACE in one token
