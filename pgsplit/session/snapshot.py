"""What a session looks like to who watches: taken by the worker, shown by the admin page and the SQL console."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..classify.folding import unfolded
from ..sql.digest import of_text, tidy
from ..wire.messages import IDLE, IN_TRANSACTION

if TYPE_CHECKING:
    from .active import ActiveSession


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """Times are Unix seconds. *state* as pg_stat_activity names it; *pins*: what holds the session on the primary,
    with what in a statement caused it. *digest*: the last statement without its literals.
    """

    id: str                        # of the worker and the session in it: 2-17
    listener: str
    client: str
    user: str
    database: str
    application_name: str
    tls: bool
    upstream_tls: bool
    pid: int                       # of its server process on the primary
    primary: str                   # hosts; empty where there is none
    replica: str
    no_replica: str                # why the session got none when a read wanted it
    replica_pid: int               # 0 where there is none
    started: float
    state: str
    state_since: float
    transaction_since: float | None
    upstream: str                  # of the last statement
    reason: str
    detail: str
    digest: str
    pins: dict[str, str]
    statements_replica: int
    statements_primary: int
    bytes_received: int            # from the client
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class DecisionSnapshot:
    """A statement that was answered: when, how long it took, by whom, and why there."""

    time: float
    microseconds: int
    upstream: str
    reason: str
    detail: str
    digest: str


def snapshot(active: ActiveSession, worker: int) -> SessionSnapshot:
    session, counter, logged_in = active.session, active.counter, active.logged_in
    session.hold()
    splitter = session.splitter
    moment = time.time() - time.monotonic_ns() / 1e9      # of monotonic 0
    running = splitter.in_flight
    if running:
        state, since_ns = "active", running[0].started
    else:
        state, since_ns = _STATES.get(splitter.tx, "idle in transaction (aborted)"), counter.answered_ns
    last = splitter.last
    text = counter.recent[-1][4] if counter.recent else b""
    credentials = logged_in.credentials
    default, main = logged_in.default, logged_in.main
    client = session.flow.client
    replica = default if default is not main else None
    return SessionSnapshot(
        id=f"{worker}-{active.number}", listener=active.listener.name, client=active.peer, user=shown(credentials.user),
        database=shown(logged_in.parameters.get("database", credentials.user)),
        application_name=splitter.application_name or logged_in.parameters.get("application_name", ""),
        tls=client.tls is not None, upstream_tls=main.tls, pid=active.key[0],
        primary=main.host.name if main.host is not None else "",
        replica=replica.host.name if replica is not None and replica.host is not None else "",
        no_replica=active.replica.why_none if replica is None else "",
        replica_pid=replica.session.pid if replica is not None else 0,
        started=active.started, state=state, state_since=moment + since_ns / 1e9 if since_ns else active.started,
        transaction_since=moment + counter.transaction_ns / 1e9 if counter.transaction_ns else None,
        upstream=last.upstream.text, reason=last.reason, detail=last.detail, digest=readable(text),
        pins=dict(splitter.pins), statements_replica=counter.replica, statements_primary=counter.primary,
        bytes_received=client.received, bytes_sent=client.sent)


def decisions(active: ActiveSession) -> list[DecisionSnapshot]:
    """The session's last ones, the latest first."""
    moment = time.time() - time.monotonic_ns() / 1e9
    return [DecisionSnapshot(moment + now_ns / 1e9, microseconds, upstream.text, decision.reason if decision else "",
                             decision.detail if decision else "", readable(text))
            for now_ns, microseconds, upstream, decision, text in reversed(active.counter.recent)]


def shown(name: str) -> str:
    """A name as a page may hold it: where its bytes are no UTF-8, which a server may take, with U+FFFD."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


@lru_cache(4096)
def readable(text: bytes) -> str:
    """A text as the classifier keeps it, its literals folded or not, without them."""
    return tidy(of_text(unfolded(text).decode("utf-8", "replace"))) if text else ""


def usage_rows(top: list[tuple[bytes, Any]]) -> list[dict[str, Any]]:
    return [{"digest": readable(text) or "(other statements)", "replica": usage.calls[0], "primary": usage.calls[1],
             "reasks": usage.reasks, "errors": usage.errors, "reason": usage.reason,
             "total_us": usage.latency.total_us, "buckets": usage.latency.counts} for text, usage in top]


_STATES = {IDLE: "idle", IN_TRANSACTION: "idle in transaction"}
