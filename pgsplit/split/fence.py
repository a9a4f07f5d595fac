"""The fence: as of when a replica is fresh (guarantee G3; DESIGN section 6). Sans-I/O.

At local time *t* the primary was asked for the end of its write-ahead log and answered *L*: a replica that has
replayed up to *L* shows every commit that was acknowledged before *t*, flushed or not (docs/adr/0010). A ring of such
samples is kept, not only the newest: on a busy primary the newest has never been replayed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

RING: Final = 512              # samples that are kept as they came, however close
COARSE: Final = 256            # an older one is kept where it is this part of its age later than the one before it
NEVER: Final = -1
ALWAYS: Final = 2**62          # the primary itself

# The sizes of page headers in WAL (PostgreSQL's SizeOfXLogShortPHD, SizeOfXLogLongPHD): a position just behind one
# names the same end of a record as the position before it.
PAGE_HEADER: Final = 24
SEGMENT_HEADER: Final = 40


def parse_lsn(text: str) -> int:
    """``16/B374D848`` as a number (PostgreSQL manual 8.20). :raises ValueError: for anything else."""
    high, low = text.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def normalise(lsn: int, segment_size: int = 16 << 20, block_size: int = 8192) -> int:
    """The end of the last record at or before *lsn*, when *lsn* points just behind a page header."""
    if lsn % segment_size == SEGMENT_HEADER:
        return lsn - SEGMENT_HEADER
    if lsn % block_size == PAGE_HEADER:
        return lsn - PAGE_HEADER
    return lsn


class Ring:
    """Samples (t_ns, lsn) of one primary in one term, in order of time; positions never fall in it.

    The newest are all kept, older ones ever more sparsely, so that a standby that stands still for hours is told by
    how much, within 4/COARSE of that, in little memory.
    """

    def __init__(self) -> None:
        self._times: list[int] = []
        self._lsns: list[int] = []
        self._thin_at = 2 * RING

    def __len__(self) -> int:
        return len(self._times)

    def clear(self) -> None:
        """Another primary, or the same one restarted: its positions mean nothing beside the old ones."""
        self._times.clear()
        self._lsns.clear()
        self._thin_at = 2 * RING

    def add(self, t_ns: int, lsn: int) -> None:
        """*t_ns* was read before the primary was asked. A position that falls voids all that was known."""
        if self._lsns and lsn < self._lsns[-1]:
            self.clear()
        if self._lsns and lsn == self._lsns[-1]:
            self._times[-1] = max(t_ns, self._times[-1])
            return
        self._times.append(t_ns)
        self._lsns.append(lsn)
        if len(self._times) > self._thin_at:
            self._thin()

    def _thin(self) -> None:
        newest, old = self._times[-1], len(self._times) - RING
        kept = [0]
        for index in range(1, old):
            if self._times[index] - self._times[kept[-1]] >= (newest - self._times[index]) // COARSE:
                kept.append(index)
        self._times[:old] = [self._times[index] for index in kept]
        self._lsns[:old] = [self._lsns[index] for index in kept]
        self._thin_at = len(self._times) + RING

    def fresh_ns(self, replayed: int) -> int:
        """The greatest t whose position is replayed; NEVER when there is none."""
        index = bisect_right(self._lsns, replayed)
        return self._times[index - 1] if index else NEVER

    def as_of(self, lsn: int, told_ns: int) -> int | None:
        """As of when a replica is fresh that has replayed *lsn*, a position of this primary's known since *told_ns*;
        None while it is not known to have come so far.

        A sample is normalised, and *lsn* is not: it may be that of the newest sample behind a page's header.
        """
        index = bisect_left(self._lsns, lsn)
        if index == len(self._lsns) and index and lsn - self._lsns[-1] <= SEGMENT_HEADER and self._times[-1] > told_ns:
            index -= 1
        return self._times[index] if index < len(self._times) else None

    def lag_ns(self, replayed: int) -> int:
        """The age, as of the newest sample, of the oldest thing that is not replayed; of what is older than all samples
        at least theirs.
        """
        if not self._times or replayed >= self._lsns[-1]:
            return 0
        return self._times[-1] - max(self.fresh_ns(replayed), self._times[0])

    @property
    def newest_ns(self) -> int:
        return self._times[-1] if self._times else NEVER

    @property
    def newest_lsn(self) -> int:
        return self._lsns[-1] if self._lsns else 0
