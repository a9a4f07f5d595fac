"""File descriptors: how many a process may have, and whether the sessions that a configuration allows fit."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from ..config.model import Config
from ..errors import ConfigError
from ..session.limits import limited
from .board import LIMITS

OF_A_SESSION: Final = 3          # the client's, and one to each upstream
RESERVE: Final = 128             # listening sockets, health checks, logs, the admin page's questions


def raise_limit() -> None:
    """To what the system allows (RLIMIT_NOFILE, getrlimit(2))."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check(config: Config) -> None:
    """One worker alone may come to have all sessions: its siblings may be starting again.

    :raises ConfigError: when `max_connections` is more than its descriptors allow, or too many users are counted.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sum(listener.max_connections for listener in config.listeners)
    needed = OF_A_SESSION * wanted + RESERVE
    problems = []
    if wanted and hard != resource.RLIM_INFINITY and needed > hard:
        problems.append(
            f"max_connections: {wanted} sessions take {needed} file descriptors, and a process may have {hard}: "
            f"allow more (ulimit -n, systemd's LimitNOFILE), or at most {max(0, hard - RESERVE) // OF_A_SESSION}")
    if (count := len(limited(config.listeners))) > LIMITS:
        problems.append(f"max_user_connections: {count} users are to be counted, and {LIMITS} can be")
    if problems:
        raise ConfigError(problems)
