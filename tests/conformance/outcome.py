"""What became of each test of a run, and how two runs differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"
MISSING: Final = "not run"
_WORST: Final = (PASSED, SKIPPED, FAILED)
_OUTCOME: Final = {"failure": FAILED, "error": FAILED, "skipped": SKIPPED}

Outcomes = Mapping[str, str]


def read(junit: Path) -> dict[str, str]:
    """Test -> outcome, from pytest's junit file. A test that is told of more than once (its teardown, its subtests)
    has the worst.
    """
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        module = re.sub(r"^.*\.source\.", "", case.get("classname") or "")       # where pytest's root is above
        test = f"{module}::{case.get('name')}"
        outcome = next((_OUTCOME[part.tag] for part in case if part.tag in _OUTCOME), PASSED)
        outcomes[test] = max(outcome, outcomes.get(test, PASSED), key=_WORST.index)
    return outcomes


def count(outcomes: Outcomes) -> str:
    found = Counter(outcomes.values())
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in _WORST if found[outcome])


def differing(direct: Outcomes, through: Outcomes) -> dict[str, tuple[str, str]]:
    """Test -> what became of it directly, and through pgsplit, where the two are not the same."""
    return {test: pair for test in sorted({*direct, *through})
            if (pair := (direct.get(test, MISSING), through.get(test, MISSING)))[0] != pair[1]}
