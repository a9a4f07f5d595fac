"""SET and its like with constants: what they make of the session can be read from the text (guarantee G4).

PostgreSQL manual, SQL commands SET, RESET, DISCARD; 9.28.1 for set_config(). What is not understood is asked about.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..sql.lexer import Kind, Token
from .transactions import modes_of

ALL: Final = ""
"""The name of what RESET ALL resets."""


class Change(NamedTuple):
    """Of one setting, its name in lower case; of ``role`` and ``session_authorization`` too. *value*: as set_config()
    takes it; None for what it was when the session began.
    """

    name: str
    value: str | None


# Of whose change more depends than the value that is given to a replica.
_NOT_PLAIN: Final = frozenset([
    "seed", "role", "session_authorization", "synchronous_commit", "idle_session_timeout",
    "idle_in_transaction_session_timeout", "transaction_timeout",
])
# What a server reports to the client, as a replica must not: drivers read texts and values by it, and so does pgsplit.
_REPORTED: Final = frozenset({"application_name", "client_encoding", "datestyle", "intervalstyle",
                              "standard_conforming_strings", "timezone"})
_LISTS: Final = frozenset({"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries",
                           "datestyle"})
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]*")
_OPTION: Final = re.compile(r"[a-z_][a-z0-9_]*([.][a-z_][a-z0-9_]*)*")
_NUMBER: Final = re.compile(r"(0|[1-9][0-9]*)([.][0-9]+)?")      # which the server hands on as it is written
# What quote_identifier() quotes though it looks plain: all keywords but the unreserved (PostgreSQL 13 to 18).
_QUOTED: Final = frozenset("""
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case
cast char character check coalesce collate collation column concurrently constraint create cross current_catalog
current_date current_role current_schema current_time current_timestamp current_user dec decimal default
deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full grant
greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull join
json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize
json_table json_value lateral leading least left like limit localtime localtimestamp merge_action national
natural nchar none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay
placing position precision primary real references returning right row select session_user setof similar
smallint some substring symmetric system_user table tablesample then time timestamp to trailing treat trim true
union unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat
xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
""".split())    # noqa: SIM905 - as a table
_DISCARDS: Final = (Change("session_authorization", None), Change(ALL, None))


def changes_of(words: list[Token]) -> tuple[Change, ...]:
    """What the statement *words* changes in the session when it ends well outside a transaction; nothing where that
    cannot be read from it.
    """
    texts = [token.text if token.kind in (Kind.WORD, Kind.PUNCTUATION, Kind.OPERATOR) else "" for token in words]
    first = texts[0]
    if first == "discard":
        return _DISCARDS if texts[1:] == ["all"] else ()
    if first == "reset":
        return _reset(words[1:], texts[1:])
    if first == "select":
        return _set_configs(words[1:], texts[1:])
    if first != "set":
        return ()
    begin = 2 if texts[1:2] == ["session"] else 1
    change = _set(words[begin:], texts[begin:])
    return (change,) if change is not None else ()


def _reset(words: list[Token], texts: list[str]) -> tuple[Change, ...]:
    if texts == ["all"]:
        return (Change(ALL, None),)
    if texts == ["time", "zone"]:
        return (Change("timezone", None),)
    if texts == ["session", "authorization"]:
        return (Change("session_authorization", None),)
    name, rest = _name(words, texts)
    return (Change(name, None),) if name and not rest else ()


def _set(words: list[Token], texts: list[str]) -> Change | None:
    if texts[:2] == ["time", "zone"]:
        zone = _constant(words[2]) if len(words) == 3 and words[2].kind is Kind.STRING else None
        return Change("timezone", zone) if zone is not None else None
    if texts[:1] == ["role"] and len(words) == 2:
        return _role(words[1])
    name, rest = _name(words, texts)
    if not name or len(rest) < 2 or rest[0].text not in ("=", "to"):
        return None
    values = rest[1:]
    if name == "search_path":
        return _search_path(values)
    if name in _LISTS:
        return None
    sign = "-" if len(values) == 2 and values[0].text == "-" and values[1].kind is Kind.NUMBER else ""
    if len(values) != 1 + len(sign):
        return None
    if values[0].kind is Kind.WORD and values[0].text == "default":
        return Change(name, None)
    value = _constant(values[-1])
    return Change(name, sign + value) if value is not None else None


def _constant(token: Token) -> str | None:
    """The value of a constant, where it can be read off the token."""
    if token.kind is Kind.STRING:
        return token.text if "'" not in token.text else None       # else it is doubled, or of another form
    if token.kind is Kind.NUMBER:
        return token.text if _NUMBER.fullmatch(token.text) else None
    return token.text if token.kind is Kind.WORD else None


def _role(token: Token) -> Change | None:
    name = token.text if token.kind is Kind.QUOTED else _constant(token) if token.kind is not Kind.NUMBER else None
    return Change("role", name) if name is not None and (name != "none" or token.kind is Kind.WORD) else None


def _name(words: list[Token], texts: list[str]) -> tuple[str, list[Token]]:
    """(the setting's name, what follows it); no name for one whose change is not plain."""
    if not words or words[0].kind is not Kind.WORD:
        return "", words
    name, rest = words[0].text, words[1:]
    if texts[1:2] == ["."]:
        if len(words) < 3 or words[2].kind is not Kind.WORD or texts[3:4] == ["."]:
            return "", words
        name, rest = f"{name}.{words[2].text}", words[3:]
    return ("" if _not_plain(name) else name), rest


def _search_path(values: list[Token]) -> Change | None:
    """As SHOW gives it: names with commas between them, in quotes where they must be."""
    if len(values) == 1 and values[0].kind is Kind.WORD and values[0].text == "default":
        return Change("search_path", None)
    names = []
    for index, token in enumerate(values):
        if index % 2:
            if token.text != "," or token.kind is not Kind.PUNCTUATION:
                return None
        elif token.kind in (Kind.WORD, Kind.QUOTED) or (token.kind is Kind.STRING and "'" not in token.text):
            plain = _SCHEMA.fullmatch(token.text) and token.text not in _QUOTED
            names.append(token.text if plain else '"' + token.text.replace('"', '""') + '"')
        else:
            return None
    return Change("search_path", ", ".join(names)) if len(values) % 2 else None


def _set_configs(words: list[Token], texts: list[str]) -> tuple[Change, ...]:
    """SELECT set_config('name', 'value', false), …"""
    changes = []
    while words:
        if texts[:2] == ["pg_catalog", "."]:
            words, texts = words[2:], texts[2:]
        kinds = [token.kind for token in words[:8]]
        if texts[:2] != ["set_config", "("] or texts[3:4] != [","] or texts[5:8] != [",", "false", ")"]:
            return ()
        value = _constant(words[4]) if kinds[2] is kinds[4] is Kind.STRING else None
        if value is None:
            return ()
        name = words[2].text.lower()
        if not _OPTION.fullmatch(name) or _not_plain(name) or name in _LISTS:
            return ()
        changes.append(Change(name, value))
        words, texts = words[8:], texts[8:]
        if texts[:1] == ["as"] and len(words) > 1:
            words, texts = words[2:], texts[2:]
        if words:
            if texts[0] != ",":
                return ()
            words, texts = words[1:], texts[1:]
            if not words:
                return ()
    return tuple(changes)


def constants_of(words: list[Token], option: str) -> tuple[str, ...]:
    """The constants to which the statement *words* sets the customized *option*, for the session or its transaction."""
    texts = [token.text.lower() for token in words]
    found = []
    if texts[0] == "set":
        begin = 2 if texts[1:2] in (["session"], ["local"]) else 1
        if "".join(texts[begin:begin + 3]) == option and len(words) == begin + 5:
            found.append(words[begin + 4])
    for index, text in enumerate(texts):
        if text == option and texts[index - 2:index] == ["set_config", "("] and texts[index + 1:index + 2] == [","]:
            found += words[index + 2:index + 3] if texts[index + 3:index + 4] == [","] else []
    found = [token for token in found if token.kind is not Kind.WORD or token.text != "default"]
    return tuple(value for token in found if (value := _constant(token)) is not None)


def sets_the_stage(words: list[Token]) -> bool:
    """Whether the statement *words* does nothing but set the stage in its transaction: a savepoint and its end, SET
    LOCAL, set_config(…, true), SET CONSTRAINTS, SET TRANSACTION. What it sets is gone with the transaction, and no data
    is touched.
    """
    texts = [token.text if token.kind in (Kind.WORD, Kind.PUNCTUATION, Kind.OPERATOR) else "" for token in words]
    if texts[0] == "savepoint":
        return len(words) == 2
    if texts[0] == "release":
        return len(words) - (texts[1:2] == ["savepoint"]) == 2
    if texts[0] == "rollback":
        rest = texts[2:] if texts[1:2] and texts[1] in ("work", "transaction") else texts[1:]
        return rest[:1] == ["to"] and len(rest) - (rest[1:2] == ["savepoint"]) == 2
    if texts[:2] == ["set", "local"]:
        if texts[2:3] == ["role"]:
            return len(words) > 3
        name, value = _name(words[2:], texts[2:])
        return (bool(name) and not name.startswith("pgsplit.") and name not in _REPORTED
                and len(value) > 1 and value[0].text in ("=", "to"))
    if texts[:2] == ["set", "constraints"]:
        return len(words) > 3 and texts[-1] in ("deferred", "immediate")
    if texts[0] == "set":
        return modes_of(words) is not None
    return texts[0] == "select" and _local_configs(words[1:], texts[1:])


def _local_configs(words: list[Token], texts: list[str]) -> bool:
    """set_config('name', a constant or a parameter, true), …"""
    while True:
        if texts[:2] == ["pg_catalog", "."]:
            words, texts = words[2:], texts[2:]
        if len(words) < 8 or texts[:2] != ["set_config", "("] or texts[3] != "," or texts[5:8] != [",", "true", ")"]:
            return False
        name = words[2].text.lower() if words[2].kind is Kind.STRING else ""
        if not _OPTION.fullmatch(name) or name.startswith("pgsplit.") or (_not_plain(name) and name != "role"):
            return False
        if name in _REPORTED:
            return False
        if words[4].kind not in (Kind.STRING, Kind.PARAMETER):
            return False
        words, texts = words[8:], texts[8:]
        if texts[:1] == ["as"]:
            words, texts = words[2:], texts[2:]
        if not words:
            return True
        if texts[0] != ",":
            return False
        words, texts = words[1:], texts[1:]


def _not_plain(name: str) -> bool:
    return name in _NOT_PLAIN or name.startswith(("transaction_", "default_transaction_"))
