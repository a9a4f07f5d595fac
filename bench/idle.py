"""What ten thousand idle sessions cost: memory of the workers, and whether eight busy sessions notice them.

Idle sessions end at bench/stub_server.py, 200 of them at the real servers; all are split. Memory is the proportional
set size (PSS) of pgsplit's processes. The busy ones are pgbench -S, in rounds without and with the idle ones: the
idle sessions live in one pgsplit, the busy ones in the same and in another that has none, in alternation.
"""

from __future__ import annotations

import argparse
import random
import secrets
import socket
import statistics
import sys
from collections import defaultdict

from bench import contenders, cpu, report, stub, workloads
from bench.contenders import Bench, Contender
from bench.login import READY, login
from bench.workloads import Slice, Workload
from pgsplit.demo import account, ports
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from pgsplit.errors import PgSplitError
from pgsplit.wire import build

BUSY = Workload("-S -M simple", ("-S", "-M", "simple"), 8)
IDLE = stub.SERVED.name


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench idle", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--real", type=int, default=200, help="of them at the real servers (200)")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=3, help="of a slice (3)")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    bench_role = Role("bench", secrets.token_hex(8))
    try:
        with PrimaryAndStandbys([bench_role, stub.SERVED], superuser_password=secrets.token_hex(8),
                                standbys=1) as servers:
            bench = Bench(servers, bench_role, account.choose(), args.workers)
            workloads.initialize(bench)
            stubs = [stub.start(bench, server, number) for number, server in enumerate(servers.servers)]
            quiet, crowded = (contenders.pgsplit(
                bench, name=name, directory=name, primary=f"{ports.HOST}:{stubs[0]}",
                replicas=[f"{ports.HOST}:{stubs[1]}"],
                users={bench_role.name: bench_role.password, IDLE: "unused"}) for name in ("quiet", "crowded"))
            return compare(bench, quiet, crowded, args)
    except PgSplitError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def compare(bench: Bench, quiet: Contender, crowded: Contender, args: argparse.Namespace) -> int:
    assert crowded.pid is not None
    workloads.measure(bench, crowded, BUSY, 2)      # warm: what comes with the first sessions is not the idle ones'
    before = cpu.memory(crowded.pid)
    spent = cpu.seconds(crowded.pid)
    real = bench.role.name, bench.role.password or "", workloads.DATABASE
    sessions = [login(crowded.port, *(real if number < args.real else (IDLE, "", IDLE)))
                for number in range(args.sessions)]
    spent = cpu.seconds(crowded.pid) - spent
    after = cpu.memory(crowded.pid)
    print(f"{args.sessions:,} idle sessions, {args.real} of them at the real servers: "
          f"{(after - before) / args.sessions / 1024:.1f} KiB of PSS a session, {after / 2**20:.0f} MiB in all; "
          f"{1000 * spent / args.sessions:.2f} ms of CPU a login", flush=True)
    slices: dict[str, list[Slice]] = defaultdict(list)
    for _ in range(args.rounds):
        for contender in random.sample((quiet, crowded), 2):
            slices[contender.name].append(workloads.measure(bench, contender, BUSY, args.seconds))
    for name, of in (("CPU a transaction", "cpu"), ("TPS", "tps"), ("p50", "p50_ms")):
        ratios = [getattr(one, of) / getattr(other, of)
                  for one, other in zip(slices["crowded"], slices["quiet"], strict=True)]
        low, high = report.interval(ratios)
        print(f"{name} of 8 busy sessions with them, to without: {statistics.median(ratios):.3f} "
              f"({low:.3f}–{high:.3f})")
    alive = sum(asks(session) for session in random.sample(sessions, min(500, len(sessions))))
    print(f"{alive} of {min(500, len(sessions))} that were asked then are alive")
    return 0 if alive == min(500, len(sessions)) else 1


def asks(sock: socket.socket) -> bool:
    sock.sendall(build.query("SELECT 1"))
    got = b""
    while not got.endswith(READY):
        piece = sock.recv(65536)
        if not piece:
            return False
        got += piece
    return b"SELECT 1\0" in got


if __name__ == "__main__":
    sys.exit(main())
