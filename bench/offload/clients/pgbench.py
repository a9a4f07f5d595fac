"""pgbench: TPC-B, and transactions of two reads."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.offload.clients import NotHere, Sent, Target

CLIENTS = 4
READS = Path(__file__).resolve().parents[1] / "reads.sql"


def tpc_b(target: Target, rounds: int) -> Sent:
    run(target, *_each(rounds))
    return Sent(0, CLIENTS * rounds)


def transactions(target: Target, rounds: int) -> Sent:
    run(target, *_each(rounds), "-f", str(READS))
    return Sent(2 * CLIENTS * rounds)


def prepared_transactions(target: Target, rounds: int) -> Sent:
    run(target, *_each(rounds), "-M", "prepared", "-f", str(READS))
    return Sent(2 * CLIENTS * rounds)


def _each(rounds: int) -> tuple[str, ...]:
    return ("-n", "-c", str(CLIENTS), "-j", "2", "-t", str(rounds), "--random-seed=1")


def run(target: Target, *arguments: str) -> None:
    program = target.programs / "pgbench"
    if not program.exists():
        raise NotHere("pgbench is not installed")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGPASSWORD": target.password,
                   "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}
    done = subprocess.run([program, "-h", target.host, "-p", str(target.port), "-U", target.user, *arguments,
                           target.dbname], env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"pgbench ended with {done.returncode}: {done.stderr.strip()}")
