"""Statements are cancelled wherever one can wait or run, at random, by CancelRequests to any worker.

Each must end in 57014 and soon (or have ended already, with its right answer), what is behind it in a pipeline must be
answered rightly and in order, and nothing that is sent behind a cancel may be hit by it. The standby's replay is paused
in turn, the primary kept from telling a session's state, the replica's connections are cut. Every place must have been
hit.
"""

from __future__ import annotations

import argparse
import random
import select
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import pq

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role, Server
from pgsplit.session.session import SYNC_AWAITED
from tests.checkers.crew import Crew
from tests.conftest import default_configuration
from tests.waiting import eventually

USER = "scram_user"
CLIENTS = 10            # more than a block of sessions that one worker is given
WORKERS = 3
FENCE_WAIT = 60         # seconds, as long as every other wait here: who is answered by SOON was not answered by its end
SOON = 20.0             # seconds
ROUND = 1.5             # seconds that a stage lasts,
LONGEST = 30.0          # and more, while it has a place that has not been hit

SLEEP = "select pg_sleep(60), {tag}"
LONG = "select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b where a + b <> -{tag}"
STALE = "select n from cancels where id = {id} and {tag} > 0"
READ = "select {tag} + 0"
LOCKING = "select {tag} for update"
ROWS = "select repeat('x', 1000), a from generate_series(1, 500000) a where a <> -{tag}"
WROTE = ("update cancels set n = n + 1 where id = {id}",)
LOCKED = ("select pg_advisory_lock({id})", "select pg_advisory_unlock({id})")

Answers = list[list[str]]       # of each batch: SQLSTATEs and first cells

# Where a statement is found before it is cancelled.
PRIMARY, REPLICA, ANYWHERE, NOWHERE, QUESTION = "primary", "replica", "anywhere", "nowhere", "question"
# How it is sent.
SIMPLE, EXTENDED, UNSYNCED, UNREAD, COPY_IN = "simple", "extended", "without its Sync", "unread", "copy in"


@dataclass(frozen=True)
class Place:
    """*sql* is cancelled when it is *found* there; *ahead* and *behind* are in its pipeline, *before* is run first.

    *races*: it is short, and cancelled at any moment.
    """

    name: str
    sql: str
    found: str
    form: str = SIMPLE
    before: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    races: bool = False


STAGES: Final[dict[str, tuple[Place, ...]]] = {
    "plain": (
        Place("at the primary", SLEEP, PRIMARY),
        Place("at the primary, extended", SLEEP, PRIMARY, EXTENDED),
        Place("at the primary, before its Sync", SLEEP, PRIMARY, UNSYNCED),
        Place("at the primary, in a transaction", SLEEP, PRIMARY, before=("begin",)),
        Place("at the primary, before others", SLEEP, PRIMARY, EXTENDED, behind=(READ, LOCKING, READ)),
        Place("at the primary, behind a read", SLEEP, PRIMARY, EXTENDED, ahead=(READ,), behind=(READ,)),
        Place("at the replica", LONG, REPLICA),
        Place("at the replica, extended", LONG, REPLICA, EXTENDED),
        Place("at the replica, before others", LONG, REPLICA, EXTENDED, behind=(READ, LOCKING, READ)),
        Place("at the replica, behind a read", LONG, REPLICA, EXTENDED, ahead=(READ,), behind=(READ, READ)),
        Place("a read before its Sync", LONG, NOWHERE, UNSYNCED),
        Place("a read whose Sync is awaited no more", LONG, PRIMARY, UNSYNCED),
        Place("an answer of the replica's that is not read", ROWS, ANYWHERE, UNREAD),
        Place("an answer of the primary's that is not read", "/* pgsplit: primary */ " + ROWS, PRIMARY, UNREAD),
        Place("COPY TO STDOUT", f"copy ({ROWS}) to stdout", ANYWHERE, UNREAD),
        Place("COPY FROM STDIN", "copy cancels from stdin where id <> {tag}", PRIMARY, COPY_IN),
        Place("ending at the primary", "select pg_sleep(0.1), {tag}", ANYWHERE, races=True),
        Place("ending at the replica", "select {tag} from generate_series(1, 200000) a order by a desc limit 1",
              ANYWHERE, races=True),
    ),
    "replay paused": (
        Place("at the fence", STALE, NOWHERE, before=WROTE),
        Place("at the fence, extended", STALE, NOWHERE, EXTENDED, before=WROTE),
        Place("at the fence, before its Sync", STALE, NOWHERE, UNSYNCED, before=WROTE),
        Place("at the fence, before a write", STALE, NOWHERE, EXTENDED, before=WROTE, behind=(LOCKING, LOCKING)),
    ),
    "no word": (
        Place("at the state question", READ, QUESTION, before=LOCKED),
        Place("at the state question, extended", READ, QUESTION, EXTENDED, before=LOCKED),
        Place("at the state question, before a write", READ, QUESTION, EXTENDED, before=LOCKED, behind=(LOCKING,)),
    ),
    "replica's connections cut": (
        Place("while the replica is connected again", LONG, ANYWHERE),
        Place("while the replica is connected again, before others", LONG, ANYWHERE, EXTENDED, behind=(LOCKING, READ)),
    ),
}
WITHOUT_READS: Final = frozenset({"replay paused", "no word"})       # stages in which a read would wait


