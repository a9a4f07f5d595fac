"""SQL commands by their first key word: what each is without looking further (PostgreSQL manual, part VI)."""

from __future__ import annotations

from typing import Final, NamedTuple

from .facts import Tx


class Command(NamedTuple):
    """A command that goes to the primary whatever follows. *scan*: look for functions that change the session."""

    reason: str
    writes: bool = True
    effect: str = ""
    tx: Tx | None = None
    scan: bool = False
    ends: tuple[str, ...] = ()


_DML: Final = Command("write", scan=True)
_DDL: Final = Command("ddl")
_MAINTENANCE: Final = Command("maintenance")
_UNKNOWN_EFFECT: Final = Command("unknown_effect", effect="unknown_effect")

COMMANDS: Final[dict[str, Command]] = {
    **dict.fromkeys(("insert", "update", "delete", "merge"), _DML),
    **dict.fromkeys(("create", "alter", "grant", "revoke", "comment", "security", "import", "reassign", "refresh",
                     "truncate"), _DDL),
    "drop": Command("ddl", ends=("temporary_object",)),
    **dict.fromkeys(("vacuum", "analyze", "analyse", "cluster", "reindex", "checkpoint"), _MAINTENANCE),
    **dict.fromkeys(("begin", "start"), Command("transaction_control", writes=False, tx=Tx.BEGIN)),
    **dict.fromkeys(("commit", "end", "rollback", "abort"),
                    Command("transaction_control", writes=False, tx=Tx.END)),
    **dict.fromkeys(("savepoint", "release"), Command("transaction_control", writes=False, tx=Tx.SAVEPOINT)),
    "do": _UNKNOWN_EFFECT,
    "call": _UNKNOWN_EFFECT,
    "execute": _UNKNOWN_EFFECT,
    "prepare": Command("sql_prepared_statement", writes=False),
    "deallocate": Command("sql_prepared_statement", writes=False),
    "declare": Command("cursor", writes=True, scan=True),
    "fetch": Command("cursor"),
    "move": Command("cursor"),
    "close": Command("cursor", writes=False, ends=("hold_cursor",)),
    "listen": Command("notification", writes=False, effect="listen"),
    "unlisten": Command("notification", writes=False, ends=("listen",)),
    "notify": Command("notification"),
    "lock": Command("lock", writes=False),
    "load": Command("session_setting", writes=False, effect="library"),
}

# Words before a parenthesis that are grammar and never the name of a function of the user's, but for joins and
# comparisons, which are hardly ever (PostgreSQL's kwlist.h: reserved ones, and those that may name columns).
GRAMMAR: Final = frozenset([
    "all", "and", "any", "array", "as", "asc", "between", "case", "cast", "coalesce", "collate", "default", "desc",
    "distinct", "else", "end", "except", "exists", "extract", "for", "from", "greatest", "group", "grouping",
    "having", "ilike", "in", "intersect", "is", "join", "json_array", "json_arrayagg", "json_exists", "json_object",
    "json_objectagg", "json_query", "json_scalar", "json_serialize", "json_table", "json_value", "lateral", "least",
    "left", "like", "limit", "merge_action", "normalize", "not", "null", "nullif", "offset", "on", "only", "or",
    "order", "overlaps", "overlay", "position", "returning", "right", "row", "select", "some", "substring",
    "symmetric", "table", "then", "to", "treat", "trim", "union", "unique", "using", "values", "when", "where",
    "window", "with", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces",
    "xmlparse", "xmlpi", "xmlroot", "xmlserialize", "xmltable",
])

# Words that are grammar before a parenthesis behind one of these, and else may be a function's name: unreserved ones.
GRAMMAR_BEHIND: Final[dict[str, frozenset[str]]] = {
    "by": frozenset({"group", "order", "partition"}), "conflict": frozenset({"on"}), "cube": frozenset({"by"}),
    "filter": frozenset({")"}), "first": frozenset({"fetch"}), "materialized": frozenset({"as", "not"}),
    "next": frozenset({"fetch"}), "over": frozenset({")"}), "repeatable": frozenset({")"}),
    "rollup": frozenset({"by"}), "sets": frozenset({"grouping"}), "zone": frozenset({"time"}),
}

# Types that take modifiers, or stand before a parenthesis in a cast.
TYPES: Final = frozenset([
    "bit", "bpchar", "char", "character", "dec", "decimal", "double", "float", "interval", "national", "nchar",
    "numeric", "precision", "time", "timestamp", "timestamptz", "timetz", "varbit", "varchar", "varying",
])

# After one of these a word before a parenthesis names a relation's alias, a type or a sampling method.
BEFORE_NAMES: Final = frozenset(["as", "recursive", "ordinality", "tablesample", "window"])
