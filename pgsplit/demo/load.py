"""A small mixed load of reads, writes and transactions, by ordinary clients that check what they read.

``python -m pgsplit.demo.load`` reads a :class:`Plan` as a line of JSON from stdin, runs until stdin closes or
``seconds`` are over, and prints a :class:`Report` as JSON. It is a process of its own, so that it costs pgsplit and
the display nothing but its share of the machine.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from pgsplit.demo.guardian import Guardian

ROWS_A_CLIENT = 10
LONGEST = 24 * 3600.0

SCHEMA = """
create table account (id int primary key, owner int not null, balance bigint not null default 0);
create table transfer (id bigint generated always as identity, source int, target int, amount bigint);
create index on account (owner);
"""


@dataclass(frozen=True)
class Plan:
    """Each item of ``logins`` is a client's own connection arguments; it aims at ``rate`` steps a second."""

    logins: list[dict[str, Any]] = field(repr=False)
    rate: float = 30.0
    seconds: float = LONGEST


@dataclass
class Report:
    """What the clients did. ``stale``: reads that did not show the client's own last write; there must be none."""

    statements: int = 0
    stale: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        self.statements += other.statements
        self.stale += other.stale
        self.errors += other.errors


def prepare(clients: int) -> str:
    """The SQL that makes the load's tables for so many clients, each with rows of its own; any role may use them."""
    return (f"{SCHEMA} insert into account select id, id / {ROWS_A_CLIENT} "
            f"from generate_series(0, {clients * ROWS_A_CLIENT - 1}) as id; "
            "grant select, insert, update on account, transfer to public; analyze")


class Client:
    """One connection and what its owner knows about its rows: nobody else changes them."""

    def __init__(self, number: int, login: dict[str, Any]) -> None:
        self.report = Report()
        self._number = number
        self._login = login
        self._random = random.Random(number)
        self._ids = range(number * ROWS_A_CLIENT, (number + 1) * ROWS_A_CLIENT)
        self._balances = dict.fromkeys(self._ids, 0)

    def run(self, rate: float, enough: threading.Event) -> None:
        steps = [self._read] * 10 + [self._total] * 3 + [self._deposit] * 2 + [self._transfer]
        try:
            with psycopg.connect(**self._login, autocommit=True, prepare_threshold=None) as connection:
                while not enough.wait(self._random.expovariate(rate)):
                    self._random.choice(steps)(connection)
        except psycopg.Error as error:
            self.report.errors.append(f"client {self._number}: {type(error).__name__}: {error}")
            enough.set()

    def _read(self, connection: psycopg.Connection[Any]) -> None:
        account = self._random.choice(self._ids)
        [(balance,)] = self._query(connection, "select balance from account where id = %s", account)
        self._check(balance, self._balances[account])

    def _total(self, connection: psycopg.Connection[Any]) -> None:
        [found] = self._query(connection, "select count(*), sum(balance)::bigint from account where owner = %s",
                              self._number)
        self._check(found, (ROWS_A_CLIENT, sum(self._balances.values())))

    def _deposit(self, connection: psycopg.Connection[Any]) -> None:
        account, amount = self._random.choice(self._ids), self._random.randint(1, 100)
        self._balances[account] += amount
        self._query(connection, "update account set balance = balance + %s where id = %s", amount, account)
        [(balance,)] = self._query(connection, "select balance from account where id = %s", account)
        self._check(balance, self._balances[account])

    def _transfer(self, connection: psycopg.Connection[Any]) -> None:
        (source, target), amount = self._random.sample(self._ids, 2), self._random.randint(1, 100)
        with connection.transaction():
            self.report.statements += 2     # its begin and commit
            for account, change in ((source, -amount), (target, amount)):
                self._balances[account] += change
                self._query(connection, "update account set balance = balance + %s where id = %s", change, account)
            self._query(connection, "insert into transfer (source, target, amount) values (%s, %s, %s) returning id",
                        source, target, amount)

    def _query(self, connection: psycopg.Connection[Any], sql: Any, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = connection.execute(sql, parameters)
        self.report.statements += 1
        return cursor.fetchall() if cursor.description else []

    def _check(self, seen: Any, known: Any) -> None:
        if seen != known:
            self.report.stale += 1


def run(plan: Plan, enough: threading.Event) -> Report:
    """Run *plan* until *enough* is set or its time is over."""
    clients = [Client(number, login) for number, login in enumerate(plan.logins)]
    threads = [threading.Thread(target=client.run, args=(plan.rate, enough)) for client in clients]
    for thread in threads:
        thread.start()
    enough.wait(plan.seconds)
    enough.set()
    report = Report()
    for client, thread in zip(clients, threads, strict=True):
        thread.join()
        report.add(client.report)
    return report


class Load:
    """The load as a process: :meth:`start`, and :meth:`stop` for its report."""

    def __init__(self, logins: Sequence[dict[str, Any]], guardian: Guardian) -> None:
        self._plan = Plan(list(logins))
        self._guardian = guardian
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "pgsplit.demo.load"], stdin=subprocess.PIPE, text=True,
                                         stdout=subprocess.PIPE, start_new_session=True,
                                         cwd=Path(__file__).resolve().parents[2])
        self._guardian.watch_process(self._process.pid)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(self._plan)) + "\n")    # not as arguments: it has passwords
        self._process.stdin.flush()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> Report:
        if self._process is None:
            return Report()
        output, _ = self._process.communicate(timeout=60)
        if self._process.returncode:
            return Report(errors=[f"the load's process ended with {self._process.returncode}"])
        return Report(**json.loads(output))


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))
    enough = threading.Event()
    threading.Thread(target=_wait_for_end_of_input, args=(enough,), daemon=True).start()
    print(json.dumps(asdict(run(plan, enough))))


def _wait_for_end_of_input(enough: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    enough.set()


if __name__ == "__main__":
    main()
