"""PgBouncer's files: pgbouncer.ini, the connection strings in it, and the list of users beside it.

By its manual (pgbouncer.ini(5)): a comment is a line of its own, names are quoted as identifiers, values go to the end
of the line, and ``%include FILE`` stands for what the file holds.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final

from ..errors import ConfigError
from .source import Entry, Read, lines, masked, printable

DEPTH: Final = 10           # of files that include files, as PgBouncer has it
_KEY: Final = re.compile(r'(?:"((?:[^"]|"")*)"|([\w.*-]+))\s*=\s*(.*)').fullmatch
_WORD: Final = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^']|'')*)'(?=\s|$)|([^\s']\S*|(?=\s|$)))")
_USER: Final = re.compile(r'\s*"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"').match


def read_ini(text: str, file: str, read: Read) -> list[Entry]:
    """Each setting, in order. :raises ConfigError: with each line that is none."""
    problems: list[str] = []
    found = _Reader(read, problems)
    found.read_text(text, file, ())
    if problems:
        raise ConfigError(problems)
    return found.entries


class _Reader:
    def __init__(self, read: Read, problems: list[str]) -> None:
        self.entries: list[Entry] = []
        self._read = read
        self._problems = problems
        self._section = ""          # goes on behind an include, and in it

    def read_text(self, text: str, file: str, above: tuple[str, ...]) -> None:
        for number, whole in enumerate(lines(text), 1):
            line = whole.strip(" \t\v\f")
            if not line or line[0] in ";#":
                continue
            if match := re.fullmatch(r"%include\s+(.+)", line):
                self._include(match[1].strip("'\""), file, number, (*above, file))
            elif match := re.fullmatch(r"\[([^\]]+)\]", line):
                self._section = match[1].strip()
            elif (match := _KEY(line)) and self._section:
                name = match[1].replace('""', '"') if match[1] is not None else match[2]
                self.entries.append(Entry(file, number, name, match[3].strip(), self._section))
            elif match:
                self._wrong(file, number, "stands before the first [section]")
            else:
                self._wrong(file, number, "is neither [section], nor name = value, nor a comment")

    def _include(self, name: str, file: str, number: int, above: tuple[str, ...]) -> None:
        if len(above) >= DEPTH:
            return self._wrong(file, number, f"%include: files are included {DEPTH} deep")
        beside = posixpath.join(posixpath.dirname(file), name)
        for path in dict.fromkeys((name, beside)):      # PgBouncer looks in the directory in which it was started
            try:
                return self.read_text(self._read(path), path, above)
            except OSError as error:
                why = error.strerror or str(error)
        return self._wrong(file, number, f"%include {printable(masked(name))}: {why}")

    def _wrong(self, file: str, number: int, what: str) -> None:
        self._problems.append(f"{file}:{number}: {what}")


def connection_string(text: str) -> dict[str, str]:
    """``host=db1 port=5432 auth_query='SELECT …'``: a quote in quotes is doubled, and the last of a name counts.

    :raises ValueError: with what is wrong, and nothing of the text: it may be a password.
    """
    found: dict[str, str] = {}
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _WORD.match(text, position)
        if match is None:
            raise ValueError(f"is not a connection string: name=value is expected at letter {position + 1} of it")
        found[match[1]] = match[2].replace("''", "'") if match[2] is not None else match[3]
        position = match.end()
    return found


def read_userlist(text: str, file: str) -> list[tuple[str, str, str]]:
    """(place, user, secret) of each line ``"user" "secret"``. :raises ConfigError: with each line that is none."""
    found, problems = [], []
    for number, line in enumerate(lines(text), 1):
        if not line.strip() or line.lstrip()[0] in ";#":
            continue
        match = _USER(line)
        if match is None:
            problems.append(f'{file}:{number}: is not "user" "password"')
            continue
        found.append((f"{file}:{number}", match[1].replace('""', '"'), match[2].replace('""', '"')))
    if problems:
        raise ConfigError(problems)
    return found
