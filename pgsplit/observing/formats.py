"""Which format a log has, and its entries whatever that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final, Protocol

from ..errors import PgSplitError
from . import csvlog
from .csvlog import CsvLog
from .entry import Broken, Entry
from .jsonlog import JsonLog
from .prefix import Prefix, guessed
from .stderrlog import StderrLog

FORMATS: Final = ("csvlog", "jsonlog", "stderr")
LOOKED_AT: Final = 400          # lines by which the format is guessed


class Reader(Protocol):
    def feed(self, line: str, number: int) -> Iterator[Entry | Broken]: ...
    def end(self) -> Iterator[Entry | Broken]: ...


class Log:
    """*lines* of one file. *format* is one of FORMATS, *prefix* the log_line_prefix; without them they are guessed.

    :raises PgSplitError: when they cannot be.
    """

    def __init__(self, lines: Iterable[str], format_: str = "", prefix: str | None = None) -> None:
        self._lines = iter(lines)
        first = list(islice(self._lines, LOOKED_AT))
        self._lines = chain(first, self._lines)
        self.prefix: Prefix | None = None
        self.format = format_ or ("stderr" if prefix is not None else _guess(first))
        if self.format == "stderr":
            self.prefix = Prefix(prefix) if prefix is not None else guessed(first)
            if self.prefix is None and first:
                raise PgSplitError("neither csvlog nor jsonlog, and none of the usual log_line_prefixes fits: give "
                                   "--log-line-prefix (SHOW log_line_prefix), in English (lc_messages)")
            self.prefix = self.prefix or Prefix("")
        self._reader: Reader = (CsvLog() if self.format == "csvlog" else JsonLog() if self.format == "jsonlog"
                                else StderrLog(self.prefix or Prefix("")))

    @property
    def tells_sessions(self) -> bool:
        return self.prefix is None or self.prefix.tells_sessions

    def __iter__(self) -> Iterator[Entry | Broken]:
        for number, line in enumerate(self._lines, 1):
            yield from self._reader.feed(line, number)
        yield from self._reader.end()


def _guess(lines: list[str]) -> str:
    if any(map(csvlog.begins, lines)):
        return "csvlog"
    return "jsonlog" if any(line.startswith('{"timestamp"') for line in lines) else "stderr"
