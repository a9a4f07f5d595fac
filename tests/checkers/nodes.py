"""Freshness beyond one node (G3): two pgsplits and clients of the primary itself, while replay is paused at random.

Each counter is written through one node, through the other, or on the primary beside both, and read through a node that
has nothing to do with the write. Under cluster no read may be stale; under bounded none may lack what was acknowledged
longer ago than max_staleness, or show less than its session has seen. As under global, and eventual, some must be.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from pgsplit.demo.counts import Counts
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from tests.checkers.crew import Crew
from tests.checkers.fence import USER, replay_that_lags
from tests.conftest import default_configuration

PAIRS = 8                # of a writer and a reader
STEPS = 40               # of two connections; then others take their place
READS = 3                # behind a write
STALENESS = 0.25         # seconds, of `bounded`
# As what is checked -> under which consistency: the second of each must be found stale, or nothing could be.
CASES = {"cluster": "cluster", "cluster, of global": "global", "bounded": "bounded", "bounded, of eventual": "eventual"}

Session = psycopg.Connection[Any]


@dataclass
class Findings:
    case: str
    writes: int = 0
    reads: int = 0
    pairs: int = 0             # reads that had to show some write
    stale: int = 0
    backwards: int = 0         # showed less than their session had seen
    examples: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    on_replica: float = 0.0

    @property
    def good(self) -> bool:
        wrong = self.stale + self.backwards
        return (wrong > 0 if " of " in self.case else wrong == 0) and not self.failures and (
            self.on_replica > 0.1 and self.reads > 100)

    def __str__(self) -> str:
        return (f"{self.case}: {self.writes:,} writes, {self.reads:,} reads through another node, {self.pairs:,} of "
                f"them behind a write that they had to show; {self.on_replica:.0%} of all reads on the standby; "
                f"{self.stale:,} stale, {self.backwards:,} went backwards"
                + "".join(f"\n  {line}" for line in (*self.examples, *self.failures)))


class Checker:
    """Counter *n* is written by pair *n* alone. *ports*: of the nodes; *primary*: of the server itself."""

    def __init__(self, ports: Sequence[int], primary: int, password: str, case: str) -> None:
        self.findings = Findings(case)
        self._ports = ports
        self._primary = primary
        self._login = {"host": "127.0.0.1", "user": USER, "password": password, "dbname": "postgres",
                       "sslmode": "disable", "connect_timeout": 60, "autocommit": True}
        # Of each counter what was acknowledged, and by when: for `bounded`, as long as it may be unseen, and some more.
        self._certain = [deque([(0.0, 0)], maxlen=10_000) for _ in range(PAIRS)]
        self._bound = STALENESS if case.startswith("bounded") else 0.0
        self._lock = threading.Lock()

    def pair(self, number: int, dice: random.Random) -> None:
        """One life: writes by one connection, reads by another."""
        node = dice.choice(self._ports)
        beside = dice.choice([port for port in (*self._ports, self._primary) if port != node])
        way: dict[str, Any] = dice.choice(({"prepare_threshold": None}, {"prepare_threshold": 0}))
        with psycopg.connect(port=beside, **self._login) as writer, \
                psycopg.connect(port=node, **self._login | way) as reader:
            seen = [0] * PAIRS
            for _ in range(STEPS):
                if dice.random() < 0.3:
                    self._write(writer, number)
                if dice.random() < 0.2:
                    with reader.transaction():
                        self._read(reader, number, seen, dice)
                        self._read(reader, dice.randrange(PAIRS), seen, dice)
                for _ in range(READS):
                    self._read(reader, number if dice.random() < 0.7 else dice.randrange(PAIRS), seen, dice)

    def _write(self, writer: Session, number: int) -> None:
        value = self._certain[number][-1][1] + 1
        writer.execute("update nodes set value = %s where id = %s", [value, number])
        self._certain[number].append((time.monotonic(), value))
        with self._lock:
            self.findings.writes += 1

    def _floor(self, target: int) -> int:
        """What a read that begins now must show at least."""
        if not self._bound:
            return self._certain[target][-1][1]
        by = time.monotonic() - self._bound
        return max((value for when, value in list(self._certain[target]) if when < by), default=0)

    def _read(self, reader: Session, target: int, seen: list[int], dice: random.Random) -> None:
        floor = self._floor(target)
        if dice.random() < 0.3:
            cursor = reader.execute(f"select value from nodes where id = {target}")
        else:
            cursor = reader.execute("select value from nodes where id = %s", [target])
        [value] = cursor.fetchone() or [-1]
        with self._lock:
            found = self.findings
            found.reads += 1
            found.pairs += floor > 0
            found.stale += value < floor
            found.backwards += value < seen[target]
            if value < max(floor, seen[target]) and len(found.examples) < 3 and " of " not in found.case:
                found.examples.append(f"counter {target}: read {value}, certain was {floor}, seen {seen[target]}")
        seen[target] = max(seen[target], value)


def check(cluster: PrimaryAndStandbys, proxies: Sequence[Proxy], case: str, seconds: float, seed: int) -> Findings:
    """Run it against *proxies*, which are configured for *case*."""
    cluster.primary.query("drop table if exists nodes; create table nodes (id int primary key, value bigint)")
    cluster.primary.query(f"insert into nodes select n, 0 from generate_series(0, {PAIRS - 1}) n; "
                          f"grant select, update on nodes to {USER}")
    cluster.catch_up()
    checker = Checker([proxy.port for proxy in proxies], cluster.primary.port, cluster.roles[USER].password or "", case)
    before = [Counts.of(proxy.client.arbiter("totals")) for proxy in proxies]
    with replay_that_lags(cluster.standbys[0], seed), Crew(PAIRS, seed, checker.pair) as crew:
        crew.over.wait(seconds)
    found = checker.findings
    found.failures = crew.failures[:3]
    time.sleep(1.5)                     # a worker tells its totals once a second
    after = [Counts.of(proxy.client.arbiter("totals")) for proxy in proxies]
    found.on_replica = sum(now.replica - then.replica for now, then in zip(after, before, strict=True)) / max(
        1, found.reads)
    cluster.primary.query("drop table nodes")
    return found


def configuration(cluster: PrimaryAndStandbys, case: str, workers: int) -> dict[str, object]:
    return default_configuration(cluster) | {
        "consistency": CASES[case],
        "pgsplit": {"workers": workers, "fence_wait": "50ms", "transactions": "until_write",
                    "max_staleness": f"{STALENESS * 1000:.0f}ms"}}


def run(cluster: PrimaryAndStandbys, case: str, workers: int, seconds: float, seed: int,
        proxy_class: type[Proxy] = Proxy) -> Findings:
    """With two nodes of its own."""
    with ExitStack() as stack:
        proxies = []
        for _ in range(2):
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgsplit-"))
            proxies.append(proxy_class(Path(directory), configuration(cluster, case, workers), cluster.guardian))
            proxies[-1].start()
            stack.callback(proxies[-1].stop)
        return check(cluster, proxies, case, seconds, seed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run nodes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="in all (60)")
    parser.add_argument("--seed", type=int, default=random.randrange(10000))
    parser.add_argument("--case", choices=CASES, help="one only (default: all in turn)")
    parser.add_argument("--workers", type=int, default=1, help="of each pgsplit (1)")
    args = parser.parse_args()
    cases = [args.case] if args.case else list(CASES)
    print(f"seed {args.seed}", flush=True)
    good = True
    with PrimaryAndStandbys([Role(USER, "scram-secret")], superuser_password="postgres-secret") as cluster:
        for case in cases:
            found = run(cluster, case, args.workers, args.seconds / len(cases), args.seed)
            good &= found.good
            print(f"{found}\n{'as it must be' if found.good else 'NOT AS IT MUST BE'}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
