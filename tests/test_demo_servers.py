"""The servers that the demo and all other tests stand on."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from pgsplit.demo import installation, ports
from pgsplit.demo.replication import PrimaryAndStandbys
from tests.conftest import ROLES
from tests.waiting import eventually

OWNER = """
import os, subprocess, sys
from pathlib import Path
from pgsplit.demo.guardian import Guardian
guardian = Guardian()
child = subprocess.Popen(["sleep", "600"])
guardian.watch_process(child.pid)
guardian.watch_directory(Path(sys.argv[1]))
print(child.pid, flush=True)
if sys.argv[2] == "close":
    guardian.close()
    child.wait()
else:
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("tls", ["disable", "require", "verify-full"])
@pytest.mark.parametrize("user", [*(role.name for role in ROLES), "postgres"])
def test_every_role_logs_in_to_every_server(cluster: PrimaryAndStandbys, user: str, tls: str) -> None:
    for server in cluster.servers:
        with server.connect(user, sslmode=tls, sslrootcert=str(cluster.ca)) as connection:
            cursor = connection.execute("select ssl, session_user from pg_stat_ssl where pid = pg_backend_pid()")
            assert cursor.fetchone() == (tls != "disable", user)


@pytest.mark.parametrize("user", ["password_user", "md5_user", "scram_user", "postgres"])
def test_a_wrong_password_is_refused(cluster: PrimaryAndStandbys, user: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        cluster.primary.connect(user, password="wrong")


def test_passwords_are_stored_as_the_role_says(cluster: PrimaryAndStandbys) -> None:
    stored = dict(cluster.primary.query("select rolname, left(rolpassword, 3) from pg_authid where rolname = any(%s)",
                                        [list(cluster.roles)]))
    assert stored == {"trust_user": None, "password_user": "SCR", "md5_user": "md5", "scram_user": "SCR",
                      "postgres": "SCR"}


def test_a_standby_replays_when_it_may(cluster: PrimaryAndStandbys) -> None:
    primary, standby = cluster.primary, cluster.standbys[0]
    assert standby.in_recovery() and not primary.in_recovery()
    standby.pause_replay()
    try:
        primary.query("create table replays (a int)")
        assert standby.query("select to_regclass('replays')") == [(None,)]
        assert standby.replay_lag(primary) > 0
    finally:
        standby.resume_replay()
    cluster.catch_up()
    assert standby.query("select to_regclass('replays')::text") == [("replays",)]
    primary.query("drop table replays")


def test_replay_can_be_delayed(cluster: PrimaryAndStandbys) -> None:
    primary, standby = cluster.primary, cluster.standbys[0]
    standby.delay_replay(3_600_000)
    try:
        eventually(lambda: standby.query("show recovery_min_apply_delay") == [("1h",)])
        primary.query("create table delayed (a int)")
        eventually(lambda: standby.replay_lag(primary) > 0)
        assert standby.query("select to_regclass('delayed')") == [(None,)]
    finally:
        standby.delay_replay(0)
    cluster.catch_up()
    primary.query("drop table delayed")


def test_servers_stop_die_and_come_back(cluster: PrimaryAndStandbys) -> None:
    standby = cluster.standbys[0]
    for end in (standby.stop, standby.kill):
        end()
        assert not standby.running
        with pytest.raises(psycopg.OperationalError, match="Connection refused"):
            standby.connect("scram_user")
        standby.start()
    cluster.primary.query("create table came_back (a int)")
    eventually(lambda: standby.query("select to_regclass('came_back')::text") == [("came_back",)])
    cluster.primary.query("drop table came_back")


def test_the_servers_count_statements(cluster: PrimaryAndStandbys) -> None:
    for server in cluster.servers:
        with server.connect("scram_user", autocommit=True) as connection:
            connection.execute("select 'counted' as by_pg_stat_statements")
        assert server.query("select calls from pg_stat_statements where query like '%by_pg_stat_statements%'"
                            " and userid = 'scram_user'::regrole") == [(1,)]


@pytest.mark.parametrize("end", ["close", "killed"])
def test_nothing_outlives_its_owner(tmp_path: Path, end: str) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / "file").write_text("")
    done = subprocess.run([sys.executable, "-c", OWNER, str(directory), end], stdout=subprocess.PIPE, text=True,
                          timeout=60)
    assert done.returncode == (0 if end == "close" else -signal.SIGKILL)
    pid = int(done.stdout)
    eventually(lambda: _gone(pid))
    eventually(lambda: not directory.exists())


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_taken_port_is_not_chosen() -> None:
    with socket.socket() as taken:
        taken.bind((ports.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ports.choose(port) != port
    assert ports.choose(port) == port


class TestFinding:
    """PGSPLIT_PG_BIN comes first, and is never passed over in silence."""

    def test_a_named_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in installation.NEEDED:
            (tmp_path / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18beta1 (Somewhere 1.2)'\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PGSPLIT_PG_BIN", str(tmp_path))
        found = installation.find()
        assert (found.bin_dir, found.version, found.major) == (tmp_path, "18beta1", 18)

    def test_a_directory_without_servers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGSPLIT_PG_BIN", str(tmp_path))
        with pytest.raises(installation.PostgresMissing, match="has no initdb, postgres, pg_basebackup"):
            installation.find()

    def test_nothing_anywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PGSPLIT_PG_BIN", raising=False)
        monkeypatch.setattr(installation, "_candidates", lambda *, only_wheel: iter(()))
        with pytest.raises(installation.PostgresMissing, match="apt-get install postgresql"):
            installation.find()
