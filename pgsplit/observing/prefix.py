"""log_line_prefix (PostgreSQL manual 20.8.3): what stands ahead of each entry of a stderr log."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..errors import PgSplitError

_TIME: Final = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
# By escape: the pattern, and the name of what is taken of it.
_ESCAPES: Final = {
    "a": (r".*?", "application"), "u": (r".*?", "user"), "d": (r".*?", "database"), "r": (r"\S*?", ""),
    "h": (r"\S*?", ""), "b": (r"[a-z ]*?", ""), "p": (r"\d+", "pid"), "P": (r"\d*", ""),
    "t": (rf"{_TIME} [^\s\]]+", ""), "m": (rf"{_TIME}\.\d{{3}} [^\s\]]+", "time"), "n": (r"\d+\.\d{3}", "epoch"),
    "i": (r".*?", ""), "e": (r"[0-9A-Z]{5}", "sqlstate"), "c": (r"[0-9a-f]+\.[0-9a-f]+", "session"),
    "l": (r"\d+", ""), "s": (rf"{_TIME} [^\s\]]+", ""), "v": (r"\S*?", ""), "x": (r"\d+", ""), "Q": (r"-?\d+", ""),
}
_ESCAPE: Final = re.compile(r"%(?:(-?\d+)?([a-zA-Z%]))|([^%]+)")
_SEVERITIES: Final = ("DEBUG[1-5]?|INFO|NOTICE|WARNING|ERROR|LOG|FATAL|PANIC|DETAIL|HINT|QUERY|CONTEXT|STATEMENT"
                      "|LOCATION|BACKTRACE")
_BEHIND: Final = rf"(?P<severity>{_SEVERITIES}):  (?P<message>.*)"
# PostgreSQL's default, Debian's, pgBadger's advice, those of hosted servers, and of ours.
KNOWN: Final = (
    "%m [%p] %q%u@%d ", "%m [%p] %q[user=%u,db=%d,app=%a] ", "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ",
    "%t [%p]: user=%u,db=%d,app=%a,client=%h ", "%m [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ",
    "%m [%p] %q%u@%d/%a ", "%m:%r:%u@%d:[%p]:%l:%e:%s:%v:%x:%c:%q%a:", "%t:%r:%u@%d:[%p]:", "%m [%p] %u@%d %a ",
    "%m [%p] %u@%d ", "%m [%p]: [%l-1] db=%d,user=%u ", "%t-%c-", "%m [%c] %q%u@%d ", "%n [%p] %q%u@%d ",
    "%m [%p] ", "%t [%p] %q%u@%d ", "%t [%p] ", "%t [%p]: ", "< %m > ", "%p ", "",
)


class Prefix:
    """*text* is the setting's value. :raises PgSplitError: for an escape that PostgreSQL does not have."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._match = re.compile(_pattern(text) + _BEHIND, re.DOTALL).match

    def read(self, line: str) -> dict[str, str] | None:
        """What *line*, without its end, says by name; None where it does not begin so."""
        found = self._match(line)
        return {name: value or "" for name, value in found.groupdict().items()} if found is not None else None

    @property
    def tells_sessions(self) -> bool:
        return "%p" in self.text or "%c" in self.text


def _pattern(text: str) -> str:
    parts: list[str] = []
    taken: set[str] = set()
    optional = 0
    position = 0
    while position < len(text):
        found = _ESCAPE.match(text, position)
        if found is None:
            raise PgSplitError(f"log_line_prefix {text!r}: what is the % at character {position + 1}?")
        position = found.end()
        padding, letter, plain = found.groups()
        if plain is not None:
            parts.append(re.escape(plain))
        elif letter == "%":
            parts.append("%")
        elif letter == "q":
            optional += 1
            parts.append("(?:")         # a background process writes nothing of what follows
        elif letter in _ESCAPES:
            pattern, name = _ESCAPES[letter]
            if name and name not in taken:
                taken.add(name)
                pattern = f"(?P<{name}>{pattern})"
            parts.append(rf" *{pattern} *" if padding else pattern)
        else:
            raise PgSplitError(f"log_line_prefix {text!r}: PostgreSQL has no %{letter}")
    return "".join(parts) + ")?" * optional


def guessed(lines: Iterable[str]) -> Prefix | None:
    """The known prefix with which most of *lines* begin, of these the one that tells most; None where none does."""
    whole = [line.rstrip("\r\n") for line in lines if line[:1] not in ("\t", "")]
    best: tuple[int, Prefix] | None = None
    for text in KNOWN:
        prefix = Prefix(text)
        score = sum(_fits(prefix, line) for line in whole)
        if score and (best is None or score > best[0]):
            best = score, prefix
    return best[1] if best is not None else None


def _fits(prefix: Prefix, line: str) -> bool:
    """Whether *line* has the prefix, and nothing in it looks as if something else had been meant."""
    found = prefix.read(line)
    return found is not None and not any(
        re.search(r"[\s@=,/\[\]]", found.get(name, "")) for name in ("user", "database"))
