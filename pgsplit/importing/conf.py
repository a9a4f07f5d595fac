"""pgpool-II's files: pgpool.conf and pool_passwd.

``name = value``, quotes around what is not one word, a comment from ``#`` on; the last of a name counts.
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import ConfigError
from .source import Entry, lines

AES: Final = "AES"
_LINE: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:=\s*|\s)(?:'((?:[^'\\]|\\.|'')*)'|([^\s'#]*))\s*(?:#.*)?").fullmatch


def read_conf(text: str, file: str) -> list[Entry]:
    """Each setting, in order. :raises ConfigError: with each line that is none."""
    found, problems = [], []
    for number, line in enumerate(lines(text), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE(line)
        if match is None:
            problems.append(f"{file}:{number}: is neither name = value nor a comment")
            continue
        found.append(Entry(file, number, match[1], match[2] if match[2] is not None else match[3]))
    if problems:
        raise ConfigError(problems)
    return found


def read_pool_passwd(text: str, file: str) -> list[tuple[str, str, str]]:
    """(place, user, secret) of each line ``user:secret``; the secret as `plain` takes it.

    :raises ConfigError: with each line that is none.
    """
    found, problems = [], []
    for number, line in enumerate(lines(text), 1):
        name, colon, secret = line.strip().partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or not name:
            problems.append(f"{file}:{number}: is not user:password")
            continue
        found.append((f"{file}:{number}", name, secret))
    if problems:
        raise ConfigError(problems)
    return found


def plain(secret: str) -> str | None:
    """As a user list has it: TEXT is taken off; None for what is encrypted with pgpool-II's key."""
    if re.fullmatch(r"AES[A-Za-z0-9+/=]{8,}", secret):
        return None
    return secret.removeprefix("TEXT")
