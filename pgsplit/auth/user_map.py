"""Which users the name of a certificate stands for: pg_ident.conf's rules (check_usermap in PostgreSQL)."""

from __future__ import annotations

import re
from collections.abc import Iterable


def allows(lines: Iterable[tuple[str, str]] | None, name: str, user: str) -> bool:
    """Whether a line (SYSTEM-USERNAME, PG-USERNAME) leads from *name* to *user*; without a map they are the same.

    A SYSTEM-USERNAME that begins with / is a regular expression, whose first group takes the place of \\1.
    """
    if lines is None:
        return name == user
    return any(_line_allows(system, mapped, name, user) for system, mapped in lines)


def _line_allows(system: str, mapped: str, name: str, user: str) -> bool:
    if not system.startswith("/"):
        return name == system and mapped == user
    match = re.search(system[1:], name)
    if match is None:
        return False
    if "\\1" in mapped:
        if match[1] is None:
            return False
        mapped = mapped.replace("\\1", match[1], 1)
    return mapped == user
