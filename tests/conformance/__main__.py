"""Drivers' own test-suites: the same tests pass directly and through pgsplit.

Each run has a primary, a standby and a pgsplit of its own. A test that does not end as it does directly is printed; the
exit code is 1 if suites.py does not explain it. Logs and junit files are in .cache/conformance/SUITE-VERSION/WAY.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pgsplit.errors import PgSplitError
from tests.conformance import outcome, report, trial
from tests.conformance.report import Result
from tests.conformance.servers import DIRECT, PGSPLIT, PRIMARY_ONLY
from tests.conformance.suites import ALL, Suite


def main() -> int:
    args = _arguments()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    ways = [DIRECT, PGSPLIT, *([PRIMARY_ONLY] if args.pure_primary else [])]
    try:
        results = [_run(ALL[name], ways, args.pytest) for name in args.suites or ALL]
    except PgSplitError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if args.output:
        args.output.write_text(report.text(results))
    unexplained = [each for result in results for each in result.differences if not each.why]
    print("the same tests pass" if not unexplained else f"{len(unexplained)} tests differ, and nobody has said why")
    return 1 if unexplained else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run conformance", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", choices=[*ALL, []], help=f"{', '.join(ALL)}; all of them")
    parser.add_argument("--pure-primary", action="store_true", help="once more, with no standby to read from")
    parser.add_argument("--pytest", action="append", default=[], metavar="ARG",
                        help="an argument for pytest: --pytest=-kcopy")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the results as a page")
    return parser.parse_args()


def _run(suite: Suite, ways: Sequence[str], arguments: Sequence[str]) -> Result:
    trials = {}
    for way in ways:
        start = time.monotonic()
        trials[way] = trial.run(suite, way, arguments)
        print(f"{suite.name} {suite.version}, {way}: {outcome.count(trials[way].outcomes)} "
              f"in {time.monotonic() - start:.0f} s", flush=True)
    result = Result(suite, trials)
    for difference in result.differences:
        print(f"  {difference}{': ' if difference.why else ''}{difference.why}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
