"""Processes that stand still."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pgsplit.demo.server import Server


@contextmanager
def standing_still(*pids: int) -> Iterator[None]:
    """They go on behind it, those that have not been killed meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """All of a server's processes stand still, as a paused virtual machine does."""
    assert server._process is not None
    parent = server._process.pid
    pids = [parent]
    with standing_still(parent):            # first: it starts no more
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    pids.append(int(entry.name))
        with standing_still(*pids):
            yield
