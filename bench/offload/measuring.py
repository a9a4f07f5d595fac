"""Running the workloads: each directly, through pgsplit, and through pgpool-II if that is installed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import contenders, cpu
from bench.contenders import DIRECT, PGSPLIT, Bench, Contender
from bench.offload import tally
from bench.offload.clients import Client, NotHere, Sent, Target, pgbench
from bench.offload.tally import AFTER, READ, Sorter, Statement, Tally
from bench.offload.workloads import Workload
from pgsplit.demo import account, ports
from pgsplit.demo.counts import forget_calls
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from pgsplit.errors import PgSplitError
from pgsplit.process.client import Client as Instance
from pgsplit.stats.totals import merge

HERE = Path(__file__).resolve().parent
DATABASE = "offload"
APP, WEB, MONITOR = "app", "web", "monitor"     # WEB is who a PostgREST request becomes
PGPOOL = "pgpool-II"
WORKERS = 2


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for. *fence_wait*: pgsplit's setting, None for its default; *rounds*: None for each
    workload's own.
    """

    workloads: Sequence[Workload]
    rounds: int | None = None
    pgpool: bool = True
    fence_wait: str | None = None
    jdbc: Path | None = None


@dataclass
class Row:
    """A workload's outcome by way; *failed* has an error's first words by way, *missing* why it was not run at all.

    *kept*: how many batches pgsplit sent to the primary, by reason; *ran*: what the primary ran through it, with the
    kind of each.
    """

    workload: Workload
    tallies: dict[str, Tally] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    missing: str = ""
    kept: Mapping[str, int] = field(default_factory=dict)
    ran: Sequence[tuple[str, Statement]] = ()


@dataclass(frozen=True)
class Report:
    rows: Sequence[Row]
    versions: Mapping[str, str]             # of the ways, and of PostgreSQL
    notes: Sequence[str] = ()               # what is not here
    others: float = 0.0                     # the share of the machine's CPU time that programs of others spent


def measure(wishes: Wishes, say: Callable[[str], None] = lambda line: None) -> Report:
    """Start the servers and the proxies, run each workload by each way, and leave nothing behind.

    :raises PgSplitError: where servers or proxies do not start, or a workload miscounts what it sends.
    """
    app, monitor = Role(APP, secrets.token_hex(8)), Role(MONITOR, secrets.token_hex(8))
    with PrimaryAndStandbys([app, monitor], superuser_password=secrets.token_hex(8), standbys=1, say=say) as servers:
        bench = Bench(servers, app, account.choose(), WORKERS)
        run = _Run(bench, wishes)
        run.fill()
        notes = run.start(say)
        before = cpu.of_machine(), cpu.seconds(os.getpid())
        rows = [run.row(workload, say) for workload in wishes.workloads]
        everybody, ours = cpu.of_machine() - before[0], cpu.seconds(os.getpid()) - before[1]
        versions = {"PostgreSQL": servers.installation.version,
                    **{way.name: way.version for way in run.ways if way.name != DIRECT}}
    return Report(rows, versions, notes, max(0.0, 1 - ours / everybody) if everybody else 0.0)


