"""The judge: what a host is good for, from what it has answered: the primary, a replica as of some moment, or nothing.

Freshness is within a term: a change of primary, server start or timeline voids it (guarantee G3); and a server out of
recovery takes writes only while it is the one on the greatest timeline that this node has seen (guarantee G6).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import log
from ..split.fence import ALWAYS, NEVER, SEGMENT_HEADER, Ring
from ..upstream.server_identity import UNKNOWN, Reached
from .changes import SERVERS, Changes
from .host import IS_PRIMARY, IS_STANDBY, NO_STANDBY, OTHER_ROLES, Host, Identity, ground_moved
from .patroni import UNASKED
from .terms import Terms

if TYPE_CHECKING:
    from .cluster import Cluster
    from .fact import Position

logger = log.get("pgsplit.health")

_NUMBERS: Final = re.compile(r"\d[\d./A-Fx]*")


class Term(NamedTuple):
    """Of a write cluster: on which server its samples were taken."""

    identity: Identity | None
    timeline: int


class Judge:
    """*clusters* are the manager's, by name; *writer_of*: the write cluster with whose primary a read cluster's hosts
    are compared. *demoted* is called when `demotion` has something to tell, *promoted* with a host of a read cluster
    that is no standby any more. *refused*: why a host of a write cluster may not be the primary, by the word of
    somebody who knows better than the servers. *rings* and *primaries* are by write cluster. *changes* gets to know of
    each other primary, and by *by_whom*'s word it is one. *tells*: the log, whenever a host goes out or comes back.
    """

    def __init__(self, clusters: Mapping[str, Cluster], writer_of: Callable[[str], str], terms: Terms,
                 demoted: Callable[[], None], promoted: Callable[[Host], None] = lambda host: None,
                 refused: Callable[[Cluster, Host], str] = lambda cluster, host: "",
                 changes: Changes | None = None,
                 by_whom: Callable[[Cluster], str] = lambda cluster: SERVERS, *, tells: bool = True) -> None:
        self.rings: dict[str, Ring] = {}              # of each write cluster, its primary's samples
        self.primaries: dict[str, Host] = {}
        self._clusters = clusters
        self._writer_of = writer_of
        self._terms = terms
        self._demoted = demoted
        self._promoted = promoted
        self._refused = refused
        self._changes = changes if changes is not None else Changes()
        self._by_whom = by_whom
        self._tell = _tell if tells else _tell_nobody
        self._term: dict[str, Term] = {}
        self._flushed: dict[str, int] = {}            # the primary's flushed position in its newest sample
        self.demoted = False                          # a server that took writes may take none any more: see `demotion`

    # --- what was answered ----------------------------------------------------------------------------------

    def seen(self, host: Host, position: Position, t_ns: int, heard_ns: int) -> None:
        """*host* was asked at *t_ns* and has answered by *heard_ns*."""
        cluster = self._clusters.get(host.cluster_name)
        if cluster is None:
            return
        before = host.found
        host.in_recovery = position.in_recovery
        host.timeline = position.timeline
        host.claims = not position.in_recovery
        if position.clock:
            host.clock.seen(position.sent_ns, position.heard_ns, position.clock)
        writer = self._writer_of(cluster.name)
        if cluster.writes or writer != cluster.name:
            self._terms.seen(self._cluster_of(host, writer), position.timeline)
            if self._terms.raised:          # before the new primary is judged: it takes the place of a former one
                self.reconsider()
        if cluster.writes:
            self._seen_writer(cluster, host, position, t_ns)
        elif writer == cluster.name:
            host.why_not = ""              # not split: whatever answers serves
        else:
            self._seen_reader(cluster, host, position, heard_ns)
        self._tell(cluster, host, before)
        if self.demoted or self._terms.raised:
            self._demoted()

    def moves(self, host: Host, position: Position, t_ns: int, heard_ns: int) -> bool:
        """Whether nothing but its position is new of a host that is in use, since its last health check: then that has
        been noted, and no more. Else it is to be `seen`.
        """
        cluster = self._clusters.get(host.cluster_name)
        if cluster is None or host.found or self._terms.raised or self.demoted or (
                host.in_recovery is not position.in_recovery or host.timeline != position.timeline):
            return False
        if not (self._writer_moves(cluster, host, position, t_ns) if cluster.writes else
                self._reader_moves(cluster, host, position, heard_ns)):
            return False
        if position.clock:
            host.clock.seen(position.sent_ns, position.heard_ns, position.clock)
        return True

    def _writer_moves(self, cluster: Cluster, host: Host, position: Position, t_ns: int) -> bool:
        if self.primaries.get(cluster.name) is not host or position.in_recovery or (
                self._term[cluster.name].identity is not host.identity
                or self._terms.greatest(self._cluster_of(host, cluster.name)) != host.timeline):
            return False
        self._note_writer(cluster, position, t_ns)
        return True

    def _reader_moves(self, cluster: Cluster, host: Host, position: Position, heard_ns: int) -> bool:
        """Who was given freshness in this term has been looked at in it."""
        writer = self._writer_of(cluster.name)
        primary, config = self.primaries.get(writer), cluster.config
        if primary is None or primary.found or not NEVER < host.fresh_ns < ALWAYS or host.ahead:
            return False
        if config.max_lag or config.max_lag_bytes or position.timeline != primary.timeline:
            return False
        host.replayed, host.heard_ns = position.lsn, heard_ns
        self._note_lag(host, writer)
        host.fresh_ns = self.rings[writer].fresh_ns(position.lsn)
        return True

    def _cluster_of(self, host: Host, writer: str) -> int:
        return self._terms.cluster(host.identity.system_identifier if host.identity is not None else "", writer)

    def demotion(self) -> bool:
        """Whether, since the last call, some server has lost the right to be written to."""
        risen, demoted = self._terms.news(), self.demoted
        self.demoted = False
        if risen:
            self.reconsider()
        return risen or demoted

    def reconsider(self) -> None:
        """A greater timeline has been seen, here or in another worker, or somebody who knows better has another word:
        who was the primary may be none now.
        """
        for cluster in self._clusters.values():
            for host in cluster.hosts.values():
                if cluster.writes and host.claims and (why := self._why_no_primary(cluster, host)):
                    before = host.found
                    self._not_the_primary(cluster, host, why)
                    self._tell(cluster, host, before)

    def greatest(self, cluster: Cluster) -> int:
        """The greatest timeline that this node has seen of the servers of a write cluster; UNKNOWN: none."""
        return max((self._terms.greatest(self._cluster_of(host, cluster.name)) for host in cluster.hosts.values()),
                   default=UNKNOWN)

    # --- the primary --------------------------------------------------------------------------------------------

    def may_be_primary(self, cluster: Cluster, host: Host) -> bool:
        """Whether *host*, which does not answer now, may be the primary by what it last said."""
        former = UNKNOWN < host.timeline < self._terms.greatest(self._cluster_of(host, cluster.name))
        return not (host.in_recovery or former or self._refused(cluster, host))

    def _seen_writer(self, cluster: Cluster, host: Host, position: Position, t_ns: int) -> None:
        if position.in_recovery:
            why = IS_STANDBY if cluster.finds_roles else "is in recovery, not a primary"
        else:
            why = self._why_no_primary(cluster, host)
        if why:
            self._not_the_primary(cluster, host, why)
            return
        term = Term(host.identity, host.timeline)
        if self._term.get(cluster.name) != term:
            self._begin(cluster, term)
            if host.identity is not None:
                self._changes.began(cluster.name, host.name, host.identity, host.timeline, self._by_whom(cluster))
        elif host.found:
            self._changes.back(cluster.name)
        if (before := self.primaries.get(cluster.name)) is not host and (before is None or before.found):
            self.primaries[cluster.name] = host
            ground_moved()
            self._leave_the_readers(cluster, host)
        self._note_writer(cluster, position, t_ns)
        host.why_not = ""

    def _note_writer(self, cluster: Cluster, position: Position, t_ns: int) -> None:
        self.rings[cluster.name].add(t_ns, position.inserted)
        self._flushed[cluster.name] = position.lsn
        self._look_for_those_ahead(cluster, t_ns)

    def _why_no_primary(self, cluster: Cluster, host: Host) -> str:
        greatest = self._terms.greatest(self._cluster_of(host, cluster.name))
        if host.timeline < greatest:
            return (f"is a former primary: it is on timeline {host.timeline}, and timeline {greatest} has been seen; "
                    "what it would take would be lost")
        if why := self._refused(cluster, host):
            return why
        rivals = self._rivals(cluster, host)
        if not rivals:
            return ""
        for rival in rivals:
            self._not_the_primary(cluster, rival, _rivalry(rival, [host, *(one for one in rivals if one is not rival)]))
        return _rivalry(host, rivals)

    def _rivals(self, cluster: Cluster, host: Host) -> list[Host]:
        """Other servers of the write cluster that are out of recovery, on no lower timeline, and not refused."""
        ours = host.identity
        found = []
        for other in cluster.hosts.values():
            theirs = other.identity
            if other is host or not other.claims or ours is None or theirs is None or ours.started == theirs.started:
                continue
            if self._refused(cluster, other):
                continue
            if ours.differs(theirs) or other.timeline >= host.timeline:
                found.append(other)
        return found

    def _not_the_primary(self, cluster: Cluster, host: Host, why: str) -> None:
        self.demoted |= host.claims and not host.found
        host.out(why)
        if self.primaries.get(cluster.name) is host:
            del self.primaries[cluster.name]
            self._changes.lost(cluster.name)
            self._begin(cluster, Term(None, UNKNOWN))

    def _begin(self, cluster: Cluster, term: Term) -> None:
        """Another term: nothing that was known of who is fresh is true in it."""
        self._term[cluster.name] = term
        self.rings[cluster.name].clear()
        self._flushed.pop(cluster.name, None)
        for reader in self._readers(cluster):
            reader.is_primary = False
            reader.primary_clock = None
            reader.fresh_ns = NEVER
            reader.unknown()
        ground_moved()

    def _leave_the_readers(self, writer: Cluster, primary: Host) -> None:
        """The server that is the primary from now on reads for nobody who takes it for a standby: none of those waits
        for its next check there.
        """
        for host in self._readers(writer):
            cluster = self._clusters[host.cluster_name]
            if cluster.finds_roles and primary.identity is not None and host.identity == primary.identity:
                before = host.found
                self._no_reader(host, primary)
                self._tell(cluster, host, before)

    def _readers(self, writer: Cluster) -> Iterable[Host]:
        for cluster in self._clusters.values():
            if cluster is not writer and self._writer_of(cluster.name) == writer.name:
                yield from cluster.hosts.values()

    def _look_for_those_ahead(self, writer: Cluster, t_ns: int) -> None:
        """Standbys are sent what is flushed: who had replayed more before the primary was asked follows another one."""
        flushed = self._flushed[writer.name]
        for host in self._readers(writer):
            if not host.found and 0 < host.heard_ns < t_ns and host.replayed > flushed + SEGMENT_HEADER:
                host.ahead = True
                before = host.found
                host.out(_ahead(host, flushed))
                self._tell(self._clusters[host.cluster_name], host, before)

    # --- a replica ------------------------------------------------------------------------------------------------

    def _seen_reader(self, cluster: Cluster, host: Host, position: Position, heard_ns: int) -> None:
        writer = self._writer_of(cluster.name)
        primary = self.primaries.get(writer)
        theirs = primary.identity if primary is not None else None
        host.is_primary = not position.in_recovery and theirs is not None and host.identity == theirs
        host.primary_clock = primary.clock if primary is not None and not primary.found else None
        if cluster.finds_roles and not position.in_recovery:
            self._no_reader(host, primary if host.is_primary else None)
            return
        if host.is_primary:
            host.why_not, host.fresh_ns, host.lag_bytes, host.lag_ns = "", ALWAYS, 0, 0
            return
        host.unknown()
        host.replayed, host.heard_ns = (position.lsn, heard_ns) if position.in_recovery else (0, 0)
        if why := self._why_no_replica(host, primary, position):
            host.out(why)
            return
        flushed = self._flushed.get(writer)
        if primary is not None and not primary.found:
            self._note_lag(host, writer)
        if host.ahead:
            host.ahead = flushed is None or position.lsn > flushed + SEGMENT_HEADER
            if host.ahead:
                host.out(_ahead(host, flushed or 0))
                return
        if over := self._over_limit(host):
            host.out(over)
            return
        host.fresh_ns = self.rings[writer].fresh_ns(position.lsn)
        host.why_not = ""

    def _note_lag(self, host: Host, writer: str) -> None:
        flushed = self._flushed.get(writer)
        if flushed is not None:
            host.lag_bytes = max(0, flushed - host.replayed)
            host.lag_ns = self.rings[writer].lag_ns(host.replayed) if host.lag_bytes else 0

    def _no_reader(self, host: Host, primary: Host | None) -> None:
        """It is out of recovery, and *primary* is that server's host among the writers, if that may be written to."""
        used = not host.found
        host.in_recovery, host.is_primary = False, primary is not None
        host.replayed = host.heard_ns = 0
        host.unknown()
        host.out(IS_PRIMARY if primary is not None else NO_STANDBY)
        if used:
            self._promoted(host)

    def _why_no_replica(self, host: Host, primary: Host | None, position: Position) -> str:
        if not position.in_recovery:
            return "is not in recovery, and not the primary of the write cluster"
        if primary is None:
            return ""
        ours, theirs = host.identity, primary.identity
        if ours is not None and theirs is not None and ours.differs(theirs):
            return "belongs to another PostgreSQL cluster than the primary: its system identifier differs"
        if primary.configuration and host.configuration and (
                primary.configuration.collations != host.configuration.collations):
            return "has collations of other versions than the primary: it may sort, and search, differently"
        if UNKNOWN not in (position.timeline, primary.timeline) and position.timeline != primary.timeline:
            return f"follows timeline {position.timeline}, and the primary is on timeline {primary.timeline}"
        return ""

    def _over_limit(self, host: Host) -> str:
        """Why its lag keeps a replica from being used. One that was over its limit comes back at half of it."""
        config = self._clusters[host.cluster_name].config
        part = 0.5 if host.lagging else 1.0
        host.lagging = True
        if config.max_lag_bytes and (host.lag_bytes or 0) > config.max_lag_bytes * part:
            return f"is {host.lag_bytes} bytes behind (max_lag_bytes {config.max_lag_bytes})"
        if config.max_lag and (host.lag_ns or 0) > config.max_lag * 1e9 * part:
            return f"is {(host.lag_ns or 0) / 1e9:.3g} s behind (max_lag {config.max_lag:g} s)"
        host.lagging = False
        return ""

    # --- connections ------------------------------------------------------------------------------------------------

    def is_primary(self, write_cluster: str, reached: Reached | None) -> bool:
        """Whether the server that a connection has reached is the one with which the replicas are compared."""
        primary = self.primaries.get(write_cluster)
        return (reached is not None and primary is not None and primary.identity is not None
                and reached.started == primary.identity.started)

    def why_not_write(self, write_cluster: str, reached: Reached | None) -> str:
        """Why a connection to the server *reached* may not be written to, or be taken for the primary's."""
        if reached is None:
            return ""
        if reached.in_recovery:
            return "the server that was reached is in recovery, not a primary"
        greatest = self._terms.greatest(self._terms.cluster(reached.system_identifier, write_cluster))
        if UNKNOWN < reached.timeline < greatest:
            return (f"the server that was reached is a former primary, on timeline {reached.timeline}: timeline "
                    f"{greatest} has been seen")
        cluster = self._clusters.get(write_cluster)
        host = next((host for host in cluster.hosts.values() if host.claims and host.identity is not None
                     and host.identity.started == reached.started), None) if cluster is not None else None
        if cluster is None or not cluster.writes or host is None:
            return ""
        if why := self._refused(cluster, host):
            return f"the server that was reached is not to be written to: {why}"
        return f"the server that was reached {host.found}" if self._rivals(cluster, host) else ""


def _rivalry(host: Host, rivals: list[Host]) -> str:
    names = ", ".join(sorted(rival.name for rival in rivals))
    return (f"is out of recovery on timeline {host.timeline}, and so is {names}: which is the primary cannot be told, "
            "so neither is used")


def _ahead(host: Host, flushed: int) -> str:
    return (f"has replayed {host.replayed - flushed} bytes more than the primary has: it follows, or has followed, "
            "another one")


def _tell(cluster: Cluster, host: Host, before: str) -> None:
    """A line in the log whenever a host goes out, for another reason than numbers alone, or comes back."""
    if host.found in (*OTHER_ROLES, UNASKED):
        if host.found != before:
            logger.info("%s of cluster %s %s", host.name, cluster.name, host.found)
    elif host.found and _NUMBERS.sub("", host.found) != _NUMBERS.sub("", before):
        logger.warning("%s of cluster %s is out: it %s", host.name, cluster.name, host.found)
    elif before and not host.found:
        what = "a standby" if host.in_recovery else "the primary" if cluster.writes or host.is_primary else "in use"
        logger.info("%s of cluster %s can be used: %s", host.name, cluster.name, what)


def _tell_nobody(cluster: Cluster, host: Host, before: str) -> None:
    """Another process does."""
