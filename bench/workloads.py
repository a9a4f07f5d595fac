"""What is measured: pgbench runs, and what one slice of one of them on one contender gave."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench import cpu
from bench.contenders import Bench, Contender
from pgsplit.demo import ports
from pgsplit.demo.counts import forget_calls
from pgsplit.errors import PgSplitError

DATABASE = "bench"
SCALE = 8
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Workload:
    """*arguments* go to pgbench; where there is *sql*, psql runs that again and again, and the answer is dropped.
    *tls*: between client and contender.
    """

    name: str
    arguments: tuple[str, ...] = ()
    clients: int = 1
    sql: str = ""
    tls: bool = False


ALL = (
    *(Workload(f"-S -M {mode}", ("-S", "-M", mode), clients)
      for mode in ("simple", "extended", "prepared") for clients in (1, 8, 32)),
    Workload("TPC-B", (), 8),
    Workload("-S -C", ("-S", "-C"), 8),
    Workload("90 % reads", ("-b", "select-only@9", "-f", f"{HERE / 'write.sql'}@1", "-D", f"scale={SCALE}"), 8),
    *(Workload(f"BEGIN; SELECT; COMMIT, -M {mode}",
               ("-f", f"{HERE / 'transaction.sql'}", "-D", f"scale={SCALE}", "-M", mode), 8)
      for mode in ("simple", "prepared")),
    *(Workload(f"TLS, -S -M {mode}", ("-S", "-M", mode), 8, tls=True) for mode in ("simple", "prepared")),
    # About 64 MB each.
    Workload("COPY, rows of 100 bytes",
             sql="copy (select g, repeat('x', 90) from generate_series(1, 640000) g) to stdout"),
    Workload("SELECT, wide rows", sql="select repeat('x', 32000) from generate_series(1, 2000)"),
    Workload("SELECT, narrow rows", sql="select g from generate_series(1, 3500000) g"),
)
QUICK = tuple(workload for workload in ALL if workload.clients == 8 and not workload.tls)


@dataclass(frozen=True)
class Slice:
    """*cpu*: seconds of the contender's processes a transaction. *on_replica*: the share of SELECTs that a standby ran,
    as the servers counted them. *memory*: bytes of PSS of those processes at the end.
    """

    tps: float
    p50_ms: float
    cpu: float | None
    on_replica: float | None = None
    p99_ms: float = 0.0
    memory: float | None = None


def initialize(bench: Bench) -> None:
    """Make pgbench's tables on the primary and wait for the standbys."""
    primary = bench.servers.primary
    primary.query(f'create database {DATABASE} owner "{bench.role.name}"')
    done = subprocess.run(pgbench(bench, primary.port, "-i", "-q", "-s", str(SCALE)), env=environment(bench),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise PgSplitError(f"pgbench -i ended with {done.returncode}:\n{done.stdout}")
    bench.servers.catch_up()


def measure(bench: Bench, contender: Contender, workload: Workload, seconds: int) -> Slice:
    """Run *workload* for *seconds* and one more before them, which does not count for TPS and CPU.

    PgSplitError with pgbench's words where a client of it met an error.
    """
    if workload.sql:
        return _measure_answers(bench, contender, workload, seconds)
    forget_calls(bench.servers)
    with tempfile.TemporaryDirectory(prefix="pgsplit-bench-") as directory:
        command = pgbench(
            bench, contender.port, "-n", "-c", str(workload.clients), "-j", str(min(workload.clients, 2)),
            "-T", str(seconds + 1), "-P", "1", "-l", "--sampling-rate=0.2", "--log-prefix", f"{directory}/log",
            *workload.arguments)
        process = subprocess.Popen(command, env=environment(bench, tls=workload.tls),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True, start_new_session=True)
        bench.servers.guardian.watch_process(process.pid)
        impatience = threading.Timer(seconds + 60, process.kill)
        impatience.start()
        assert process.stderr is not None
        marks: list[tuple[float, float, float]] = []    # at each of pgbench's reports: time, CPU, TPS since the last
        words: list[str] = []
        for line in process.stderr:
            if found := re.match(r"progress: [\d.]+ s, ([\d.]+) tps", line):
                spent = cpu.seconds(contender.pid) if contender.pid else 0.0
                marks.append((time.monotonic(), spent, float(found[1])))
            else:
                words.append(line)
        code = process.wait()
        impatience.cancel()
        if code or len(marks) < 2:
            raise PgSplitError(f"pgbench {workload.name} with {workload.clients} clients through {contender.name} "
                               f"ended with {code}:\n{''.join(words)}")
        latencies = [int(line.split()[2]) for path in Path(directory).iterdir() for line in path.open()]
    latencies.sort()
    transactions = sum(tps * (now - before) for (before, _, _), (now, _, tps) in pairwise(marks))
    return Slice(
        tps=transactions / (marks[-1][0] - marks[0][0]), p50_ms=statistics.median(latencies) / 1000,
        cpu=(marks[-1][1] - marks[0][1]) / transactions if contender.pid else None,
        on_replica=_on_replica(bench), p99_ms=latencies[len(latencies) * 99 // 100] / 1000, memory=_memory(contender))


def _measure_answers(bench: Bench, contender: Contender, workload: Workload, seconds: int) -> Slice:
    """One answer of many megabytes after another; the first does not count."""
    command = [bench.servers.installation.program("psql"), "-X", "-q", "-A", "-t", "-o", os.devnull, "-h", ports.HOST,
               "-p", str(contender.port), "-U", bench.role.name, "-c", workload.sql, DATABASE]
    times: list[float] = []
    before = 0.0
    while not times or sum(times[1:]) < seconds:
        if len(times) == 1 and contender.pid:
            before = cpu.seconds(contender.pid)
        started = time.monotonic()
        done = subprocess.run(command, env=environment(bench), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, check=False, timeout=120)
        if done.returncode:
            raise PgSplitError(f"psql, {workload.name}, through {contender.name} ended with {done.returncode}:\n"
                               f"{done.stderr}")
        times.append(time.monotonic() - started)
    counted = times[1:]
    spent = (cpu.seconds(contender.pid) - before) / len(counted) if contender.pid else None
    return Slice(len(counted) / sum(counted), 1000 * statistics.median(counted), spent, None, 1000 * max(counted),
                 _memory(contender))


def _memory(contender: Contender) -> float | None:
    return cpu.memory(contender.pid) if contender.pid else None


def _on_replica(bench: Bench) -> float | None:
    calls = [server.query(
        "select coalesce(sum(calls), 0)::bigint from pg_stat_statements s join pg_roles r on r.oid = s.userid "
        "where rolname = %s and query ilike 'select abalance from pgbench_accounts%%'", [bench.role.name])[0][0]
        for server in bench.servers.servers]
    return sum(calls[1:]) / sum(calls) if sum(calls) else None


def pgbench(bench: Bench, port: int, *arguments: str) -> list[str]:
    return [bench.servers.installation.program("pgbench"), "-h", ports.HOST, "-p", str(port), "-U", bench.role.name,
            *arguments, DATABASE]


def environment(bench: Bench, *, tls: bool = False) -> dict[str, str]:
    assert bench.role.password is not None
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGPASSWORD": bench.role.password,
            "PGSSLMODE": "require" if tls else "disable", "PGGSSENCMODE": "disable"}
