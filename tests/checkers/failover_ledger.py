"""What clients were told of their writes, and whether the servers have just that."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from pgsplit.demo.server import Server

TABLE = "failover_rows"
WINDOW = 100        # numbers behind a writer's last one that a read looks at


class Seen(NamedTuple):
    """What a read that begins now must see of a writer: *count* numbers from *first* on, up to *last*."""

    first: int
    last: int
    count: int


class Ledger:
    """A writer's numbers grow, and none is used twice: a number is a write. *parts* of it are rows of one transaction.

    A number is acknowledged, or refused (the client was told that nothing of it has been committed), or neither: its
    outcome is unknown, and both are right.
    """

    def __init__(self) -> None:
        self.parts: dict[int, int] = {}
        self.acknowledged: dict[int, dict[int, float]] = {}     # writer -> number -> when, by time.monotonic()
        self.refused: dict[int, set[int]] = {}
        self._last: dict[int, int] = {}
        self._times: list[float] = []
        self._lock = threading.Lock()

    def enter(self, writer: int, parts: int = 1) -> None:
        self.parts[writer] = parts
        self.acknowledged[writer], self.refused[writer], self._last[writer] = {}, set(), 0

    def acknowledge(self, writer: int, number: int) -> None:
        with self._lock:
            now = time.monotonic()
            self.acknowledged[writer][number] = now
            self._last[writer] = number
            self._times.append(now)

    def refuse(self, writer: int, number: int) -> None:
        with self._lock:
            self.refused[writer].add(number)

    @property
    def writes(self) -> int:
        return len(self._times)

    def seen(self, writer: int) -> Seen:
        with self._lock:
            last, there = self._last[writer], self.acknowledged[writer]
            first = max(1, last - WINDOW)
            return Seen(first, last, sum(number in there for number in range(first, last + 1)))

    def longest_gap(self, since: float, until: float) -> float:
        """Seconds between two acknowledged writes, of whichever writers, at most, from *since* to *until*."""
        with self._lock:
            within = self._times[bisect_left(self._times, since):bisect_right(self._times, until)]
        edges = [since, *within, until]
        return max(later - earlier for earlier, later in pairwise(edges))

    def first_behind(self, moment: float) -> float:
        """Seconds from *moment* to the next acknowledged write; 0.0 where there is none yet."""
        with self._lock:
            place = bisect_left(self._times, moment)
            return self._times[place] - moment if place < len(self._times) else 0.0

    # --- what is wrong ----------------------------------------------------------------------------------------------

    def judge(self, server: Server) -> list[str]:
        """Of what *server* has and lacks; a line each."""
        with self._lock:        # first: what is acknowledged later may, but need not, be there
            acknowledged = {(writer, number) for writer, numbers in self.acknowledged.items() for number in numbers}
            refused = {(writer, number) for writer, numbers in self.refused.items() for number in numbers}
        rows = {(writer, number): (count, parts) for writer, number, count, parts in server.query(
            f"select writer, n, count(*), count(distinct part) from {TABLE} group by 1, 2")}
        return [*self._lines(server, "lost: acknowledged, and not there", acknowledged - rows.keys()),
                *self._lines(server, "refused, and there", refused & rows.keys()),
                *self._lines(server, "doubled", {write for write, (count, parts) in rows.items() if count > parts}),
                *self._lines(server, "half a transaction",
                             {write for write, (_, parts) in rows.items() if parts < self.parts.get(write[0], 1)})]

    def only_there(self, server: Server, primary: Server) -> list[str]:
        """Acknowledged writes that *server*, a former primary, has, and *primary* has not."""
        query = f"select distinct writer, n from {TABLE}"
        with self._lock:
            acknowledged = {(writer, number) for writer, numbers in self.acknowledged.items() for number in numbers}
        there = set(server.query(query)) & acknowledged
        return self._lines(server, f"only on a lower timeline, and not on {primary.name}",
                           there - set(primary.query(query)))

    def _lines(self, server: Server, what: str, writes: Iterable[tuple[int, int]]) -> list[str]:
        found = sorted(writes)
        if not found:
            return []
        named = ", ".join(self._named(*write) for write in found[:5])
        return [f"{server.name}: {len(found)} {what}: {named}{' …' if len(found) > 5 else ''}"]

    def _named(self, writer: int, number: int) -> str:
        at = self.acknowledged.get(writer, {}).get(number)
        return f"number {number} of writer {writer}{f' (at {at:.3f})' if at else ''}"
