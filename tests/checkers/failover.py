"""Sessions outlive their primary (docs/failover.md), whatever happens to it, at random: no write that was acknowledged
is lost, doubled or on a former primary alone, no refused one is there, no read is stale, and a session goes on with all
that it had or ends with an error that says so.

Three servers, named to pgsplit in one list; a commit is acknowledged once a standby has it, and the standby that has
most is promoted, so that PostgreSQL itself loses nothing. lost_transaction: abort.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role, Server
from tests.balancer import Balancer
from tests.checkers.crew import Crew
from tests.checkers.failover_clients import CREW, ROLE, Account, Client
from tests.checkers.failover_ledger import TABLE, Ledger
from tests.checkers.failover_stage import FAULTS, Stage
from tests.conftest import default_configuration
from tests.waiting import eventually

USER = "scram_user"
PATIENCE = 90.0         # seconds in which every client must have got on behind a fault, or must end at the end


@dataclass
class Round:
    """One fault with its way back. Times in seconds; *late*: the first write behind the primary's own readiness."""

    fault: str
    gap: float
    late: float
    kept: Counter[str]
    ended: Counter[tuple[str, str]]     # (kind of client, SQLSTATE)


@dataclass
class Findings:
    rounds: list[Round] = field(default_factory=list)
    ways_back: Counter[str] = field(default_factory=Counter)
    writes: int = 0
    reads: int = 0                      # that were checked
    by_replica: int = 0                 # of all that clients sent, as pgsplit counts them
    by_primary: int = 0
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.wrong and bool(self.rounds) and self.writes > 50 and self.by_replica > 0

    def __str__(self) -> str:
        return "\n".join([*self._faults(), *self._sessions(),
                          (f"{self.writes:,} writes acknowledged, {self.reads:,} reads checked; of all reads "
                          f"{self.by_replica:,} were served by replicas, {self.by_primary:,} by the primary"),
                          "errors: " + _listed({f"{sqlstate} of {what}": n for (sqlstate, what), n in
                                                self.errors.items()}),
                          "former primaries came back by: " + _listed(self.ways_back),
                          f"findings: {len(self.wrong)}", *(f"  {line}" for line in self.wrong[:20])])

    def _faults(self) -> Iterator[str]:
        yield "fault                number  longest gap in writes  longest behind the primary's own first write"
        for fault in FAULTS:
            if rounds := [one for one in self.rounds if one.fault == fault]:
                yield (f"{fault:20} {len(rounds):6}  {max(one.gap for one in rounds):19.2f} s  "
                       f"{max(one.late for one in rounds):42.2f} s")

    def _sessions(self) -> Iterator[str]:
        yield "sessions open at a fault: kept, ended by SQLSTATE"
        for fault in FAULTS:
            if rounds := [one for one in self.rounds if one.fault == fault]:
                kept = sum((one.kept for one in rounds), Counter())
                ended = sum((one.ended for one in rounds), Counter())
                kinds = dict.fromkeys(kind.kind for kind in CREW)
                yield f"{fault:20} " + "; ".join(
                    f"{kind} {kept[kind]}" + "".join(f", {n} {sqlstate}" for (whose, sqlstate), n
                                                     in sorted(ended.items()) if whose == kind)
                    for kind in kinds)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


