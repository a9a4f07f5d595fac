"""How many file descriptors a process has, and may have: proc(5), which its own user may read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Descriptors(NamedTuple):
    opened: int
    most: float         # may be infinite


def of_process(pid: int) -> Descriptors | None:
    """None for a process that has ended, or that is not to be looked into."""
    process = Path("/proc", str(pid))
    try:
        opened = (process / "fd").stat().st_size or len(os.listdir(process / "fd"))      # a size: Linux 6.2
        [line] = [line for line in (process / "limits").read_text().splitlines() if line.startswith("Max open files")]
        soft = line.split()[3]
    except (OSError, ValueError):
        return None
    return Descriptors(opened, float("inf") if soft == "unlimited" else float(soft))
