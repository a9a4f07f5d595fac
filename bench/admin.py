"""What it costs to be watched, and to have the list of users edited.

1. 2 workers, 100 idle and 16 busy sessions; what three open tabs of the overview ask, once a second each, against
   nobody asking, in alternation: CPU a transaction of the workers, as a ratio, and how long the page takes to answer.
2. 2,000 users in the list; while 16 clients read, one user's password is saved again and again: the longest
   transaction of a slice with saves and of one without, and how long a save takes until every worker has it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import psycopg

from bench import cpu, workloads
from bench.contenders import Bench
from pgsplit import __version__
from pgsplit.demo import account, ports
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from pgsplit.errors import PgSplitError

IDLE, BUSY, TABS, USERS = 100, 16, 3, 2000


class Tab:
    """A browser's page, as far as pgsplit sees it."""

    def __init__(self, proxy: Proxy) -> None:
        self._base = f"http://{proxy.admin}"
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar())).open
        self.post("/login", name="admin", password=proxy.admin_password)

    def get(self, path: str) -> str:
        with self._open(self._base + path, timeout=60) as answer:
            return str(answer.read().decode())

    def post(self, path: str, **form: str) -> str:
        token = self.get("/login").split('name="csrf_token" value="')[1].split('"')[0]
        body = urlencode({**form, "csrf_token": token}).encode()
        with self._open(urllib.request.Request(self._base + path, body), timeout=60) as answer:
            return str(answer.read().decode())

    def refresh(self) -> float:
        """Ask what the overview asks once a second; returns how long it took, in seconds."""
        began = time.monotonic()
        self.get("/overview/part")
        self.get(f"/api/v1/history?since={time.time() - 2}")
        return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench admin", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=4, help="of a slice (4)")
    args = parser.parse_args()
    role = Role("bench", secrets.token_hex(8))
    try:
        with (PrimaryAndStandbys([role], superuser_password=secrets.token_hex(8), standbys=1) as servers,
              tempfile.TemporaryDirectory(prefix="pgsplit-bench-") as directory):
            bench = Bench(servers, role, account.choose(), 2)
            workloads.initialize(bench)
            proxy = Proxy(Path(directory), _configuration(bench), servers.guardian)
            proxy.start()
            try:
                print(f"pgsplit {__version__}, 2 workers")
                _watched(bench, proxy, args)
                _edited(bench, proxy, args)
            finally:
                proxy.stop()
    except PgSplitError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _configuration(bench: Bench) -> dict[str, object]:
    assert bench.role.password is not None
    users = {f"user{number}": secrets.token_hex(8) for number in range(USERS - 1)}
    return {"primary": bench.servers.primary.address, "replicas": [s.address for s in bench.servers.standbys],
            "users": {bench.role.name: bench.role.password, **users}, "monitor": bench.role.name,
            "admin": f"{ports.HOST}:{ports.choose()}", "pgsplit": {"workers": 2}}


def _watched(bench: Bench, proxy: Proxy, args: argparse.Namespace) -> None:
    tabs, took = [Tab(proxy) for _ in range(TABS)], []
    workers = [worker["pid"] for worker in proxy.client.arbiter("workers")]
    idle = [psycopg.connect(host=ports.HOST, port=proxy.port, user=bench.role.name, password=bench.role.password,
                            dbname=workloads.DATABASE, sslmode="disable") for _ in range(IDLE)]
    ratios = []
    for _ in range(args.rounds):
        alone = _slice(bench, proxy, args.seconds, workers)[0]
        with _repeating([lambda tab=tab: took.append(tab.refresh()) for tab in tabs]):     # type: ignore[misc]
            watched = _slice(bench, proxy, args.seconds, workers)[0]
        ratios.append(watched / alone)
    for connection in idle:
        connection.close()
    print(f"watched by {TABS} tabs, {IDLE} idle and {BUSY} busy sessions: workers' CPU a transaction "
          f"÷ {statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f}) of nobody watching; "
          f"a refresh takes {statistics.median(took) * 1000:.0f} ms (at most {max(took) * 1000:.0f})")


def _edited(bench: Bench, proxy: Proxy, args: argparse.Namespace) -> None:
    tab, saves, longest = Tab(proxy), [], {"without": [], "with": []}

    def save() -> None:
        version = json.loads(tab.get("/api/v1/users"))["lists"][0]["version"]
        began = time.monotonic()
        tab.post("/users/postgres/save", name="user7", password=secrets.token_hex(8), stored="clear", version=version)
        saves.append(time.monotonic() - began)

    for _ in range(args.rounds):
        longest["without"].append(_slice(bench, proxy, args.seconds, [])[1])
        with _repeating([save]):
            longest["with"].append(_slice(bench, proxy, args.seconds, [])[1])
    print(f"{USERS} users: a save takes {statistics.median(saves) * 1000:.0f} ms until every worker has it; the "
          f"longest transaction of a slice {statistics.median(longest['with']):.0f} ms with saves, "
          f"{statistics.median(longest['without']):.0f} ms without (medians)")


def _slice(bench: Bench, proxy: Proxy, seconds: int, workers: list[int]) -> tuple[float, float]:
    """CPU seconds of *workers* a transaction, and the longest transaction in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="pgsplit-bench-") as directory:
        before = sum(map(cpu.seconds, workers))
        done = subprocess.run(
            workloads.pgbench(bench, proxy.port, "-n", "-S", "-M", "extended", "-c", str(BUSY), "-j", "2", "-T",
                               str(seconds), "-l", "--log-prefix", f"{directory}/log"),
            env=workloads.environment(bench), capture_output=True, text=True, check=False, timeout=seconds + 60)
        spent = sum(map(cpu.seconds, workers)) - before
        if done.returncode:
            raise PgSplitError(f"pgbench ended with {done.returncode}:\n{done.stderr}")
        latencies = [int(line.split()[2]) for path in Path(directory).iterdir() for line in path.open()]
    return spent / len(latencies), max(latencies) / 1000


@contextmanager
def _repeating(work: list[Callable[[], None]]) -> Iterator[None]:
    """Each of *work* once a second, meanwhile."""
    over = threading.Event()

    def repeat(one: Callable[[], None]) -> None:
        while not over.wait(1):
            one()

    threads = [threading.Thread(target=repeat, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()



if __name__ == "__main__":
    sys.exit(main())
