"""The results of all suites, as docs/conformance.md has them."""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance import outcome
from tests.conformance.servers import DIRECT, PGSPLIT
from tests.conformance.suites import Suite
from tests.conformance.trial import Trial


@dataclass(frozen=True)
class Difference:
    """A test that does not end as it does directly; ``why`` is empty where the suite's table does not explain it."""

    suite: Suite
    test: str
    way: str
    direct: str
    through: str

    @property
    def why(self) -> str:
        return self.suite.explained.get(self.test, "")

    def __str__(self) -> str:
        return f"{self.suite.name}: {self.test}: {self.direct} directly, {self.through} by {self.way}"


@dataclass(frozen=True)
class Result:
    """A suite's trials, one a way; the direct one is among them."""

    suite: Suite
    trials: Mapping[str, Trial]

    @property
    def differences(self) -> list[Difference]:
        direct = self.trials[DIRECT].outcomes
        return [Difference(self.suite, test, way, *pair)
                for way, trial in self.trials.items()
                for test, pair in outcome.differing(direct, trial.outcomes).items()]


def text(results: Sequence[Result]) -> str:
    """The page. All *results* have the same ways."""
    ways = list(results[0].trials)
    head = ["suite", *ways, "statements to the standby, to the primary"]
    table = [head, ["---"] * len(head), *(_row(result) for result in results)]
    lines = "\n".join("| " + " | ".join(row) + " |" for row in table)
    differences = "\n".join(f"* {each}. {each.why or 'Not explained.'}" for result in results
                            for each in result.differences)
    return f"""\
# Drivers' own tests

What passes on a direct connection passes through pgsplit (G1): here are the test-suites of other projects, as their
source distributions on PyPI have them. Each run has a fresh primary and standby, and pgsplit with the defaults of
[its settings](configuration.md) and TLS for clients; in "{ways[-1]}" nothing can be read from the standby.
`./run conformance --pure-primary --output docs/conformance.md` fetches the suites, runs them and writes this page;
asyncpg's and pg8000's run in CI.

{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {_commit()}, PostgreSQL {results[0].trials[DIRECT].postgresql}:

{lines}

## Tests that differ

{differences or "None."}

## Tests that fail directly, too

{_failing(results)}
"""


def _row(result: Result) -> list[str]:
    counts = result.trials[PGSPLIT].counts if PGSPLIT in result.trials else None
    return [f"{result.suite.name} {result.suite.version}",
            *(outcome.count(trial.outcomes) for trial in result.trials.values()),
            f"{counts.replica:,}, {counts.primary:,}" if counts else ""]


def _failing(results: Sequence[Result]) -> str:
    lines = [f"* {result.suite.name}: {test}"
             for result in results for test, ended in result.trials[DIRECT].outcomes.items() if ended == outcome.FAILED]
    return "\n".join(lines) or "None."


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True,
                          text=True, check=False)
    return done.stdout.strip() or "unknown"
