"""The pidfile: one instance for one file."""

from __future__ import annotations

import os
from types import TracebackType

from ..errors import PgSplitError


class Pidfile:
    """A context: written on entry, removed on exit if it is still ours.

    :raises PgSplitError: when the process that it names lives. A stale file is replaced.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> Pidfile:
        other = self._read()
        if other and other != os.getpid() and _lives(other):
            raise PgSplitError(f"{self._path}: pgsplit runs already, pid {other}")
        temporary = f"{self._path}.{os.getpid()}"
        try:
            with open(temporary, "w") as file:
                file.write(f"{os.getpid()}\n")
            os.replace(temporary, self._path)
        except OSError as error:
            raise PgSplitError(f"{self._path}: cannot write the pidfile: {error.strerror}") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._read() == os.getpid():
            os.unlink(self._path)

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
