"""A host of a cluster: its address, what the health check knows of it, and its counters in Envoy's words."""

from __future__ import annotations

import re
import time
from array import array
from dataclasses import dataclass
from typing import Any, Final

from .. import log
from ..config.model import Placement
from ..split.fence import NEVER
from ..upstream.server_identity import UNKNOWN
from ..wire.startup import PROTOCOL_3_0, PROTOCOL_3_2
from .clock import SAME, Clock, Skew, skew

logger = log.get("pgsplit.cluster")

IN_VAIN: Final = 4              # times as long as a read waits nobody has got what he waited for: then none waits
RESTS: Final = 20               # times as long
REST_AT_MOST_NS: Final = 100_000_000
LOOK_NS: Final = 5_000_000       # between two looks meanwhile
SILENCE: Final = 60.0           # seconds between two lines that say the same
FIRST_WITH_3_2: Final = 18      # of PostgreSQL
UNCHECKED: Final = "not checked yet"
# Why a host is none of its cluster's where that has ``role: auto``: another has it, and nothing is wrong.
IS_STANDBY: Final = "is a standby"
IS_PRIMARY: Final = "is the primary"
NO_STANDBY: Final = "is out of recovery, no standby"
OTHER_ROLES: Final = frozenset({IS_STANDBY, IS_PRIMARY, NO_STANDBY})
# What an operator may order, and what it means for who would use the host.
DRAIN: Final = "drain"
MAINTENANCE: Final = "maintenance"
ORDERED: Final = {"": "", DRAIN: "is drained", MAINTENANCE: "is in maintenance"}


GROUND: Final = array("q", [0])
"""Grows whenever something changes on which a session's leave to read from its replica rests, but its freshness."""


def ground_moved() -> None:
    GROUND[0] += 1


class Ground:
    """An attribute on which it rests."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, instance: Any, owner: type) -> Any:
        return getattr(instance, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        if getattr(instance, self._name, None) != value:
            ground_moved()
        setattr(instance, self._name, value)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server this is: positions in the write-ahead log compare only on one."""

    system_identifier: str
    started: int              # pg_postmaster_start_time(), microseconds of Unix time

    def differs(self, other: Identity) -> bool:
        """Whether the two are surely of different PostgreSQL clusters; an empty identifier is not known."""
        return bool(self.system_identifier and other.system_identifier
                    and self.system_identifier != other.system_identifier)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a server's configuration says, as far as it decides the bytes of an answer (manual 20)."""

    loaded: str               # pg_conf_load_time()
    values: tuple[tuple[str, str], ...]
    collations: str           # a digest of the versions of all collations, which sort for the indexes too


HostKey = tuple[str, int] | tuple[str, int, int]
"""An address; of one of several servers behind it also its start time."""

Configurations = tuple[Configuration | None, Configuration | None]
"""A primary's, and a replica's."""


def differing_values(configurations: Configurations | None) -> set[str]:
    """The names of the settings in which they differ; none where one of them is not known."""
    ours, theirs = configurations or (None, None)
    if ours is None or theirs is None:
        return set()
    return {name for name, _ in set(ours.values) ^ set(theirs.values)}