class Checker:
    def __init__(self, cluster: PrimaryAndStandbys, links: dict[Server, Balancer]) -> None:
        self.ledger = Ledger()
        self.account = Account(self.ledger)
        self.stage = Stage(cluster, links, self._look)
        self.clients: list[Client] = []
        self.rounds: list[Round] = []

    def enroll(self, port: int, password: str) -> None:
        login = {"host": "127.0.0.1", "port": port, "user": USER, "password": password, "dbname": "postgres",
                 "sslmode": "disable", "connect_timeout": 60, "autocommit": True}
        self.clients = [kind(number, self.account, login) for number, kind in enumerate(CREW)]

    def suffer(self, fault: str, dice: random.Random) -> None:
        """One round, behind which every client has got on, and nothing is lost."""
        began = time.monotonic()
        before = {client: client.session for client in self.clients if client.is_open}
        self.stage.suffer(fault, dice)
        self._await_clients()
        until = time.monotonic()
        kept = [client for client, session in before.items() if client.is_open and client.session == session]
        self.rounds.append(Round(
            fault, self.ledger.longest_gap(began, until), self.ledger.first_behind(self.stage.ready),
            Counter(client.kind for client in kept),
            Counter((client.kind, client.last_end) for client in before if client not in kept)))
        self.judge(self.stage.primary)

    def judge(self, server: Server) -> None:
        for line in self.ledger.judge(server):
            self.account.find(None, line)

    def judge_all(self) -> None:
        """At the end: the primary, and what its standbys have of it."""
        [(lsn,)] = self.stage.primary.query("select pg_current_wal_insert_lsn()")
        for standby in self.stage.standbys:
            eventually(lambda server=standby: server.query(     # type: ignore[misc]
                "select pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn]) == [(True,)])
        for server in (self.stage.primary, *self.stage.standbys):
            self.judge(server)

    def _look(self, former: Server, primary: Server) -> None:
        for line in self.ledger.only_there(former, primary):
            self.account.find(None, line)

    def _await_clients(self) -> None:
        """Each of them has done two steps, the first of which may have begun before."""
        before = {client: client.steps for client in self.clients}
        deadline = time.monotonic() + PATIENCE
        while waiting := [client for client, steps in before.items() if client.steps < steps + 2]:
            if self.account.over.is_set():
                return
            if time.monotonic() > deadline:
                for client in waiting:
                    self.account.find(client, f"has not got on for {PATIENCE:g} s")
                    client.cut()
                return
            time.sleep(0.02)

    def end(self) -> None:
        """Clients end with the step that they are at, by force if need be."""
        self.account.over.set()
        deadline = time.monotonic() + PATIENCE
        while any(client.is_open for client in self.clients) and time.monotonic() < deadline:
            time.sleep(0.02)
        for client in self.clients:
            client.cut()


def check(checker: Checker, proxy: Proxy, password: str, seconds: float, seed: int,
          faults: Sequence[str] = tuple(FAULTS), at_least: int = 1) -> Findings:
    """Run it against *proxy* for *seconds*, and *at_least* so many faults. The servers are left in other roles."""
    dice = random.Random(seed)
    checker.stage.proxy = proxy
    checker.enroll(proxy.port, password)
    checker.stage.primary.query(
        f"create table {TABLE} (writer int, n int, part int default 1); create index on {TABLE} (writer, n);"
        f"create role {ROLE}; grant {ROLE} to {USER}; grant select, insert on {TABLE} to {USER}, {ROLE}")
    order: list[str] = []
    end = time.monotonic() + seconds
    with Crew(len(CREW), seed, lambda number, dice: checker.clients[number].live(dice)) as crew:
        crew.over = checker.account.over
        try:
            eventually(lambda: all(client.steps for client in checker.clients) or crew.failures, timeout=60)
            while not crew.over.is_set() and (time.monotonic() < end or len(checker.rounds) < at_least):
                order = order or dice.sample(list(faults), len(faults))
                checker.suffer(order.pop(), dice)
                crew.over.wait(dice.uniform(0.2, 2))
        finally:
            checker.end()
    checker.judge_all()
    time.sleep(1.5)                     # a worker tells its totals once a second
    totals = proxy.client.arbiter("totals")
    served = {who: sum(count for name, count in totals.items() if name.endswith(f".reads.{who}"))
              for who in ("replica", "primary")}
    account = checker.account
    return Findings(checker.rounds, Counter(checker.stage.ways_back), checker.ledger.writes, account.reads,
                    served["replica"], served["primary"], account.errors, [*account.findings, *crew.failures[:3]])


@contextmanager
def in_front_of(cluster: PrimaryAndStandbys, *, direct: bool = False,
                **settings: Any) -> Iterator[tuple[Checker, Proxy]]:
    """pgsplit with one list of *cluster*'s servers, each behind a link that can be cut, unless *direct*."""
    with ExitStack() as stack:
        links = {} if direct else {server: stack.enter_context(Balancer([("127.0.0.1", server.port)]))
                                   for server in cluster.servers}
        checker = Checker(cluster, links)
        checker.stage.prepare()
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgsplit-"))
        configuration = default_configuration(cluster)
        del configuration["primary"], configuration["replicas"]
        proxy = Proxy(Path(directory), configuration | {
            "servers": [links[server].address if links else server.address for server in cluster.servers],
            "pgsplit": {"workers": 2, "health_interval": "200ms", "health_timeout": "1s", "lost_transaction": "abort",
                        **settings},
        }, cluster.guardian)
        proxy.start()
        try:
            yield checker, proxy
        finally:
            with suppress(Exception):
                proxy.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run failover", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="in all (60)")
    parser.add_argument("--seed", type=int, default=random.randrange(10000))
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS), metavar="FAULT",
                        help=f"which ones: {', '.join(repr(fault) for fault in FAULTS)} (all)")
    parser.add_argument("--direct", action="store_true", help="name the servers themselves: nothing can be cut")
    parser.add_argument("--failover-wait", default="30s", help="of pgsplit (30s)")
    args = parser.parse_args()
    faults = [fault for fault in args.faults if not (args.direct and fault == "cut")]
    if not faults:
        parser.error("--direct leaves no link that could be cut")
    print(f"seed {args.seed}", flush=True)
    with PrimaryAndStandbys([Role(USER, "scram-secret")], superuser_password="postgres-secret",
                            standbys=2) as cluster, \
            in_front_of(cluster, direct=args.direct, failover_wait=args.failover_wait) as (checker, proxy):
        found = check(checker, proxy, "scram-secret", args.seconds, args.seed, faults)
        if not found.good:
            print(proxy.log.read_text(errors="replace")[-20000:])
        print(f"{found}\n{'as it must be' if found.good else 'NOT AS IT MUST BE'}", flush=True)
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
