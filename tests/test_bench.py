"""The arithmetic of bench/: what it reports must be what it measured."""

import os
import subprocess
import sys

import pytest

from bench import cpu, report
from bench.workloads import Slice, Workload
from tests.waiting import eventually


@pytest.mark.parametrize(("values", "expected"), [
    ([3.0], (3.0, 3.0)),
    ([2.0, 1.0, 3.0], (1.0, 3.0)),
    ([float(n) for n in range(6)], (0.0, 5.0)),         # 2 · 1/64 is outside: 96.9 %
    ([float(n) for n in range(8)], (0.0, 7.0)),         # 2 · 9/256 would be too much
    ([float(n) for n in range(9)], (1.0, 7.0)),         # 2 · 10/512 is not
])
def test_interval_by_order_statistics(values: list[float], expected: tuple[float, float]) -> None:
    assert report.interval(values) == expected


def test_ratios_are_to_the_same_round() -> None:
    workload = Workload("w", (), 1)
    slices = {
        (workload, "base"): [Slice(100, 2.0, 0.001, 0.0, 6.0, 2**20), Slice(1000, 4.0, 0.002, 0.0, 8.0, 2**20)],
        (workload, "ours"): [Slice(50, 4.0, 0.004, 0.9, 9.0, 2**23), Slice(500, 8.0, 0.008, 1.0, 12.0, 2**22)],
    }
    base, ours = report.rows(slices, "base")
    assert base == ("w", "1", "base", "550", "1", "1", "1", "1", "1.500", "1", "0 %")
    assert ours[3:] == ("275", "0.50 (0.50–0.50)", "2.00 (2.00–2.00)", "1.50 (1.50–1.50)", "4.00 (4.00–4.00)",
                        "6.000", "6", "95 %")


def test_cpu_is_of_the_whole_tree() -> None:
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    parent = subprocess.Popen([sys.executable, "-c", busy], start_new_session=True)
    try:
        eventually(lambda: cpu.seconds(parent.pid) > 0.3)
    finally:
        os.killpg(parent.pid, 9)
        parent.wait(60)
