"""One PostgreSQL server of our own: a primary, or a streaming standby of one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg

from pgsplit.demo.account import Account
from pgsplit.demo.guardian import Guardian
from pgsplit.demo.installation import Installation
from pgsplit.demo.ports import HOST
from pgsplit.demo.waiting import eventually
from pgsplit.errors import PgSplitError

SUPERUSER = "postgres"
Method = Literal["trust", "password", "md5", "scram-sha-256"]


@dataclass(frozen=True)
class Role:
    """A role that can log in; ``method`` is its line in pg_hba.conf, ``md5`` also how its password is stored."""

    name: str
    password: str | None
    method: Method = "scram-sha-256"

    def __repr__(self) -> str:
        return f"Role({self.name!r}, method={self.method!r})"


@dataclass(frozen=True)
class House:
    """What the servers of one run share: programs, account, their directory and roles, who cleans up."""

    installation: Installation
    account: Account
    directory: Path
    guardian: Guardian
    roles: dict[str, Role]

    @property
    def sockets(self) -> Path:
        return self.directory / "s"     # short: a Unix socket's path has at most 107 bytes

    def run(self, program: str, *args: str | Path) -> None:
        """Run one of PostgreSQL's programs to its end; PgSplitError with its output if that is not success."""
        done = subprocess.run([self.installation.program(program), *args], cwd=self.directory, env=environment(),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False, **self.account.popen)
        if done.returncode:
            raise PgSplitError(f"{program} ended with {done.returncode}:\n{done.stdout}")


def environment() -> dict[str, str]:
    """The environment for PostgreSQL's programs: nothing of the caller's PG* variables or locale."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


class Server:
    """A data directory, a port, and the process that serves them while it runs.

    TCP is on 127.0.0.1, in the clear and over TLS; the superuser gets in by the Unix socket without a password.
    """

    def __init__(self, house: House, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.data = house.directory / name
        self.log = house.directory / f"{name}.log"
        self._house = house
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"Server({self.name!r}, port={self.port})"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    # --- life -------------------------------------------------------------------------------------------------------

    def copy_from(self, primary: Server) -> None:
        """Become a streaming standby of *primary*, as of now."""
        if self.data.exists():
            shutil.rmtree(self.data)
        self._house.run("pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast", "--no-sync",
                        "-h", self._house.sockets, "-p", str(primary.port), "-U", SUPERUSER)

    def start(self) -> None:
        """Start, and return when queries are answered; PgSplitError with the log's end if that does not happen."""
        command = [self._house.installation.program("postgres"), "-D", str(self.data),
                   "-c", f"port={self.port}", "-c", f"cluster_name={self.name}"]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(),
                cwd=self._house.directory, start_new_session=True, **self._house.account.popen)
        self._house.guardian.watch_process(self._process.pid)
        eventually(lambda: not self.running or self._answers(), timeout=60, every=0.02)
        if not self.running:
            raise PgSplitError(f"{self.name} did not start; {self.log} ends with\n{self.log_end()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop as PostgreSQL does on *how*: SIGTERM smart, SIGINT fast, SIGQUIT immediate, SIGKILL not at all."""
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(60)
        self._process = None

    def kill(self) -> None:
        """Die at once, as on a power failure; returns when no process of the server is left."""
        # The postmaster's shared memory outlives it until the last of its processes is gone, and start() would fail.
        pids = self.pids()
        self.stop(signal.SIGKILL)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))

    def pids(self) -> list[int]:
        """Of all processes of the server that work."""
        return [pid for pid, in self.query("select pid from pg_stat_activity")]

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _answers(self) -> bool:
        return self.query("select true") == [(True,)]

    def log_end(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    # --- queries ----------------------------------------------------------------------------------------------------

    def query(self, sql: str, parameters: Sequence[Any] | None = None, *,
              dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """Run *sql* as superuser in autocommit on a connection of its own; returns the rows, if it has any."""
        with psycopg.connect(host=str(self._house.sockets), port=self.port, user=SUPERUSER, dbname=dbname,
                             autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def connect(self, user: str, **arguments: Any) -> psycopg.Connection[Any]:
        """A psycopg connection over TCP as a role of this run; *arguments* go over the defaults."""
        defaults: dict[str, Any] = {"host": HOST, "port": self.port, "user": user, "dbname": "postgres",
                                    "password": self._house.roles[user].password, "connect_timeout": 10}
        return psycopg.connect(**defaults | arguments)

    # --- a standby --------------------------------------------------------------------------------------------------

    def in_recovery(self) -> bool:
        return bool(self.query("select pg_is_in_recovery()")[0][0])

    def pause_replay(self) -> None:
        self.query("select pg_wal_replay_pause()")
        eventually(lambda: self.query("select pg_get_wal_replay_pause_state()") == [("paused",)])

    def resume_replay(self) -> None:
        self.query("select pg_wal_replay_resume()")

    def delay_replay(self, milliseconds: int) -> None:
        """Apply each commit only so long after it happened; 0 ends it."""
        self.query(f"alter system set recovery_min_apply_delay = {milliseconds:d}")
        self.query("select pg_reload_conf()")

    def promote(self) -> None:
        self.query("select pg_promote()")

    def replay_lag(self, primary: Server) -> int:
        """How many bytes of WAL this standby has still to replay."""
        [(lsn,)] = primary.query("select pg_current_wal_flush_lsn()")
        [(lag,)] = self.query("select pg_wal_lsn_diff(%s, pg_last_wal_replay_lsn())::bigint", [lsn])
        return max(0, int(lag))
