"""Servers that change roles at random under load: no write that is acknowledged once a new primary is known may be lost
(guarantee G6), no read may be behind an acknowledged write (G3), whichever server takes itself for the primary.

Three servers. In each round the primary is frozen, or left as it is, or killed while one standby is ahead of another; a
standby is promoted; the former primary comes back and thinks itself the primary for a while; then it is rebuilt. All
replicas are behind one balancer, and are named one by one as well.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role, Server
from tests.balancer import Balancer
from tests.checkers.crew import Crew
from tests.conftest import default_configuration
from tests.freezing import frozen
from tests.waiting import eventually

USER = "scram_user"
CLIENTS = 6
EVENTS = ("frozen", "left alone", "killed")
READS_AFTER_WRITE = 3


@dataclass
class Findings:
    """*lost*: acknowledged while the new primary was known, and not there. *cut*: sessions that ended."""

    rounds: list[str] = field(default_factory=list)
    writes: int = 0
    reads: int = 0
    stale: int = 0
    lost: int = 0
    cut: int = 0
    on_replica: int = 0
    examples: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.stale or self.lost or self.failures) and self.writes > 50 and self.on_replica > 0

    def __str__(self) -> str:
        return (f"{len(self.rounds)} promotions ({', '.join(self.rounds)}): {self.writes:,} writes, {self.lost} lost; "
                f"{self.reads:,} reads, {self.on_replica:,} of them at replicas, {self.stale} stale; {self.cut} "
                "sessions cut"
                + "".join(f"\n  {line}" for line in (*self.examples, *self.failures)))


class Checker:
    """Client *n* appends to its own sequence of numbers alone. *epoch*: grows with every change of who may be the
    primary; what was acknowledged in another one is not compared: PostgreSQL itself may lose what was not replicated.
    *promoted*: in the midst of a change the port of the server that is to be the primary: sessions outlive the former
    one, and what that has acknowledged then may be lost likewise.
    """

    def __init__(self, port: int, password: str) -> None:
        self.findings = Findings()
        self.epoch = 0
        self.promoted: int | None = None
        self.acknowledged: dict[tuple[int, int], int] = {}      # (client, number) -> epoch
        self._login = {"host": "127.0.0.1", "port": port, "user": USER, "password": password, "dbname": "postgres",
                       "sslmode": "disable", "connect_timeout": 20, "autocommit": True, "prepare_threshold": None}
        self._next = [0] * CLIENTS
        self._lock = threading.Lock()

    def session(self, number: int, dice: random.Random) -> None:
        """One session's life, which a fault may end at any time."""
        try:
            with psycopg.connect(**self._login) as connection:
                for _ in range(40):
                    self._step(connection, number)
        except psycopg.OperationalError:
            with self._lock:
                self.findings.cut += 1
            time.sleep(dice.uniform(0.02, 0.2))

    def _step(self, connection: psycopg.Connection[Any], number: int) -> None:
        epoch = self.epoch
        self._next[number] += 1
        wrote = self._next[number]
        acknowledged = connection.execute("insert into topology values (%s, %s) returning inet_server_port()",
                                          [number, wrote]).fetchone()
        assert acknowledged is not None
        with self._lock:
            self.acknowledged[number, wrote] = epoch
            self.findings.writes += 1
        for _ in range(READS_AFTER_WRITE):
            row = connection.execute("select max(n) from topology where client = %s", [number]).fetchone()
            last = connection.execute("show pgsplit.last_route").fetchone()
            assert row is not None and last is not None
            with self._lock:
                self.findings.reads += 1
                self.findings.on_replica += last[0].startswith("replica")
                may_be_lost = self.promoted not in (None, acknowledged[0])
                if self.epoch == epoch and not may_be_lost and row[0] != wrote:
                    self.findings.stale += 1
                    self.findings.examples.append(f"client {number}: read {row[0]}, had written {wrote}, by {last[0]}")

    def begin(self, promoted: int | None = None) -> int:
        with self._lock:
            self.epoch += 1
            self.promoted = promoted
            return self.epoch

    def look_for_lost(self, primary: Server, epoch: int) -> None:
        """All that was acknowledged in *epoch* is on *primary*."""
        with self._lock:
            acknowledged = [key for key, then in self.acknowledged.items() if then == epoch]
        there = set(primary.query("select client, n from topology"))
        with self._lock:
            lost = [key for key in acknowledged if key not in there]
            self.findings.lost += len(lost)
            self.findings.examples += [f"lost: client {client}, number {n}, epoch {epoch}" for client, n in lost[:3]]


