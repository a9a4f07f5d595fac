"""Running a driver's script against a server, and writing down all that the driver lets its user see."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Step = Callable[["Connect"], Any]


@dataclass(frozen=True)
class Target:
    """Where and as whom to connect. The schema named as the user is this run's, empty at the script's begin."""

    port: int
    user: str
    password: str
    tls: bool
    dbname: str = "drivers"
    host: str = "127.0.0.1"


class Script(dict[str, Step]):
    """A driver's table of steps, ``name -> function(connect) -> outcome``; as a decorator it takes one more."""

    def __call__(self, step: Step) -> Step:
        assert step.__name__ not in self
        self[step.__name__] = step
        return step


@dataclass(frozen=True)
class Driver:
    """*open* gives a connection; *state* what can be seen of it besides results: notices, parameters, status."""

    script: Script
    open: Callable[..., Any]
    state: Callable[[Any], Any]
    close: Callable[[Any], Any]
    error: Callable[[BaseException], Any]


class Connect:
    """``with connect() as connection``: at its end the connection's state is written down, too."""

    def __init__(self, driver: Driver, target: Target) -> None:
        self.target = target
        self._driver = driver
        self.seen: list[Any] = []

    @contextlib.contextmanager
    def __call__(self, **arguments: Any) -> Iterator[Any]:
        connection = self._driver.open(self.target, **arguments)
        try:
            yield connection
            self.seen.append(self._driver.state(connection))
        finally:
            self._driver.close(connection)

    def refused(self, run: Callable[[], Any]) -> Any:
        """What *run* gives, or the error it raises."""
        try:
            return run()
        except Exception as error:
            return self._driver.error(error)


def record(driver: Driver, target: Target) -> dict[str, str]:
    """Each step's outcome and the states of its connections; an error's text where it raised."""
    outcomes = {}
    for name, step in driver.script.items():
        connect = Connect(driver, target)
        outcome = connect.refused(lambda step=step, connect=connect: step(connect))     # type: ignore[misc]
        outcomes[name] = normalised(repr((outcome, connect.seen)), target)
    return outcomes


def normalised(text: str, target: Target) -> str:
    """Without what differs between any two runs: the port, and what `steady` leaves out."""
    return steady(re.sub(rf"(?i)(port\W+){target.port}\b", r"\1PORT", text))


def steady(text: str) -> str:
    """Without pids, and the numbers of temporary schemas, large objects and asyncpg's statements."""
    text = re.sub(r"__asyncpg_stmt_\w+?__", "__asyncpg_stmt__", text)
    return re.sub(r"\b(Process |PID |process |pg_temp_|pg_toast_temp_|large object )\d+", r"\1#", text)


def known(oid: int) -> int | str:
    """A type's OID, if it is the same in every database (PostgreSQL manual 74.2.2)."""
    return oid if oid < 16384 else "own"


def short(value: Any) -> Any:
    """A long value as its type and digest."""
    text = repr(value)
    return value if len(text) < 5000 else (type(value).__name__, hashlib.sha256(steady(text).encode()).hexdigest())
