"""The record of who was the primary: the last changes of each write cluster, and what each has cost its sessions.

A worker keeps its own, of what it has seen itself; `merge` makes one of all workers'. A session's loss belongs to the
change away from the server that it was on, whether the session or the monitor is the first to know that it is gone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from .host import Identity

KEPT: Final = 20               # changes, of each write cluster
BEFORE: Final = 10.0           # seconds: what is older than this when the primary is lost has nothing to do with that
ALIKE: Final = 60.0            # seconds by which workers may see one change at different times
SERVERS: Final = "servers"     # by whose word: the servers' own, recovery and timeline,
PATRONI: Final = "patroni"     # or Patroni's, beside theirs

Answer = dict[str, Any]


@dataclass(slots=True)
class Change:
    """*server* is the primary since *at* (Unix time), on *timeline*; before it was *from_server*, or none was known.

    *gap_s*: for how long there was none then, from when it was found to be lost. *kept*: sessions that have lost
    their connection to the one before, and went on; *cut*: that have ended with it. *longest_wait_s*: for which one
    of them has waited for a primary. *started*: the server's start time, microseconds of Unix time.
    """

    cluster: str
    at: float
    server: str
    system_identifier: str
    timeline: int
    started: int
    by: str
    from_server: str = ""
    from_timeline: int = 0
    from_started: int = 0
    gap_s: float = 0.0
    kept: int = 0
    cut: int = 0
    longest_wait_s: float = 0.0


@dataclass(slots=True)
class Bill:
    """What was lost at about *moment* (monotonic), and is of no change yet."""

    moment: float
    kept: int = 0
    cut: int = 0
    longest_wait_s: float = 0.0


@dataclass(slots=True)
class Watched:
    """A write cluster."""

    current: Change | None = None
    moment: float = 0.0                  # when it became so (monotonic)
    lost: float | None = None            # since when it is not the primary any more
    count: int = 0                       # of changes
    recent: deque[Change] = field(default_factory=lambda: deque(maxlen=KEPT))
    bills: deque[Bill] = field(default_factory=deque)


class Changes:
    """One worker's. *clock* tells Unix time, *ticks* seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.time, ticks: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._ticks = clock, ticks
        self._clusters: dict[str, Watched] = {}

    # --- the judge's words --------------------------------------------------------------------------------

    def began(self, cluster: str, server: str, identity: Identity, timeline: int, by: str) -> None:
        """*server* is the primary from now on. The first one that is found is no change."""
        known, now = self._clusters.setdefault(cluster, Watched()), self._ticks()
        change = Change(cluster, self._clock(), server, identity.system_identifier, timeline, identity.started, by)
        before = known.current
        if before is not None:
            change.from_server, change.from_timeline = before.server, before.timeline
            change.from_started = before.started
            change.gap_s = 0.0 if known.lost is None else now - known.lost
            _forget_old(known, now if known.lost is None else known.lost)
            for bill in known.bills:
                change.kept += bill.kept
                change.cut += bill.cut
                change.longest_wait_s = max(change.longest_wait_s, bill.longest_wait_s)
            known.recent.append(change)
            known.count += 1
        known.bills.clear()
        known.current, known.moment, known.lost = change, now, None

    def lost(self, cluster: str) -> None:
        """It does not answer, or is not the primary any more."""
        known = self._clusters.get(cluster)
        if known is not None and known.lost is None:
            known.lost = self._ticks()

    def back(self, cluster: str) -> None:
        """It answers, and is the primary still."""
        known = self._clusters.get(cluster)
        if known is not None:
            known.lost = None

    # --- the sessions' ------------------------------------------------------------------------------------

    def kept(self, cluster: str, started: int, sessions: int = 1) -> None:
        """*sessions* have lost their connection to the server with this start time, and go on. Negative: they did not,
        after all.
        """
        bill = self._bill_of(cluster, started)
        if bill is not None:
            bill.kept = max(0, bill.kept + sessions)

    def cut(self, cluster: str, started: int) -> None:
        """A session has ended with its connection to that server."""
        bill = self._bill_of(cluster, started)
        if bill is not None:
            bill.cut += 1

    def waited(self, cluster: str, started: int, seconds: float) -> None:
        """A session that was on that server has waited for a primary, up to now."""
        known = self._clusters.get(cluster)
        if known is None:
            return
        change = known.current if known.recent else None
        if change is not None and (change.from_started == started or self._ticks() - seconds <= known.moment):
            change.longest_wait_s = max(change.longest_wait_s, seconds)
        else:
            bill = self._latest_bill(known)
            bill.longest_wait_s = max(bill.longest_wait_s, seconds)

    def _bill_of(self, cluster: str, started: int) -> Change | Bill | None:
        known = self._clusters.get(cluster)
        if known is None or known.current is None:
            return None
        if started != known.current.started:
            for change in reversed(known.recent):
                if change.from_started == started:
                    return change
        return self._latest_bill(known)

    def _latest_bill(self, known: Watched) -> Bill:
        """One a second, and one for all the time while there is no primary: their number is bounded."""
        now = self._ticks()
        if known.lost is None:
            _forget_old(known, now)
        latest = known.bills[-1] if known.bills else None
        if latest is None or (now - latest.moment >= 1 and (known.lost is None or latest.moment < known.lost)):
            latest = Bill(now)
            known.bills.append(latest)
        return latest

    # --- who asks -----------------------------------------------------------------------------------------

    def count(self, cluster: str) -> int:
        known = self._clusters.get(cluster)
        return known.count if known is not None else 0

    def told(self, clusters: Iterable[str]) -> Answer:
        """``primaries``: the last one that was found, with ``lost_s``, for how long it has been away (None: it is
        there), and ``changes``, how many there were; ``changes``: the last ones, as `Change`. JSON's types.
        """
        found = [(name, self._clusters[name]) for name in clusters if name in self._clusters]
        now = self._ticks()
        return {"primaries": [{**{name: value for name, value in asdict(known.current).items() if name in _PRIMARY},
                               "lost_s": None if known.lost is None else now - known.lost, "changes": known.count}
                              for _, known in found if known.current is not None],
                "changes": [asdict(change) for _, known in found for change in known.recent]}


