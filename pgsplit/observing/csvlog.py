"""The format csvlog (PostgreSQL manual 20.8.4): 23 columns, 24 from version 13 on, 26 from version 14 on."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Final

from .entry import LONGEST, Broken, Clock, Entry

USER: Final = 1
DATABASE: Final = 2
SESSION: Final = 5
SEVERITY: Final = 11
SQLSTATE: Final = 12
MESSAGE: Final = 13
DETAIL: Final = 14
QUERY: Final = 19
APPLICATION: Final = 22
COLUMNS: Final = (23, 24, 26)

# How a record begins: strict enough for no text of a statement to look so by chance.
_BEGINS: Final = re.compile(
    r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [^,"]{1,40},(?:"(?:[^"]|"")*")?,(?:"(?:[^"]|"")*")?,\d+,'
    r'(?:"[^"]*")?,[0-9a-f]+\.[0-9a-f]+,\d+,')


def begins(line: str) -> bool:
    """Whether a record of csvlog begins with *line*."""
    return _BEGINS.match(line) is not None


class CsvLog:
    """Fed with the lines of a log, each with its end."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0
        self._first = 0
        self._open = False          # within quotes
        self._lost = False          # within what is broken, up to the next record
        self._clock = Clock()
        csv.field_size_limit(LONGEST)

    def feed(self, line: str, number: int) -> Iterator[Entry | Broken]:
        """What is complete with *line*, the *number*th."""
        if self._open and begins(line):
            yield Broken(self._first, "a quote is not closed")
            self._forget()
        if not self._lines:
            if not line.strip():
                return
            if not begins(line):
                if not self._lost:
                    yield Broken(number, "no record of csvlog begins here")
                self._lost = True
                return
            self._first, self._lost = number, False
        self._lines.append(line)
        self._size += len(line)
        self._open ^= line.count('"') % 2 == 1
        if not self._open:
            yield self._take()
        elif self._size > LONGEST:
            yield Broken(self._first, f"longer than {LONGEST} characters, or a quote is not closed")
            self._forget()
            self._lost = True

    def end(self) -> Iterator[Entry | Broken]:
        """What the last line has left."""
        if self._lines:
            yield Broken(self._first, "the log ends within the record")
            self._forget()

    def _forget(self) -> None:
        self._lines, self._size, self._open = [], 0, False

    def _take(self) -> Entry | Broken:
        lines, first = self._lines, self._first
        self._forget()
        try:
            [row] = csv.reader(["".join(lines)] if len(lines) == 1 else lines, strict=True)
        except (csv.Error, ValueError) as error:
            return Broken(first, f"not readable as CSV: {error}")
        if len(row) not in COLUMNS:
            return Broken(first, f"{len(row)} columns: csvlog has {', '.join(map(str, COLUMNS))}")
        return Entry(first, row[SESSION], row[SEVERITY], row[MESSAGE], self._clock.ms(row[0]), row[USER],
                     row[DATABASE], row[APPLICATION], row[SQLSTATE], row[DETAIL], row[QUERY])
