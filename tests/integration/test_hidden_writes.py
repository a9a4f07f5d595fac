"""What PostgreSQL acknowledges is seen by the next read of every session (G3), however it was written.

Writes that no text shows, and commits that are acknowledged before they are flushed. Replay stands still meanwhile, or
the write-ahead log writer does: a read that shows the old state came from the standby, and should not have.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pgsplit.demo.replication import PrimaryAndStandbys
from tests.integration.conftest import value
from tests.waiting import eventually

Session = psycopg.Connection[Any]
Way = Callable[[Session], object]

SETUP = """
create schema hidden; grant usage on schema hidden to public;
create table hidden.counter (n int); insert into hidden.counter values (0);
create table hidden.place (a int); insert into hidden.place values (1);
create function hidden.count() returns int language sql volatile security definer as
  'update hidden.counter set n = n + 1 returning n';
create function hidden.counts(int) returns boolean language sql volatile as 'select hidden.count() > $1';
create function public.hidden_note(hidden.place) returns int language sql volatile as 'select hidden.count()';
create function hidden.both(int, int) returns boolean language sql volatile as 'select hidden.count() > $1 + $2';
create operator hidden.<!> (leftarg = int, rightarg = int, function = hidden.both);
create view hidden.view as select hidden.count() as n;
create domain hidden.watched as int check (hidden.counts(value - 1000));
create cast (hidden.place as text) with inout;
create table hidden.guarded (a int); insert into hidden.guarded values (1);
create policy looks on hidden.guarded using (hidden.counts(-1)); alter table hidden.guarded enable row level security;
grant select on hidden.guarded to scram_user;
"""

READ = "select n from hidden.view"
HIDDEN: dict[str, list[str]] = {
    "a view in a transaction": ["begin", READ, "commit"],
    "a view in a transaction, and a read behind it": ["begin", READ, "select 1", "end"],
    "an operator in a transaction": ["begin", "select 1 operator(hidden.<!>) 2", "commit"],
    "attribute notation in a transaction": ["begin", "select p.hidden_note from hidden.place p", "commit"],
    "a domain's check in a transaction": ["begin", "select 5::hidden.watched", "commit"],
    "COMMIT AND CHAIN": ["begin", READ, "commit and chain", "rollback"],
    "one text": [f"begin; {READ}; commit"],
    "behind a savepoint": ["begin", "savepoint s", READ, "release s", "commit"],
    "EXPLAIN ANALYZE": [f"explain (analyze) {READ}"],
    "EXPLAIN ANALYZE in a transaction": ["begin", f"explain analyze {READ}", "commit"],
    "a hint": [f"/* pgsplit: primary */ {READ}"],
    "beside now()": ["select n, now() from hidden.view"],
    "beside pg_backend_pid()": ["select n, pg_backend_pid() from hidden.view"],
    "beside a relation of the server's own": ["select n from hidden.view, pg_stat_activity limit 1"],
    "pgsplit.route": ["set pgsplit.route = 'primary'", READ, "reset pgsplit.route"],
    "PREPARE and EXECUTE": [f"prepare hidden_p as {READ}", "execute hidden_p", "deallocate hidden_p"],
    "EXECUTE in a transaction": [f"prepare hidden_p as {READ}", "begin", "execute hidden_p", "commit",
                                 "deallocate hidden_p"],
    "LOCK TABLE": ["begin", "lock table hidden.place", READ, "commit"],
    "a cursor": ["begin", f"declare hidden_c cursor for {READ}", "fetch hidden_c", "close hidden_c", "commit"],
    "a held cursor": [f"declare hidden_c cursor with hold for {READ}", "fetch hidden_c", "close hidden_c"],
    "a pinned session": ["create temporary table hidden_t (a int)", READ, "drop table hidden_t"],
    "COPY in a transaction": ["begin", f"copy ({READ}) to stdout", "commit"],
    "prepared for two phases": ["begin", READ, "prepare transaction 'hidden'", "commit prepared 'hidden'"],
    "TABLE": ["begin", "table hidden.view", "commit"],
}


@pytest.fixture(scope="module", autouse=True)
def hidden(cluster: PrimaryAndStandbys) -> Iterator[None]:
    cluster.primary.query(SETUP)
    cluster.catch_up()
    yield
    cluster.primary.query("drop schema hidden cascade")


@contextmanager
def replay_paused(cluster: PrimaryAndStandbys) -> Iterator[None]:
    for standby in cluster.standbys:
        standby.pause_replay()
    try:
        yield
    finally:
        for standby in cluster.standbys:
            standby.resume_replay()


@contextmanager
def nothing_flushed_in_the_background(cluster: PrimaryAndStandbys) -> Iterator[None]:
    """As on a disk that stalls, the write-ahead log writer stands still."""
    [(pid,)] = cluster.primary.query("select pid from pg_stat_activity where backend_type = 'walwriter'")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def on_a_replica(session: Session) -> bool:
    session.execute("select n from hidden.counter")
    return value(session, "show pgsplit.last_route") == "replica: read"


def readers(connect: Callable[..., Session]) -> list[Session]:
    """Sessions that read from the standby now, in each worker one at least."""
    found = [connect() for _ in range(9)]
    for session in found:
        eventually(lambda session=session: on_a_replica(session))
    return found


def written(cluster: PrimaryAndStandbys) -> int:
    [(number,)] = cluster.primary.query("select n from hidden.counter")
    return int(number)


def run(session: Session, statement: str) -> None:
    """By the simple protocol, where it holds several; else by the extended one."""
    if statement.startswith("copy"):
        with session.cursor().copy(statement) as copy:
            for _ in copy:
                pass
    elif ";" in statement:
        session.pgconn.exec_(statement.encode())
    else:
        session.execute(statement)


@pytest.mark.parametrize("name", HIDDEN)
def test_a_write_that_no_text_shows_is_seen_by_all(cluster, connect, name):
    if name == "prepared for two phases" and cluster.primary.query("show max_prepared_transactions") == [("0",)]:
        pytest.skip("the server has no prepared transactions")
    watching, writer = readers(connect), connect()
    for _ in range(2):          # the second time the relay may know the texts
        before = written(cluster)
        with replay_paused(cluster):
            for statement in HIDDEN[name]:
                run(writer, statement)
            assert written(cluster) > before, "it writes"
            seen = [value(session, "select n from hidden.counter") for session in (*watching, writer)]
            assert min(seen) == written(cluster), seen
        cluster.catch_up()


def test_a_policy_that_writes_is_seen_by_all(cluster, connect):
    watching = readers(connect)
    writer = connect("scram_user", "scram-secret")
    for _ in range(2):
        with replay_paused(cluster):
            for statement in ("begin", "select a from hidden.guarded", "commit"):
                writer.execute(statement)
            seen = [value(session, "select n from hidden.counter") for session in watching]
            assert min(seen) == written(cluster), seen
        cluster.catch_up()


def test_what_the_primary_has_not_been_asked_moves_nobody(cluster, connect, proxy):
    """Else every BEGIN would send all readers for a sample."""
    watching, other = readers(connect), connect()
    for statement in ("begin", "set application_name = 'still'", "show work_mem", "select 1", "savepoint a", "commit",
                      "listen still", "unlisten still", "prepare still as select 1", "deallocate still"):
        other.execute(statement)
    for session in watching:
        eventually(lambda session=session: value(session, "select 1") and on_a_replica(session))
        value(session, "select n from hidden.counter")      # SHOW has moved the session's own fence
    with replay_paused(cluster):
        cluster.primary.query("update hidden.counter set n = n + 1")       # beside pgsplit: nobody has to wait for it
        for statement in ("begin", "select 1", "savepoint a", "show work_mem", "commit"):
            other.execute(statement)
        assert all(on_a_replica(session) for session in watching)
    cluster.catch_up()


# --- acknowledged, not flushed ------------------------------------------------------------------------------------

COMPOSED = """do $$ begin
  perform pg_catalog.set_config('synchronous' || chr(95) || 'commit', 'off', false); end $$"""
TURNED_OFF: dict[str, Way] = {
    "SET": lambda session: session.execute("set synchronous_commit = off"),
    "set_config": lambda session: session.execute("select set_config('synchronous_commit', 'off', false)"),
    "a composed name": lambda session: session.execute(COMPOSED),
}


def bump(session: Session) -> int:
    row = session.execute("update hidden.counter set n = n + 1 returning n").fetchone()
    assert row is not None
    return int(row[0])


def never_stale(cluster: PrimaryAndStandbys, watching: list[Session], write: Callable[[], int], writer: Session,
                ) -> None:
    with nothing_flushed_in_the_background(cluster):
        for _ in range(20):
            number = write()
            seen = [value(session, "select n from hidden.counter") for session in (*watching, writer)]
            assert min(seen) == number, seen


@pytest.mark.parametrize("way", TURNED_OFF)
def test_a_commit_that_is_not_flushed_yet_is_seen_by_all(cluster, connect, way):
    watching, writer = readers(connect), connect()
    TURNED_OFF[way](writer)
    never_stale(cluster, watching, lambda: bump(writer), writer)


def test_a_functions_own_setting_is_seen_by_all(cluster, connect):
    watching, writer = readers(connect), connect()
    cluster.primary.query("create function hidden.lazily() returns int language plpgsql as $$ begin "
                          "set local synchronous_commit = off; return hidden.count(); end $$")
    never_stale(cluster, watching, lambda: int(value(writer, "select hidden.lazily()")), writer)


def test_a_role_or_server_that_is_told_while_pgsplit_runs_is_seen_by_all(cluster, connect):
    watching = readers(connect)
    cluster.primary.query("alter role postgres set synchronous_commit = off")
    try:
        writer = connect()
        never_stale(cluster, watching, lambda: bump(writer), writer)
    finally:
        cluster.primary.query("alter role postgres reset synchronous_commit")
    cluster.primary.query("alter system set synchronous_commit = off")
    cluster.primary.query("select pg_reload_conf()")
    try:
        writer = connect()
        eventually(lambda: value(writer, "show synchronous_commit") == "off")
        never_stale(cluster, watching, lambda: bump(writer), writer)
    finally:
        cluster.primary.query("alter system reset synchronous_commit")
        cluster.primary.query("select pg_reload_conf()")


def test_reads_come_back_to_the_replica_once_all_is_flushed(cluster, connect):
    """One session that does not wait for the flush costs the others nothing for ever."""
    watching, writer = readers(connect), connect()
    writer.execute("set synchronous_commit = off")
    bump(writer)
    for session in watching:
        eventually(lambda session=session: on_a_replica(session))
