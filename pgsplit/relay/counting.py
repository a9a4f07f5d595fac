"""One session's counting, into its listener's counters, as Envoy's PostgreSQL filter counts."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from ..split.batch import Batch
from ..split.decision import Decision, Upstream
from ..split.reads import NOWHERE, Reads
from ..split.repeat import Held
from ..split.transaction import Place
from ..stats.counters import ListenerStats
from ..stats.digests import Digests
from ..stats.histogram import place
from ..stats.offload import ReadStats
from ..wire.messages import IDLE

SEVERITIES: Final = {"ERROR": "errors_error", "FATAL": "errors_fatal", "PANIC": "errors_panic"}
NOTICES: Final = {"NOTICE": "notices_notice", "LOG": "notices_log", "WARNING": "notices_warning",
                  "DEBUG": "notices_debug", "INFO": "notices_info"}
STATEMENTS: Final = {b"INSERT": "statements_insert", b"DELETE": "statements_delete", b"UPDATE": "statements_update",
                     b"SELECT": "statements_select"}

RECENT: Final = 50              # answers of which a session remembers the decision

Answered = tuple[int, int, Upstream, Decision | None, bytes]
"""When (monotonic ns), how long it took (µs), who answered, why there, the text as the classifier keeps it."""


class SessionCounter:
    """The splitter's observer. Whether a transaction is open is kept here, since Envoy counts by it.
    *observed*: where reads are counted when the listener observes.
    """

    __slots__ = (
        "_digests",
        "_errors",
        "_in_transaction",
        "_reasks",
        "_stats",
        "answered_ns",
        "primary",
        "reads",
        "recent",
        "replica",
        "transaction_ns",
    )

    def __init__(self, stats: ListenerStats, digests: Digests, observed: ReadStats | None = None) -> None:
        self._stats = stats
        self._digests = digests
        self.reads = Reads(observed or stats.reads)
        self._in_transaction = False
        self._errors = 0                # of the answer that is being passed on
        self._reasks = 0
        self.replica = 0                # statements
        self.primary = 0
        self.answered_ns = 0            # monotonic: when the last answer was complete
        self.transaction_ns = 0         # when the open transaction began; 0: there is none
        self.recent: deque[Answered] = deque(maxlen=RECENT)

    def frontend(self, messages: int) -> None:
        self._stats.messages_frontend += messages

    def backend(self, messages: int) -> None:
        self._stats.messages_backend += messages

    def text(self, parsed: bool | None) -> None:
        if parsed is not None:
            self._stats.statements_parsed += parsed
            self._stats.statements_parse_error += not parsed

    def decided(self, decision: Decision) -> None:
        key = (decision.upstream.text, decision.reason)
        decisions = self._stats.decisions
        decisions[key] = decisions.get(key, 0) + 1

    def command(self, upstream: Upstream, tag: bytes) -> None:
        stats = self._stats
        word = tag.partition(b" ")[0]
        stats.statements += 1
        name = STATEMENTS.get(word, "statements_other")
        setattr(stats, name, getattr(stats, name) + 1)
        if upstream is Upstream.DEFAULT:
            stats.statements_replica += 1
            self.replica += 1
        elif upstream is Upstream.ADDITIONAL:
            stats.statements_primary += 1
            self.primary += 1
        else:
            self.transaction_ns = time.monotonic_ns() if word in (b"BEGIN", b"START") else 0
        if word in (b"BEGIN", b"START"):
            stats.transactions += 1
            self._in_transaction = True
        elif word == b"COMMIT":
            stats.transactions_commit += 1
            self._in_transaction = False
        elif word == b"ROLLBACK":
            stats.transactions_rollback += self._in_transaction
            self._in_transaction = False
        elif not self._in_transaction:
            stats.transactions += 1
            stats.transactions_commit += 1

    def error(self, severity: str, sqlstate: str) -> None:
        stats = self._stats
        stats.errors += 1
        self._errors += 1
        name = SEVERITIES.get(severity, "errors_unknown")
        setattr(stats, name, getattr(stats, name) + 1)

    def notice(self, severity: str) -> None:
        stats = self._stats
        stats.notices += 1
        name = NOTICES.get("DEBUG" if severity.startswith("DEBUG") else severity, "notices_unknown")
        setattr(stats, name, getattr(stats, name) + 1)

    def reasked(self, sqlstate: str) -> None:
        self._stats.reasks += 1
        self._reasks += 1
        self._stats.reasks_by[sqlstate] = self._stats.reasks_by.get(sqlstate, 0) + 1

    def repeated(self, held: Held) -> None:
        """A relay has repeated batches; what it counted in its table is the listener's, and not counted here."""
        self.replica += held.replica
        self.primary += held.primary
        if held.last is not None:
            self.answered_ns = held.answered_ns
            self.transaction_ns = held.transaction_ns
            self._in_transaction = held.tx != IDLE
            self.reads.inside = held.inside if held.tx != IDLE and held.place is Place.PRIMARY else NOWHERE

    def answered(self, upstream: Upstream, batch: Batch, now_ns: int, tx: int) -> None:
        """*batch*, or an inquiry of pgsplit's own, is answered, at *now_ns* (monotonic), and left the
        transaction status *tx*.
        """
        stats, text = self._stats, batch.text
        if batch.inquiry is not None:
            stats.own.add(upstream.text, batch.inquiry.kind, now_ns - batch.started)
            return
        bucket, microseconds = place(now_ns - batch.started)
        histogram = stats.latency_replica if upstream is Upstream.DEFAULT else stats.latency_primary
        histogram.counts[bucket] += 1
        histogram.total_us += microseconds
        usage = self._digests.of(text)
        usage.calls[upstream] += 1
        usage.latency.counts[bucket] += 1
        usage.latency.total_us += microseconds
        usage.reason = batch.reason
        if self._errors or self._reasks:
            usage.errors += self._errors
            usage.reasks += self._reasks
            self._errors = self._reasks = 0
        self.reads.answered(upstream, batch, microseconds, open_=tx != IDLE)
        self.answered_ns = now_ns
        if tx == IDLE:
            self.transaction_ns = 0
        elif not self.transaction_ns:
            self.transaction_ns = batch.started
        self.recent.append((now_ns, microseconds, upstream, batch.decision, text))
