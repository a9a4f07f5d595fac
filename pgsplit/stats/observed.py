"""What a listener that observes has counted of reads, by who has sent them; bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from .offload import ReadStats

MOST: Final = 500               # who is counted apart
OTHERS: Final = "(all others)"


class Sender(NamedTuple):
    """As they were at the login."""

    application: str
    user: str
    database: str


class Observed:
    """Of one worker's sessions of a listener."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._by: dict[Sender, ReadStats] = {}

    def of(self, sender: Sender) -> ReadStats:
        """Where the reads of *sender* are counted: those of who comes when there are enough, together."""
        found = self._by.get(sender)
        if found is None:
            if len(self._by) >= self._most:
                sender = Sender(OTHERS, OTHERS, OTHERS)
            found = self._by.setdefault(sender, ReadStats())
        return found

    def __iter__(self) -> Iterator[tuple[Sender, ReadStats]]:
        return iter(self._by.items())
