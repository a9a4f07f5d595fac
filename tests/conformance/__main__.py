"""Drivers' own test-suites: the same tests pass directly and through pgsplit.

Each run has a primary, a standby and a pgsplit of its own. Every test that does not end as it does directly is printed;
the exit code is 1 if suites.py does not explain it, unless it is unsteady: two direct runs differ in it, too. Logs and
junit files are in .cache/conformance/SUITE-VERSION/WAY.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pgsplit.errors import PgSplitError
from tests.conformance import outcome, postgresql, report, trial
from tests.conformance.postgresql import POSTGRESQL
from tests.conformance.report import Result
from tests.conformance.servers import DIRECT, PGSPLIT, PRIMARY_ONLY
from tests.conformance.suites import ALL, Suite
from tests.conformance.trial import Trial


def main() -> int:
    args = _arguments()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    ways = [DIRECT, PGSPLIT, *([PRIMARY_ONLY] if args.pure_primary else [])]
    try:
        results = [_run(_tester(name, args), ways) for name in args.suites or ALL]
        if args.output:
            report.write(args.output, results)
    except PgSplitError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    unexplained = sum(len(result.unexplained) for result in results)
    print("the same tests pass" if not unexplained else f"{unexplained} tests differ, and nobody has said why")
    return 1 if unexplained else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run conformance", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", choices=[*ALL, POSTGRESQL.name, []],
                        help=f"{', '.join(ALL)}; all of them. Or {POSTGRESQL.name}, with --source")
    parser.add_argument("--source", type=Path, metavar="DIR", help="PostgreSQL's source, of the server's version")
    parser.add_argument("--pure-primary", action="store_true", help="once more, with no standby to read from")
    parser.add_argument("--pytest", action="append", default=[], metavar="ARG",
                        help="an argument for pytest: --pytest=-kcopy")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help="write the results into a page, between its two marks")
    args = parser.parse_args()
    if POSTGRESQL.name in args.suites and not args.source:
        parser.error(f"{POSTGRESQL.name} needs --source")
    return args


def _tester(name: str, args: argparse.Namespace) -> tuple[Suite, Callable[[str], Trial]]:
    """A suite, and what runs it by a given way."""
    if name == POSTGRESQL.name:
        return POSTGRESQL, lambda way: postgresql.run(args.source, way)
    return ALL[name], lambda way: trial.run(ALL[name], way, args.pytest)


def _run(tester: tuple[Suite, Callable[[str], Trial]], ways: Sequence[str]) -> Result:
    suite, run = tester
    result = Result(suite, {way: _try(suite, way, run) for way in ways})
    if result.unexplained:
        print("  something differs: are the tests themselves steady?")
        result = replace(result, again=_try(suite, DIRECT, run))
    for difference in result.differences:
        print(f"  {difference}", flush=True)
    return result


def _try(suite: Suite, way: str, run: Callable[[str], Trial]) -> Trial:
    start = time.monotonic()
    ended = run(way)
    counts = ended.counts
    sent = f"; statements to the standby {counts.replica:,}, to the primary {counts.primary:,}" if counts else ""
    print(f"{suite.name} {suite.version}, {way}: {outcome.count(ended.outcomes)} "
          f"in {time.monotonic() - start:.0f} s{sent}", flush=True)
    return ended


if __name__ == "__main__":
    sys.exit(main())
