"""A setting as it stands in a file that is read, and how it may be shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Read = Callable[[str], str]
"""The text of a file. :raises OSError: when it cannot be read."""

SHOWN: Final = 100
_SECRETS: Final = re.compile(r"(?i)((?:passw(?:or)?d|authkey|secret)\w*'?\s*=\s*)('(?:[^']|'')*'?|\S+)")
_IS_SECRET: Final = re.compile(r"(?i)passw(?:or)?d|authkey|secret").search
_IN_URLS: Final = re.compile(r"(//[^/\s:@]*:)[^@\s]*@")
_FILES: Final = ("pool_passwd",)       # the name of a file, which may be shown


@dataclass(frozen=True)
class Entry:
    """*section*: PgBouncer's; pgpool.conf has none. *value*: without its quotes."""

    file: str
    line: int
    name: str
    value: str
    section: str = ""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def shown(self) -> str:
        """The setting in one line, without a secret."""
        if self.value and self.name not in _FILES and _IS_SECRET(self.name):
            return printable(f"{self.name} = ***")
        text = f"{self.name} = {self.value}".rstrip()
        return printable(text if self.name in _FILES else masked(text))

    def __repr__(self) -> str:
        return f"Entry({self.place}: {self.shown})"


def masked(text: str) -> str:
    """*text* without what follows the word password, in whatever form it may stand."""
    return _IN_URLS.sub(r"\1***@", _SECRETS.sub(r"\1***", text))


def printable(text: str) -> str:
    """In one line and not too long: what would end a comment of YAML's, or move a terminal's cursor, is a ``?``."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= SHOWN else text[:SHOWN - 1] + "…"


def lines(text: str) -> list[str]:
    """As both programs count them: a line ends with a line feed, and with nothing else."""
    return [line.rstrip("\r") for line in text.split("\n")]
