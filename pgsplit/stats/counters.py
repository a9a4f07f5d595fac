"""The counters of a listener: Envoy's 33 with Envoy's meaning, and pgsplit's own (S13)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from .histogram import Histogram
from .observed import Observed
from .offload import ReadStats
from .own import Own


class Counter(NamedTuple):
    name: str
    help: str
    gauge: bool = False


ENVOY: Final = (
    Counter("errors", "ErrorResponse messages that a client got"),
    Counter("errors_error", "of severity ERROR"),
    Counter("errors_fatal", "of severity FATAL"),
    Counter("errors_panic", "of severity PANIC"),
    Counter("errors_unknown", "of another severity"),
    Counter("messages", "messages of both directions"),
    Counter("messages_backend", "messages to clients"),
    Counter("messages_frontend", "messages of clients"),
    Counter("messages_unknown", "messages of a type that the protocol does not have"),
    Counter("sessions", "successful logins"),
    Counter("sessions_encrypted", "sessions passed through encrypted; pgsplit has none"),
    Counter("sessions_terminated_ssl", "sessions whose client's TLS ends at pgsplit"),
    Counter("sessions_unencrypted", "sessions that pgsplit reads in the clear, after its own TLS if there is any"),
    Counter("sessions_upstream_ssl_success", "sessions with TLS to the upstream"),
    Counter("sessions_upstream_ssl_failed", "logins refused because an upstream did not do TLS"),
    Counter("statements", "CommandComplete messages"),
    Counter("statements_insert", "with the tag INSERT"),
    Counter("statements_delete", "with the tag DELETE"),
    Counter("statements_update", "with the tag UPDATE"),
    Counter("statements_select", "with the tag SELECT"),
    Counter("statements_other", "with another tag"),
    Counter("statements_parsed", "texts that the statistics parser could read"),
    Counter("statements_parse_error", "texts that it could not: no command of PostgreSQL, or a token that is none"),
    Counter("transactions", "BEGINs, and statements outside a transaction"),
    Counter("transactions_commit", "COMMITs, and statements outside a transaction"),
    Counter("transactions_rollback", "ROLLBACKs of a transaction"),
    Counter("notices", "NoticeResponse messages that a client got"),
    Counter("notices_notice", "of severity NOTICE"),
    Counter("notices_log", "of severity LOG"),
    Counter("notices_warning", "of severity WARNING"),
    Counter("notices_debug", "of severity DEBUG"),
    Counter("notices_info", "of severity INFO"),
    Counter("notices_unknown", "of another severity"),
)
OWN: Final = (
    Counter("sessions_active", "sessions now", gauge=True),
    Counter("bytes_received", "bytes that clients sent in sessions"),
    Counter("bytes_sent", "bytes that clients were sent in sessions"),
    Counter("logins_failed", "connections that were refused before a session began"),
    Counter("cancels", "CancelRequests"),
    Counter("statements_replica", "CommandComplete messages of a replica"),
    Counter("statements_primary", "CommandComplete messages of the primary"),
    Counter("reasks", "batches whose answer by a replica was void and that the primary was asked"),
    Counter("primary_lost", "sessions that have lost their connection to the primary, and went on"),
    Counter("primary_cut", "sessions that have ended with their connection to the primary"),
    Counter("primary_waits", "sessions that have waited for a primary"),
    Counter("primary_wait_ns", "nanoseconds that those have waited until they had one"),
    Counter("parked", "sessions that have given their connections back since they were idle"),
    Counter("fence_waits", "reads that waited for a sample"),
    Counter("fence_timeouts",
            "reads that went to the primary because no replica was fresh within fence_wait, or none waits now"),
)
ALL: Final = (*ENVOY, *OWN)


class ListenerStats:
    """Plain ints, one attribute a counter, and what is counted by reason: decisions and re-asks."""

    __slots__ = (*(counter.name for counter in ALL), "decisions", "latency_primary", "latency_replica", "observed",
                 "own", "reads", "reasks_by", "traffic")

    if TYPE_CHECKING:      # the slots of the table
        decisions: dict[tuple[str, str], int]
        reasks_by: dict[str, int]
        latency_primary: Histogram
        latency_replica: Histogram
        observed: Observed
        own: Own
        reads: ReadStats
        traffic: array[int]

        def __getattr__(self, name: str) -> int: ...
        def __setattr__(self, name: str, value: object) -> None: ...

    def __init__(self) -> None:
        for counter in ALL:
            setattr(self, counter.name, 0)
        self.decisions = {}      # (replica | primary, reason)
        self.reasks_by = {}                  # SQLSTATE
        self.latency_primary = Histogram()
        self.latency_replica = Histogram()
        self.own = Own()
        self.reads = ReadStats()
        self.observed = Observed()           # the reads of those sessions for which the listener observes
        self.traffic = array("q", (0, 0))    # bytes_received and bytes_sent; relays count into it

    def session_began(self, *, tls: bool, upstream_tls: bool) -> None:
        self.sessions += 1
        self.sessions_active += 1
        self.sessions_unencrypted += 1
        self.sessions_terminated_ssl += tls
        self.sessions_upstream_ssl_success += upstream_tls

    def session_ended(self) -> None:
        self.sessions_active -= 1

    def to_dict(self, stat_prefix: str) -> dict[str, int]:
        """All of them under Envoy's root ``postgres.<stat_prefix>.``."""
        root = f"postgres.{stat_prefix}"
        self.messages = self.messages_backend + self.messages_frontend + self.messages_unknown
        self.bytes_received, self.bytes_sent = self.traffic
        totals = {f"{root}.{counter.name}": getattr(self, counter.name) for counter in ALL}
        for (upstream, reason), count in self.decisions.items():
            totals[f"{root}.decisions.{upstream}.{reason}"] = count
        for sqlstate, count in self.reasks_by.items():
            totals[f"{root}.reasks.{sqlstate}"] = count
        reads = ReadStats()
        for each in (self.reads, *(part for _, part in self.observed)):
            reads.add(each)
        totals.update(reads.to_dict(root))
        totals.update(self.own.to_dict(root))
        totals.update(self.latency_replica.to_dict(f"{root}.latency_replica_us"))
        totals.update(self.latency_primary.to_dict(f"{root}.latency_primary_us"))
        return totals
