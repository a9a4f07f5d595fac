"""The sampler: answers *is this replica fresh as of then?*, asking the servers only when somebody needs to know.

All reads that wait share one sample (as Raft's ReadIndex does): while one is on its way, later ones wait for the
next. When nobody writes, what is known stays good, and nothing is asked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Final

import gevent
from gevent.event import Event

from .. import log
from ..errors import ConnectionLost, PgSplitError
from ..split.fence import NEVER, Ring
from .check import Check
from .cluster import Cluster, ClusterManager
from .host import Host
from .loop import bell_of
from .quick_sample import QuickSample

logger = log.get("pgsplit.sampler")

PAUSE: Final = 0.0003        # seconds between two looks at a replica that has not replayed far enough
LOOKS: Final = 4             # that follow each other without one


@dataclass(eq=False, slots=True)
class Waiter:
    fence_ns: int
    host: Host | None            # None: any usable host of the read cluster
    ready: Event = field(default_factory=Event)
    found: Host | None = None
    until: float = inf           # monotonic: when nobody waits any more
    given_up: bool = False

    def give_up(self) -> None:
        """Wait no longer."""
        self.given_up = True
        self.ready.set()


def nobody_waits() -> None:
    """Who is told that replicas are fresher, where no relay keeps reads that wait for that."""


class Sampler:
    """For one pair of a write cluster and a read cluster, in one worker. *fresher* is called behind each sample,
    *hurry* is around what counts on the timers of the hub.
    """

    def __init__(self, manager: ClusterManager, write_cluster: str, read_cluster: str,
                 fresher: Callable[[], None] = nobody_waits,
                 hurry: AbstractContextManager[None] | None = None) -> None:
        self._manager = manager
        self._write = write_cluster
        self._read = read_cluster
        self._waiters: list[Waiter] = []
        self._standing: dict[Host, Waiter] = {}      # those of `want`
        self._fresher = fresher
        self._hurry = hurry or nullcontext()
        self._wanted = bell_of(manager.loop)
        self._position = 0           # the primary's end of the log in its newest sample
        self._writes = True          # and whether it had moved
        self.samples = 0
        self._asked_primary = False  # by the quick sample that is on its way
        self._loop = manager.loop
        self._quick = QuickSample(manager, self._loop, self._sampled) if self._loop is not None else None
        self._looks = 0              # quick ones, one behind the other, until somebody was served
        self._at_work = False        # the greenlet
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        self._greenlet.kill()
        if self._quick is not None:
            self._quick.stop()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def wait_fresh(self, host: Host, fence_ns: int, timeout: float) -> bool:
        """Whether *host* shows all that was acknowledged up to *fence_ns*; waits at most *timeout* seconds."""
        return host.fresh_ns > fence_ns or self.wait(Waiter(fence_ns, host), timeout) is not None

    def pick_fresh(self, as_of_ns: int, timeout: float) -> Host | None:
        """The next host, by the cluster's policy, that is fresh as of *as_of_ns*."""
        self._manager.prepare_samples(self._all_checks())
        return self._fresh_host(as_of_ns) or self.wait(Waiter(as_of_ns, None), timeout)

    def want(self, host: Host, fence_ns: int, timeout: float) -> None:
        """Take samples until *host* is fresh as of later than *fence_ns*, or for *timeout* seconds."""
        until = time.monotonic() + timeout
        waiter = self._standing.get(host)
        if waiter is None:
            waiter = self._standing[host] = Waiter(fence_ns, host, until=until)
            self._waiters.append(waiter)
        else:
            waiter.fence_ns, waiter.until = max(waiter.fence_ns, fence_ns), max(waiter.until, until)
        self._wake()

    def wait(self, waiter: Waiter, timeout: float) -> Host | None:
        """The host that has become fresh for *waiter*, within *timeout* seconds and before it gives up."""
        self._waiters.append(waiter)
        self._wake()
        try:
            waiter.ready.wait(timeout)
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return waiter.found

    def _fresh_host(self, as_of_ns: int) -> Host | None:
        cluster = self._manager.cluster(self._read)
        return cluster.choose([host for host in cluster.preferred() if host.fresh_ns > as_of_ns])

    # --- asking in the loop -----------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._quick is not None and self._quick.is_on_its_way:
            return                  # `_sampled` sees to it
        self._looks = 0
        if self._at_work or not self._begin_quick():
            self._wanted.set()

    def _begin_quick(self) -> bool:
        """As `_round` asks, but only looks for a replica that has not replayed far enough follow each other without a
        pause, and so only few.
        """
        if self._quick is None or self._looks == LOOKS:
            return False
        self._looks += 1
        checks: list[Check] = []
        asks_primary = self._asks_primary(self._manager.rings[self._write])
        if asks_primary:
            check = self._primary_check()
            if check is None:
                return False
            checks.append(check)
        if not checks or self._writes:
            checks += self._wanted_replicas(self._manager.cluster(self._read))
        self._asked_primary = asks_primary
        if not self._quick.begin(checks):
            return False
        self.samples += 1
        return True

    def _sampled(self, plain: bool) -> None:
        """A quick sample is done."""
        ring = self._manager.rings[self._write]
        if self._asked_primary:
            self._note(ring)
            self._know(self._manager.cluster(self._read), ring)
        before = len(self._waiters)
        self._serve()
        if len(self._waiters) < before:
            self._looks = 0
        if self._waiters and not (plain and self._begin_quick()):
            self._wanted.set()

    # --- asking -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._at_work = False
            self._wanted.wait()
            self._wanted.clear()
            self._at_work = True
            while self._waiters:
                try:
                    self._round()
                except PgSplitError as error:
                    logger.debug("no sample: %s", error)
                    self._serve()
                    gevent.sleep(PAUSE * 10)
                except Exception:       # without samples no read would ever be fresh again
                    logger.exception("a sample failed")
                    gevent.sleep(1)

    def _round(self) -> None:
        """Ask whom it takes: the primary when a waiter is newer than all samples, and the replicas, all at once; but
        while nobody writes the replicas have replayed all before the primary says so, and are not asked.
        """
        readers = self._manager.cluster(self._read)
        ring = self._manager.rings[self._write]
        asked: list[Check] = []
        if self._asks_primary(ring):
            check = self._primary_check()
            if check is None:
                raise ConnectionLost(self._write, "has no primary to ask")
            asked.append(check)
        if asked and not self._writes:
            self._ask(asked)
            self._note(ring)
            self._know(readers, ring)
            self._serve()
            asked = []
        if asked or any(waiter.fence_ns < ring.newest_ns for waiter in self._waiters):
            self._ask(asked + self._wanted_replicas(readers))
            if asked:
                self._note(ring)
            self._serve()
        if self._waiters and not self._asks_primary(ring):
            self._wanted.clear()
            with self._hurry:
                self._wanted.wait(PAUSE)    # a read that comes meanwhile waits for a sample of its own

    def _primary_check(self) -> Check | None:
        """The primary's, where it can be asked."""
        primary = self._manager.primaries.get(self._write)
        check = self._manager.cluster(self._write).checks.get(primary.key) if primary is not None else None
        return check if check is not None and check.can_sample() else None

    def _all_checks(self) -> list[Check]:
        """Of whom samples may be wanted."""
        primary, readers = self._manager.primaries.get(self._write), self._manager.cluster(self._read)
        checks = [readers.checks[host.key] for host in readers.usable() if not host.is_primary]
        if primary is not None and primary.key in (known := self._manager.cluster(self._write).checks):
            checks.append(known[primary.key])
        return checks

    def _note(self, ring: Ring) -> None:
        self._writes, self._position = ring.newest_lsn != self._position, ring.newest_lsn

    def _know(self, readers: Cluster, ring: Ring) -> None:
        """What a replica has replayed it has replayed: is that all, it is fresh as of the newest sample."""
        for host in readers.usable():
            if host.fresh_ns > NEVER and host.replayed >= ring.newest_lsn:
                host.fresh_ns = max(host.fresh_ns, ring.newest_ns)

    def _asks_primary(self, ring: Ring) -> bool:
        """Whether somebody waits for a newer sample of it than there is."""
        return any(waiter.fence_ns >= ring.newest_ns for waiter in self._waiters)

    def _wanted_replicas(self, readers: Cluster) -> list[Check]:
        wanted = {waiter.host for waiter in self._waiters}
        checks = [check for check in readers.checks.values() if None in wanted or check.host in wanted]
        return [check for check in checks if not check.host.is_primary and check.can_sample()]

    def _ask(self, checks: list[Check]) -> None:
        """Ask all at once. One that takes too long, or answers otherwise than it should, fails; the others go on."""
        for check in checks:
            check.connection.lock().acquire()
        try:
            self.samples += 1
            t_ns = time.monotonic_ns()
            left = deque([(check, check.connection.ask) for check in checks])
            left += [(check, partial(self._take, check, t_ns)) for check in checks]
            while left:
                self._do(left)
        finally:
            for check in checks:
                check.connection.lock().release()

    def _do(self, steps: deque[tuple[Check, Callable[[], None]]]) -> None:
        """Take *steps*, as far as connections are open, until all are taken or a host has failed."""
        check, do = steps[0]
        try:
            with gevent.Timeout(self._manager.cluster(check.host.cluster_name).health_timeout,
                                TimeoutError("the sample timed out")):
                while steps:
                    check, do = steps[0]
                    if check.connection.open:
                        do()
                    steps.popleft()
        except (PgSplitError, OSError, TimeoutError, ValueError, IndexError) as error:
            steps.popleft()
            check.fail(error)

    def _take(self, check: Check, t_ns: int) -> None:
        self._manager.sampled(check.host, check.connection.answer("sample"), t_ns)

    def _serve(self) -> None:
        now, now_ns = time.monotonic(), time.monotonic_ns()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            host = waiter.host
            if host is not None:
                host.seen_at(now_ns)
            if host is None:
                waiter.found = self._fresh_host(waiter.fence_ns)
            elif host.fresh_ns > waiter.fence_ns:
                waiter.found = host
                host.caught_up()
            if waiter.found is None and waiter.until > now:
                self._waiters.append(waiter)
            else:
                if host is not None and self._standing.get(host) is waiter:
                    del self._standing[host]        # whom `fresher` tells
                    continue
                waiter.ready.set()
                if self._loop is not None:
                    self._loop.give_turn()
        self._fresher()
