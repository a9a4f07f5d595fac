"""No replica's error reaches a client (guarantee G2), while replicas stop, die, hang and come back at random.

Sessions read, by every protocol, in transactions and outside of them: answers up to reask_buffer must all be right.
Longer ones, and those whose server stood still for reask_hold amid them, may end with 40001, or with 08006, of which
part had been passed on; nothing else.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.pq import TransactionStatus

from pgsplit.demo.counts import Counts
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role, Server
from tests.checkers.crew import Crew
from tests.conftest import default_configuration

USER = "scram_user"
# Rows and bytes a row of an answer, and whether it is longer than reask_buffer (64 KiB).
ANSWERS = ((1, 10, False), (50, 100, False), (300, 180, False), (2000, 400, True))
ALLOWED = ("40001", "08006")        # of a long answer
HOLD = 1.0                          # seconds: reask_hold
READS_OF_A_SESSION = 300


@dataclass
class Findings:
    reads: int = 0
    long: int = 0
    broken: Counter[str] = field(default_factory=Counter)       # long or slow answers, by SQLSTATE
    errors: list[str] = field(default_factory=list)
    did: Counter[str] = field(default_factory=Counter)
    reasks: int = 0
    on_replica: int = 0

    @property
    def good(self) -> bool:
        return not self.errors and self.reads > 100 and self.on_replica > 0 and sum(self.did.values()) > 0

    def __str__(self) -> str:
        def listed(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

        return (f"{self.reads:,} reads, {self.on_replica:,} of them on replicas, {self.long:,} longer than "
                "reask_buffer; "
                f"{self.reasks:,} re-asks\nreplicas: {listed(self.did)}\nlong or slow answers that broke off: "
                f"{listed(self.broken)}\nerrors at clients: {len(self.errors)}"
                + "".join(f"\n  {error}" for error in self.errors[:10]))


class Checker:
    def __init__(self, port: int, password: str) -> None:
        self.findings = Findings()
        self._login = {"host": "127.0.0.1", "port": port, "user": USER, "password": password, "dbname": "postgres",
                       "sslmode": "disable", "connect_timeout": 120}
        self._lock = threading.Lock()

    def session(self, _: int, dice: random.Random) -> None:
        way = dice.choice(({"prepare_threshold": None}, {"prepare_threshold": 0}, {"prepare_threshold": 2}))
        with psycopg.connect(**self._login, autocommit=True, **way) as connection:
            for _ in range(READS_OF_A_SESSION):
                if not (self._transaction if dice.random() < 0.3 else self._read)(connection, dice):
                    return

    def _transaction(self, connection: psycopg.Connection, dice: random.Random) -> bool:
        """Some reads in one, on whichever server they are; whether the session lives on."""
        connection.execute(dice.choice(("begin", "begin read only")))
        for _ in range(dice.randrange(4)):
            if not self._read(connection, dice):
                return False
            if connection.info.transaction_status == TransactionStatus.INERROR:
                break
        try:
            connection.execute(dice.choice(("commit", "rollback")))
            if connection.info.transaction_status == TransactionStatus.IDLE:
                return True
            error = "a transaction that does not end"
        except psycopg.Error as raised:
            error = f"the end of a transaction: {type(raised).__name__} {raised.sqlstate}: {raised}"
        with self._lock:
            self.findings.errors.append(error)
        return not connection.closed

    def _read(self, connection: psycopg.Connection, dice: random.Random) -> bool:
        """Whether the session lives on."""
        rows, size, long = dice.choices(ANSWERS, (10, 5, 3, 1))[0]
        base = dice.randrange(1000)
        text, values = "select %s::int + g, repeat('x', %s) from generate_series(1, %s) g", [base, size, rows]
        if dice.random() < 0.3:
            text, values = text.replace("%s", "{}").format(*values), None
        error = ""
        began = time.monotonic()
        try:
            answer = connection.execute(text, values).fetchall()
            if answer != [(base + number, "x" * size) for number in range(1, rows + 1)]:
                error = f"a wrong answer of {len(answer)} rows instead of {rows}"
        except psycopg.Error as raised:
            if (long or time.monotonic() - began >= HOLD) and raised.sqlstate in ALLOWED:
                with self._lock:
                    self.findings.broken[str(raised.sqlstate)] += 1
            else:
                error = f"{rows} rows: {type(raised).__name__} {raised.sqlstate}: {raised}"
        with self._lock:
            self.findings.reads += 1
            self.findings.long += long
            if error:
                self.findings.errors.append(error)
        return not connection.closed


class Trouble:
    """What happens to one replica, again and again, between entry and exit: it runs again then."""

    def __init__(self, standby: Server, seed: int) -> None:
        self.did: Counter[str] = Counter()
        self._standby = standby
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Trouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        ways: dict[str, Callable[[], None]] = {
            "stop fast": lambda: self._restart(lambda: self._standby.stop(signal.SIGINT)),
            "stop at once": lambda: self._restart(lambda: self._standby.stop(signal.SIGQUIT)),
            "kill": lambda: self._restart(self._standby.kill),
            "hang": self._hang,
        }
        try:
            while not self._over.wait(self._dice.uniform(0.2, 3)):
                name = self._dice.choice(list(ways))
                ways[name]()
                self.did[name] += 1
        except BaseException as error:
            self._failed = error

    def _restart(self, end: Callable[[], None]) -> None:
        end()
        self._over.wait(self._dice.uniform(0, 1))
        self._standby.start()

    def _hang(self) -> None:
        """All processes of the server stand still: what connects to it is accepted by the kernel, and waits."""
        postmaster = int((self._standby.data / "postmaster.pid").read_text().split()[0])
        stopped = []
        try:
            for pid in (postmaster, *_children(postmaster)):        # one that stands still makes no more children
                _signal(pid, signal.SIGSTOP)
                stopped.append(pid)
            self._over.wait(self._dice.uniform(0.1, 4))
        finally:
            for pid in stopped:
                _signal(pid, signal.SIGCONT)


def _children(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(stat.parent.name)


def _signal(pid: int, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


def check(cluster: PrimaryAndStandbys, proxy: Proxy, seconds: float, seed: int, clients: int = 16) -> Findings:
    checker = Checker(proxy.port, cluster.roles[USER].password or "")
    found = checker.findings
    before = proxy.client.arbiter("totals")
    troubles = [Trouble(standby, seed + number) for number, standby in enumerate(cluster.standbys)]
    with ExitStack() as stack:
        for trouble in troubles:
            stack.enter_context(trouble)
        with Crew(clients, seed, checker.session) as crew:
            crew.over.wait(seconds)
    found.did = sum((trouble.did for trouble in troubles), Counter())
    found.errors += crew.failures
    time.sleep(1.5)                     # a worker tells its totals once a second
    after = proxy.client.arbiter("totals")
    found.on_replica = Counts.of(after).replica - Counts.of(before).replica
    found.reasks = sum(value - before.get(name, 0) for name, value in after.items() if name.endswith(".reasks"))
    return found


def configuration(cluster: PrimaryAndStandbys, workers: int) -> dict[str, object]:
    return default_configuration(cluster) | {
        "pgsplit": {"workers": workers, "health_interval": "200ms", "health_timeout": "1s", "reask_hold": f"{HOLD}s"}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run chaos", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10000))
    parser.add_argument("--clients", type=int, default=16)
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with (PrimaryAndStandbys([Role(USER, "scram-secret")], superuser_password="postgres-secret", standbys=2) as cluster,
          tempfile.TemporaryDirectory(prefix="pgsplit-") as directory):
        proxy = Proxy(Path(directory), configuration(cluster, 2), cluster.guardian)
        proxy.start()
        try:
            found = check(cluster, proxy, args.seconds, args.seed, args.clients)
        finally:
            proxy.stop()
    print(found)
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
