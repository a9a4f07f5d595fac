"""The sessions of a worker, found by the key that their clients cancel with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Protocol


class Cancellable(Protocol):
    def cancel(self) -> None:
        """Cancel what runs now, on whichever upstream it does; returns when the server has been told.

        The client takes the end of its CancelRequest's connection for that, and may then run the next statement.
        """


Key = tuple[int, bytes]


class Registry:
    """Keys are (process id, secret): the process id is the primary's, so that it means the same to SQL; the
    secret is 32 random bits of our own (DESIGN section 4, Identity).
    """

    def __init__(self) -> None:
        self._sessions: dict[Key, Cancellable] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Cancellable]:
        return iter(list(self._sessions.values()))

    def new_key(self, pid: int) -> Key:
        while (key := (pid, secrets.token_bytes(4))) in self._sessions:
            pass
        return key

    def add(self, key: Key, session: Cancellable) -> None:
        self._sessions[key] = session

    def remove(self, key: Key) -> None:
        self._sessions.pop(key, None)

    def cancel(self, key: Key) -> bool:
        """False when this worker has no session with that key."""
        session = self._sessions.get(key)
        if session is None:
            return False
        session.cancel()
        return True
