"""The board: shared memory in which each worker has a slot that it alone writes and all read (DESIGN section 7).

It lies in memory without a file (memfd_create(2)), made before the first fork, so it survives any worker, and an
arbiter too: the one that takes its place is given the descriptor, so that for as long as both have workers a write
through one is known to the others (docs/adr/0017). Times are CLOCK_MONOTONIC in nanoseconds, which all processes of a
machine share.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from typing import Final

SLOTS: Final = 256
LIMITS: Final = 4096           # things that sessions are counted by (session/limits.py)
_FIELDS: Final = 6             # alive, sessions, load, numbering, last definition, last write; then four shared words
TERMS: Final = 64              # PostgreSQL clusters whose timelines a worker remembers, the latest ones
FEW: Final = 8                 # sessions that are cheaper in one worker than in two, each of which is woken for fewer
BUSY: Final = 500              # thousandths of a core's time: who works more than that has enough
AHEAD: Final = 8               # sessions by which a busy worker may be ahead of the one that has least
LEAVING: Final = 1_000_000     # the load of one that takes no more sessions


_TERMS: Final = 2 * TERMS + 1    # [clusters seen, (cluster, timeline) …]
_FORM: Final = 1                 # one more with each change of what a word means or where it lies
LAYOUT: Final = [_FORM, SLOTS, LIMITS, _FIELDS, TERMS]      # two arbiters of the same one may share a board
_NOTHING: Final = memoryview(bytes(8 * LIMITS)).cast("q")


class Board:
    """*descriptor*: of the memory of another arbiter's, with the same LAYOUT; this one's own from now on."""

    def __init__(self, descriptor: int | None = None) -> None:
        size = 8 * (_FIELDS * SLOTS + 4 + SLOTS * LIMITS + SLOTS * _TERMS)
        if descriptor is None:
            descriptor = os.memfd_create("pgsplit-board")
            os.ftruncate(descriptor, size)
        self.descriptor = descriptor            # the arbiter's: children close it, and have the memory
        self._memory = mmap.mmap(descriptor, size)               # pages come when they are used
        words = memoryview(self._memory).cast("q")
        self._alive = words[:SLOTS]
        self._sessions = words[SLOTS:2 * SLOTS]
        self._load = words[2 * SLOTS:3 * SLOTS]
        self._numberings = words[3 * SLOTS:4 * SLOTS]           # by which each counts
        self.definitions = words[4 * SLOTS:5 * SLOTS]           # the last change of a definition of each
        self._writes = words[5 * SLOTS:6 * SLOTS]
        self._shared = words[6 * SLOTS:6 * SLOTS + 1]           # [slots in use]; the next word is free
        self._turn = words[6 * SLOTS + 2:6 * SLOTS + 4]         # [whose sessions are next, up to how many he has]
        counts = words[_FIELDS * SLOTS + 4:]
        self._counts = [counts[slot * LIMITS:(slot + 1) * LIMITS] for slot in range(SLOTS)]
        terms = counts[SLOTS * LIMITS:]
        self._terms = [terms[slot * _TERMS:(slot + 1) * _TERMS] for slot in range(SLOTS)]
        self.writes = words[5 * SLOTS:6 * SLOTS + 1]       # the last write of each, and the number in use

    def slot(self, index: int) -> Slot:
        """The slot of worker *index*. A later worker of the same index goes on with what the earlier one wrote.

        The number in use is the arbiter's to write, before it forks the worker (of two arbiters, theirs who forks: see
        `handover`): two that write it at once could lose one's, and a slot that is not looked at is a write not seen.
        """
        if self._shared[0] <= index:
            self._shared[0] = index + 1
        return Slot(self, index)

    def latest_write_ns(self) -> int:
        return max(self._writes[:self._shared[0]], default=0)

    def latest_definition_ns(self) -> int:
        return max(self.definitions[:self._shared[0]], default=0)

    def timeline(self, cluster: int) -> int:
        """The greatest that any worker, living or dead, has seen of PostgreSQL cluster *cluster*; 0: none."""
        greatest = 0
        for slot in range(self._shared[0]):
            terms = self._terms[slot]
            for place in range(1, 2 * min(terms[0], TERMS), 2):
                if terms[place] == cluster:
                    greatest = max(greatest, terms[place + 1])
        return greatest

    def alive_ns(self, index: int) -> int:
        return self._alive[index]

    def sessions(self) -> list[int]:
        return list(self._sessions[:self._shared[0]])

    def strangers(self, own: Iterable[int]) -> list[int]:
        """Slots that somebody has, or has had and is gone, who is none of *own*."""
        known = set(own)
        return [index for index, count in enumerate(self.sessions()) if count >= 0 and index not in known]

    def forget(self, index: int) -> None:
        """Worker *index* is gone: it has no sessions. What it wrote stays."""
        self._sessions[index] = -1
        self._load[index] = 0
        self._counts[index][:] = _NOTHING



class Slot:
    """One worker's side of the board."""

    def __init__(self, board: Board, index: int) -> None:
        self._board = board
        self.index = index

    def beat(self, now_ns: int) -> None:
        self._board._alive[self.index] = now_ns

    def set_sessions(self, count: int) -> None:
        self._board._sessions[self.index] = count

    def publish_write(self, now_ns: int) -> None:
        """Store the moment before the bytes that tell of a commit leave (guarantee G3)."""
        self._board._writes[self.index] = max(now_ns, self._board._writes[self.index])

    def latest_write_ns(self) -> int:
        return self._board.latest_write_ns()

    def publish_definition(self, now_ns: int) -> None:
        """The same of a change of definitions, which every catalogue that was read before is then behind."""
        self._board.definitions[self.index] = max(now_ns, self._board.definitions[self.index])

    def latest_definition_ns(self) -> int:
        return self._board.latest_definition_ns()

    @property
    def definitions(self) -> memoryview[int]:
        """The last change of a definition that went through each slot."""
        return self._board.definitions

    @property
    def writes(self) -> memoryview[int]:
        """The last write of each slot, and behind them how many are in use."""
        return self._board.writes

    def timeline(self, cluster: int) -> int:
        return self._board.timeline(cluster)

    def raise_timeline(self, cluster: int, timeline: int) -> None:
        """Tell all workers, also those to come, that *cluster* has been seen on *timeline*."""
        terms = self._board._terms[self.index]
        for place in range(1, 2 * min(terms[0], TERMS), 2):
            if terms[place] == cluster:
                terms[place + 1] = max(timeline, terms[place + 1])
                return
        place = 1 + 2 * (terms[0] % TERMS)
        terms[place + 1], terms[place] = timeline, cluster
        terms[0] += 1

    def count(self, index: int, change: int) -> int:
        """Change this worker's count at *index* (below LIMITS); returns the sum over all workers that count alike."""
        counts, numberings = self._board._counts, self._board._numberings
        counts[self.index][index] += change
        own = numberings[self.index]
        return sum(counts[slot][index] for slot in range(self._board._shared[0]) if numberings[slot] == own)

    def clear_counts(self, numbering: int = 0) -> None:
        """*numbering*: a number of 64 bits that stands for what is counted at which index from now on."""
        self._board._numberings[self.index] = numbering
        self._board._counts[self.index][:] = _NOTHING

    def set_load(self, thousandths: int) -> None:
        """Of a core's time, over the last second or so."""
        self._board._load[self.index] = thousandths

    def lets_others_first(self) -> bool:
        """Whether a new session had better be another worker's.

        Workers are filled one after the other, the emptiest first, each with FEW more than it had, but for those that
        are busy; where all are, they get alike.
        """
        load, turn = self._board._load, self._board._turn
        takers = {index: count for index, count in enumerate(self._board.sessions())
                  if count >= 0 and load[index] < LEAVING}
        unhurried = {index: count for index, count in takers.items() if load[index] < BUSY}
        if not unhurried:
            return self._board._sessions[self.index] > min(takers.values(), default=0) + AHEAD
        emptiest = min(unhurried, key=unhurried.__getitem__)
        least = unhurried[emptiest]
        if unhurried.get(turn[0], turn[1]) >= min(turn[1], least + FEW):      # has got his, or takes none
            turn[0], turn[1] = emptiest, least + FEW
        return turn[0] != self.index
