"""What each level of consistency costs: the share of reads that the standby serves, and what waiting for it costs.

Reads alone, and 90 % reads with 10 % writes, each transaction its own, in alternation: in each round a short slice of
pgbench through each level's pgsplit, in random order, and through PgBouncer where it is installed. Ratios are to
"global", the default, in the same round.
"""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import statistics
import sys
from collections import defaultdict

from bench import contenders, workloads
from bench.contenders import Bench
from bench.workloads import HERE, SCALE, Slice, Workload
from pgsplit.demo import account
from pgsplit.demo.counts import lags
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from pgsplit.errors import PgSplitError

LEVELS = ("eventual", "session", "bounded", "global", "cluster")
BASE = "global"
WORKLOADS = (
    Workload("-S", ("-S",), 1), Workload("-S", ("-S",), 16),
    Workload("90 % reads", ("-b", "select-only@9", "-f", f"{HERE / 'write.sql'}@1", "-D", f"scale={SCALE}"), 16),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench consistency", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=4, help="of a slice (4)")
    parser.add_argument("--fence-wait", default="50ms", help="so that the replica is the one that answers (50ms)")
    parser.add_argument("--only", nargs="+", choices=LEVELS, default=LEVELS, help=f"these, and {BASE}")
    args = parser.parse_args()
    role = Role("bench", secrets.token_hex(8))
    settings = {"workers": 2, "fence_wait": args.fence_wait}
    slices: dict[tuple[Workload, str], list[Slice]] = defaultdict(list)
    try:
        with PrimaryAndStandbys([role], superuser_password=secrets.token_hex(8), standbys=1) as servers:
            bench = Bench(servers, role, account.choose(), 2)
            workloads.initialize(bench)
            found = {level: contenders.pgsplit(bench, level, level, pgsplit=settings) for level in {BASE, *args.only}}
            if shutil.which("pgbouncer"):
                found["PgBouncer"] = contenders.pgbouncer(bench)
            for number in range(1, args.rounds + 1):
                for workload in WORKLOADS:
                    for name in random.sample(list(found), len(found)):
                        slices[workload, name].append(workloads.measure(bench, found[name], workload, args.seconds))
                print(f"round {number}; standby behind by {', '.join(lags(servers).values())}", file=sys.stderr)
    except PgSplitError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print("| workload | clients | consistency | reads on the standby | p50, ms | TPS ÷ | p50 ÷ | CPU a transaction ÷ |"
          "\n|---|---|---|---|---|---|---|---|")
    for workload in WORKLOADS:
        for name in [name for name in (*LEVELS, "PgBouncer") if name in found]:
            taken, base = slices[workload, name], slices[workload, BASE]
            share = statistics.median(each.on_replica or 0.0 for each in taken)
            ratios = [_ratio(taken, base, what) for what in ("tps", "p50_ms", "cpu")]
            print(f"| {workload.name} | {workload.clients} | {name} | {share:.0%} | "
                  f"{statistics.median(each.p50_ms for each in taken):.2f} | " + " | ".join(ratios) + " |")
    return 0


def _ratio(slices: list[Slice], base: list[Slice], name: str) -> str:
    found = [getattr(one, name) / getattr(other, name) for one, other in zip(slices, base, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"


if __name__ == "__main__":
    sys.exit(main())