class _Run:
    def __init__(self, bench: Bench, wishes: Wishes) -> None:
        self._bench = bench
        self._wishes = wishes
        self._servers = bench.servers
        self._scratch = bench.servers.directory / "clients"
        self._scratch.mkdir(mode=0o700)
        self.ways: list[Contender] = []

    def fill(self) -> None:
        primary = self._servers.primary
        for statement in (f"create role {WEB}", f"grant {WEB} to {APP}", f"grant pg_monitor to {MONITOR}",
                          f"create database {DATABASE} owner {APP}"):
            primary.query(statement)
        pgbench.run(self._target(primary.port), "-i", "-q", "-s", "1")
        primary.query((HERE / "schema.sql").read_text().format(app=APP, web=WEB), dbname=DATABASE)
        self._servers.catch_up()

    def start(self, say: Callable[[str], None]) -> list[str]:
        """The ways; returns a line for each that the machine lacks."""
        notes = []
        for begin in (contenders.direct, self._pgsplit, contenders.pgpool)[:3 if self._wishes.pgpool else 2]:
            try:
                self.ways.append(begin(self._bench))
            except contenders.NotHere as missing:
                notes.append(str(missing))
                say(str(missing))
        return notes

    def _pgsplit(self, bench: Bench) -> Contender:
        settings = {"workers": WORKERS, **({"fence_wait": self._wishes.fence_wait} if self._wishes.fence_wait else {})}
        users = {name: self._servers.roles[name].password for name in (APP, MONITOR)}
        way = contenders.pgsplit(bench, directory="proxy", users=users, monitor=MONITOR, pgsplit=settings)
        self._instance = Instance(str(self._servers.directory / "proxy" / "run"))
        return way

    def row(self, workload: Workload, say: Callable[[str], None]) -> Row:
        row, known = Row(workload), frozenset[str]()
        try:
            client = workload.load()
            for way in self.ways:
                known = self._measure(row, way, client, known)
        except NotHere as missing:
            row.missing = str(missing)
        say(f"{workload.name}: " + (row.missing or ", ".join(
            f"{way} {row.failed.get(way) or _percent(row.tallies[way])}" for way in (*row.tallies, *row.failed))))
        return row

    def _measure(self, row: Row, way: Contender, client: Client, known: frozenset[str]) -> frozenset[str]:
        """Run it by *way* and write down what the servers counted. Returns which texts are the application's."""
        for statement in (HERE / "fill.sql").read_text().split(";\n")[:-1]:
            self._servers.primary.query(statement, dbname=DATABASE)
        self._servers.catch_up()
        decisions = self._decisions() if way.name == PGSPLIT else {}
        forget_calls(self._servers)
        try:
            sent = client(self._target(way.port), self._wishes.rounds or row.workload.rounds)
        except NotHere:
            raise
        except Exception as error:
            if way.name == DIRECT:
                raise PgSplitError(f"{row.workload.name}, connected directly: {error}") from error
            row.failed[way.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            return known
        counted = [tally.statements(server, (APP, WEB, MONITOR)) for server in self._servers.servers]
        sorter = Sorter((APP, WEB), row.workload.is_after, known)
        row.tallies[way.name] = found = sorter.tally(*counted)
        _check(row.workload, way.name, sent, found)
        if way.name == PGSPLIT:
            row.kept = {reason: count - decisions.get(reason, 0) for reason, count in self._decisions().items()
                        if count > decisions.get(reason, 0)}
            row.ran = [(sorter.kind(each), each) for each in counted[0]]
        return known or frozenset(tally.canonical(each.text) for each in counted[0] if each.role != MONITOR)

    def _decisions(self) -> dict[str, int]:
        """How many batches pgsplit has sent to the primary, by reason."""
        totals = merge([self._instance.worker(number, "totals") for number in self._instance.workers()])
        mark = ".decisions.primary."
        return {name.partition(mark)[2]: count for name, count in totals.items() if mark in name}

    def _target(self, port: int) -> Target:
        password = self._bench.role.password
        assert password is not None
        return Target(ports.HOST, port, APP, password, DATABASE, self._servers.installation.bin_dir, self._scratch,
                      self._wishes.jdbc)


def _check(workload: Workload, way: str, sent: Sent, found: Tally) -> None:
    """What the client says that it sent is what the servers counted; a proxy may have asked twice."""
    counted = Sent(found.total(READ).calls, found.total(AFTER).calls)
    if counted != sent and (way == DIRECT or counted.reads < sent.reads or counted.after < sent.after):
        raise PgSplitError(f"{workload.name} sent {sent}, by way of {way} the servers counted {counted}")


def _percent(found: Tally) -> str:
    return "–" if found.share is None else f"{found.share:.1%}"