class Stage:
    """The servers, and who is what."""

    def __init__(self, cluster: PrimaryAndStandbys, checker: Checker, proxy: Proxy) -> None:
        self.primary, *self.standbys = cluster.servers
        self._checker = checker
        self._proxy = proxy

    def change(self, event: str, dice: random.Random) -> None:
        """One round: the primary changes, and the former one is rebuilt."""
        former, (promoted, other) = self.primary, dice.sample(self.standbys, 2)
        self._checker.begin(promoted.port)
        if event == "killed":
            self._leave_behind(promoted)
            time.sleep(0.3)         # the other one gets ahead
            former.kill()
        with frozen(former) if event == "frozen" else nullcontext():
            promoted.promote()
            eventually(lambda: not promoted.in_recovery(), timeout=60)
            eventually(lambda: self._is_known(promoted), timeout=60)
            epoch = self._checker.begin()
            time.sleep(dice.uniform(0.5, 2))
        if event == "killed":
            former.start()          # and takes itself for the primary
        time.sleep(dice.uniform(1, 2))
        self._checker.look_for_lost(promoted, epoch)
        self._checker.findings.rounds.append(event)
        for server in (former, other):
            server.stop()
            server.copy_from(promoted)
            server.start()
        self.primary, self.standbys = promoted, [former, other]
        self._checker.look_for_lost(promoted, epoch)

    @staticmethod
    def _leave_behind(standby: Server) -> None:
        """It is sent nothing any more."""
        standby.query("alter system set primary_conninfo = ''")
        standby.query("select pg_reload_conf()")
        eventually(lambda: not standby.query("select from pg_stat_wal_receiver"))

    def _is_known(self, primary: Server) -> bool:
        """All workers take *primary* for the one."""
        for worker in self._proxy.client.workers():
            hosts = [host for host in self._proxy.client.worker(worker, "hosts") if host["writes"]]
            if [host["name"] for host in hosts if host["healthy"]] != [primary.address]:
                return False
        return True


def check(cluster: PrimaryAndStandbys, proxy: Proxy, seconds: float, seed: int) -> Findings:
    """Run it against *proxy*; at least one round. The servers are left in other roles than they had."""
    cluster.primary.query("create table topology (client int, n int, primary key (client, n)); "
                          f"grant select, insert on topology to {USER}")
    cluster.catch_up()
    dice = random.Random(seed)
    checker = Checker(proxy.port, cluster.roles[USER].password or "")
    stage = Stage(cluster, checker, proxy)
    events = list(EVENTS)
    dice.shuffle(events)
    end = time.monotonic() + seconds
    with Crew(CLIENTS, seed, checker.session) as crew:
        crew.over.wait(1)
        while not crew.over.is_set():
            event = events[len(checker.findings.rounds) % len(events)]
            stage.change(event, dice)
            if time.monotonic() >= end:
                break
    found = checker.findings
    found.failures = crew.failures[:3]
    return found


@contextmanager
def in_front_of(cluster: PrimaryAndStandbys) -> Any:
    """pgsplit, to which every server may be the primary and a replica, the latter behind a balancer, too."""
    with Balancer([("127.0.0.1", server.port) for server in cluster.servers]) as balancer, \
            tempfile.TemporaryDirectory(prefix="pgsplit-") as directory:
        addresses = [server.address for server in cluster.servers]
        proxy = Proxy(Path(directory), default_configuration(cluster) | {
            "primary": addresses, "replicas": [balancer.address, *addresses],
            "pgsplit": {"workers": 2, "health_interval": "200ms", "health_timeout": "1s", "fence_wait": "20ms"},
        }, cluster.guardian)
        proxy.start()
        try:
            yield proxy
        finally:
            with suppress(Exception):
                proxy.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run topology", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="in all (60)")
    parser.add_argument("--seed", type=int, default=random.randrange(10000))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with PrimaryAndStandbys([Role(USER, "scram-secret")], superuser_password="postgres-secret",
                            standbys=2) as cluster, in_front_of(cluster) as proxy:
        found = check(cluster, proxy, args.seconds, args.seed)
        if not found.good:
            print(proxy.log.read_text(errors="replace")[-20000:])
        print(f"{found}\n{'as it must be' if found.good else 'NOT AS IT MUST BE'}", flush=True)
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
