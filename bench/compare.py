"""Compare pgsplit with PgBouncer in session mode, with a direct connection, and with other proxies that are installed.

Everything runs on this machine, in alternation: in each round, for each workload, a short slice of pgbench through
each contender, in random order. What is reported are ratios to PgBouncer's slice of the same round.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import secrets
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from bench import contenders, cpu, report, workloads
from bench.contenders import DIRECT, PGBOUNCER, Bench, Contender, NotHere
from pgsplit.demo import account
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from pgsplit.errors import PgSplitError

RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    args = _arguments()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    role = Role("bench", secrets.token_hex(8))
    try:
        with PrimaryAndStandbys([role], superuser_password=secrets.token_hex(8), standbys=1, say=_say) as servers:
            args.commit, args.postgresql = _commit(), servers.installation.version
            bench = Bench(servers, role, account.choose(), args.workers)
            workloads.initialize(bench)
            for standby in servers.standbys:
                standby.delay_replay(args.delay)
            found = _start(bench, args.only)
            before = cpu.of_machine(), cpu.seconds(os.getpid())
            slices = _measure(bench, found, args)
            everybody, ours = cpu.of_machine() - before[0], cpu.seconds(os.getpid()) - before[1]
            baseline = PGBOUNCER if any(c.name == PGBOUNCER for c in found) else DIRECT
            text = _text(found, slices, baseline, args, others=max(0.0, 1 - ours / everybody))
    except PgSplitError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(text)
    if args.output:
        args.output.write_text(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the workloads with 8 clients, two rounds of 2 s")
    parser.add_argument("--seconds", type=int, metavar="N", help="length of a slice (4), after a second of warming up")
    parser.add_argument("--rounds", type=int, metavar="N", help="(6)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="pgsplit's worker processes (2)")
    parser.add_argument("--delay", type=int, default=0, metavar="MS",
                        help="have the standby replay so late (recovery_min_apply_delay)")
    parser.add_argument("--workload", metavar="NAME", help="only those whose name has NAME in it")
    parser.add_argument("--only", metavar="NAME,…", type=lambda text: text.split(","),
                        help=f"some of {', '.join(start.__name__ for start in contenders.ALL)}")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help=f"write the report here (bench/{RESULTS.name}; with less than all: nowhere)")
    args = parser.parse_args()
    args.workloads = workloads.QUICK if args.quick else workloads.ALL
    if args.workload:
        args.workloads = [workload for workload in args.workloads if args.workload in workload.name]
    args.seconds = args.seconds or (2 if args.quick else 4)
    args.rounds = args.rounds or (2 if args.quick else 6)
    if args.output is None and not (args.quick or args.only or args.workload or args.delay):
        args.output = RESULTS
    return args


def _start(bench: Bench, only: list[str] | None) -> list[Contender]:
    found = []
    for start in contenders.ALL:
        if only and start.__name__ not in only:
            continue
        try:
            found.append(start(bench))
        except NotHere as missing:
            _say(str(missing))
        else:
            _say(f"{found[-1].name} {found[-1].version} on port {found[-1].port}")
    if not any(contender.name in (PGBOUNCER, DIRECT) for contender in found):
        raise PgSplitError("nothing to compare with: --only must leave pgbouncer or direct")
    return found


def _measure(bench: Bench, found: list[Contender], args: argparse.Namespace) -> report.Slices:
    slices: dict[tuple[workloads.Workload, str], list[workloads.Slice]] = {
        (workload, contender.name): [] for workload in args.workloads for contender in found}
    for number in range(1, args.rounds + 1):
        for workload in args.workloads:
            measured = defaultdict(str)
            for contender in random.sample(found, len(found)):
                result = workloads.measure(bench, contender, workload, args.seconds)
                slices[workload, contender.name].append(result)
                measured[contender.name] = f"{contender.name} {result.tps:,.0f}"
            _say(f"round {number}: {workload.name}, {workload.clients} clients, TPS: "
                 + ", ".join(measured[contender.name] for contender in found))
    return slices


def _text(found: list[Contender], slices: report.Slices, baseline: str, args: argparse.Namespace,
          others: float) -> str:
    versions = ", ".join(f"{contender.name} {contender.version}" for contender in found if contender.name != DIRECT)
    sure = "its 95 % interval (order statistics)" if args.rounds >= 6 else "the range: too few rounds for 95 %"
    return f"""\
# pgsplit beside other ways to PostgreSQL

`./run bench compare` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d} at commit {args.commit}, {_machine()}.
{versions}; PostgreSQL {args.postgresql}, a primary and a streaming
standby on the same machine, which all programs share with pgbench. pgsplit with {args.workers} workers and
`consistency: global`, PgBouncer in session mode. Clear text, SCRAM-SHA-256.

{args.rounds} rounds of {args.seconds} s slices in random order. "÷" columns are ratios to {baseline}'s slice of the
same round: the median, and in parentheses {sure}. CPU is user and system
time of the proxy's whole process tree; "CPU s/1000" is its seconds a thousand transactions. "Reads on replica" is the
share of SELECTs that the standby ran, from the servers' own pg_stat_statements. Of the CPU time that the machine spent
meanwhile, {100 * others:.0f} % was that of programs that had nothing to do with this.

{report.table(report.rows(slices, baseline))}
"""


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS.parent, capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() or "unknown"


def _machine() -> str:
    try:
        model = next(line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                     if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    return (f"{os.cpu_count()} cores ({model}), Linux {platform.release().split('-')[0]}, "
            f"Python {platform.python_version()}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
