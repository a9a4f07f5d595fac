"""docs/troubleshooting.md has every error that pgsplit makes, and none that it does not make."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from pgsplit.stats.offload import KEPT
from tests.error_texts import OPEN, Error, errors, reasons

PAGE = (Path(__file__).resolve().parents[1] / "docs/troubleshooting.md").read_text()
ROW = re.compile(r"^\| (ERROR|FATAL) (\w{5}) \| `([^`]+)` \| [^|]*\| [^|]*\|$", re.MULTILINE)
REASONS = {"no-replica": {"NoReplica"}, "lost": {"ConnectionLost"}, "unanswered": {"Unanswered"}}


def part(name: str) -> str:
    """Between the page's marks of *name*."""
    _, between, _ = re.split(rf"<!-- /?{name} -->\n", PAGE)
    return between


def opened(text: str) -> str:
    """As `error_texts` has it: what is put in left open."""
    return re.sub(r"<[^>]*>", OPEN, text)


def first_cells(name: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", part(name), re.MULTILINE)


def test_every_error_is_told_and_none_besides() -> None:
    told = Counter(Error(severity, sqlstate, opened(text)) for severity, sqlstate, text in ROW.findall(part("errors")))
    assert set(told) == errors()
    assert [error for error, times in told.items() if times > 1] == []


def test_every_row_of_an_error_is_one() -> None:
    """None is left out by the way in which rows are read here."""
    rows = [line for line in part("errors").splitlines() if line.startswith("|")]
    heads = [line for line in rows if line.startswith(("| code ", "|---"))]
    assert len(rows) - len(heads) == len(ROW.findall(part("errors"))) > 90


@pytest.mark.parametrize("name", REASONS)
def test_every_reason_is_told_and_none_besides(name: str) -> None:
    told = [opened(text) for text in first_cells(name)]
    assert len(told) == len(set(told))
    assert set(told) == reasons(REASONS[name])


def test_every_group_of_reads_that_are_kept_has_a_remedy() -> None:
    told = first_cells("remedies")
    assert len(told) == len(set(told))
    assert set(told) == {group.name for group in KEPT}


@pytest.mark.parametrize("error", [
    Error("FATAL", "53300", "sorry, too many clients already"),                     # by a parameter of the function
    Error("FATAL", "57P03", "the primary cannot be asked for users now"),           # by a class's own __init__
    Error("FATAL", "57P03", "the server cannot be reached"),                       # by a name with two values
    Error("FATAL", "08006", f"the connection to the {OPEN} was lost: {OPEN}"),      # by two parameters
    Error("ERROR", "22023", f'invalid value for parameter "pgsplit.min_lsn": "{OPEN}"'),
])
def test_the_source_is_read_as_it_is_written(error: Error) -> None:
    assert error in errors()
