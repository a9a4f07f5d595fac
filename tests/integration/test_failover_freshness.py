"""What reads show over a failover, by how fresh they are to be; and what a position of the term before is worth."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Server
from pgsplit.split.token import parse
from tests.integration.conftest import Start, value
from tests.integration.test_failover import count
from tests.integration.test_one_list import one_list
from tests.integration.test_topology import Session, append, connect, kept, route
from tests.waiting import eventually

pytestmark = [pytest.mark.pg]

NEWEST = "select max(n) from kept"


def follow(standby: Server, primary: Server) -> None:
    """*standby*, which runs, gets what *primary* writes from now on."""
    standby.query("alter system set primary_conninfo = "
                  f"'host={primary._house.sockets} port={primary.port} user=postgres'")
    standby.query("select pg_reload_conf()")


@contextmanager
def reading(session: Session) -> Iterator[list[int]]:
    """What *session* reads all the while."""
    seen: list[int] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            seen.append(value(session, NEWEST))

    with ThreadPoolExecutor(1) as pool:
        reads = pool.submit(read)
        try:
            yield seen
        finally:
            ended.set()
        reads.result(60)


@pytest.mark.parametrize("consistency", ["cluster", "bounded"])
def test_no_read_goes_back(servers: PrimaryAndStandbys, start: Start, consistency: str) -> None:
    """Nor is it of a standby that has not got what its session has seen, while there is no primary that could tell."""
    former, promoted, behind = servers.servers
    proxy = start(**one_list(servers), consistency=consistency, pgsplit={"max_staleness": "1s", "failover_wait": "60s"})
    writer, reader = connect(proxy), connect(proxy)
    append(writer, 1)
    eventually(lambda: value(reader, NEWEST) == 1 and route(reader) == "replica: read")
    behind.pause_replay()
    append(writer, 2)
    eventually(lambda: kept(promoted) == {1, 2} and value(reader, NEWEST) == 2)
    with reading(reader) as seen:
        former.stop()
        eventually(lambda: count(proxy, "primary_waits") >= 1, timeout=60)
        promoted.promote()
        append(writer, 3)
        eventually(lambda: seen[-1] == 3)
        promoted.query("insert into kept values (4, 'beside pgsplit')")
        begun = len(seen) + 1           # the one that is under way may not show it
        eventually(lambda: len(seen) > begun and seen[-1] == 4)
    assert seen == sorted(seen) and seen[0] >= 2
    if consistency == "cluster":
        assert {*seen[begun:]} == {4}
    behind.resume_replay()
    follow(behind, promoted)
    eventually(lambda: value(reader, NEWEST) == 4 and route(reader) == "replica: read", timeout=60)


def test_a_position_of_the_term_before(servers: PrimaryAndStandbys, start: Start) -> None:
    """What was committed there may be lost: who has asked for it reads at the primary, and who asks is told so."""
    former, promoted, other = servers.servers
    proxy = start(**one_list(servers), pgsplit={"failover_wait": "60s"})
    writer, reader = connect(proxy), connect(proxy)
    append(writer, 1)
    position = value(writer, "show pgsplit.lsn")
    reader.execute(f"set pgsplit.min_lsn = '{position}'")
    eventually(lambda: value(reader, NEWEST) == 1 and route(reader) == "replica: read")
    servers.catch_up()
    former.stop()
    promoted.promote()
    follow(other, promoted)
    append(writer, 2)
    reads: list[tuple[int, str]] = []
    eventually(lambda: reads.append((value(reader, NEWEST), route(reader))) or reads[-1][1] == "primary: min_lsn_term",
               timeout=60)
    assert {newest for newest, _ in reads} == {2}
    assert all(where.startswith("primary: ") for _, where in reads), reads
    assert value(reader, "show pgsplit.min_lsn") == position
    anew = value(writer, "show pgsplit.lsn")
    assert (parse(position).term.timeline, parse(anew).term.timeline) == (1, 2)
    for session in (writer, reader, connect(proxy)):
        with pytest.raises(psycopg.errors.InvalidParameterValue) as raised:
            session.execute(f"set pgsplit.min_lsn = '{position}'")
        assert "It is of timeline 1, and the primary is on timeline 2" in str(raised.value.diag.message_hint)
        session.execute(f"set pgsplit.min_lsn = '{anew}'")
        eventually(lambda asked=session: value(asked, NEWEST) == 2 and route(asked) == "replica: read", timeout=60)
