"""Runs of a script, directly and through pgsplit, and what differs between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pgsplit.demo.replication import PrimaryAndStandbys
from tests.differential.client import Client, Hung, Message
from tests.differential.replies import Normaliser, shown
from tests.differential.script import Step

DATABASE = "differential"
USER = "trust_user"         # a superuser meanwhile
MOST_TRIALS = 150           # of shorter scripts

Answers = list[list[Message]]


@dataclass(frozen=True)
class Mismatch:
    """*step* of the script was answered as no direct run does it."""

    script: Sequence[Step]
    number: int
    direct: list[Message]
    through: list[Message]

    def __str__(self) -> str:
        before = "\n".join(f"  {step}" for step in self.script[:self.number])
        return (f"{before}\n> {self.script[self.number]}\n  directly:\n{shown(self.direct)}\n"
                f"  through pgsplit:\n{shown(self.through)}")


class Runner:
    """*port* is pgsplit's. Each run has a new database, and a role of the script's that is gone afterwards."""

    def __init__(self, cluster: PrimaryAndStandbys, port: int) -> None:
        self._cluster = cluster
        self._primary = cluster.primary
        self._port = port
        self.steps = 0
        self.unsteady = 0

    def check(self, script: Sequence[Step], attempts: int = 2) -> Mismatch | None:
        """The first step whose answer through pgsplit is none that direct runs give."""
        direct = [self._run(script, self._primary.port)]
        through = self._run(script, self._port)
        self.steps += len(script)
        while (number := _first_difference(direct, through)) is not None and len(direct) <= attempts:
            direct.append(self._run(script, self._primary.port))
            if not _alike(direct, number):
                steady = [step for index, step in enumerate(script) if _alike(direct, index)]
                self.unsteady += len(script) - len(steady)
                return self.check(steady, attempts)
        return None if number is None else Mismatch(script, number, direct[0][number], through[number])

    def shortened(self, found: Mismatch, say: Callable[[str], None] = print) -> Mismatch:
        """A short script that shows a mismatch, too: steps before it are left out, many at once, then fewer."""
        trials = 0
        size = max(1, found.number // 2)
        while size and trials < MOST_TRIALS:
            position = 0
            while position < found.number and trials < MOST_TRIALS:
                trials += 1
                script = [*found.script[:position], *found.script[min(position + size, found.number):found.number + 1]]
                shorter = self.check(script, attempts=1)
                if shorter is None:
                    position += size
                else:
                    found = replace(shorter, script=shorter.script[:shorter.number + 1])
            say(f"  {found.number + 1} steps are left after {trials} trials")
            size //= 2
        return found

    def _run(self, script: Sequence[Step], port: int) -> Answers:
        self._new_database()
        if port == self._port:
            self._cluster.catch_up()        # or its login finds no replica that has the database
        client = Client(port, USER, DATABASE)
        normalised = Normaliser()
        answers: Answers = []
        try:
            for step in script:
                if client.closed:
                    client.close()
                    client = Client(port, USER, DATABASE)
                answers.append(normalised(_asked(client, step)))
        finally:
            client.close()
        return answers

    def _new_database(self) -> None:
        for (name,) in self._primary.query(f"select gid from pg_prepared_xacts where database = '{DATABASE}'"):
            self._primary.query(f"rollback prepared '{name}'", dbname=DATABASE)
        self._primary.query(f"drop database if exists {DATABASE} with (force)")
        made = self._primary.query("select quote_ident(rolname) from pg_roles where rolname ~ '^(regress|diff)'")
        for (role,) in made:
            self._primary.query(f"drop role {role}")
        self._primary.query(f"create database {DATABASE}")
        self._primary.query("create role diff_tenant")


def _asked(client: Client, step: Step) -> list[Message]:
    found: list[Message] = []
    try:
        for data, syncs in step.writes():
            if not client.closed:
                found += client.ask(data, syncs)
    except Hung as hung:
        found += [*hung.args[0], (b"", b"hung")]
        client.close()
    return found


def _first_difference(direct: Sequence[Answers], through: Answers) -> int | None:
    return next((number for number, answer in enumerate(through) if all(run[number] != answer for run in direct)), None)


def _alike(runs: Sequence[Answers], number: int) -> bool:
    return all(run[number] == runs[0][number] for run in runs)
