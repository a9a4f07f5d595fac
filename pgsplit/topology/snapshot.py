"""What a host looks like to who watches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from .cluster import Cluster
from .host import Host


@dataclass(frozen=True, slots=True)
class HostSnapshot:
    """*healthy*: nothing is wrong with it. *why_not*: in words why it is not used, or empty. *lag_ms*: since when not
    all is known to be replayed; of either lag None where it is not known. *clock_offset_ms*: by how much a standby's
    clock is ahead of its primary's, wrong by *clock_bound_ms* at most; None where that is not known.
    """

    cluster: str
    name: str
    role: str                      # primary, standby, or unknown
    writes: bool                   # it is of a write cluster
    healthy: bool
    why_not: str
    order: str                     # the operator's: drain, maintenance, or none
    lag_bytes: int | None
    lag_ms: float | None
    clock_offset_ms: float | None
    clock_bound_ms: float | None
    replayed: str                  # position in the write-ahead log, as PostgreSQL writes it
    started: str                   # the server's start time, UTC
    timeline: int                  # 0: not known
    note: str                      # in words what its operator should see to; or empty
    cx_active: int
    cx_total: int
    cx_connect_fail: int
    other_role: bool = False       # it has, as it may, the role that another cluster is for: it is none of this one's
    finds_roles: bool = False      # the cluster's hosts may have either role
    silent: bool = False           # it has not answered its last check: its role is what it had

    @property
    def serves(self) -> bool:
        """Whether sessions are given it."""
        return self.healthy and not self.other_role


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(" ", "seconds")


def host_snapshot(cluster: Cluster, host: Host) -> HostSnapshot:
    role = {None: "unknown", True: "standby", False: "primary"}[host.in_recovery]
    skew = None if cluster.writes or host.is_primary else host.skew(time.monotonic_ns())
    return HostSnapshot(
        cluster=cluster.name, name=host.name, role=role, writes=cluster.writes,
        healthy=not host.why_not or host.other_role,
        why_not=host.why_not, order=host.order, lag_bytes=host.lag_bytes,
        lag_ms=None if host.lag_ns is None else host.lag_ns / 1e6,
        clock_offset_ms=None if skew is None else skew.offset_ns / 1e6,
        clock_bound_ms=None if skew is None else skew.bound_ns / 1e6,
        replayed=f"{host.replayed >> 32:X}/{host.replayed & 0xFFFFFFFF:X}" if host.replayed else "",
        started=_moment(host.identity.started) if host.identity is not None else "", timeline=host.timeline,
        note=host.note, cx_active=host.cx_active, cx_total=host.cx_total, cx_connect_fail=host.cx_connect_fail,
        other_role=host.other_role, finds_roles=cluster.finds_roles, silent=host.silent)
