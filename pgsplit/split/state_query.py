"""The SQL by which the primary tells a session's state. Whatever the session's search_path is, names mean the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from .settings import OF_TRANSACTION, PRIMARY_ONLY
from .transaction import SETTINGS

LONGEST: Final = 8000          # characters of a value that is carried to a replica

_EQUALS: Final = "operator(pg_catalog.=)"
_IN_TEMP: Final = f"{_EQUALS} pg_catalog.pg_my_temp_schema()"

# Pin -> whether the session has such a thing now.
_PINS: Final = {
    "temporary_object": f"""
        exists (select from pg_catalog.pg_class where relnamespace {_IN_TEMP})
        or exists (select from pg_catalog.pg_type where typnamespace {_IN_TEMP})
        or exists (select from pg_catalog.pg_proc where pronamespace {_IN_TEMP})""",
    "advisory_lock": f"""
        exists (select from pg_catalog.pg_locks where locktype {_EQUALS} 'advisory'
                and pid {_EQUALS} pg_catalog.pg_backend_pid())""",
    "listen": "exists (select from pg_catalog.pg_listening_channels())",
    "hold_cursor": "exists (select from pg_catalog.pg_cursors where is_holdable)",
}
CHECKED: Final = frozenset(_PINS)

_SETTINGS: Final = f"""
    select case when name {_EQUALS} any ('{{{",".join(PRIMARY_ONLY)}}}'::pg_catalog.text[]) then 'o' else 's' end,
        name, pg_catalog.left(setting, {LONGEST}) from pg_catalog.pg_settings
    where source {_EQUALS} 'session'
        and name operator(pg_catalog.<>) all ('{{{",".join(OF_TRANSACTION)}}}'::pg_catalog.text[])
    union all select 't', n, v from (
        select n, pg_catalog.current_setting(n, true) as v
        from pg_catalog.unnest('{{{",".join(SETTINGS)}}}'::pg_catalog.text[]) as n) as defaults
    where v is not null
    union all select 'i', 'role', pg_catalog.current_setting('role')
    union all select 'i', 'session_authorization', session_user::pg_catalog.text
    union all select 'k', 'unknown_settings', name from pg_catalog.pg_settings
    where source {_EQUALS} 'session' and pg_catalog.length(setting) operator(pg_catalog.>) {LONGEST}"""

_DIFFERING: Final = f"""
    union all select 's', name, pg_catalog.left(setting, {LONGEST}) from pg_catalog.pg_settings
    where name {_EQUALS} any ('{{{{{{names}}}}}}'::pg_catalog.text[])"""

# A customized option that a server has never heard of is null, one that was ever touched is not.
_OPTIONS: Final = """
    union all select 's', n, v from (
        select n, pg_catalog.current_setting(n, true) as v from ({names}) as names (n)) as options
    where v is not null"""
_NAMED: Final = "select pg_catalog.unnest($1::pg_catalog.text[])"

# Functions of this database: the options they name, and whether one computes such a name.
_BODIES: Final = f"""
    with bodies as (
        select coalesce(nullif(prosrc, ''), case when prolang {_EQUALS} 14 then
            pg_catalog.pg_get_functiondef(oid) end) as body, proconfig
        from pg_catalog.pg_proc
        where oid operator(pg_catalog.>=) 16384 and prokind operator(pg_catalog.<>) 'a')"""
_IN_BODIES: Final = """
    union select m[1] from bodies, pg_catalog.regexp_matches(
        body, $p$'([A-Za-z_][A-Za-z0-9_$]*\\.[A-Za-z_][A-Za-z0-9_$.]*)'$p$, 'g') as m
    where body operator(pg_catalog.~*) 'set_config'
    union select m[1] from bodies, pg_catalog.regexp_matches(
        body, $p$\\m(?:set|reset)\\s+(?:local\\s+|session\\s+)?([a-z_][a-z0-9_$]*\\.[a-z_][a-z0-9_$.]*)$p$, 'gi') as m
    union select pg_catalog.split_part(c, '=', 1) from bodies, pg_catalog.unnest(proconfig) as c
    where c operator(pg_catalog.~) '^[^=]*[.]'"""
_COMPUTED: Final = """
    union all select 'k', 'unknown_settings', 'a function' where exists (select from bodies
        where body operator(pg_catalog.~*) $p$set_config\\s*\\(\\s*[^'\\s]$p$
            or (body operator(pg_catalog.~*) $p$\\mexecute\\M$p$ and body operator(pg_catalog.~*) $p$\\mset\\M$p$))
    union all select 'k', 'random_seed', 'a function' where exists (select from bodies
        where body operator(pg_catalog.~*) 'setseed')"""


def state_query(pins: Iterable[str], options: Collection[str], *, functions: bool,
                differing: Collection[str] = ()) -> tuple[str, list[bytes]]:
    """(SQL, its parameters); it gives rows of (what, name, value): ``s`` a setting, ``o`` one that is the primary's
    only, ``i`` the role or user, ``p`` one
    of *pins* that holds, ``k`` a pin that was not asked for, ``t`` what transactions are by default.

    *options*: names of customized options. *functions*: also those that any function of the database names.
    *differing*: settings that are asked for whether the session has set them or not.
    """
    named = functions or bool(options)
    sql = (_BODIES if functions else "") + _SETTINGS
    sql += "".join(f"\n    union all select 'p', '{pin}', '' where {_PINS[pin]}" for pin in pins)
    if differing:
        sql += _DIFFERING.format(names=",".join(differing))
    if named:
        sql += _OPTIONS.format(names=_NAMED + (_IN_BODIES if functions else ""))
    if functions:
        sql += _COMPUTED
    array = "{" + ",".join(f'"{name}"' for name in options) + "}"
    return sql, [array.encode("latin-1")] if named else []
