"""What became of each setting of the source."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .source import Entry


class Meaning(Enum):
    TAKEN = "taken over"
    OTHER = "means something else here"
    NOTHING = "means nothing here"
    UNKNOWN = "is not known"
    MISSING = "is missing"


@dataclass(frozen=True)
class Remark:
    """*target*: pgsplit's setting that it stands at. *entry* is None for what the source does not say.

    *loud*: what a user may not overlook, since something is less safe, or does not work, until it is looked at.
    """

    meaning: Meaning
    entry: Entry | None
    text: str = ""
    target: str = ""
    loud: bool = False

    def __str__(self) -> str:
        """``FILE:LINE: name = value: what became of it: why, and what to do``."""
        where = f"{self.entry.place}: {self.entry.shown}: " if self.entry is not None else ""
        if self.meaning is Meaning.TAKEN:
            what = f"becomes {self.target}" if self.target else "is taken over"
            return f"{where}{what}{': ' if self.text else ''}{self.text}" if where else self.text
        return f"{where}{self.meaning.value + ': ' if where else ''}{self.text}"
