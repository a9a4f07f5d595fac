"""Tables and operations of a statement, for the statistics (`enable_sql_parsing`); they never route.

After Envoy's dynamic metadata: the operations are those of insert, update, select, drop, delete, create, alter, show.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, NamedTuple

import sqlparse
from sqlparse import tokens as kinds
from sqlparse.exceptions import SQLParseError

OPERATIONS: Final = frozenset({"insert", "update", "select", "drop", "delete", "create", "alter", "show"})
NAMED_BEHIND: Final = frozenset({"from", "join", "into", "update", "table"})
LIMIT: Final = 4000          # characters: sqlparse's time grows faster than a text


class Operations(NamedTuple):
    tables: frozenset[str]
    operations: frozenset[str]


def operations(sql: str) -> Operations | None:
    """None when sqlparse finds no statement that it knows, or the text is too long for it."""
    if len(sql) > LIMIT:
        return None
    try:
        statements: tuple[Any, ...] = sqlparse.parse(sql)
    except (SQLParseError, RecursionError):
        return None
    if not any(statement.get_type() not in (None, "UNKNOWN") for statement in statements):
        return None
    words = [token for statement in statements for token in statement.flatten() if not token.is_whitespace]
    found = {token.value.lower() for token in words if token.ttype in kinds.Keyword} & OPERATIONS
    tables = {behind.value for token, behind in pairwise(words)
              if token.ttype in kinds.Keyword and token.value.lower() in NAMED_BEHIND and behind.ttype in kinds.Name}
    return Operations(frozenset(tables), frozenset(found))
