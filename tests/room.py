"""Where the tests' servers lie: in memory, if there is room. To make their files on a disk takes six times as long."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgsplit.demo.guardian import Guardian

MEMORY = Path("/dev/shm")
ROOM = 6 << 30          # bytes that are to be free: a server keeps half a gigabyte of WAL


@contextmanager
def in_memory() -> Iterator[None]:
    """Temporary files lie in a new directory in memory, if there is room; it goes at the end, however that comes."""
    found = _directory()
    if found is None:
        yield
        return
    guardian = Guardian()
    guardian.watch_directory(found)
    os.environ["TMPDIR"] = tempfile.tempdir = str(found)
    try:
        yield
    finally:
        guardian.close()


def _directory() -> Path | None:
    """None: there is no room, or temporary files lie in memory already."""
    try:
        if MEMORY in Path(tempfile.gettempdir()).parents or min(shutil.disk_usage(MEMORY).free, _available()) < ROOM:
            return None
        found = Path(tempfile.mkdtemp(prefix="pgsplit-", dir=MEMORY))
    except OSError:
        return None
    found.chmod(0o755)      # PostgreSQL's account reaches it, too
    if _executes(found):
        return found
    found.rmdir()
    return None


def _available() -> int:
    [line] = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:")]
    return int(line.split()[1]) << 10


def _executes(directory: Path) -> bool:
    """Whether programs run there: it is mounted noexec in many containers."""
    program = directory / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    try:
        return subprocess.run([program], check=False).returncode == 0
    except OSError:
        return False
    finally:
        program.unlink()
