"""The flow table: what relays may repeat by themselves, by text, and what was counted meanwhile (DESIGN section 8)."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ..split.batch import Batch
from ..split.reads import NO_READ
from ..split.repeat import Repeat, repeat_of
from ..split.statements import Statement
from ..split.token import Token
from ..stats.counters import ListenerStats
from ..stats.digests import Digests
from ..stats.histogram import BOUNDS, Histogram
from ..stats.offload import BEFORE_WRITE, ReadStats, group_of
from ..topology.host import GROUND
from .counting import STATEMENTS, Answered

ALWAYS: Final = array("q", [2**62])       # a moment that nothing comes after
UNDER_WAY: Final = 600.0       # seconds that a batch may take to be counted though its text has been learnt anew since
BUCKETS: Final = len(BOUNDS) + 1
# How fresh a replica must be, as a number.
EVENTUAL: Final = 0
SESSION: Final = 1
GLOBAL: Final = 2
BOUNDED: Final = 3
CLUSTER: Final = 4
CONSISTENCY: Final = {"eventual": EVENTUAL, "session": SESSION, "bounded": BOUNDED, "global": GLOBAL,
                      "cluster": CLUSTER}
# How a batch came to be where it is: by itself, or on the primary for another reason (`Repeat.decisions`).
REPLICA: Final = 0
PRIMARY: Final = 1
INSIDE: Final = 2           # a transaction is open there
WITHOUT: Final = 3          # there is no replica
ORDERED: Final = 4          # the operator has sent all reads there
SOLE: Final = 5             # there is no other upstream
HERE: Final = 6             # no server was asked
STALE: Final = 7            # no replica is fresh enough
WAYS: Final = 8


class Counted:
    """What a route was used for since it was last asked. Plain lists: a relay counts into them."""

    __slots__ = ("autocommits", "backend", "buckets", "calls", "frontend", "texts", "total_us")

    def __init__(self) -> None:
        self.calls = [0] * WAYS
        self.autocommits = 0                # outside a transaction
        self.frontend = 0                   # messages
        self.backend = 0
        self.texts = 0                      # texts that came with them
        self.buckets = [[0] * BUCKETS, [0] * BUCKETS]       # of the replica's and the primary's latencies
        self.total_us = [0] * WAYS


class Route:
    """Where a text goes, as PyRelay keeps it."""

    __slots__ = ("begins", "commits", "counted", "decisions", "kept", "moves", "read", "reads", "repeat", "tag",
                 "valid", "writes", "wrote")

    def __init__(self, repeat: Repeat) -> None:
        self.repeat = repeat
        self.decisions = repeat.decisions
        self.read = repeat.read
        self.wrote = not repeat.facts.wrote_nothing
        self.kept = repeat.kept
        self.reads = self.kept != NO_READ
        self.writes = repeat.writes
        self.moves = repeat.moves
        self.begins = repeat.begins
        self.commits = repeat.commits
        self.tag = repeat.tag
        self.valid = True
        self.counted = Counted()

    def take(self) -> Counted:
        counted, self.counted = self.counted, Counted()
        return counted

    @property
    def used(self) -> bool:
        return any(self.counted.calls)


class MakesRoutes(Protocol):
    def __call__(self, repeat: Repeat) -> Any: ...


StillMeans = Callable[[Batch, Statement | None], bool]


class FlowTable:
    """Of one listener and one relay. *make* gives the relay's own kind of route; at most *entries* are kept.
    *observed*: where reads are counted for sessions that count what a replica would have had.
    """

    def __init__(self, make: MakesRoutes, stats: ListenerStats, digests: Digests, entries: int = 10_000, *,
                 observed: ReadStats | None = None) -> None:
        self.routes: dict[bytes, Any] = {}
        self._forgotten: list[tuple[float, Any]] = []        # when, and which: a batch of one may be under way yet
        self._make = make
        self._stats = stats
        self._reads = observed or stats.reads
        self._observes = observed is not None
        self.kept = self._reads.kept
        self._digests = digests
        self._entries = entries

    def learn(self, batch: Batch, statement: Statement | None, still_means: StillMeans) -> None:
        """*batch* went well. *statement*: the named one that it ran. *still_means*: see the splitter's."""
        if batch.failed or len(batch.bound) != 1 or batch.late:
            return
        facts = batch.bound[0] if statement is None else statement.facts
        route = self.routes.get(facts.text)
        if route is None and (repeat := repeat_of(facts, observes=self._observes)) is not None and (
                still_means(batch, statement)):
            if len(self.routes) >= self._entries:
                self.forget()
            route = self.routes[facts.text] = self._make(repeat)
        if statement is not None:
            statement.route = route

    def forget(self) -> None:
        """What texts mean has changed: learn anew."""
        self.drain()
        now = time.monotonic()
        for route in self.routes.values():
            route.valid = False
            self._forgotten.append((now, route))
        del self._forgotten[:-self._entries]
        self.routes.clear()

    def drain(self) -> None:
        """Add what was counted to the listener's counters and to the digests."""
        now = time.monotonic()
        for route in (*self.routes.values(), *(route for _, route in self._forgotten)):
            if route.used:
                self._add(route.repeat, route.take())
        while self._forgotten and now - self._forgotten[0][0] > UNDER_WAY:
            del self._forgotten[0]

    def _add(self, repeat: Repeat, counted: Counted) -> None:
        stats, facts = self._stats, repeat.facts
        calls = sum(counted.calls)
        on_replica = counted.calls[REPLICA]
        for decision, number in zip(repeat.decisions, counted.calls, strict=True):
            if number:
                key = (decision.upstream.text, decision.reason)
                stats.decisions[key] = stats.decisions.get(key, 0) + number
        stats.messages_frontend += counted.frontend
        stats.messages_backend += counted.backend
        if facts.parsed is not None:
            stats.statements_parsed += counted.texts * facts.parsed
            stats.statements_parse_error += counted.texts * (not facts.parsed)
        stats.statements += calls
        name = STATEMENTS.get(repeat.tag, "statements_other")
        setattr(stats, name, getattr(stats, name) + calls)
        stats.statements_replica += on_replica + counted.calls[SOLE]        # the default upstream's, and no other's
        stats.statements_primary += calls - on_replica - counted.calls[SOLE] - counted.calls[HERE]
        if repeat.begins:
            stats.transactions += calls
        elif repeat.commits:
            stats.transactions_commit += calls
        else:
            stats.transactions += counted.autocommits
            stats.transactions_commit += counted.autocommits
        if repeat.kept != NO_READ:
            self._add_reads(repeat, counted)
        usage = self._digests.of(facts.text)
        usage.calls = [usage.calls[0] + on_replica, usage.calls[1] + calls - on_replica - counted.calls[HERE]]
        usage.reason = next(decision.reason for decision, number in zip(repeat.decisions, counted.calls, strict=True)
                            if number)
        replica_us = counted.total_us[REPLICA]
        for histogram, buckets, total in (
                (stats.latency_replica, counted.buckets[0], replica_us),
                (stats.latency_primary, counted.buckets[1], sum(counted.total_us) - replica_us)):
            for each in (histogram, usage.latency):
                _add_buckets(each, buckets, total)

    def _add_reads(self, repeat: Repeat, counted: Counted) -> None:
        """Those in a transaction on the primary are counted already: what keeps them is the session's to know."""
        reads = self._reads
        reads.replica += counted.calls[REPLICA]
        reads.replica_us += counted.total_us[REPLICA]
        for way in (PRIMARY, WITHOUT, ORDERED, SOLE, STALE):
            reads.keep(group_of(repeat.decisions[way].reason), counted.calls[way], counted.total_us[way])


