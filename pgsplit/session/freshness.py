"""Whether a session's next read may be its replica's: what it must see is there, and what it is known to be is so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..relay.routes import BOUNDED, CLUSTER, EVENTUAL
from ..split.batch import Batch
from ..split.fence import NEVER, SEGMENT_HEADER
from ..split.splitter import Splitter
from ..split.token import Token
from ..topology.catalogue_reader import CatalogueReader
from ..topology.host import GROUND, Configurations, Host, differing_values
from ..topology.sampler import Sampler, Waiter
from .login import differing
from .session import AGAIN, CANCELLED, LATER

if TYPE_CHECKING:
    from .active import ActiveSession


class ReplicaFreshness:
    """Of *active*'s replica; see `session.Freshness`, and the relay's `Context`, whose reads wait by it."""

    def __init__(self, active: ActiveSession) -> None:
        self._active = active
        self._configurations: Configurations | None = None
        self._unsure_ns = 0          # since when a read waits for the catalogue to have a relation
        self._defined_by = 0.0       # until when the read that is decided about may wait for definitions; 0: it has not

    def why_not(self, fence_ns: int, batch: Batch) -> str:
        """The rule that keeps the next read from the replica, or nothing (see `Freshness`)."""
        active = self._active
        ground = GROUND[0]
        why_not = self._why_not(fence_ns, batch)
        if why_not != AGAIN:
            self._defined_by = 0.0
        if not why_not:
            active.context.cleared = ground
        elif why_not == "reads_to_primary":
            active.context.ordered = ground
        elif why_not == "no_fresh_replica" and active.session.splitter.min_lsn is None:
            active.context.stale = ground
        return why_not

    def _why_not(self, fence_ns: int, batch: Batch) -> str:
        active = self._active
        if active.shared.apart or (
                active.shared.reads_to_primary and active.listener.name in active.shared.reads_to_primary):
            return "reads_to_primary"
        if active.session.flow.default is None:
            return active.replica.wanted()
        connection, sampler = active.logged_in.default, active.server.sampler
        assert connection is not None and sampler is not None
        host = connection.host
        assert isinstance(host, Host)
        if host.why_not:
            if not active.session.splitter.in_flight:
                active.session.drop_replica(host.why_not)
            return "replica_out"
        if connection.reached is None or host.identity is None or connection.reached.started != host.identity.started:
            if not active.session.splitter.in_flight:
                active.session.drop_replica(f"another server than this one is known at {host.name}")
            return "replica_out"
        if active.replica.moves_on(host):
            return active.replica.wanted()
        if not active.shared.manager.is_primary(active.listener.write_cluster, active.logged_in.main.reached):
            return "primary_changed"
        if active.shared.manager.configurations(active.listener.write_cluster, host) is not self._configurations:
            self.compare_configurations(active.session.splitter)
            return "configuration_changed"
        reader = active.database.reader
        if reader is not None:
            if not reader.usable:
                return self._await_definitions(reader, reader.latest_ns(), "definitions_unknown")
            if batch.unsure and reader.known[0] <= (self._unsure_ns or time.monotonic_ns()):
                self._unsure_ns = self._unsure_ns or time.monotonic_ns()
                return self._await_definitions(reader, self._unsure_ns, "unknown_relation")
            self._unsure_ns = 0
            if batch.unsure:
                return "unknown_relation"
            # What a replica has not replayed of the definitions that were read is not what it would do.
            fence_ns = max(fence_ns, reader.known[0])
        context = active.context
        if context.consistency != EVENTUAL:
            waits = context.consistency in (BOUNDED, CLUSTER)
            fence_ns = context.fence(fence_ns, active.session.splitter.began(time.monotonic_ns()) if waits else 0)
        return self._why_not_fresh(sampler, host, fence_ns) or (
            self._await_clock(host, fence_ns) if batch.reads_clock else "")

    def _why_not_fresh(self, sampler: Sampler, host: Host, fence_ns: int) -> str:
        """The rule that keeps the next read, which must see what there was at *fence_ns*, from *host*, or nothing."""
        active = self._active
        context, token = active.context, active.session.splitter.min_lsn
        is_fenced = context.consistency != EVENTUAL
        if token is None:
            return self._await_fresh(sampler, host, fence_ns) if is_fenced else ""
        context.ask_for(token)
        return self._why_not_reached(sampler, host, fence_ns if is_fenced else NEVER, token)

    def _why_not_reached(self, sampler: Sampler, host: Host, fence_ns: int, token: Token) -> str:
        """The same where the session asks to see *token*, too. Where no sample has come so far yet, one that is begun
        later than it has asked will have, unless the primary itself has lost what was there.
        """
        active = self._active
        if token.term != active.term():
            return "min_lsn_term"
        told_ns = active.context.told_ns
        as_of = active.shared.manager.rings[active.listener.write_cluster].as_of(token.lsn, told_ns)
        why_not = self._await_fresh(sampler, host, max(fence_ns, told_ns if as_of is None else as_of - 1))
        reached = host.is_primary or host.replayed + SEGMENT_HEADER >= token.lsn
        return why_not or ("" if reached else "no_fresh_replica")

    def _await_fresh(self, sampler: Sampler, host: Host, fence_ns: int) -> str:
        """Have *host* fresh as of later than *fence_ns*, or say why not."""
        active = self._active
        if host.fresh_ns > fence_ns:
            return ""
        if active.context.waited:
            active.context.waited = False
        elif not host.is_waited_for(time.monotonic_ns()):
            self._look(sampler, host, fence_ns)
        elif active.session.splitter.in_flight:       # its answer is not to wait with this one
            sampler.want(host, fence_ns, active.listener.fence_wait)
            return LATER
        else:
            active.server.stats.fence_waits += 1
            with active.shared.hurry:
                waiter = active.at_fence = Waiter(fence_ns, host)
                try:
                    found = sampler.wait(waiter, active.listener.fence_wait)
                finally:
                    active.at_fence = None
                if waiter.given_up:
                    return CANCELLED
                if found is not None:
                    return ""
            host.waited_in_vain(time.monotonic_ns(), active.context.fence_wait_ns)
        active.server.stats.fence_timeouts += 1
        return "no_fresh_replica"

    def _await_clock(self, host: Host, fence_ns: int) -> str:
        """Until the replica's clock has passed what the primary's showed at *fence_ns*: by then no row that was
        acknowledged before has a time in it that is still to come.
        """
        active = self._active
        limit_ns, now = int(1e9 * active.listener.max_clock_skew), time.monotonic_ns()
        skew = host.skew(now)
        if skew is None or not skew.within(limit_ns):
            host.clock_apart(active.listener.name, limit_ns, now)
            return "clock_apart"
        until = skew.passed_ns(fence_ns)
        if now >= until:
            return ""
        if active.session.splitter.in_flight:         # its answer is not to wait with this one
            return LATER
        waiter = active.at_fence = Waiter(0, None)
        try:
            with active.shared.hurry:
                while not waiter.given_up and (left := until - time.monotonic_ns()) > 0:
                    waiter.ready.wait(left / 1e9)
        finally:
            active.at_fence = None
        if waiter.given_up:
            return CANCELLED
        fresh = active.listener.consistency == "eventual" or host.fresh_ns > fence_ns
        return "" if fresh and not host.why_not else "no_fresh_replica"

    def _await_definitions(self, reader: CatalogueReader, since_ns: int, rule: str) -> str:
        """What a text means is known anew when the catalogue has been read later than *since_ns*; *rule*: that takes
        too long. By then others may have changed it again: one read waits for ``fence_wait`` in all.
        """
        active = self._active
        if active.session.splitter.in_flight:
            reader.want(since_ns)
            return LATER
        now = time.monotonic()
        self._defined_by = self._defined_by or now + active.listener.fence_wait
        left = self._defined_by - now
        waiter = active.at_fence = Waiter(0, None)
        try:
            known = left > 0 and reader.wait(since_ns, waiter.ready, left)
        finally:
            active.at_fence = None
        if known or waiter.given_up:
            return CANCELLED if waiter.given_up else AGAIN
        self._unsure_ns = 0
        return rule

    def want(self, fence_ns: int) -> None:
        """A read waits in the relay until the replica is fresh as of later than *fence_ns*: have that found out."""
        active = self._active
        connection, sampler = active.logged_in.default, active.server.sampler
        active.server.stats.fence_waits += 1
        if connection is not None and sampler is not None and isinstance(connection.host, Host):
            sampler.want(connection.host, fence_ns, active.listener.fence_wait)

    def waited_in_vain(self, now_ns: int) -> None:
        """One has waited in the relay as long as it may."""
        active = self._active
        connection = active.logged_in.default
        if connection is not None and isinstance(connection.host, Host):
            connection.host.waited_in_vain(now_ns, active.context.fence_wait_ns)

    def gave_up(self, fence_ns: int) -> None:
        """The relay sends one to the primary."""
        active = self._active
        active.server.stats.fence_timeouts += 1
        connection, sampler = active.logged_in.default, active.server.sampler
        if connection is not None and sampler is not None and isinstance(connection.host, Host):
            self._look(sampler, connection.host, fence_ns)

    def _look(self, sampler: Sampler, host: Host, fence_ns: int) -> None:
        """Nobody waits: only what is asked now and then makes a later one fresh, or has them wait again."""
        if not self._active.listener.fence_wait or host.wants_a_look(time.monotonic_ns()):
            sampler.want(host, fence_ns, 0)

    def compare_configurations(self, splitter: Splitter) -> None:
        """Tell the splitter in which settings the replica is configured differently."""
        active = self._active
        active.context.cleared = -1
        replica, main = active.logged_in.default, active.logged_in.main
        if replica is None or replica is main:
            return
        assert isinstance(replica.host, Host)
        self._configurations = active.shared.manager.configurations(active.listener.write_cluster, replica.host)
        active.context.freshness = replica.host.freshness
        splitter.configurations_differ(differing(replica, main) | differing_values(self._configurations))
