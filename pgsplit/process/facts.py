"""What the monitor has found out, in memory that it alone writes and all workers of its arbiter read (docs/adr/0024).

The memory has no file (memfd_create(2)) and is made before the first fork, so that it outlives any monitor. A fact is a
text in a record of its own. Nobody locks: a record's checksum is over its number and its text, and a reader who finds
it wrong has come while it was written, and is told again by who writes.
"""

from __future__ import annotations

import mmap
import os
import zlib
from typing import Final

RECORDS: Final = 1024
SIZE: Final = 32 << 10         # bytes of a record's text
HEADER: Final = 3              # words: the monitor's pid, its latest sign of life, how many records have been in use
WORDS: Final = 3               # of a record: its number, one more with each text; the text's length; the checksum


class TooMuch(ValueError):
    """A text that is too long, or one more record than there are."""


class Facts:
    """*pid*: of the monitor whose facts they are; 0: nobody's."""

    def __init__(self) -> None:
        size = 8 * (HEADER + WORDS * RECORDS) + SIZE * RECORDS
        descriptor = os.memfd_create("pgsplit-facts")
        os.ftruncate(descriptor, size)
        self._memory = mmap.mmap(descriptor, size)          # pages come when they are used
        os.close(descriptor)
        words = memoryview(self._memory)[:8 * (HEADER + WORDS * RECORDS)].cast("q")
        self._header = words[:HEADER]
        self._records = words[HEADER:]
        self._texts = memoryview(self._memory)[8 * (HEADER + WORDS * RECORDS):]

    # --- the monitor's, and where there is none the arbiter's -----------------------------------------------

    def begin(self, pid: int) -> None:
        """Nothing is known, and what will be is *pid*'s word."""
        self._header[0] = 0
        for record in range(self._header[2]):
            self.write(record, b"")
        self._header[0] = pid

    def beat(self, now_ns: int) -> None:
        self._header[1] = now_ns

    def write(self, record: int, text: bytes) -> None:
        """:raises TooMuch:"""
        if record >= RECORDS or len(text) > SIZE:
            raise TooMuch(f"{len(text)} bytes for record {record} of {RECORDS}, which take {SIZE}")
        place, number = WORDS * record, self._records[WORDS * record] + 1
        self._texts[SIZE * record:SIZE * record + len(text)] = text
        self._records[place + 1] = len(text)
        self._records[place + 2] = _checksum(number, text)
        self._records[place] = number
        self._header[2] = max(self._header[2], record + 1)

    # --- the workers' -----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._header[0]

    @property
    def alive_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return self._header[1]

    def numbers(self) -> list[int]:
        """Of all records that have been in use: one that has changed says something else."""
        return list(self._records[0:WORDS * self._header[2]:WORDS])

    def read(self, record: int, number: int) -> bytes | None:
        """The text of *record* by that *number*, empty where it says nothing. None: it is being written."""
        _, length, checksum = self._records[WORDS * record:WORDS * (record + 1)]
        text = bytes(self._texts[SIZE * record:SIZE * record + min(max(length, 0), SIZE)])
        return text if _checksum(number, text) == checksum else None


def _checksum(number: int, text: bytes) -> int:
    return zlib.crc32(text, zlib.crc32(number.to_bytes(8, "little")))