class Host:
    """*why_not* is empty when the host may be used, else says in words why it is not: what the operator has ordered,
    else what the health check has found.
    """

    order = Ground()
    found = Ground()
    identity = Ground()
    timeline = Ground()
    configuration = Ground()

    def __init__(self, cluster_name: str, address: tuple[str, int], behind: Identity | None = None) -> None:
        """*behind*: the address is a balancer's, and this is one of the servers behind it."""
        self.freshness = array("q", [NEVER, 0])     # `fresh_ns`, and until when nobody waits for a later one
        self._in_vain_ns = 0               # since when nobody has got what he waited for
        self._wait_ns = self._looked_ns = 0
        self.cluster_name = cluster_name
        self.address = address
        self.behind = behind
        self.balanced = behind is not None     # more than one server answers there
        self.endpoint = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
        self.server = ""                   # by what address the server knows itself
        self.allowed = 0                   # connections of those who are not superusers; 0: not known
        self.order = ""                    # the operator's: drain or maintenance
        self.found = UNCHECKED             # by the health check
        self.checked = False
        self.silent = False                # it has not answered its last check
        self.monitored = True              # what is known of it is the monitor's word, and that is not old
        self.asked_ns = 0                  # when it was asked for the newest of what is known of it
        self.in_recovery: bool | None = None
        self.identity = None               # an Identity, once it is known
        self.timeline = UNKNOWN            # on which it was when it last answered
        self.claims = False                # when it last answered it was out of recovery
        self.note = ""                     # in words: what its operator should see to
        self.ahead = False                 # it has replayed what its primary does not have
        self.configuration = None          # a Configuration
        self.configurations: Configurations | None = None     # with that of its primary
        self.is_primary = False            # the write cluster's primary itself, listed in the read cluster
        self.replayed = 0                  # LSN
        self.heard_ns = 0                  # when it said so
        self.lag_bytes: int | None = None  # None: not known
        self.lag_ns: int | None = None     # since when not everything is known to be replayed
        self.lagging = False               # out for that
        self.clock = Clock()
        self.primary_clock: Clock | None = None    # of a replica's primary
        self.placement = Placement()
        self.turn = 0                      # in balance.round_robin
        self.removed = False               # its name resolves to it no more
        self.protocol = PROTOCOL_3_0       # the newest that it is known to speak
        self._apart: dict[str, float] = {}         # listeners that may not read its clock, and when the log said so
        self._declined = False             # it has answered a newer one with an older
        self._refused: dict[str, float] = {}       # what it was refused at a login, and when that was last logged
        self.cx_total = 0
        self.cx_active = 0
        self.cx_connect_fail = 0

    @property
    def key(self) -> HostKey:
        """By which its cluster has it."""
        return self.address if self.behind is None else (*self.address, self.behind.started)

    @property
    def name(self) -> str:
        return f"{self.endpoint} ({self.server})" if self.balanced and self.server else self.endpoint

    @property
    def fresh_ns(self) -> int:
        """Fresh as of this moment (split/fence.py)."""
        return self.freshness[0]

    @fresh_ns.setter
    def fresh_ns(self, moment: int) -> None:
        self.freshness[0] = moment

    def waited_in_vain(self, now_ns: int, wait_ns: int) -> None:
        """A read has waited *wait_ns* for it. Where none has got what it waited for in several times that, it lags, and
        none waits for some time.
        """
        self._wait_ns = wait_ns
        self._in_vain_ns = self._in_vain_ns or now_ns - wait_ns
        if now_ns - self._in_vain_ns >= IN_VAIN * wait_ns:
            self.freshness[1] = now_ns + min(RESTS * wait_ns, REST_AT_MOST_NS)

    def caught_up(self) -> None:
        """Somebody who waited has got what he waited for."""
        self._in_vain_ns = self.freshness[1] = 0

    def is_waited_for(self, now_ns: int) -> bool:
        return self.freshness[1] <= now_ns

    def wants_a_look(self, now_ns: int) -> bool:
        """Whether, while nobody waits, it is time to see how far it has come."""
        if self.is_waited_for(now_ns) or now_ns - self._looked_ns < LOOK_NS:
            return False
        self._looked_ns = now_ns
        return True

    def seen_at(self, now_ns: int) -> None:
        """It has just told its position: where it lags by no more than a read waits, reads wait again."""
        if self.freshness[1] and now_ns - self.fresh_ns <= self._wait_ns:
            self.caught_up()

    @property
    def why_not(self) -> str:
        return ORDERED[self.order] or self.found

    @why_not.setter
    def why_not(self, why: str) -> None:
        self.found = why

    @property
    def other_role(self) -> bool:
        """Whether it is not used because it has, as it may, the role that another cluster is for."""
        return not self.order and self.found in OTHER_ROLES

    def connected(self) -> None:
        self.cx_total += 1
        self.cx_active += 1

    def closed(self) -> None:
        self.cx_active -= 1

    def logged_in(self, server_version: str, asked: int, agreed: int) -> None:
        """A login has shown what the server calls itself, and which version of the protocol came of that asked for.

        The version of the server decides until it has been asked: a pooler between may speak an older protocol.
        """
        self._declined = self._declined or agreed < asked
        major = int(found[0]) if (found := re.match(r"\d+", server_version)) else 0
        self.protocol = PROTOCOL_3_2 if major >= FIRST_WITH_3_2 and not self._declined else PROTOCOL_3_0

    @property
    def protocol_known(self) -> tuple[int, bool]:
        """What `logged_in` has found out, for another process to `know_protocol`."""
        return self.protocol, self._declined

    def know_protocol(self, protocol: int, declined: bool) -> None:
        if (protocol, declined) != (PROTOCOL_3_0, False):      # else nothing is known
            self._declined = self._declined or declined
            self.protocol = PROTOCOL_3_0 if self._declined else protocol

    def not_allowed(self, why: str) -> None:
        """A login has ended because the server asks for what it does not get. The log says so once in a while."""
        now = time.monotonic()
        if now - self._refused.get(why, -SILENCE) >= SILENCE:
            self._refused[why] = now
            logger.warning("cluster %s: no login: %s", self.cluster_name, why)

    def connect_failed(self, why: str) -> None:
        self.cx_connect_fail += 1

    def out(self, why: str) -> None:
        """Use it no more, until a health check succeeds."""
        self.why_not = why
        self.fresh_ns = NEVER

    def unknown(self) -> None:
        """It has not answered: what it last said of itself may not be so any more."""
        self.lag_bytes = self.lag_ns = None

    def skew(self, now_ns: int) -> Skew | None:
        """Of its clock against its primary's; None where that is not known, or it is not a replica's."""
        if self.is_primary:
            return SAME
        return skew(self.clock, self.primary_clock, now_ns) if self.primary_clock is not None else None

    def clock_apart(self, listener: str, limit_ns: int, now_ns: int) -> None:
        """*listener* may not read its clock. The log says so once in a while."""
        now = time.monotonic()
        if now - self._apart.get(listener, -SILENCE) >= SILENCE:
            self._apart[listener] = now
            found = self.skew(now_ns)
            logger.warning("listener %s: what reads the clock is the primary's (max_clock_skew %g ms): the clock of %s "
                           "is %s", listener, limit_ns / 1e6, self.name, found if found is not None else "not known")

    def counters(self) -> dict[str, int]:
        """What is not known is left out."""
        counters = {
            "upstream_cx_total": self.cx_total,
            "upstream_cx_active": self.cx_active,
            "upstream_cx_connect_fail": self.cx_connect_fail,
            "healthy": int(not self.why_not or self.other_role),
        }
        if self.lag_bytes is not None:
            counters["lag_bytes"] = self.lag_bytes
        if self.lag_ns is not None:
            counters["lag_ms"] = self.lag_ns // 1_000_000
        if (found := self.skew(time.monotonic_ns())) is not None and not self.is_primary:
            counters["clock_skew_us"] = (abs(found.offset_ns) + found.bound_ns) // 1000
        return counters
