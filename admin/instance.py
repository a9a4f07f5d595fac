"""The running proxy as the pages ask it: the arbiter, and all workers at once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import gevent

from pgsplit.errors import PgSplitError
from pgsplit.process.client import Client
from pgsplit.session.snapshot import DecisionSnapshot, SessionSnapshot
from pgsplit.topology import changes
from pgsplit.topology.snapshot import HostSnapshot

from .usage import Usage, merged

SHARED: Final = 0.4             # seconds for which an answer serves all who look


class Instance:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[Any, tuple[float, Any]] = {}

    def arbiter(self, what: str, /, **args: Any) -> Any:
        """:raises PgSplitError: with its words when it refuses, or does not answer."""
        return self._client.arbiter(what, **args)

    def worker(self, number: int, what: str, /, **args: Any) -> Any:
        """:raises PgSplitError: with its words when it refuses, or does not answer."""
        return self._client.worker(number, what, **args)

    def about(self) -> dict[str, Any]:
        return self._shared("about", lambda: self.arbiter("about"))

    def workers(self) -> list[dict[str, Any]]:
        return self._shared("workers", lambda: self.arbiter("workers"))

    def totals(self) -> dict[str, int]:
        return self._shared("totals", lambda: self.arbiter("totals"))

    def sessions(self) -> list[SessionSnapshot]:
        found = self._shared("sessions", lambda: self.each("sessions"))
        return [SessionSnapshot(**row) for rows in found.values() for row in rows]

    def session(self, identifier: str) -> tuple[SessionSnapshot, list[DecisionSnapshot]]:
        """:raises PgSplitError: when it is over."""
        answer = self._of_session(identifier, "session")
        return SessionSnapshot(**answer["session"]), [DecisionSnapshot(**row) for row in answer["decisions"]]

    def cancel(self, identifier: str) -> bool:
        """Whether a statement ran."""
        return bool(self._of_session(identifier, "cancel_session"))

    def terminate(self, identifier: str) -> None:
        self._of_session(identifier, "terminate")

    def hosts(self) -> list[HostSnapshot]:
        """As all workers together see them: connections summed up, and out if it is for one of them."""
        hosts: dict[tuple[str, str], HostSnapshot] = {}
        for rows in self._shared("hosts", lambda: self.each("hosts")).values():
            for row in rows:
                host = HostSnapshot(**row)
                key = host.cluster, host.name
                hosts[key] = _both(hosts[key], host) if key in hosts else host
        return sorted(hosts.values(), key=lambda host: (not host.writes, host.cluster, host.name))

    def topology(self) -> dict[str, Any]:
        """Who is the primary since when, and the last changes, of all workers as one (`changes.merge`)."""
        return changes.merge(self._shared("topology", lambda: self.each("topology")).values())

    def greatest_timelines(self) -> dict[str, int]:
        """That were seen, by write cluster."""
        found: dict[str, int] = {}
        for answer in self.each("terms").values():
            for cluster, timeline in answer.items():
                found[cluster] = max(timeline, found.get(cluster, 0))
        return found

    def catalogues(self) -> list[dict[str, Any]]:
        """Of each database, as the worker knows it that has read it last, or not at all."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for rows in self._shared("catalogues", lambda: self.each("catalogues")).values():
            for row in rows:
                key = row["cluster"], row["database"]
                if key not in found or (row["read_s"] or 0) > (found[key]["read_s"] or 0):
                    found[key] = row
        return [found[key] for key in sorted(found)]

    def explain(self, sql: str, cluster: str, database: str) -> dict[str, Any]:
        """The decision about *sql* by the definitions of *database*.

        :raises PgSplitError: no worker knows them now.
        """
        answers = self.each("explain", sql=sql, cluster=cluster, database=database)
        for answer in answers.values():
            return dict(answer)
        raise PgSplitError(f"The definitions of database {database} are not known now.")

    def usage(self) -> list[Usage]:
        """The digests on which most time was spent."""
        answers = self._shared("digests", lambda: self.each("digests"))
        return merged(row for answer in answers.values() for row in answer["top"])

    def write_digests(self) -> list[str]:
        answers = self._shared("digests", lambda: self.each("digests"))
        return sorted({digest for answer in answers.values() for digest in answer["writes"]})

    def each(self, what: str, /, **args: Any) -> dict[int, Any]:
        """The answers of the workers that give one, by worker."""
        numbers = self._client.workers()
        jobs = [gevent.spawn(self._try, number, what, args) for number in numbers]
        gevent.joinall(jobs)
        return {number: job.value for number, job in zip(numbers, jobs, strict=True) if job.value is not None}

    def forget(self) -> None:
        """What was known is not true any more: something was changed."""
        self._known.clear()

    def _try(self, number: int, what: str, args: dict[str, Any]) -> Any:
        try:
            return self._client.worker(number, what, **args)
        except PgSplitError:
            return None

    def _of_session(self, identifier: str, what: str) -> Any:
        worker, found, number = identifier.partition("-")
        if not (found and worker.isdecimal() and number.isdecimal() and len(identifier) < 30):
            raise PgSplitError(f"{identifier[:40]!r} is no session's number")
        if int(worker) not in self._client.workers():
            raise PgSplitError("there is no such session any more")
        return self._client.worker(int(worker), what, number=int(number))

    def _shared(self, name: str, ask: Any) -> Any:
        now = time.monotonic()
        known = self._known.get(name)
        if known is not None and now - known[0] < SHARED:
            return known[1]
        answer = ask()
        self._known[name] = now, answer
        return answer


def _both(one: HostSnapshot, other: HostSnapshot) -> HostSnapshot:
    return replace(
        one, healthy=one.healthy and other.healthy, why_not=one.why_not or other.why_not,
        note=one.note or other.note, other_role=one.other_role and other.other_role, silent=one.silent and other.silent,
        lag_bytes=_greatest(one.lag_bytes, other.lag_bytes), lag_ms=_greatest(one.lag_ms, other.lag_ms),
        **_worse_clock(one, other), timeline=max(one.timeline, other.timeline),
        cx_active=one.cx_active + other.cx_active, cx_total=one.cx_total + other.cx_total,
        cx_connect_fail=one.cx_connect_fail + other.cx_connect_fail)


def _worse_clock(one: HostSnapshot, other: HostSnapshot) -> dict[str, Any]:
    """Of two workers' measurements of the same clock that which lets it be further off."""
    known = [(abs(each.clock_offset_ms) + each.clock_bound_ms, each) for each in (one, other)
             if each.clock_offset_ms is not None and each.clock_bound_ms is not None]
    if len(known) < 2:
        return {"clock_offset_ms": None, "clock_bound_ms": None}
    worse = max(known, key=lambda each: each[0])[1]
    return {"clock_offset_ms": worse.clock_offset_ms, "clock_bound_ms": worse.clock_bound_ms}


def _greatest(*lags: float | None) -> Any:
    """What is not known to one worker is not known."""
    return None if None in lags else max(lag for lag in lags if lag is not None)


def by_name(totals: dict[str, int], names: Iterable[str]) -> dict[str, int]:
    """Counters of all listeners summed up, by their last word."""
    wanted = {f".{name}": name for name in names}
    sums = dict.fromkeys(wanted.values(), 0)
    for key, value in totals.items():
        if key.startswith("postgres.") and (name := wanted.get(key[key.rindex("."):])):
            sums[name] += value
    return sums
