"""The results of all suites, and the part of docs/conformance.md that holds them."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgsplit.errors import PgSplitError
from tests.conformance import outcome
from tests.conformance.servers import DIRECT, PGSPLIT
from tests.conformance.suites import Suite
from tests.conformance.trial import Trial

BEGIN: Final = "<!-- results -->"
END: Final = "<!-- /results -->"


@dataclass(frozen=True)
class Difference:
    """A test that does not end as it does directly; ``why`` is empty where nobody has said it."""

    suite: Suite
    test: str
    way: str
    direct: str
    through: str
    why: str

    def __str__(self) -> str:
        return (f"{self.suite.name}: `{self.test}`: {self.direct} directly, {self.through} by {self.way}"
                + (f": {self.why}" if self.why else ""))


@dataclass(frozen=True)
class Result:
    """A suite's trials, one a way; the direct one is among them. ``again`` is a second direct one, if need was."""

    suite: Suite
    trials: Mapping[str, Trial]
    again: Trial | None = None

    @property
    def differences(self) -> list[Difference]:
        direct = self.trials[DIRECT].outcomes
        unsteady = outcome.differing(direct, self.again.outcomes) if self.again else {}
        why = {**dict.fromkeys(unsteady, "unsteady: two direct runs differ in it, too"), **self.suite.explained}
        return [Difference(self.suite, test, way, *pair, why.get(test, ""))
                for way, trial in self.trials.items()
                for test, pair in outcome.differing(direct, trial.outcomes).items()]

    @property
    def unexplained(self) -> list[Difference]:
        return [difference for difference in self.differences if not difference.why]


def write(page: Path, results: Sequence[Result]) -> None:
    """Put *results*, all of the same ways, between the marks of *page*: the rest is written by hand.

    PgSplitError where the page has no such marks.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise PgSplitError(f"{page} has no line {BEGIN}, and {END} after it")
    page.write_text(f"{before}{begin}\n{_text(results)}{end}{after}")


def _text(results: Sequence[Result]) -> str:
    ways = list(results[0].trials)
    head = ["suite", *ways, "statements to the standby, to the primary"]
    table = [head, ["---"] * len(head), *(_row(result) for result in results)]
    lines = "\n".join("| " + " | ".join(row) + " |" for row in table)
    differences = "\n".join(f"* {each}" for result in results for each in result.differences)
    return f"""\

{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {_commit()}, PostgreSQL {results[0].trials[DIRECT].postgresql}, \
Python {platform.python_version()}:

{lines}

These differ:

{differences or "* none"}

These fail directly as well:

{_failing(results) or "* none"}

"""


def _row(result: Result) -> list[str]:
    counts = result.trials[PGSPLIT].counts if PGSPLIT in result.trials else None
    return [f"{result.suite.name} {result.suite.version}",
            *(outcome.count(trial.outcomes) for trial in result.trials.values()),
            f"{counts.replica:,}, {counts.primary:,}" if counts else ""]


def _failing(results: Sequence[Result]) -> str:
    lines = [f"* {result.suite.name}: `{test}`"
             for result in results for test, ended in result.trials[DIRECT].outcomes.items() if ended == outcome.FAILED]
    return "\n".join(lines)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True,
                          text=True, check=False)
    return done.stdout.strip() or "unknown"
