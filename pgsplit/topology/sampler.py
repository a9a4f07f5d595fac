"""The sampler: answers *is this replica fresh as of then?*, asking the servers only when somebody needs to know.

All reads that wait share one sample (as Raft's ReadIndex does): while one is on its way, later ones wait for the
next. When nobody writes, what is known stays good, and nothing is asked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

import gevent
from gevent.event import Event

from .. import log
from ..errors import ConnectionLost, PgSplitError
from ..split.fence import NEVER, Ring
from .cluster import Cluster, ClusterManager
from .host import Host
from .monitor import HealthCheck

logger = log.get("pgsplit.sampler")

PAUSE: Final = 0.0003        # seconds between two looks at a replica that has not replayed far enough


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


class Sampler:
    """For one pair of a write cluster and a read cluster, in one worker. *fresher* is called behind each sample."""

    def __init__(self, manager: ClusterManager, write_cluster: str, read_cluster: str,
                 fresher: Callable[[], None] = lambda: None) -> None:
        self._manager = manager
        self._write = write_cluster
        self._read = read_cluster
        self._waiters: list[Waiter] = []
        self._standing: dict[Host, Waiter] = {}      # those of `want`
        self._fresher = fresher
        self._wanted = Event()
        self._position = 0           # the primary's end of the log in its newest sample
        self._writes = True          # and whether it had moved
        self.samples = 0
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        self._greenlet.kill()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    def wait_fresh(self, host: Host, fence_ns: int, timeout: float) -> bool:
        """Whether *host* shows all that was acknowledged up to *fence_ns*; waits at most *timeout* seconds."""
        return host.fresh_ns > fence_ns or self.wait(Waiter(fence_ns, host), timeout) is not None

    def pick_fresh(self, as_of_ns: int, timeout: float) -> Host | None:
        """The next host, by the cluster's policy, that is fresh as of *as_of_ns*."""
        return self._fresh_host(as_of_ns) or self.wait(Waiter(as_of_ns, None), timeout)

    def want(self, host: Host, fence_ns: int, timeout: float) -> None:
        """Take samples until *host* is fresh as of later than *fence_ns*, or for *timeout* seconds."""
        until = time.monotonic() + timeout
        waiter = self._standing.get(host)
        if waiter is None:
            waiter = self._standing[host] = Waiter(fence_ns, host, until=until)
            self._waiters.append(waiter)
        else:
            waiter.fence_ns, waiter.until = max(waiter.fence_ns, fence_ns), until
        self._wanted.set()

    def wait(self, waiter: Waiter, timeout: float) -> Host | None:
        """The host that has become fresh for *waiter*, within *timeout* seconds and before it gives up."""
        self._waiters.append(waiter)
        self._wanted.set()
        try:
            waiter.ready.wait(timeout)
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return waiter.found

    def _fresh_host(self, as_of_ns: int) -> Host | None:
        cluster = self._manager.cluster(self._read)
        return cluster.choose([host for host in cluster.preferred() if host.fresh_ns > as_of_ns])

    # --- asking -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
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
        writers, readers = self._manager.cluster(self._write), self._manager.cluster(self._read)
        primary = self._manager.primaries.get(self._write)
        ring = self._manager.rings[self._write]
        asked: list[HealthCheck] = []
        if self._asks_primary(ring):
            check = writers.checks.get(primary.key) if primary is not None else None
            if check is None or not check.connection.open:
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
            self._wanted.wait(PAUSE)        # a read that comes meanwhile waits for a sample of its own

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

    def _wanted_replicas(self, readers: Cluster) -> list[HealthCheck]:
        wanted = {waiter.host for waiter in self._waiters}
        checks = [check for check in readers.checks.values() if None in wanted or check.host in wanted]
        return [check for check in checks if check.connection.open and not check.host.is_primary]

    def _ask(self, checks: list[HealthCheck]) -> None:
        for check in checks:
            check.connection.lock().acquire()
        try:
            t_ns = time.monotonic_ns()
            self._each(checks, lambda check: check.connection.ask())
            self.samples += 1
            self._each(checks, lambda check: self._manager.seen(check.host, check.connection.answer("sample"), t_ns))
        finally:
            for check in checks:
                check.connection.lock().release()

    def _each(self, checks: list[HealthCheck], do: Callable[[HealthCheck], None]) -> None:
        """*do* for each whose connection is open. One that takes too long, or answers otherwise than it should, fails;
        the others go on.
        """
        left = deque(checks)
        while left:
            try:
                with gevent.Timeout(self._manager.cluster(left[0].host.cluster_name).health_timeout,
                                    TimeoutError("the sample timed out")):
                    while left:
                        if left[0].connection.open:
                            do(left[0])
                        left.popleft()
            except (PgSplitError, OSError, TimeoutError, ValueError, IndexError) as error:
                left.popleft().fail(error)

    def _serve(self) -> None:
        now = time.monotonic()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            host = waiter.host
            if host is None:
                waiter.found = self._fresh_host(waiter.fence_ns)
            elif host.fresh_ns > waiter.fence_ns:
                waiter.found = host
            if waiter.found is None and waiter.until > now:
                self._waiters.append(waiter)
            else:
                if host is not None and self._standing.get(host) is waiter:
                    del self._standing[host]
                waiter.ready.set()
        self._fresher()