_PRIMARY: Final = frozenset({"cluster", "at", "server", "system_identifier", "timeline", "started", "by"})


def _forget_old(known: Watched, moment: float) -> None:
    while known.bills and known.bills[0].moment < moment - BEFORE:
        known.bills.popleft()


# --- of all workers ---------------------------------------------------------------------------------------------------

def merge(answers: Iterable[Answer]) -> Answer:
    """What `Changes.told` has told in each worker, as one: a primary a cluster, and the last changes, newest first."""
    answers = list(answers)
    return {"primaries": _merged_primaries([each for answer in answers for each in answer["primaries"]]),
            "changes": _merged_changes([each for answer in answers for each in answer["changes"]])}


def _key(found: Answer) -> tuple[Any, ...]:
    return found["cluster"], found["system_identifier"], found["timeline"], found["started"]


def _merged_primaries(found: list[Answer]) -> list[Answer]:
    """Of each cluster the newest: a worker that was started later has found an older one later."""
    alike: dict[tuple[Any, ...], Answer] = {}
    for each in found:
        known = alike.setdefault(_key(each), each)
        if known is not each:
            away = [one["lost_s"] for one in (known, each)]
            alike[_key(each)] = {**(known if known["at"] <= each["at"] else each),
                                 "lost_s": None if None in away else min(away),
                                 "changes": max(known["changes"], each["changes"])}
    newest: dict[str, Answer] = {}
    for each in sorted(alike.values(), key=lambda one: float(one["at"])):
        count = newest[each["cluster"]]["changes"] if each["cluster"] in newest else 0
        newest[each["cluster"]] = {**each, "changes": max(count, each["changes"])}
    return [newest[name] for name in sorted(newest)]


def _merged_changes(found: list[Answer]) -> list[Answer]:
    merged: list[Answer] = []
    latest: dict[tuple[Any, ...], Answer] = {}
    for each in sorted(found, key=lambda one: float(one["at"])):
        known = latest.get(_key(each))
        if known is None or each["at"] - known["at"] > ALIKE:
            latest[_key(each)] = dict(each)
            merged.append(latest[_key(each)])
            continue
        for name in ("kept", "cut"):
            known[name] += each[name]
        for name in ("gap_s", "longest_wait_s"):
            known[name] = max(known[name], each[name])
    recent: dict[str, int] = {}
    last = []
    for each in reversed(merged):
        recent[each["cluster"]] = recent.get(each["cluster"], 0) + 1
        if recent[each["cluster"]] <= KEPT:
            last.append(each)
    return last
