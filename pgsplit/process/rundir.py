"""run_dir: the sockets of one instance lie in it, and a lock says whose it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from types import TracebackType
from typing import Final

from ..errors import PgSplitError
from .monitor import forget_old

PID_FILE: Final = "arbiter.pid"


class RunDir:
    """A context: the directory is made, and this process's own until it ends, however it ends.

    The lock lies on the directory itself (flock(2)): no file of a dead instance can be mistaken for one that lives,
    and systemd-tmpfiles leaves a locked directory in /tmp alone. Children must not inherit it
    (`children.close_descriptors`), but for the arbiter that is to take this one's place, which gets it as *locked*: the
    lock is held until both are gone, and who is named as its holder is the other one until `take`.

    :raises PgSplitError: naming the pid, where a living instance has it; or when it cannot be made, or is not ours
        alone: what listens there obeys without asking.
    """

    def __init__(self, path: str, locked: int | None = None) -> None:
        self._path = path
        self._locked = locked
        self.descriptor = -1

    def __enter__(self) -> RunDir:
        if self._locked is not None:
            self.descriptor = self._locked
            return self
        try:
            os.makedirs(self._path, mode=0o700, exist_ok=True)
            self.descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise PgSplitError(f"run_dir {self._path}: {error.strerror}") from None
        try:
            self._take()
        except BaseException:
            os.close(self.descriptor)
            raise
        return self

    def _take(self) -> None:
        status = os.fstat(self.descriptor)
        if status.st_uid != os.geteuid():
            raise PgSplitError(f"run_dir {self._path}: is not a directory of this user")
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.fchmod(self.descriptor, 0o700)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PgSplitError(f"run_dir {self._path}: pgsplit runs already, {self._holder()}; "
                               "two instances need a run_dir each") from None
        except OSError as error:
            raise PgSplitError(f"run_dir {self._path}: cannot be locked: {error.strerror}") from None
        try:
            forget_old(self._path)
            self.take()
        except OSError as error:
            raise PgSplitError(f"run_dir {self._path}: {error.strerror}") from None

    def take(self) -> None:
        """Say whose the lock is. :raises OSError:"""
        with open(os.path.join(self._path, PID_FILE), "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")

    def _holder(self) -> str:
        pid = self._pid()
        return f"pid {pid}" if pid else "and starts just now"

    def _pid(self) -> int:
        try:
            with open(os.path.join(self._path, PID_FILE), encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            return 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._pid() == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._path, PID_FILE))
        os.close(self.descriptor)
