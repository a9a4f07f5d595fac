"""The pidfile: one instance for one file."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType

from ..errors import PgSplitError


class Pidfile:
    """A context: written on entry, removed on exit if it is still ours.

    *predecessor*: the pid of an arbiter whose place this one is to take; then the file is that one's until `take`.

    :raises PgSplitError: when the process that it names lives. A stale file is replaced.
    """

    def __init__(self, path: str, predecessor: int = 0) -> None:
        self._path = path
        self._predecessor = predecessor
        self._temporary = f"{path}.{os.getpid()}"

    def __enter__(self) -> Pidfile:
        other = self._read()
        if other and other not in (os.getpid(), self._predecessor) and _lives(other):
            raise PgSplitError(f"{self._path}: pgsplit runs already, pid {other}")
        try:
            with open(self._temporary, "w") as file:
                file.write(f"{os.getpid()}\n")
            if not self._predecessor:
                self.take()
        except OSError as error:
            raise PgSplitError(f"{self._path}: cannot write the pidfile: {error.strerror}") from None
        return self

    def take(self) -> None:
        os.replace(self._temporary, self._path)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._read() == os.getpid():
            os.unlink(self._path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)

    def _read(self) -> int:
        try:
            with open(self._path) as file:
                return int(file.read().strip() or 0)
        except (OSError, ValueError):
            return 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
