"""The format stderr: lines behind log_line_prefix; what goes on in another line begins with a tab there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .entry import LONGEST, Broken, Clock, Entry
from .prefix import Prefix

# Lines that belong to the entry ahead of them: the name of what they tell, where that is looked at.
_BELONG: Final = {"DETAIL": "detail", "STATEMENT": "query", "HINT": "", "QUERY": "", "CONTEXT": "", "LOCATION": "",
                  "BACKTRACE": ""}


class StderrLog:
    """Fed with the lines of a log."""

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix
        self._clock = Clock()
        self._first = 0
        self._found: dict[str, str] = {}
        self._parts: dict[str, list[str]] = {}      # of what is read now: message, detail, query
        self._part = ""
        self._size = 0
        self._lost = False

    def feed(self, line: str, number: int) -> Iterator[Entry | Broken]:
        """What is complete ahead of *line*, the *number*th."""
        line = line.rstrip("\r\n")
        if line.startswith("\t"):
            if self._found:
                self._go_on(line[1:])
                if self._size > LONGEST:
                    yield Broken(self._first, f"longer than {LONGEST} characters")
                    self._found, self._lost = {}, True
            elif not self._lost:
                yield Broken(number, "goes on with an entry that is not in this file")
                self._lost = True
            return
        found = self._prefix.read(line)
        if found is None:
            if line.strip():
                yield from self.end()
                if not self._lost:
                    yield Broken(number, f"does not begin with log_line_prefix {self._prefix.text!r} and a severity")
                self._lost = True
            return
        severity = found["severity"]
        if severity in _BELONG:
            if self._found:
                self._part = _BELONG[severity]
                self._go_on(found["message"])
            return
        yield from self.end()
        self._first, self._found, self._lost, self._size = number, found, False, 0
        self._parts, self._part = {}, "message"
        self._go_on(found["message"])

    def end(self) -> Iterator[Entry | Broken]:
        """The entry that was read last: nothing tells that it is whole but what follows."""
        if self._found:
            yield self._take()
            self._found = {}

    def _go_on(self, text: str) -> None:
        if self._part:
            self._parts.setdefault(self._part, []).append(text)
            self._size += len(text) + 1

    def _take(self) -> Entry:
        found, parts = self._found, {name: "\n".join(lines) for name, lines in self._parts.items()}
        time = self._clock.ms(found["time"]) if "time" in found else (
            round(1000 * float(found["epoch"])) if found.get("epoch") else None)
        return Entry(self._first, found.get("session") or found.get("pid", ""), found["severity"],
                     parts.get("message", ""), time, _known(found.get("user")), _known(found.get("database")),
                     _known(found.get("application")), found.get("sqlstate", ""), parts.get("detail", ""),
                     parts.get("query", ""))


def _known(name: str | None) -> str:
    return "" if name in (None, "[unknown]") else str(name)
