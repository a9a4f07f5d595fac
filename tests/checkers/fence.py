"""Fresh reads (guarantee G3), while the standby's replay is paused, resumed and delayed at random.

Sessions write counters that only grow, and read them back: their own at once, others' from other sessions and workers,
in transactions and outside of them.
A read is stale when it shows less than was certain before it was sent. With consistency session and global none may
be; with the fence off (eventual) some must be, or this check could not see.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from pgsplit.demo.counts import Counts
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role, Server
from tests.checkers.crew import Crew
from tests.conftest import default_configuration

USER = "scram_user"
CLIENTS = 16
LEVELS = ("global", "session", "eventual")
READS_AFTER_WRITE = 4
STEPS_OF_A_SESSION = 60         # then another one takes its place


@dataclass
class Findings:
    """*pairs*: reads that followed a write of which the reader had to know. *stale*: descriptions, at most a few."""

    consistency: str
    writes: int = 0
    reads: int = 0
    pairs: int = 0
    stale: int = 0
    examples: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    on_replica: float = 0.0

    @property
    def good(self) -> bool:
        as_expected = self.stale > 0 if self.consistency == "eventual" else self.stale == 0
        return as_expected and not self.failures and self.on_replica > 0.1 and self.reads > 100

    def __str__(self) -> str:
        return (f"{self.consistency}: {self.writes:,} writes, {self.reads:,} reads, {self.pairs:,} of them behind a "
                f"write that they had to show; {self.on_replica:.0%} of all reads on the standby; {self.stale:,} stale"
                + "".join(f"\n  {line}" for line in (*self.examples, *self.failures)))


class Checker:
    """Counter *n* is written by session *n* alone; *certain* is what each of them was acknowledged."""

    def __init__(self, port: int, password: str, consistency: str) -> None:
        self.findings = Findings(consistency)
        self._login = {"host": "127.0.0.1", "port": port, "user": USER, "password": password, "dbname": "postgres",
                       "sslmode": "disable", "connect_timeout": 60}
        self._certain = [0] * CLIENTS
        self._lock = threading.Lock()

    def session(self, number: int, dice: random.Random) -> None:
        """One session's life: writes of its own counter, reads of all."""
        way = dice.choice(({"prepare_threshold": None}, {"prepare_threshold": 0}, {"prepare_threshold": 2}))
        connected = list(self._certain)         # before it connects: what it must see under either level
        with psycopg.connect(**self._login, autocommit=True, **way) as connection:
            seen = connected
            for _ in range(STEPS_OF_A_SESSION):
                if dice.random() < 0.3:
                    self._transaction(connection, number, seen, dice)
                    continue
                if dice.random() < 0.2:
                    seen[number] = self._write(connection, number)
                    targets = [number] * READS_AFTER_WRITE
                else:
                    targets = [dice.randrange(CLIENTS)]
                for target in targets:
                    self._read(connection, target, seen, dice)

    def _write(self, connection: psycopg.Connection, number: int) -> int:
        value = self._certain[number] + 1
        connection.execute("update fence set value = %s where id = %s", [value, number])
        self._wrote(number, value)
        return value

    def _wrote(self, number: int, value: int) -> None:
        self._certain[number] = value
        with self._lock:
            self.findings.writes += 1

    def _transaction(self, connection: psycopg.Connection, number: int, seen: list[int], dice: random.Random) -> None:
        """Reads, in half of them a write, and reads behind it: READ COMMITTED, each read as if it stood alone."""
        value = self._certain[number] + 1
        writes = dice.random() < 0.5
        with connection.transaction():
            for _ in range(dice.randrange(4)):
                self._read(connection, dice.randrange(CLIENTS), seen, dice)
            if writes:
                connection.execute("update fence set value = value + 1 where id = %s and value = %s",
                                   [number, value - 1])
                seen[number] = value
                for target in (number, dice.randrange(CLIENTS)):
                    self._read(connection, target, seen, dice)
        if writes:
            self._wrote(number, value)

    def _read(self, connection: psycopg.Connection, target: int, seen: list[int], dice: random.Random) -> None:
        floor = seen[target] if self.findings.consistency == "session" else max(seen[target], self._certain[target])
        if dice.random() < 0.3:         # literals, as simple-protocol clients write them
            cursor = connection.execute(f"select value from fence where id = {target}")
        else:
            cursor = connection.execute("select value from fence where id = %s", [target])
        row = cursor.fetchone()
        assert row is not None
        value = row[0]
        with self._lock:
            found = self.findings
            found.reads += 1
            found.pairs += floor > 0
            if value < floor:
                found.stale += 1
                if len(found.examples) < 5 and found.consistency != "eventual":
                    found.examples.append(f"counter {target}: read {value}, certain was {floor}")
        seen[target] = max(seen[target], value)


