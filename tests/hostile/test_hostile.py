"""A thousand bad clients and bad servers, ten thousand in CI: no worker dies, nothing leaks, others are served."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import psycopg
import pytest
import yaml
from gevent import socket
from gevent.pool import Pool

from pgsplit.demo.proxy import Proxy
from tests.hostile.health import REACHED, answer_monitor, is_monitor
from tests.hostile.streams import AUTHENTICATED, CLIENT, SERVER, STARTUP, mutate
from tests.integration.conftest import counters
from tests.waiting import eventually

STREAMS = pytest.mark.parametrize("streams", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
MEMORY = 10 << 20            # bytes that workers may grow by


@STREAMS
def test_bad_clients(cluster, pgsplit_server, streams):
    proxy = pgsplit_server(tls=None, upstream_tls="disable", pgsplit={"workers": 2, "client_login_timeout": "2s"})
    play_clients(proxy, 200)         # what is loaded or cached once is there now
    before = look(proxy)
    play_clients(proxy, streams)
    still_well(proxy, before)


def play_clients(proxy: Proxy, count: int) -> None:
    dice = random.Random(11)
    pool = Pool(24)
    for number in range(count):
        data = mutate(dice, CLIENT[number % len(CLIENT)])
        cut = dice.randint(0, len(data))
        pool.spawn(bad_client, proxy.port, data, cut, dice.random() < 0.5)
    pool.join()


def bad_client(port: int, data: bytes, cut: int, waits: bool) -> None:
    try:
        with gevent.Timeout(3, False), socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(data[:cut])
            gevent.sleep(0)
            sock.sendall(data[cut:])
            if waits:
                sock.settimeout(0.05)
                while sock.recv(65536):
                    pass
    except OSError:
        pass


@STREAMS
def test_bad_servers(cluster, pgsplit_server, streams):
    """Fake servers play mutated recordings as primary and as replica; the health checks see good ones."""
    dice = random.Random(12)
    with fake_server(dice, primary=True) as primary, fake_server(dice, primary=False) as standby:
        proxy = pgsplit_server(tls=None, upstream_tls="disable", primary=f"127.0.0.1:{primary}",
                               replicas=[f"127.0.0.1:{standby}"], users={"trust_user": "x"}, monitor="trust_user",
                               pgsplit={"workers": 2, "client_login_timeout": "2s", "health_interval": "50ms"})
        eventually(lambda: proxy.log.read_text().count("can be used") >= 2, sleep=gevent.sleep)
        play_servers(proxy, 100)        # which tell garbage of their definitions, too: nothing is read from replicas
        eventually(lambda: "the catalogue of database" in proxy.log.read_text(), sleep=gevent.sleep)
        assert not sum(counters(proxy, "decisions.replica.read").values())
        configuration = yaml.safe_load(proxy.file.read_text())
        configuration["pgsplit"]["catalogue"] = False
        proxy.write(configuration)
        proxy.signal(signal.SIGHUP)
        eventually(lambda: "reloaded: generation" in proxy.log.read_text(), sleep=gevent.sleep)
        play_servers(proxy, 200)
        before = look(proxy)
        play_servers(proxy, streams)
        still_well(proxy, before, serves=False)
        assert sum(counters(proxy, "decisions.replica.read").values()), "bad servers in the primary's place only"


def play_servers(proxy: Proxy, count: int) -> None:
    pool = Pool(24)
    data = STARTUP + b"".join(CLIENT[1][1:])
    for _ in range(count):
        pool.spawn(bad_client, proxy.port, data, len(STARTUP), True)
    pool.join()


def gone_wrong(dice: random.Random, primary: bool) -> bytes:
    """A server's part of a conversation; behind the login it says which server it is. Half go wrong only then."""
    messages = dice.choice(SERVER)
    logged_in = messages.index(AUTHENTICATED[-1]) + 1 if AUTHENTICATED[-1] in messages else len(messages)
    login = (*messages[:logged_in], REACHED[primary], AUTHENTICATED[-1])
    if dice.random() < 0.5 and messages[logged_in:]:
        return b"".join(login) + mutate(dice, messages[logged_in:])
    return mutate(dice, (*login, *messages[logged_in:]))


@contextmanager
def fake_server(dice: random.Random, *, primary: bool) -> Iterator[int]:
    """Answers whatever it is asked, and a health check as it expects it. Its greenlets run while the test sleeps."""
    def serve(sock: socket.socket) -> None:
        try:
            with sock, gevent.Timeout(5, False):
                first = sock.recv(65536)
                if is_monitor(first):
                    answer_monitor(sock, primary)
                    return
                data = gone_wrong(dice, primary)
                cut = dice.randint(0, len(data))
                sock.sendall(data[:cut])
                gevent.sleep(0)
                sock.sendall(data[cut:])
                sock.settimeout(0.05)
                for _ in range(2):          # the question which server this is, and a batch
                    sock.recv(65536)
        except OSError:
            pass

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)

    def accept() -> None:
        while True:
            sock, _ = listening.accept()
            gevent.spawn(serve, sock)

    accepting = gevent.spawn(accept)
    try:
        yield listening.getsockname()[1]
    finally:
        accepting.kill()
        listening.close()


