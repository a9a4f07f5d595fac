"""Which share of an application's reads do replicas serve, and what is left on the primary?

Real clients run on a primary and a standby of this command's own: directly, through pgsplit with its defaults, and
through pgpool-II if it is installed (Debian: apt-get install pgpool2). What each server ran is told by its
pg_stat_statements.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from bench.offload import table
from bench.offload.clients import pgjdbc
from bench.offload.measuring import Report, Wishes, measure
from bench.offload.workloads import ALL, BY_NAME
from pgsplit.errors import PgSplitError

QUICK_ROUNDS = 20


def main() -> int:
    args = _arguments()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    workloads = [BY_NAME[name] for name in args.only] if args.only else ALL
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else None)
    wishes = Wishes(workloads, rounds, not args.no_pgpool, args.fence_wait, args.jdbc)
    try:
        report = measure(wishes, _say)
    except PgSplitError as error:
        print(f"offload: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if args.verbose:
        for row in report.rows:
            print(f"{row.workload.name}:\n{table.details(row)}", file=sys.stderr)
    print((_heading(report, wishes) if args.markdown else "") + table.markdown(report))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run offload", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of each")
    parser.add_argument("--rounds", type=int, metavar="N", help="of each (by workload: 200)")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=BY_NAME, help=f"some of {', '.join(BY_NAME)}")
    parser.add_argument("--no-pgpool", action="store_true", help="leave pgpool-II out")
    parser.add_argument("--fence-wait", metavar="TIME", help="pgsplit's fence_wait, for its default (5ms): tells how "
                        "many reads went to the primary because the standby was late")
    parser.add_argument("--jdbc", type=Path, metavar="FILE", help=f"pgjdbc's jar ({pgjdbc.USUAL})")
    parser.add_argument("--verbose", action="store_true",
                        help="also all of pgsplit's reasons, and each statement that the primary ran")
    parser.add_argument("--markdown", action="store_true", help="with a heading, as docs/off-load.md has it")
    return parser.parse_args()


def _heading(report: Report, wishes: Wishes) -> str:
    packages = sorted({row.workload.package for row in report.rows if row.workload.package and row.tallies})
    clients = [f"{name} {metadata.version(name)}" for name in packages]
    if any(row.tallies and row.workload.client.startswith("pgjdbc.") for row in report.rows):
        clients.append(f"pgjdbc {pgjdbc.version(wishes.jdbc or pgjdbc.USUAL)}")
    fence_wait = f", fence_wait {wishes.fence_wait}" if wishes.fence_wait else ""
    return f"""\
{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {_commit()}, Python {platform.python_version()}, \
{os.cpu_count()} cores{fence_wait}. Of the CPU time that the machine spent meanwhile,
{100 * report.others:.0f} % was that of programs that had nothing to do with this.
Clients: {', '.join(clients) or 'pgbench'}. """


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True,
                          text=True, check=False)
    return done.stdout.strip() or "unknown"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
