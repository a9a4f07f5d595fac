"""./run test, as far as which tests it runs and what it says of them."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import chain

import pytest

from tests.__main__ import asks_for_all, worst
from tests.conftest import PARTS, ROOT

BROWSER = "tests/admin/test_browser.py"


@pytest.mark.parametrize("arguments, all_of_them", [
    ([], True),
    (["-m", "not pg", "--durations=15"], True),
    (["-q"], True),
    (["tests/sql"], False),
    (["-k", "login"], False),
    (["-m", "pg", "tests/sql"], False),
    (["--pdb"], False),
    (["--lf"], False),
    (["-m"], False),
    (["--durations-of-something"], False),
])
def test_only_what_asks_for_all_tests_is_parted(arguments, all_of_them):
    assert asks_for_all(arguments) is all_of_them


@pytest.mark.parametrize("codes, code", [
    ((0, 0), 0), ((0, 1), 1), ((2, 0), 2), ((5, 0), 0), ((0, 5), 0), ((5, 5), 5), ((5, 1), 1), ((0, -9), 9)])
def test_one_bad_part_is_enough(codes, code):
    assert worst(codes) == code


def test_the_parts_are_the_whole():
    def collected(*arguments: str) -> list[str]:
        done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not relay",
                               "tests/process", BROWSER, *arguments], cwd=ROOT.parent, capture_output=True, text=True)
        return re.findall(r"^tests/.*::.*$", done.stdout, re.MULTILINE)

    whole = collected()
    parts = [collected("--part", part) for part in PARTS]
    assert len(whole) > 10 and sorted(chain(*parts)) == sorted(whole)
    assert sum(any(name.startswith(BROWSER) for name in part) for part in parts) == 1, "they share a browser"
    others = [sum(not name.startswith(BROWSER) for name in part) for part in parts]
    assert max(others) - min(others) <= 1