def test_a_thousand_vanishing_clients_leak_nothing(cluster, pgsplit_server):
    proxy = pgsplit_server(tls=None, upstream_tls="disable", pgsplit={"workers": 2})
    conversations = [b"".join(messages) for messages in CLIENT]

    def vanish(count: int) -> None:
        dice, pool = random.Random(13), Pool(16)
        for number in range(count):
            data = conversations[number % len(conversations)]
            pool.spawn(bad_client, proxy.port, data[:dice.randint(0, len(data))], 0, dice.random() < 0.3)
        pool.join()

    vanish(200)
    before = look(proxy)
    vanish(1000)
    still_well(proxy, before)


@pytest.mark.slow
def test_a_thousand_vanishing_backends_leak_nothing(cluster, pgsplit_server):
    proxy = pgsplit_server(tls=None, upstream_tls="disable", pgsplit={"workers": 2})

    def vanish(count: int) -> None:
        for number in range(count):
            with psycopg.connect(host="127.0.0.1", port=proxy.port, user="trust_user", dbname="postgres",
                                 autocommit=True, sslmode="disable") as session:
                server = cluster.primary if number % 2 else cluster.standbys[0]
                server.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'trust_user'")
                try:
                    session.execute("select 1")
                except psycopg.Error:
                    assert number % 2, "losing a replica was noticed"

    vanish(50)
    before = look(proxy)
    vanish(int(os.environ.get("PGSPLIT_VANISHING", "300")))
    still_well(proxy, before)


# --- looking at workers ---------------------------------------------------------------------------------------------

def look(proxy: Proxy) -> dict[int, tuple[int, int]]:
    """Of each worker: (descriptors, resident bytes), once its sessions are gone."""
    eventually(lambda: all(worker["sessions"] == 0 for worker in proxy.client.arbiter("workers")),
               timeout=120, sleep=gevent.sleep)
    found = {}
    for worker in proxy.client.arbiter("workers"):
        pid = worker["pid"]
        status = Path(f"/proc/{pid}/status").read_text()
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
        found[pid] = len(os.listdir(f"/proc/{pid}/fd")), resident
    return found


def still_well(proxy: Proxy, before: dict[int, tuple[int, int]], serves: bool = True) -> None:
    def back_to_normal() -> bool:
        now = look(proxy)
        assert now.keys() == before.keys(), "a worker died"
        assert all(now[pid][0] <= before[pid][0] + 2 for pid in now), (before, now)
        return True

    eventually(back_to_normal, timeout=120, sleep=gevent.sleep)
    now = look(proxy)
    assert all(now[pid][1] - before[pid][1] < MEMORY for pid in now), (before, now)
    log = proxy.log.read_text(errors="replace")
    traces = [line for line in log.splitlines() if line.startswith("Traceback")]
    assert not traces, log[log.index("Traceback"):][:3000]
    if serves:
        with psycopg.connect(host="127.0.0.1", port=proxy.port, user="trust_user", dbname="postgres",
                             sslmode="disable") as session:
            assert session.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("direction", ["in", "out"])
def test_copying_a_lot_takes_little_memory(cluster, pgsplit_server, direction):
    """200 MB through one session; 2 GB in CI (PGSPLIT_COPY_MB)."""
    proxy = pgsplit_server(tls=None, upstream_tls="disable", pgsplit={"workers": 1})
    megabytes = int(os.environ.get("PGSPLIT_COPY_MB", "200"))
    with psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password="postgres-secret",
                         dbname="postgres", autocommit=True, sslmode="disable") as session:
        session.execute("select 1")
        before = max(resident for _, resident in resident_now(proxy))
        peak = 0
        if direction == "in":
            session.execute("create unlogged table copied (t text)")
            line = (b"x" * 1023 + b"\n") * 64
            with session.cursor().copy("copy copied from stdin where t = ''") as copy:
                for _ in range(megabytes * 16):
                    copy.write(line)
                    if _ % 256 == 0:
                        peak = max(peak, *(resident for _, resident in resident_now(proxy)))
            session.execute("drop table copied")
        else:
            got = 0
            query = f"copy (select repeat('x', 1023) from generate_series(1, {megabytes * 1024}) g) to stdout"
            with session.cursor().copy(query) as copy:
                for number, block in enumerate(copy):
                    got += len(block)
                    if number % 16384 == 0:
                        peak = max(peak, *(resident for _, resident in resident_now(proxy)))
            assert got == megabytes << 20
    assert peak - before < 20 << 20, (before, peak)


def resident_now(proxy: Proxy) -> list[tuple[int, int]]:
    pids = [worker["pid"] for worker in proxy.client.arbiter("workers")]
    return [(pid, int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")) for pid in pids]
