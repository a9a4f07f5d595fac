"""Ratios of one run: median and 95 % interval, as text."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from math import comb

from bench.contenders import DIRECT
from bench.workloads import Slice, Workload

Slices = Mapping[tuple[Workload, str], Sequence[Slice]]     # of each round, in order
HEADINGS = ("workload", "clients", "through", "TPS", "TPS ÷", "p50 ÷", "p99 ÷", "CPU/transaction ÷", "CPU s/1000",
            "MiB", "reads on replica")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The values between which the true median lies with 95 % probability, by order statistics.

    Assumes nothing about the distribution; below six values it is all of them, and the probability is less
    (five: 94 %, three: 75 %).
    """
    ordered, n = sorted(values), len(values)
    outside = 0
    while 2 * sum(comb(n, k) for k in range(outside + 1)) / 2 ** n <= 0.05:
        outside += 1
    cut = max(0, outside - 1)
    return ordered[cut], ordered[n - 1 - cut]


def rows(slices: Slices, baseline: str) -> list[tuple[str, ...]]:
    """One row a workload and contender, in the order of *slices*; ratios to *baseline*'s slice of the same round."""
    made: list[tuple[str, ...]] = []
    for (workload, name), found in slices.items():
        base = slices[workload, baseline]

        def ratio(of: Callable[[Slice], float | None], found: Sequence[Slice] = found,
                  base: Sequence[Slice] = base) -> str:
            pairs = [(of(ours), of(theirs)) for ours, theirs in zip(found, base, strict=True)]
            values = [ours / theirs for ours, theirs in pairs if ours is not None and theirs]
            if not values:
                return "–"
            low, high = interval(values)
            return f"{statistics.median(values):.2f} ({low:.2f}–{high:.2f})"

        cpu = [s.cpu for s in found if s.cpu is not None]
        memory = [s.memory for s in found if s.memory is not None]
        share = [s.on_replica for s in found if s.on_replica is not None]
        is_base = name == baseline
        made.append((
            workload.name, str(workload.clients), name, _number(statistics.median(s.tps for s in found)),
            "1" if is_base else ratio(lambda s: s.tps), "1" if is_base else ratio(lambda s: s.p50_ms),
            "1" if is_base else ratio(lambda s: s.p99_ms),
            "1" if is_base and baseline != DIRECT else ratio(lambda s: s.cpu),
            f"{1000 * statistics.median(cpu):.3f}" if cpu else "–",
            f"{statistics.median(memory) / 2**20:.0f}" if memory else "–",
            f"{100 * statistics.median(share):.0f} %" if share else "–"))
    return made


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def table(made: Sequence[Sequence[str]]) -> str:
    """A Markdown table that reads well as text, too."""
    widths = [max(map(len, column)) for column in zip(HEADINGS, *made, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(HEADINGS), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, made)])
