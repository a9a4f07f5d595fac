"""Where the tests' servers lie: in memory, if there is room. To make their files on a disk takes six times as long."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 6 << 30          # bytes that are to be free: a server keeps half a gigabyte of WAL


def take() -> Path | None:
    """A new directory in memory, which is the one for temporary files from now on.

    None, and all is as it was: there is no room, or it is in memory already.
    """
    try:
        if MEMORY in Path(tempfile.gettempdir()).parents or min(shutil.disk_usage(MEMORY).free, _available()) < ROOM:
            return None
        found = Path(tempfile.mkdtemp(prefix="pgsplit-", dir=MEMORY))
    except OSError:
        return None
    found.chmod(0o755)      # PostgreSQL's account reaches it, too
    if not _executes(found):
        leave(found)
        return None
    os.environ["TMPDIR"] = tempfile.tempdir = str(found)
    return found


def leave(found: Path) -> None:
    shutil.rmtree(found, ignore_errors=True)


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