def _add_buckets(histogram: Histogram, buckets: list[int], total_us: int) -> None:
    histogram.counts = [ours + theirs for ours, theirs in zip(histogram.counts, buckets, strict=True)]
    histogram.total_us += total_us


@dataclass(slots=True)
class Context:
    """What a relay needs to know of a session to repeat for it.

    *statements*: the session's named ones. *recent*: its last decisions. *consistency*: one of CONSISTENCY.
    *freshness*: of its replica, cells that are the host's (`Host.freshness`). *cleared*: the state of GROUND
    for which the session was last allowed to read there. *staleness_ns*: how old what a read shows may be, for BOUNDED.
    """

    table: FlowTable
    statements: Mapping[bytes, Statement]
    recent: deque[Answered]
    consistency: int
    publish: Callable[[int], None]
    latest_write_ns: Callable[[], int]
    freshness: array[int] | None = None
    cleared: int = -1
    stale: int = -1             # the state for which nothing but its freshness kept it from reading there
    ordered: int = -1           # the state of GROUND for which the operator has sent its reads to the primary
    without: bool = False       # there is no replica, and reads go to the primary for it
    begins_as: int = BEFORE_WRITE     # as what one that goes to the primary keeps a read
    holds_begin: bool = False   # a plain BEGIN is answered here
    leaves_begin: bool = False  # it is the session's
    sole: bool = False          # there is one upstream, in the additional one's place
    want: Callable[[int], None] = lambda fence_ns: None      # ask for samples: a read waits for one newer than that
    fence_wait_ns: int = -1     # how long at most; 0: none waits; less: reads that must wait are the session's
    waited: bool = False        # one has waited in vain that the session has to send on
    waited_in_vain: Callable[[int], None] = lambda now_ns: None     # one has, by then
    gave_up: Callable[[int], None] = lambda fence_ns: None          # one that is to be as fresh is the primary's
    known: array[int] = field(default_factory=lambda: ALWAYS)       # as of when the database's definitions are known
    latest_definition_ns: Callable[[], int] = lambda: 0
    writes_nothing: bool = False      # the upstream in the additional one's place is a standby
    staleness_ns: int = 0
    min_lsn: Token | None = None      # what the session has asked to see: *cleared* is not, until its replica has it
    told_ns: int = 0                  # since when

    def fresh(self, fence_ns: int) -> bool:
        """Whether the replica may be read from without another question."""
        if self.cleared != GROUND[0] or self.freshness is None or self.known[0] <= self.latest_definition_ns():
            return False
        return self.consistency == EVENTUAL or self.freshness[0] > self.fence(fence_ns, time.monotonic_ns())

    def fence(self, fence_ns: int, began_ns: int) -> int:
        """As of later than when a replica must be fresh for a read that began, with its last byte, at *began_ns*, in a
        session that has been answered by its primary at *fence_ns* (G3; docs/adr/0019). EVENTUAL has none.
        """
        if self.consistency == CLUSTER:
            return max(fence_ns, began_ns)
        if self.consistency == BOUNDED:
            return max(fence_ns, began_ns - self.staleness_ns)
        return max(fence_ns, self.latest_write_ns()) if self.consistency == GLOBAL else fence_ns

    def ask_for(self, min_lsn: Token | None) -> None:
        """Another position that the session asks to see, or none."""
        if min_lsn != self.min_lsn:
            self.min_lsn, self.told_ns, self.cleared = min_lsn, time.monotonic_ns(), -1
