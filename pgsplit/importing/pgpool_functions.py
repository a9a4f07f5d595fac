"""read_only_function_list and write_function_list: regular expressions there, the shell's patterns here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import filter as matching
from typing import Final

from ..classify.functions import SAFE
from ..classify.server_local import CLOCK, FUNCTIONS, is_local_function
from .draft import Draft
from .rules import words
from .source import Entry, printable

TO_REPLICAS: Final = "replica_functions"
LISTS: Final[Mapping[str, str]] = {
    "read_only_function_list": TO_REPLICAS, "white_function_list": TO_REPLICAS,
    "write_function_list": "primary_functions", "black_function_list": "primary_functions"}
_NAME: Final = re.compile(r"[A-Za-z_*][\w$*]*(?:\.[\w$*]+)*").fullmatch
# Built-in ones that write, and that no table of pgsplit's has: what is not known to be harmless goes to the primary.
WRITING: Final = re.compile(
    r"nextval|setval|currval|lastval|lo_\w+|pg_(?:try_)?advisory_\w+|pg_notify|pg_(?:cancel|terminate)_backend"
    r"|pg_switch_wal|pg_create_\w+|pg_drop_\w+|pg_logical_\w+|pg_replication_\w+|set_config").fullmatch


# What a pattern for replicas must not take in: those that are not harmless.
BUILT_IN: Final = sorted({*CLOCK, *FUNCTIONS, "nextval", "setval", "currval", "lastval", "set_config", "lo_create",
                          "pg_advisory_lock", "pg_notify", "pg_sleep"})
BUILT_IN_PREFIXES: Final = ("*", "pg_", "lo_", "txid_")


def functions(draft: Draft, entry: Entry) -> None:
    """Those of the database's own are taken over; built-in ones are known, and what is no name or ``.*`` cannot be."""
    target = LISTS[entry.name]
    taken: list[str] = []
    built_in: list[str] = []
    others: list[str] = []
    wide: list[str] = []
    for word in words(entry.value):
        pattern = glob(word)
        if pattern is None:
            others.append(printable(word))
        elif pattern in SAFE or is_local_function(pattern) or WRITING(pattern):
            built_in.append(printable(pattern))
        elif target == TO_REPLICAS and "*" in pattern and (
                pattern.startswith(BUILT_IN_PREFIXES) or matching(BUILT_IN, pattern)):
            wide.append(printable(word))
        else:
            taken.append(pattern)
    said = []
    if built_in:
        said.append(f"built-in functions are known here: {', '.join(built_in)}")
    if others:
        said.append(f"these are no patterns of the shell's kind (app.get_*): {', '.join(others)}")
    if wide:
        said.append(f"these would take in built-in functions, which may write: {', '.join(wide)}")
    if taken:
        before = draft.values.get(target)
        draft.values[target] = ", ".join(dict.fromkeys([*words(str(before or "")), *taken]))
        said.insert(0, "functions in SQL and PL/pgSQL are known by what they do, and need no list; taken at "
                       f"your word: {', '.join(taken)}")
    if others or wide:
        return draft.other(entry, "; ".join(said), target if taken else "", loud=True)
    if taken:
        return draft.taken(entry, target, text="; ".join(said))
    return draft.nothing(entry, "; ".join(said) or "names nothing: what each function does is known from the catalogue")


def glob(regex: str) -> str | None:
    """The shell's pattern for a regular expression that is a name with ``.*`` in it; None for any other.

    It stands for whole names, in whatever case, as pgpool-II has it.
    """
    pattern = regex.removeprefix("^").removesuffix("$").replace(".*", "*").replace("\\.", ".")
    return pattern.lower() if _NAME(pattern) else None
