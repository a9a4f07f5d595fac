"""One session's counting, into its listener's counters, as Envoy's PostgreSQL filter counts."""

from __future__ import annotations

from typing import Final

from ..split.decision import Decision, Upstream
from ..stats.counters import ListenerStats

SEVERITIES: Final = {"ERROR": "errors_error", "FATAL": "errors_fatal", "PANIC": "errors_panic"}
NOTICES: Final = {"NOTICE": "notices_notice", "LOG": "notices_log", "WARNING": "notices_warning",
                  "DEBUG": "notices_debug", "INFO": "notices_info"}
STATEMENTS: Final = {b"INSERT": "statements_insert", b"DELETE": "statements_delete", b"UPDATE": "statements_update",
                     b"SELECT": "statements_select"}


class SessionCounter:
    """The splitter's observer. Whether a transaction is open is kept here, since Envoy counts by it."""

    __slots__ = ("_in_transaction", "_stats")

    def __init__(self, stats: ListenerStats) -> None:
        self._stats = stats
        self._in_transaction = False

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
        else:
            stats.statements_primary += 1
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
        name = SEVERITIES.get(severity, "errors_unknown")
        setattr(stats, name, getattr(stats, name) + 1)

    def notice(self, severity: str) -> None:
        stats = self._stats
        stats.notices += 1
        name = NOTICES.get("DEBUG" if severity.startswith("DEBUG") else severity, "notices_unknown")
        setattr(stats, name, getattr(stats, name) + 1)

    def reasked(self, sqlstate: str) -> None:
        self._stats.reasks += 1
        self._stats.reasks_by[sqlstate] = self._stats.reasks_by.get(sqlstate, 0) + 1

    def answered(self, upstream: Upstream, nanoseconds: int) -> None:
        stats = self._stats
        histogram = stats.latency_replica if upstream is Upstream.DEFAULT else stats.latency_primary
        histogram.observe(nanoseconds // 1000)
