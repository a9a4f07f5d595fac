"""Whatever becomes of the demo or the tests, no server and no directory of theirs is left behind.

A guardian is a small process in a session of its own that holds the end of a pipe. When the pipe closes, because its
owner closed it or died in any way at all, it stops the processes it was told of and removes the directories. So there
is one way to clean up, and a `kill -9` takes it, too.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 15.0     # seconds between SIGQUIT (PostgreSQL: immediate shutdown; pgsplit: stop at once) and SIGKILL


class Guardian:
    """The owner's side: say what has to go; :meth:`close` makes it go and returns when it is gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, text=True,
                                         start_new_session=True, cwd="/")

    def watch_process(self, pid: int) -> None:
        self._tell(f"process {pid} {_started(pid)}")

    def watch_directory(self, path: Path) -> None:
        self._tell(f"directory {path}")

    def close(self) -> None:
        self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def _started(pid: int) -> str | None:
    """The start time in /proc/PID/stat (field 22), which tells a process from a later one of its pid; None: gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _serve() -> None:
    processes: dict[int, str] = {}
    directories: list[str] = []
    for line in sys.stdin:
        kind, _, rest = line.rstrip("\n").partition(" ")
        if kind == "process":
            pid, _, started = rest.partition(" ")
            processes[int(pid)] = started
        else:
            directories.append(rest)
    deadline = time.monotonic() + PATIENCE
    _signal(processes, signal.SIGQUIT)
    while _alive(processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    _signal(processes, signal.SIGKILL)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _alive(processes: dict[int, str]) -> list[int]:
    return [pid for pid, started in processes.items() if _started(pid) == started]


def _signal(processes: dict[int, str], signum: int) -> None:
    for pid in _alive(processes):
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    _serve()