@contextmanager
def replay_that_lags(standby: Server, seed: int) -> Iterator[None]:
    """Replay stands still, for moments and for long, and applies commits late for a while; not so at the end."""
    over = threading.Event()
    dice = random.Random(seed)
    failures: list[BaseException] = []

    def pause(longest: float) -> None:
        standby.pause_replay()
        over.wait(dice.uniform(0, longest))
        standby.resume_replay()

    def delay() -> None:
        standby.delay_replay(dice.randrange(5, 200))
        over.wait(dice.uniform(0.2, 1))
        standby.delay_replay(0)

    def lag() -> None:
        try:
            while not over.wait(dice.uniform(0, 0.3)):
                [what] = dice.choices((lambda: pause(0.1), lambda: pause(1), delay), (6, 1, 1))
                what()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=lag)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def check(cluster: PrimaryAndStandbys, proxy: Proxy, consistency: str, seconds: float, seed: int) -> Findings:
    """Run it against *proxy*, which is configured for *consistency*."""
    cluster.primary.query("drop table if exists fence; create table fence (id int primary key, value bigint)")
    cluster.primary.query(f"insert into fence select n, 0 from generate_series(0, {CLIENTS - 1}) n; "
                          f"grant select, update on fence to {USER}")
    cluster.catch_up()
    checker = Checker(proxy.port, cluster.roles[USER].password or "", consistency)
    before = Counts.of(proxy.client.arbiter("totals"))
    with replay_that_lags(cluster.standbys[0], seed), Crew(CLIENTS, seed, checker.session) as crew:
        crew.over.wait(seconds)
    found = checker.findings
    found.failures = crew.failures[:3]
    time.sleep(1.5)                     # a worker tells its totals once a second
    after = Counts.of(proxy.client.arbiter("totals"))
    found.on_replica = (after.replica - before.replica) / max(1, found.reads)
    cluster.primary.query("drop table fence")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run fence", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="in all (60)")
    parser.add_argument("--seed", type=int, default=random.randrange(10000))
    parser.add_argument("--consistency", choices=LEVELS, help="one level only (default: all three in turn)")
    parser.add_argument("--workers", type=int, default=2, help="of pgsplit (2)")
    args = parser.parse_args()
    levels = [args.consistency] if args.consistency else LEVELS
    print(f"seed {args.seed}", flush=True)
    good = True
    with PrimaryAndStandbys([Role(USER, "scram-secret")], superuser_password="postgres-secret") as cluster:
        for level in levels:
            with tempfile.TemporaryDirectory(prefix="pgsplit-") as directory:
                proxy = Proxy(Path(directory), configuration(cluster, level, args.workers), cluster.guardian)
                proxy.start()
                try:
                    found = check(cluster, proxy, level, args.seconds / len(levels), args.seed)
                finally:
                    proxy.stop()
            good &= found.good
            print(f"{found}\n{'as it must be' if found.good else 'NOT AS IT MUST BE'}", flush=True)
    return 0 if good else 1


def configuration(cluster: PrimaryAndStandbys, consistency: str, workers: int) -> dict[str, object]:
    """A fence that waits long enough for a replica to be the one that answers."""
    return default_configuration(cluster) | {
        "consistency": consistency,
        "pgsplit": {"workers": workers, "fence_wait": "50ms", "transactions": "until_write"}}


if __name__ == "__main__":
    sys.exit(main())
