"""What a process and all that descend from it have cost, from /proc (proc(5))."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def seconds(root: int) -> float:
    """User and system time of process *root*, of its living descendants, and of those that were reaped."""
    ticks, children = _processes()
    return sum(ticks.get(pid, 0) for pid in _tree(root, children)) / TICKS_A_SECOND


def tree(root: int) -> list[int]:
    """*root* and all that descend from it."""
    return _tree(root, _processes()[1])


def memory(root: int) -> int:
    """Bytes of PSS of *root* and all that descend from it: what they share counts once (proc(5), smaps_rollup)."""
    total = 0
    for pid in tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def _processes() -> tuple[dict[int, int], dict[int, list[int]]]:
    """Ticks that each process has spent, and each one's children."""
    children: dict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()    # the command may hold spaces: count from behind it
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(stat.parent.name)
        children[int(fields[1])].append(pid)
        ticks[pid] = sum(map(int, fields[11:15]))       # utime, stime, and cutime, cstime of reaped children
    return ticks, children


def _tree(root: int, children: dict[int, list[int]]) -> list[int]:
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children[found[-1]]
    return found


def of_machine() -> float:
    """Seconds that all CPUs have worked since boot, for whomever."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + irq + softirq) / TICKS_A_SECOND
