"""An instance that is followed from one arbiter to the next."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.server import Server
from tests.waiting import eventually


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Instance:
    """:attr:`pids`: of its arbiters, the last one the one that serves."""

    def __init__(self, proxy: Proxy, guardian: Any) -> None:
        self.proxy = proxy
        self.pids = [proxy.pid]
        self._guardian = guardian

    @property
    def pid(self) -> int:
        return self.pids[-1]

    @property
    def log(self) -> str:
        return self.proxy.log.read_text()

    def signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)

    def usr2(self) -> int:
        """Have a new arbiter started, and return its pid: before it has taken over."""
        count = self.log.count("a new pgsplit is being started")
        self.signal(signal.SIGUSR2)
        eventually(lambda: self.log.count("a new pgsplit is being started") > count)
        pid = int(self.log.rpartition("a new pgsplit is being started, pid ")[2].split()[0])
        self._guardian.watch_process(pid)
        return pid

    def restart(self) -> int:
        """Until the new arbiter has taken over; returns its pid."""
        pid = self.usr2()
        eventually(lambda: self.proxy.client.arbiter("about")["pid"] == pid, timeout=90)
        eventually(lambda: f"pid {pid} has taken over" in self.log)
        self.pids.append(pid)
        return pid

    def stop(self) -> None:
        """All that is left of it, at once."""
        for pid in reversed(self.pids):
            if alive(pid):
                os.kill(pid, signal.SIGINT)
        for pid in self.pids:
            if pid == self.pids[0] and self.proxy.running:
                self.proxy.stop()
            eventually(lambda pid=pid: not alive(pid))

    def connect(self, user: str = "postgres", password: str = "postgres-secret",
                **keywords: Any) -> psycopg.Connection[Any]:
        defaults: dict[str, Any] = {"dbname": "postgres", "sslmode": "disable", "autocommit": True,
                                    "prepare_threshold": None}
        return psycopg.connect(host="127.0.0.1", port=self.proxy.port, user=user, password=password,
                               **(defaults | keywords))


def generation_of(instance: Instance, session: psycopg.Connection[Any]) -> int:
    """The pid of the arbiter whose worker has *session*."""
    pid = session.info.backend_pid
    for number in instance.proxy.client.workers():
        try:
            found = instance.proxy.client.worker(number, "sessions")
            worker = instance.proxy.client.worker(number, "about")["pid"]
        except Exception:
            continue
        if pid in {row["pid"] for row in found}:
            return int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    raise LookupError(f"no worker has a session with pid {pid}")


class Connections:
    """pgsplit's own to *servers*, by application_name, but for those that were there already: `of(server)`."""

    def __init__(self, *servers: Server) -> None:
        self._before = {server: self._now(server) for server in servers}

    def _now(self, server: Server) -> Counter[str]:
        rows = server.query("select application_name, count(*) from pg_stat_activity "
                            "where application_name like 'pgsplit %' group by 1")
        return Counter({name.removeprefix("pgsplit "): count for name, count in rows})

    def of(self, server: Server) -> Counter[str]:
        return self._now(server) - self._before[server]


def monitor_of(instance: Instance) -> int:
    """Its pid, once it is there."""
    return int(eventually(lambda: instance.proxy.client.arbiter("about")["monitor"]))


def route(session: psycopg.Connection[Any]) -> str:
    session.execute("select 1")
    [word] = session.execute("show pgsplit.last_route").fetchone() or ("",)
    return str(word)


def reads_on_the_replica(session: psycopg.Connection[Any]) -> bool:
    return route(session).startswith("replica")
