"""An entry of a server's log, whatever the format is that it was written in, and what is no entry."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import datetime
from typing import Final, NamedTuple

LONGEST: Final = 16 << 20       # characters of one entry; what is longer is broken


class Entry(NamedTuple):
    """*line*: where it begins. *session*: the same text for all of a session; empty where the log does not tell.
    *time*: milliseconds, comparable within a log; None where the log tells none. *query*: the statement that
    an error is about. The names are those of csvlog's columns (PostgreSQL manual 20.8.4), and empty where unknown.
    """

    line: int
    session: str
    severity: str
    message: str
    time: int | None = None
    user: str = ""
    database: str = ""
    application: str = ""
    sqlstate: str = ""
    detail: str = ""
    query: str = ""


class Broken(NamedTuple):
    """What begins in *line* is no entry, because of *why*."""

    line: int
    why: str


_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.(\d{3})")


class Clock:
    """Reads the times of a log. Its time zone is left out: a log has one."""

    def __init__(self) -> None:
        self._text = ""
        self._seconds = 0

    def ms(self, text: str) -> int | None:
        """Of a text such as ``2026-11-30 13:30:39.123 UTC``; None where it has no milliseconds, or is no time."""
        found = _STAMP.match(text)
        if found is None:
            return None
        if found[1] != self._text:
            try:
                self._seconds = timegm(datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").timetuple())
            except ValueError:
                return None
            self._text = found[1]
        return 1000 * self._seconds + int(found[2])