@dataclass
class Findings:
    """*hits*: statements that ended in 57014; *ended*: those that were quicker than their cancel, or went on before it;
    by place.
    *slowest*: the seconds it took, and where.
    """

    hits: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    elsewhere: int = 0
    slowest: tuple[float, str] = (0, "")
    errors: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        return [place.name for places in STAGES.values() for place in places if not self.hits[place.name]]

    @property
    def good(self) -> bool:
        return not (self.errors or self.missed) and self.elsewhere > 0

    def __str__(self) -> str:
        took, where = self.slowest
        lines = [f"{self.hits.total():,} statements cancelled, the slowest after {took:.2f} s ({where})",
                 f"{self.ended.total():,} had just ended; at least {self.elsewhere:,} cancels came to another worker"]
        for places in STAGES.values():
            lines += [f"  {place.name}: {self.hits[place.name]}"
                      + (f", {self.ended[place.name]} had ended" if place.races else "") for place in places]
        lines += [f"  never hit: {name}" for name in self.missed]
        return "\n".join((*lines, *(f"  WRONG {error}" for error in self.errors[:10])))


class Wrong(Exception):
    """What must not be."""


class Session:
    """A connection by libpq's own functions, none of which waits without a bound."""

    def __init__(self, conninfo: str, number: int) -> None:
        self.id = number
        self.pg = pq.PGconn.connect(conninfo.encode())
        if self.pg.status != pq.ConnStatus.OK:
            raise Wrong(f"no login: {self.pg.error_message.decode()}")
        self._connection = psycopg.Connection(self.pg)
        self.pid = self.pg.backend_pid
        self.cancels = 0

    def cancel(self) -> None:
        """Returns when the CancelRequest's connection has been closed."""
        self.cancels += 1
        self._connection.cancel_safe(timeout=3 * SOON)      # other threads run meanwhile

    def send(self, place: Place, texts: list[str]) -> None:
        """*texts*: those ahead, the one that is to be cancelled, those behind."""
        if place.form in (SIMPLE, UNREAD, COPY_IN):
            self.pg.send_query(texts[0].encode())
            if place.form == UNREAD:
                self.pg.set_single_row_mode()
        else:
            self.pg.enter_pipeline_mode()
            for text in texts:
                self.pg.send_query_params(text.encode(), None)
                if place.form == EXTENDED:
                    self.pg.pipeline_sync()
        self._flush()

    def answers(self, place: Place, batches: int, *, late: bool) -> Answers:
        """*late*: what has no Sync may have ended already, and a server keeps the answer to that until there is one."""
        if place.form == COPY_IN:
            return [self._end_copy()]
        if place.form in (SIMPLE, UNREAD):
            return [self._simple()]
        found: Answers = []
        if place.form == UNSYNCED:
            if late:
                self._sync()
            found.append([self._said(self._result())])
            if not late:
                self._sync()
        while len(found) < batches or place.form == UNSYNCED:
            batch: list[str] = []
            while (result := self._result()) is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
                if result is not None:
                    batch.append(self._said(result))
            if place.form == UNSYNCED:
                break
            found.append(batch)
        self.pg.exit_pipeline_mode()
        return found

    def run(self, sql: str) -> list[str]:
        self.pg.send_query(sql.encode())
        self._flush()
        return self._simple()

    def _simple(self) -> list[str]:
        found: list[str] = []
        while (result := self._result()) is not None:
            if result.status == pq.ExecStatus.COPY_OUT:
                self._take_copy()
            elif result.status != pq.ExecStatus.SINGLE_TUPLE:
                found.append(self._said(result))
        return found

    def _take_copy(self) -> None:
        def over() -> bool:
            while (size := self.pg.get_copy_data(1)[0]) > 0:
                pass
            return size < 0

        self._await(over)

    def _end_copy(self) -> list[str]:
        result = self._result()
        if result is not None and result.status == pq.ExecStatus.COPY_IN:
            self.pg.put_copy_data(b"-1\t0\n")       # a server that waits for data sees nothing else, not even a cancel
            self.pg.put_copy_end()
            self._flush()
            return self._simple()
        return [self._said(result), *self._simple()]

    @staticmethod
    def _said(result: pq.PGresult | None) -> str:
        if result is None:
            return "nothing"
        if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED):
            return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"aborted").decode()
        cell = result.get_value(0, result.nfields - 1) if result.ntuples else None
        return "" if cell is None else cell.decode()

    def _sync(self) -> None:
        self.pg.pipeline_sync()
        self._flush()

    def _flush(self) -> None:
        self._await(lambda: self.pg.flush() == 0)

    def _result(self) -> pq.PGresult | None:
        self._await(lambda: not self.pg.is_busy())
        return self.pg.get_result()

    def _await(self, over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SOON
        while not over():
            if time.monotonic() > deadline:
                raise Wrong(f"no answer for {SOON:.0f} s")
            select.select([self.pg.socket], [], [], 0.05)
            self.pg.consume_input()


class Watch:
    """Looks where statements run, on the servers themselves."""

    def __init__(self, cluster: PrimaryAndStandbys) -> None:
        self._servers = {PRIMARY: cluster.primary.connect("postgres", autocommit=True),
                         REPLICA: cluster.standbys[0].connect("postgres", autocommit=True)}
        self._lock = threading.Lock()

    def close(self) -> None:
        for connection in self._servers.values():
            connection.close()

    def _ask(self, server: str, condition: str, value: Any) -> bool:
        with self._lock:
            return bool(self._servers[server].execute(
                f"select from pg_stat_activity where usename = '{USER}' and state = 'active' and {condition}",
                [value]).rowcount)

    def runs(self, server: str, tag: int) -> bool:
        return self._ask(server, "query like %s", f"%{tag}%")

    def is_there(self, place: Place, tag: int, pid: int) -> bool:
        if place.found == QUESTION:
            return self._ask(PRIMARY, "wait_event_type = 'Lock' and pid = %s", pid)
        servers = (PRIMARY, REPLICA) if place.found in (ANYWHERE, NOWHERE) else (place.found,)
        return any(self.runs(server, tag) for server in servers)


class Checker:
    def __init__(self, proxy: Proxy, password: str, watch: Watch) -> None:
        self.findings = Findings()
        self._proxy = proxy
        self._conninfo = (f"host=127.0.0.1 port={proxy.port} user={USER} password={password} dbname=postgres "
                          "sslmode=disable connect_timeout=20 "
                          "options='-c jit=off -c statement_timeout=120s'")     # nothing interrupts a compilation
        self._watch = watch
        self._lock = threading.Lock()
        self._tags = count(1_000_000)
        self._tried: Counter[str] = Counter()
        self.sessions = [Session(self._conninfo, number) for number in range(CLIENTS)]
        self._of_workers = self._count_cancels()

    def hit(self, stage: str) -> bool:
        """Each place of the stage."""
        return all(self.findings.hits[place.name] for place in STAGES[stage])

    def attempt(self, stage: str, number: int, dice: random.Random) -> None:
        with self._lock:
            fewest = min(self._tried[place.name] for place in STAGES[stage])
            place = dice.choice([place for place in STAGES[stage] if self._tried[place.name] <= fewest + 1])
            self._tried[place.name] += 1
            tag = next(self._tags)
        session = self.sessions[number]
        try:
            if stage == "plain":
                self._have_replica(session)
            self._cancel_at(place, session, tag, dice)
            self._use(stage, session)
            if stage == "plain":
                self._have_replica(session)
        except Wrong as wrong:
            with self._lock:
                self.findings.errors.append(f"{place.name}: {wrong}")
            session.pg.finish()
            self.sessions[number] = Session(self._conninfo, number)

    def _cancel_at(self, place: Place, session: Session, tag: int, dice: random.Random) -> None:
        for sql in place.before:
            session.run(sql.format(id=session.id))
        tags = [next(self._tags) for _ in (*place.ahead, *place.behind)]
        tags.insert(len(place.ahead), tag)
        texts = [sql.format(tag=each, id=session.id)
                 for sql, each in zip((*place.ahead, place.sql, *place.behind), tags, strict=True)]
        sent = time.monotonic()
        session.send(place, texts)
        self._await(place, tag, session, dice, sent)
        began = time.monotonic()
        session.cancel()
        late = place.form == UNSYNCED and place.found == NOWHERE and time.monotonic() - sent > SYNC_AWAITED
        answers = session.answers(place, len(texts), late=late)
        took = time.monotonic() - began
        others = [answer for index, answer in enumerate(answers) if index != len(place.ahead)]
        expected = [[str(each)] for each in tags if each != tag]
        if others != expected:
            raise Wrong(f"{others} instead of {expected} around {answers[len(place.ahead)]}")
        cancelled = answers[len(place.ahead)] == ["57014"]
        ended = answers[len(place.ahead)] == [str(tag)] if place.races else late and place.sql == STALE
        if not (cancelled or ended):
            raise Wrong(f"it was answered {answers[len(place.ahead)]} after {took:.2f} s")
        with self._lock:
            (self.findings.hits if cancelled and not late else self.findings.ended)[place.name] += 1
            self.findings.slowest = max(self.findings.slowest, (took, place.name))

    def _await(self, place: Place, tag: int, session: Session, dice: random.Random, sent: float) -> None:
        """Until the statement is where it is to be cancelled, and for a random moment then.

        A read whose Sync has not come for SYNC_AWAITED goes on to the primary: on a busy machine it may be there when
        somebody looks.
        """
        if place.races:
            time.sleep(dice.uniform(0, 0.1))
        elif place.found == NOWHERE:
            time.sleep(dice.uniform(0.1, 0.3))
            runs = self._watch.is_there(place, tag, session.pid)
            if runs and (place.form != UNSYNCED or time.monotonic() - sent < SYNC_AWAITED):
                raise Wrong("it runs at a server, where it was to wait")
        else:
            try:
                eventually(lambda: self._watch.is_there(place, tag, session.pid), timeout=SOON)
            except TimeoutError:
                raise Wrong("it has not come there") from None
            time.sleep(dice.choice((0, dice.uniform(0, 0.1))))

    def _use(self, stage: str, session: Session) -> None:
        """What comes next is answered rightly."""
        if session.pg.transaction_status == pq.TransactionStatus.INERROR:
            session.run("rollback")
        for sql in (LOCKING,) if stage in WITHOUT_READS else (LOCKING, READ):
            tag = next(self._tags)
            answer = session.run(sql.format(tag=tag))
            if answer != [str(tag)]:
                raise Wrong(f"the next statement, {sql}, was answered {answer}")

    @staticmethod
    def _have_replica(session: Session) -> None:
        """Its connection may have been cut."""
        try:
            eventually(lambda: session.run(READ.format(tag=1)) == ["1"]
                       and session.run("show pgsplit.last_route") == ["replica: read"], timeout=SOON)
        except TimeoutError:
            raise Wrong("its reads do not go to the replica again") from None

    def count_elsewhere(self) -> None:
        """At least so many cancels came to another worker than the session's: more than its sessions have sent."""
        pids = {session.pid: session.cancels for session in self.sessions}
        for worker, before in self._of_workers.items():
            own = sum(pids.get(known["pid"], 0) for known in self._proxy.client.worker(worker, "sessions"))
            self.findings.elsewhere += max(0, self._count_cancels()[worker] - before - own)

    def _count_cancels(self) -> dict[int, int]:
        return {worker: sum(value for name, value in self._proxy.client.worker(worker, "totals").items()
                            if name.endswith(".cancels")) for worker in self._proxy.client.workers()}


@contextmanager
def replay_paused(cluster: PrimaryAndStandbys) -> Iterator[None]:
    cluster.catch_up()
    cluster.standbys[0].pause_replay()
    try:
        yield
    finally:
        cluster.standbys[0].resume_replay()
        cluster.catch_up()


@contextmanager
def no_word(cluster: PrimaryAndStandbys) -> Iterator[None]:
    """pgsplit's question whether a session has an advisory lock waits at the primary."""
    with cluster.primary.connect("postgres", autocommit=False) as connection:
        connection.execute("lock table pg_catalog.pg_locks in access exclusive mode")
        yield
        connection.rollback()


@contextmanager
def connections_cut(cluster: PrimaryAndStandbys) -> Iterator[None]:
    over = threading.Event()

    def cut(standby: Server) -> None:
        with standby.connect("postgres", autocommit=True) as connection:
            while not over.wait(0.1):
                connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [USER])

    thread = threading.Thread(target=cut, args=cluster.standbys)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def plain(cluster: PrimaryAndStandbys) -> Iterator[None]:
    cluster.catch_up()
    yield


