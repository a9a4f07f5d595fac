"""Maps from the names of certificates to users: lines as in pg_ident.conf (PostgreSQL manual 21.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .fields import Kind
from .nodes import Scalar
from .reader import Fields

UserMap = tuple[tuple[str, str], ...]
UserMaps = Mapping[str, UserMap]


def read_maps(own: Fields) -> UserMaps:
    """`user_maps`: the name of a map -> its lines. Mistakes are noted."""
    block = own.mapping("user_maps", Kind("user_maps block", tuple(own.names("user_maps"))))
    return {name: _lines(block, name) for name in block.items}


def _lines(block: Fields, name: str) -> UserMap:
    found = []
    for node, path in block.sequence(name):
        if not isinstance(node, Scalar):
            block.notes.wrong(node, path, "is a line: SYSTEM-USERNAME PG-USERNAME")
            continue
        try:
            found.append(_line(node.value))
        except ValueError as error:
            block.notes.wrong(node, path, str(error))
    return tuple(found)


def _line(text: str) -> tuple[str, str]:
    """:raises ValueError: saying what is wrong with it."""
    words = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', text)]
    if len(words) != 2 or not all(words):
        raise ValueError(f"{text!r} is not SYSTEM-USERNAME PG-USERNAME")
    system, user = words
    if system.startswith("/"):
        try:
            groups = re.compile(system[1:]).groups
        except re.error as error:
            raise ValueError(f"{system!r} is no regular expression: {error}") from None
        if "\\1" in user and not groups:
            raise ValueError(f"{system} has no subexpression for the \\1 of {user}")
    return system, user
