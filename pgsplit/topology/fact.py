"""What the monitor has found out about a host at one time: for whoever judges by it, in its own process or in others.

It goes between processes as JSON's types (`told`, `fact_of`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..errors import ConnectionLost, ServerError
from ..wire.startup import PROTOCOL_3_0
from .host import Configuration, Identity

INSUFFICIENT_RESOURCES: Final = "53"       # SQLSTATE class: 53300: too many connections, the server's or the role's
NO_ANSWER: Final = ("08", "57", INSUFFICIENT_RESOURCES)      # classes of errors that say nothing of a server's role
TEXT: Final = 2000                         # characters of a server's text that are told
VALUE: Final = 200                         # and of a setting's value, beyond which its digest is


@dataclass(frozen=True, slots=True)
class Position:
    in_recovery: bool
    lsn: int                 # replayed on a standby, flushed on a primary
    inserted: int            # a primary's end of the log, up to which commits may have been acknowledged unflushed
    timeline: int            # UNKNOWN where it could not be found out
    clock: int = 0           # Unix time in microseconds by the server's clock, read between the next two; 0: not told
    sent_ns: int = 0         # when it was asked
    heard_ns: int = 0        # and its answer was there


@dataclass(frozen=True, slots=True)
class Failure:
    """A host did not answer, in words *why*. *full*: it had no connection left for the monitor. *lost*: a connection
    that worked has ended, which may have been the end of that one alone. *silent*: its role may be what it was.
    *ended*: no server serves there now.
    """

    why: str
    full: bool
    lost: bool
    silent: bool
    ended: bool


def failure_of(error: Exception, *, lost: bool) -> Failure:
    state = error.sqlstate[:2] if isinstance(error, ServerError) else None
    return Failure((str(error) or type(error).__name__)[:TEXT], full=state == INSUFFICIENT_RESOURCES,
                   lost=lost and _ends_one_connection(error), silent=state is None or state in NO_ANSWER,
                   ended=_has_ended(error))


def _has_ended(error: Exception) -> bool:
    """Whether *error* shows that no server serves there now. One that only does not answer may do so again."""
    if isinstance(error, ConnectionLost):
        return "did not answer" not in str(error)
    return isinstance(error, ServerError) and (error.sqlstate[:2] == "57" or "refused" in error.message.lower())


def _ends_one_connection(error: Exception) -> bool:
    """As the server's end does, but pg_terminate_backend() and idle_session_timeout, too (57P01, 57P05)."""
    return isinstance(error, ConnectionLost) or (isinstance(error, ServerError) and error.sqlstate.startswith("57P"))


@dataclass(frozen=True, slots=True)
class Fact:
    """Of a host that was asked at *asked_ns*: a *failure*, or all the rest. *server*: by what address it knows itself;
    *sees_timelines*: those that it receives, too, as a standby. *protocol*, *declined*: see `Host.logged_in`.
    *allowed*: connections of those who are not superusers; 0: not known.
    """

    asked_ns: int
    failure: Failure | None = None
    position: Position | None = None
    identity: Identity | None = None
    configuration: Configuration | None = None
    server: str = ""
    sees_timelines: bool = True
    protocol: int = PROTOCOL_3_0
    declined: bool = False
    allowed: int = 0


def told(fact: Fact) -> dict[str, Any]:
    told = asdict(fact)
    if fact.configuration is not None:
        told["configuration"]["values"] = [(name, _short(value)) for name, value in fact.configuration.values]
    return told


def _short(value: str) -> str:
    """Values are compared, and not read."""
    return value if len(value) <= VALUE else hashlib.blake2b(value.encode(), digest_size=16).hexdigest()


def fact_of(told: Mapping[str, Any]) -> Fact:
    """:raises KeyError, TypeError: for what `told` has not made."""
    failure, position, identity, configuration = (
        told[name] for name in ("failure", "position", "identity", "configuration"))
    if configuration is not None:
        values = tuple((str(name), str(value)) for name, value in configuration["values"])
        configuration = Configuration(configuration["loaded"], values, configuration["collations"])
    return Fact(told["asked_ns"], failure and Failure(**failure), position and Position(**position),
                identity and Identity(**identity), configuration, told["server"], told["sees_timelines"],
                told["protocol"], told["declined"], told["allowed"])
