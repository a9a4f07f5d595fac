"""The same statements directly and through pgsplit, by every protocol's way: answers are compared byte by byte.

A mixture is drawn from pool.sql by its seed; the standby's replay is paused and resumed at random meanwhile. What
differs is shortened to a script that shows it; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pgsplit.demo.counts import Counts
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from tests.conftest import default_configuration
from tests.differential.replay import replay_that_stutters
from tests.differential.runner import USER, Runner
from tests.differential.script import Step, corpus, mixture

LENGTH = 200        # statements of a mixture


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run differential", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.randrange(10000), help="of the first mixture")
    parser.add_argument("--statements", type=int, default=4000, help="of mixtures, in all (4000)")
    parser.add_argument("--corpus", nargs="*", metavar="FILE",
                        help="instead, files of PostgreSQL's regression suite as the corpus has them (all)")
    parser.add_argument("--no-delay", action="store_true", help="the standby's replay is let alone")
    args = parser.parse_args()
    scripts = [(f"seed {seed}", mixture(seed, LENGTH))
               for seed in range(args.seed, args.seed + -(-args.statements // LENGTH))]
    if args.corpus is not None:
        scripts = [(name, steps) for name, steps in corpus(args.seed) if name in args.corpus or not args.corpus]
    with (PrimaryAndStandbys([Role(USER, None, "trust")], superuser_password="postgres-secret") as cluster,
          tempfile.TemporaryDirectory(prefix="pgsplit-") as directory):
        cluster.primary.query(f"alter role {USER} superuser")
        proxy = Proxy(Path(directory), configuration(cluster), cluster.guardian)
        proxy.start()
        try:
            with replay_that_stutters(cluster, args.seed, enabled=not args.no_delay):
                return _compare(Runner(cluster, proxy.port), scripts, proxy)
        finally:
            proxy.stop()


def configuration(cluster: PrimaryAndStandbys) -> dict[str, Any]:
    """Reads rather wait for the standby than go to the primary, so that more can go wrong."""
    return default_configuration(cluster) | {"pgsplit": {"workers": 1, "fence_wait": "2s"}}


def _compare(runner: Runner, scripts: list[tuple[str, list[Step]]], proxy: Proxy) -> int:
    failed = 0
    for name, script in scripts:
        started = time.monotonic()
        found = runner.check(script)
        seconds = time.monotonic() - started
        print(f"{name}: {len(script)} steps in {seconds:.1f} s", "DIFFER" if found else "", flush=True)
        if found is not None:
            failed += 1
            print(f"{runner.shortened(found)}\n", flush=True)
    counts = Counts.of(proxy.client.arbiter("totals"))
    print(f"{runner.steps} steps, {failed} scripts differ, {runner.unsteady} steps left out whose answer differs from "
          f"run to run; pgsplit sent {counts.replica} statements to the standby, {counts.primary} to the primary")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
