"""How many sessions a listener, and each of its users, may have at once, over all workers (SQLSTATE 53300)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol

from ..config.model import Listener
from ..errors import ServerError

UNLISTED: Final = ""            # users who are not in the list count as one


class Counts(Protocol):
    """What the workers count together: each writes its own row of the board."""

    def count(self, index: int, change: int) -> int:
        """Change this worker's count at *index*; returns the sum over all workers."""

    def clear_counts(self, numbering: int) -> None:
        """Begin anew; only those who count by the same *numbering* are summed up."""


Key = tuple[str, str | None]      # a listener, and one of its users or all


def _numbering(keys: list[Key]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(keys).encode(), digest_size=8).digest(), "big", signed=True)


def limited(listeners: Iterable[Listener]) -> list[Key]:
    """What is limited, in an order that depends on the configuration alone."""
    keys: list[Key] = []
    for listener in listeners:
        if listener.max_connections:
            keys.append((listener.name, None))
        if listener.max_user_connections:
            keys += [(listener.name, name) for name in (UNLISTED, *(user.username for user in listener.users))]
    return keys


class Limits:
    """Of one worker. All workers number the same configuration alike."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._numbers: dict[Key, int] = {}
        self._held: Counter[Key] = Counter()

    def configure(self, listeners: Iterable[Listener]) -> None:
        """Number what is limited, and count what is held by the new numbers.

        Until all workers have done so each sums up those that have the same numbers: for a moment a limit may be
        missed, as it may while an earlier arbiter's sessions live that has other ones.
        """
        keys = limited(listeners)
        self._numbers = {key: number for number, key in enumerate(keys)}
        self._counts.clear_counts(_numbering(keys))
        for key, held in self._held.items():
            if (number := self._numbers.get(key)) is not None:
                self._counts.count(number, held)

    def take_listener(self, listener: Listener) -> Key:
        """One more client of *listener*; the key is to be given back. :raises ServerError: 53300 when it has enough."""
        return self._take((listener.name, None), listener.max_connections, "sorry, too many clients already",
                          f"max_connections of listener {listener.name} is {listener.max_connections}.")

    def take_user(self, listener: Listener, user: str) -> Key:
        """One more session of *user*; the key is to be given back. :raises ServerError: 53300."""
        listed = not listener.max_user_connections or listener.listed(user) is not None
        return self._take((listener.name, user if listed else UNLISTED), listener.max_user_connections,
                          f'too many connections for role "{user}"',
                          f"max_user_connections of listener {listener.name} is {listener.max_user_connections}.")

    def _take(self, key: Key, most: int, message: str, detail: str) -> Key:
        self._held[key] += 1
        number = self._numbers.get(key)
        total = self._counts.count(number, 1) if number is not None else 0
        if most and total > most:
            self.give_back(key)
            raise ServerError("53300", message, severity="FATAL", detail=detail)
        return key

    def give_back(self, key: Key) -> None:
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        if (number := self._numbers.get(key)) is not None:
            self._counts.count(number, -1)
