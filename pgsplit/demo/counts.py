"""Statements counted twice: by pgsplit, by upstream, and by the servers themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Server


@dataclass(frozen=True)
class Counts:
    """Statements sent to the primary and to the replicas, and the sessions open now."""

    primary: int
    replica: int
    sessions: int

    @classmethod
    def of(cls, totals: Mapping[str, int]) -> Counts:
        """From pgsplit's counters by name, over all listeners."""
        def total(name: str) -> int:
            return sum(value for key, value in totals.items()
                       if key.startswith("postgres.") and key.endswith(f".{name}"))

        return cls(total("statements_primary"), total("statements_replica"), total("sessions_active"))


@dataclass(frozen=True)
class Tally:
    """What pgsplit sent, and what each server counted, by its name."""

    sent: Counts
    counted: Mapping[str, int]

    @property
    def primary(self) -> int:
        return self.counted["primary"]

    @property
    def replicas(self) -> int:
        return sum(self.counted.values()) - self.primary

    @property
    def agrees(self) -> bool:
        return (self.sent.primary, self.sent.replica) == (self.primary, self.replicas)


def calls(server: Server, users: Sequence[str]) -> int:
    """What pg_stat_statements has counted for *users* on *server*, but for what pgsplit itself asks at each login, and
    by what it opens transactions and ends them on a standby.
    """
    [(count,)] = server.query("select coalesce(sum(calls), 0)::bigint from pg_stat_statements s "
                              "join pg_roles r on r.oid = s.userid where rolname = any(%s) "
                              "and query not like '%%pg_postmaster_start_time%%' and query <> 'select' "
                              "and query not like 'begin isolation level read committed%%' "
                              "and not (query = 'commit' and pg_is_in_recovery())", [list(users)])
    return int(count)


def forget_calls(servers: PrimaryAndStandbys) -> None:
    for server in servers.servers:
        server.query("select pg_stat_statements_reset()")


def lags(servers: PrimaryAndStandbys) -> dict[str, str]:
    """For each standby by name: bytes it has still to replay, and how long the last commits took to be replayed."""
    rows = servers.primary.query(
        "select application_name, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint, "
        "extract(epoch from replay_lag)::float8 * 1000 from pg_stat_replication")
    found = {name: f"{size:,} B" + (f" {milliseconds:.1f} ms" if milliseconds is not None else "")
             for name, size, milliseconds in rows}
    return {standby.name: found.get(standby.name, "not streaming") for standby in servers.standbys}
