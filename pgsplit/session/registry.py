"""The sessions of a worker, found by the key that their clients cancel with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Final, Protocol

from ..wire.startup import PROTOCOL_3_2

SECRET: Final = 4           # bytes
LONG_SECRET: Final = 32     # the server's, where the session speaks 3.2


class Cancellable(Protocol):
    def cancel(self) -> bool:
        """End the statement that runs now, wherever it runs or waits; returns when the server has been told, and
        whether there was one.

        The client takes the end of its CancelRequest's connection for that, and may then run the next statement.
        """


Key = tuple[int, bytes]


class Registry:
    """Keys are (process id, secret): the process id is the primary's, so that it means the same to SQL; the
    secret is random and our own, 4 bytes long or, where the client takes longer ones, 32.
    """

    def __init__(self) -> None:
        self._sessions: dict[Key, Cancellable] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Cancellable]:
        return iter(list(self._sessions.values()))

    def new_key(self, pid: int, protocol: int) -> Key:
        size = LONG_SECRET if protocol >= PROTOCOL_3_2 else SECRET
        while (key := (pid, secrets.token_bytes(size))) in self._sessions:
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