SCENES: Final = {"plain": plain, "replay paused": replay_paused, "no word": no_word,
                 "replica's connections cut": connections_cut}


def check(cluster: PrimaryAndStandbys, proxy: Proxy, seconds: float, seed: int) -> Findings:
    """Each stage at least once, and all again for *seconds*."""
    cluster.primary.query("create table cancels (id int, n int); insert into cancels select g, 0 from "
                          f"generate_series(0, {CLIENTS - 1}) g; grant all on cancels to {USER}")
    cluster.catch_up()
    watch = Watch(cluster)
    try:
        checker = Checker(proxy, cluster.roles[USER].password or "", watch)
        found = checker.findings
        end = time.monotonic() + seconds
        for turn in count():
            for stage, scene in SCENES.items():
                def work(number: int, dice: random.Random, stage: str = stage) -> None:
                    checker.attempt(stage, number, dice)

                until = time.monotonic() + ROUND
                with scene(cluster), Crew(CLIENTS, seed + turn, work) as crew:
                    while not crew.over.wait(0.1) and time.monotonic() < until + LONGEST:
                        if time.monotonic() > until and checker.hit(stage):
                            break
                found.errors += crew.failures[:3]
            if found.errors or time.monotonic() >= end:
                break
        checker.count_elsewhere()
        for session in checker.sessions:
            session.pg.finish()
    finally:
        watch.close()
        cluster.primary.query("drop table cancels")
    return found


def configuration(cluster: PrimaryAndStandbys) -> dict[str, Any]:
    return default_configuration(cluster) | {"pgsplit": {"workers": WORKERS, "fence_wait": f"{FENCE_WAIT}s"}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run cancels", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="in all (60)")
    parser.add_argument("--seed", type=int, default=random.randrange(10000))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with (PrimaryAndStandbys([Role(USER, "scram-secret")], superuser_password="postgres-secret") as cluster,
          tempfile.TemporaryDirectory(prefix="pgsplit-") as directory):
        proxy = Proxy(Path(directory), configuration(cluster), cluster.guardian)
        proxy.start()
        try:
            found = check(cluster, proxy, args.seconds, args.seed)
        finally:
            proxy.stop()
        if not found.good:
            print(proxy.log.read_text(errors="replace")[-20000:])
        print(f"{found}\n{'as it must be' if found.good else 'NOT AS IT MUST BE'}", flush=True)
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
