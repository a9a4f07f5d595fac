"""What each level of consistency costs: the share of reads that the standby serves, and what waiting for it costs.

90 % reads and 10 % writes by 16 clients, each transaction its own, in alternation: in each round a short slice of
pgbench through each level's pgsplit, in random order. Ratios are to "eventual", which never waits, in the same round.
"""

from __future__ import annotations

import argparse
import random
import secrets
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

LEVELS = ("eventual", "session", "global")
MIXED = Workload("90 % reads", ("-b", "select-only@9", "-f", f"{HERE / 'write.sql'}@1", "-D", f"scale={SCALE}"), 16)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench consistency", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=4, help="of a slice (4)")
    args = parser.parse_args()
    role = Role("bench", secrets.token_hex(8))
    slices: dict[str, list[Slice]] = defaultdict(list)
    try:
        with PrimaryAndStandbys([role], superuser_password=secrets.token_hex(8), standbys=1) as servers:
            bench = Bench(servers, role, account.choose(), 2)
            workloads.initialize(bench)
            found = {level: contenders.pgsplit(bench, level, level) for level in LEVELS}
            for number in range(1, args.rounds + 1):
                for level in random.sample(LEVELS, len(LEVELS)):
                    slices[level].append(workloads.measure(bench, found[level], MIXED, args.seconds))
                print(f"round {number}; standby behind by {', '.join(lags(servers).values())}", file=sys.stderr)
    except PgSplitError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print("| consistency | reads on the standby | TPS ÷ | p50 ÷ | CPU a transaction ÷ |\n|---|---|---|---|---|")
    for level in LEVELS:
        share = statistics.median(each.on_replica or 0.0 for each in slices[level])
        ratios = [_ratio(slices[level], slices["eventual"], name) for name in ("tps", "p50_ms", "cpu")]
        print(f"| {level} | {share:.0%} | " + " | ".join(ratios) + " |")
    return 0


def _ratio(slices: list[Slice], base: list[Slice], name: str) -> str:
    found = [getattr(one, name) / getattr(other, name) for one, other in zip(slices, base, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"


if __name__ == "__main__":
    sys.exit(main())
