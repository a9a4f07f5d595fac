"""USR2: another arbiter takes over, and nobody notices (docs/restart.md). In front of the real pair."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pgsplit.demo import ports
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.waiting import eventually
from tests.process.restarting import Connections, Instance, alive, generation_of, monitor_of, reads_on_the_replica

ROOT = Path(__file__).parents[2]
ROLE = "scram_user"
ROUNDS = 12             # of a write,
READERS = 15            # which so many read at once: 360 pairs

Start = Callable[..., Instance]


@pytest.fixture
def proxy_class() -> type[Proxy]:
    """Here its beginning is tested, too."""
    return Proxy


@pytest.fixture
def start(pgsplit_server, cluster) -> Iterator[Start]:
    made: list[Instance] = []

    def begin(workers: int = 2, keywords: dict[str, Any] | None = None, **settings: Any) -> Instance:
        proxy = pgsplit_server(**{"upstream_tls": "disable", "pgsplit": {"workers": workers, **settings},
                                  **(keywords or {})})
        made.append(Instance(proxy, cluster.guardian))
        return made[-1]

    yield begin
    for instance in made:
        instance.stop()


def change(instance: Instance, **keywords: Any) -> str:
    """Returns what the file held."""
    before = instance.proxy.file.read_text()
    instance.proxy.file.write_text(yaml.safe_dump({**yaml.safe_load(before), **keywords}))
    return before


# --- clients ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def pgbench(cluster) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    database = "pgbench_restart"
    cluster.primary.query(f"create database {database} owner {ROLE}")
    started: list[subprocess.Popen[str]] = []

    def run(port: int, *arguments: str, sslmode: str = "disable") -> subprocess.Popen[str]:
        password = cluster.roles[ROLE].password
        started.append(subprocess.Popen(
            [cluster.installation.program("pgbench"), *arguments,
             f"host=127.0.0.1 port={port} user={ROLE} password={password} dbname={database} sslmode={sslmode}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    made = run(cluster.primary.port, "-i", "-q", "-I", "dtgvp")
    assert made.wait(60) == 0
    cluster.catch_up()
    yield run
    for process in started:
        process.kill()
        process.communicate()
    cluster.primary.query(f"drop database {database} with (force)")


@pytest.mark.parametrize("sslmode", ["disable", pytest.param("require", marks=pytest.mark.slow)])
def test_pgbench_that_connects_for_each_transaction_does_not_notice(start, pgbench, sslmode):
    instance = start(workers=2)
    runs = [pgbench(instance.proxy.port, "-n", "-C", "-c", "4", "-j", "1", "-T", "600", *script, sslmode=sslmode)
            for script in (["-S"], [])]
    eventually(lambda: instance.proxy.client.arbiter("totals")["postgres.postgres.sessions"] > 20)
    instance.restart()
    before = instance.proxy.client.arbiter("totals")["postgres.postgres.sessions"]
    eventually(lambda: instance.proxy.client.arbiter("totals")["postgres.postgres.sessions"] > before + 20)
    instance.restart()
    before = instance.proxy.client.arbiter("totals")["postgres.postgres.sessions"]
    eventually(lambda: instance.proxy.client.arbiter("totals")["postgres.postgres.sessions"] > before + 20)
    for run in runs:
        assert run.poll() is None, run.communicate()
        run.send_signal(signal.SIGALRM)     # by which -T ends it
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        assert not re.search("error|abort|refused|FATAL", err, re.IGNORECASE), err
        assert re.search(r"number of failed transactions: 0 ", out), out
        assert int(re.search(r"actually processed: (\d+)", out)[1]) > 20
    for pid in instance.pids[:-1]:
        eventually(lambda pid=pid: not alive(pid))     # the last session of each has ended
    assert instance.proxy.client.arbiter("totals")["postgres.postgres.logins_failed"] == 0


def test_sessions_go_on_in_the_old_process_and_totals_do_not_fall(start):
    instance = start()
    idle, busy = instance.connect(), instance.connect()
    busy.execute("begin")
    busy.execute("create temp table kept (a int)")
    eventually(lambda: instance.proxy.client.arbiter("totals")["postgres.postgres.sessions_active"] == 2)
    history = instance.proxy.client.arbiter("history")
    old = instance.pid
    new = instance.restart()

    def served_by_the_new() -> psycopg.Connection[Any] | None:
        """A worker of the old one may take what has come before it has heard that it leaves."""
        session = instance.connect()
        if generation_of(instance, session) == new:
            return session
        session.close()
        return None

    fresh = eventually(served_by_the_new)
    assert {generation_of(instance, session) for session in (idle, busy)} == {old}
    assert instance.proxy.client.arbiter("history")[:len(history)] == history
    eventually(lambda: instance.proxy.client.arbiter("totals")["postgres.postgres.sessions_active"] == 3)
    assert idle.execute("select 1").fetchone() == (1,)
    busy.execute("insert into kept values (1)")
    busy.execute("commit")
    assert busy.execute("select a from kept").fetchone() == (1,)
    idle.close()
    busy.close()
    assert instance.proxy._process.wait(30) == 0
    eventually(lambda: "has ended" in instance.log)
    totals = instance.proxy.client.arbiter("totals")
    assert totals["postgres.postgres.sessions"] == 3
    eventually(lambda: instance.proxy.client.arbiter("totals")["postgres.postgres.sessions_active"] == 1)
    eventually(lambda: len(instance.proxy.client.workers()) == 2)
    assert fresh.execute("select 1").fetchone() == (1,)
    fresh.close()


def served(instance: Instance, session: psycopg.Connection[Any]) -> bool:
    try:
        return bool(generation_of(instance, session))
    except LookupError:
        return False


def test_after_the_drain_time_the_old_process_drains(start):
    instance = start(drain_time="1s", graceful_timeout="30s")
    idle, busy = instance.connect(), instance.connect()
    busy.execute("begin")
    busy.execute("create temp table kept (a int) on commit drop")
    instance.restart()
    eventually(lambda: not served(instance, idle))
    with pytest.raises(psycopg.errors.AdminShutdown):
        idle.execute("select 1")
    assert served(instance, busy)
    busy.execute("insert into kept values (1)")
    busy.execute("commit")
    assert instance.proxy._process.wait(30) == 0


def test_a_cancel_reaches_a_session_of_the_old_process_and_of_the_new_one(start):
    instance = start()
    sessions = [instance.connect()]
    instance.restart()
    sessions.append(instance.connect())
    instance.restart()
    sessions.append(instance.connect())
    assert [generation_of(instance, session) for session in sessions] == instance.pids
    for session in sessions:
        cancelled = []

        def run(session: Any = session, cancelled: list[bool] = cancelled) -> None:
            try:
                session.execute("select pg_sleep(60)")
            except psycopg.errors.QueryCanceled:
                cancelled.append(True)

        thread = threading.Thread(target=run)
        thread.start()
        eventually(lambda session=session: instance.proxy.client and sleeping(instance, session))
        session.cancel()
        thread.join(30)
        assert cancelled == [True]
        assert session.execute("select 1").fetchone() == (1,)
        session.close()


def sleeping(instance: Instance, session: psycopg.Connection[Any]) -> bool:
    with instance.connect() as other:
        return bool(other.execute("select 1 from pg_stat_activity where pid = %s and state = 'active'",
                                  [session.info.backend_pid]).fetchone())


# --- G3 ---------------------------------------------------------------------------------------------------------------

@pytest.fixture
def late(cluster):
    """The standbys replay each commit late; a table to write to."""
    cluster.primary.query("create table restarted (id int primary key, n int)")
    cluster.primary.query("insert into restarted values (1, 0), (2, 0)")
    cluster.catch_up()
    for standby in cluster.standbys:
        standby.delay_replay(200)
    yield
    for standby in cluster.standbys:
        standby.delay_replay(int(os.environ.get("PGSPLIT_TEST_APPLY_DELAY", "0")))
    cluster.primary.query("drop table restarted")


def route(session: psycopg.Connection[Any]) -> str:
    """Where a read of what nobody writes has gone."""
    session.execute("select n from restarted where id = 2")
    [answer] = session.execute("show pgsplit.last_route").fetchone() or [""]
    return str(answer)


def write_and_read_at_once(writer: psycopg.Connection[Any], readers: list[psycopg.Connection[Any]],
                           before: Callable[[psycopg.Connection[Any]], object]) -> None:
    """Of ROUNDS writes each is seen by all *readers*, of which none has asked the primary of anything since *before*,
    and would not do so by itself.
    """
    for number in range(1, ROUNDS + 1):
        for reader in readers:
            before(reader)
        writer.execute("update restarted set n = n + 1 where id = 1 returning n")
        [expected] = writer.execute("select n from restarted where id = 1").fetchone() or [0]
        found = [reader.execute("select n from restarted where id = 1").fetchone() for reader in readers]
        assert found == [(expected,)] * len(readers), number


def on_replica(session: psycopg.Connection[Any]) -> object:
    return eventually(lambda: route(session) == "replica: read")


@pytest.mark.relay
def test_no_read_is_stale_across_generations(start, late):
    instance = start()
    old = [instance.connect() for _ in range(READERS)]
    instance.restart()
    new = [instance.connect() for _ in range(READERS)]
    assert [{generation_of(instance, session) for session in sessions} for sessions in (old, new)] == [
        {pid} for pid in instance.pids]
    write_and_read_at_once(old[0], new, on_replica)
    write_and_read_at_once(new[0], old, on_replica)
    for session in (*old, *new):
        session.close()


# --- another version --------------------------------------------------------------------------------------------------

@pytest.fixture
def releases(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Two copies of pgsplit; `current` is the first, until the function returned is given the other's name. The second
    has another version, and its board another form.
    """
    for name in ("1", "2"):
        release = tmp_path / name
        release.mkdir()
        for part in ("pgsplit", "admin", "templates", "static"):
            shutil.copytree(ROOT / part, release / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "app.py", release)
    (tmp_path / "2/pgsplit/__init__.py").write_text('"""Another version."""\n\n__version__ = "99.9"\n')
    board = tmp_path / "2/pgsplit/process/board.py"
    text = board.read_text()
    assert text.count("_FORM: Final = ") == 1
    board.write_text(text.replace("_FORM: Final = ", "_FORM: Final = 99 + "))
    current = tmp_path / "current"
    current.symlink_to("1")
    monkeypatch.setattr(Proxy, "PROGRAM", (str(current / "app.py"),))

    def become(name: str) -> None:
        (tmp_path / "next").symlink_to(name)
        (tmp_path / "next").rename(current)

    return become


@pytest.mark.slow
def test_a_version_whose_shared_memory_has_another_form(start, late, releases, cluster):
    """Neither knows of the other's writes: all reads are the primary's until the last old session has ended."""
    instance = start()
    old = [instance.connect() for _ in range(READERS)]
    for session in old:
        on_replica(session)
    version = instance.proxy.client.arbiter("about")["version"]
    releases("2")
    instance.restart()
    about = instance.proxy.client.arbiter("about")
    assert about["version"] == "99.9" != version
    assert about["orders"]["apart"]
    new = [instance.connect() for _ in range(READERS)]
    assert [{generation_of(instance, session) for session in sessions} for sessions in (old, new)] == [
        {pid} for pid in instance.pids]

    def where_all_go(session: psycopg.Connection[Any]) -> None:
        cluster.catch_up()
        assert route(session) == "primary: reads_to_primary"

    write_and_read_at_once(old[0], new, where_all_go)
    write_and_read_at_once(new[0], old, where_all_go)
    instance.signal(signal.SIGUSR2)
    eventually(lambda: "USR2 is ignored: sessions of pid" in instance.log)
    for session in old:
        session.close()
    assert instance.proxy._process.wait(30) == 0
    eventually(lambda: not instance.proxy.client.arbiter("about")["orders"]["apart"])
    for session in new:
        on_replica(session)
        session.close()


# --- what can go wrong ------------------------------------------------------------------------------------------------

def test_a_broken_configuration_leaves_the_old_one_serving(start):
    instance = start(watch="false")
    session = instance.connect()
    good = change(instance, nonsense=1)
    instance.usr2()
    eventually(lambda: "has ended before it served: 2; this one goes on" in instance.log)
    problems = re.findall(rf"{re.escape(str(instance.proxy.file))}:\d+: .*nonsense.*", instance.log)
    assert len(problems) >= 1 and any("ERROR pgsplit.arbiter: pid" in line for line in instance.log.splitlines()
                                      if "nonsense" in line)
    assert session.execute("select 1").fetchone() == (1,)
    instance.connect().close()
    # Nor does one that cannot listen where it is told to.
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        instance.proxy.file.write_text(good)
        change(instance, admin=f"127.0.0.1:{occupied.getsockname()[1]}")
        instance.usr2()
        eventually(lambda: "has ended before it served: 3; this one goes on" in instance.log)
        assert "cannot listen on 127.0.0.1" in instance.log
    assert sorted(path.name for path in instance.proxy.run_dir.iterdir()) == [
        "arbiter.pid", "arbiter.sock", f"monitor-{instance.pid}.sock", "worker-1.sock", "worker-2.sock"]
    instance.proxy.file.write_text(good)
    instance.restart()
    instance.connect().close()
    assert session.execute("select 1").fetchone() == (1,)
    session.close()


def test_each_generation_has_a_monitor_of_its_own_to_its_end(cluster, start):
    connections = Connections(cluster.primary)
    instance = start(fence_wait="1s", health_interval="500ms")
    with instance.connect() as session:
        eventually(lambda: reads_on_the_replica(session))
        old = monitor_of(instance)
        instance.restart()
        new = monitor_of(instance)
        assert new != old and alive(old)
        assert reads_on_the_replica(session)                # of the old generation, by its own monitor's word
        with instance.connect() as other:
            eventually(lambda: reads_on_the_replica(other))
            os.kill(old, signal.SIGKILL)                    # whose arbiter replaces it, though it has given way
            eventually(lambda: connections.of(cluster.primary)["monitor"] == 2)
            eventually(lambda: reads_on_the_replica(session))
            assert reads_on_the_replica(other)
    eventually(lambda: not alive(instance.pids[0]))
    eventually(lambda: connections.of(cluster.primary)["monitor"] == 1)
    assert alive(new) and monitor_of(instance) == new
    assert [path.name for path in instance.proxy.run_dir.glob("monitor-*.sock")] == [f"monitor-{instance.pid}.sock"]


def test_a_new_one_that_dies_before_it_serves_changes_nothing(start, tmp_path):
    instance = start(pidfile=str(tmp_path / "pid"))
    session = instance.connect()
    os.kill(instance.usr2(), signal.SIGKILL)
    eventually(lambda: "has ended before it served: -9; this one goes on" in instance.log)
    victim = instance.proxy.client.arbiter("workers")[0]["pid"]
    os.kill(victim, signal.SIGKILL)                   # workers are replaced again
    eventually(lambda: victim not in {worker["pid"] for worker in instance.proxy.client.arbiter("workers")
                                      if worker["booted"]})
    eventually(lambda: instance.connect().close() is None)
    assert int((tmp_path / "pid").read_text()) == instance.pid
    instance.restart()
    assert int((tmp_path / "pid").read_text()) == instance.pid
    session.close()


def test_a_second_usr2_is_ignored_while_the_first_is_under_way(start):
    instance = start()
    first = instance.usr2()
    instance.signal(signal.SIGUSR2)
    eventually(lambda: f"USR2 is ignored: pid {first} is about to take over" in instance.log)
    instance.signal(signal.SIGHUP)
    eventually(lambda: "not reloaded: a new pgsplit is about to take over" in instance.log)
    held = instance.connect()
    eventually(lambda: f"pid {first} has taken over" in instance.log, timeout=90)
    instance.pids.append(first)
    os.kill(instance.pids[0], signal.SIGUSR2)
    eventually(lambda: f"USR2 is ignored: pid {first} has taken over" in instance.log
               or not alive(instance.pids[0]))
    instance.connect().close()
    held.close()


def test_term_during_the_hand_over_ends_both(start):
    instance = start()
    session = instance.connect()
    session.execute("begin")
    session.execute("select txid_current()")
    new = instance.usr2()
    instance.signal(signal.SIGTERM)
    eventually(lambda: not alive(new))
    session.execute("commit")                         # the drain is TERM's
    assert instance.proxy._process.wait(60) == 0
    assert "this one goes on" not in instance.log
    assert list(instance.proxy.run_dir.iterdir()) == []


def test_term_ends_what_is_left_of_the_old_ones_too(start):
    instance = start(graceful_timeout="20s")
    idle = [instance.connect()]
    for _ in range(2):
        instance.restart()
        idle.append(instance.connect())
    assert [generation_of(instance, session) for session in idle] == instance.pids
    instance.signal(signal.SIGTERM)
    for session in idle:
        with pytest.raises(psycopg.OperationalError):
            for _ in range(600):
                session.execute("select pg_sleep(0.05)")
    for pid in instance.pids:
        eventually(lambda pid=pid: not alive(pid))
    assert list(instance.proxy.run_dir.iterdir()) == []


def test_a_new_one_whose_predecessor_is_killed_takes_over(start):
    instance = start()
    new = instance.usr2()
    os.kill(instance.pids[0], signal.SIGKILL)
    instance.pids.append(new)
    eventually(lambda: instance.proxy.client.arbiter("about")["pid"] == new, timeout=90)
    eventually(lambda: instance.connect().close() is None)


# --- what goes along --------------------------------------------------------------------------------------------------

def test_files_addresses_orders_and_the_admin_page(start, tmp_path):
    admin = f"{ports.HOST}:{ports.choose()}"
    path = Path("/tmp") / f"pgsplit-{os.getpid()}.s"
    instance = start(keywords={"admin": admin}, pidfile=str(tmp_path / "pid"), watch="false")
    more = ports.choose()
    change(instance, listen=[f"127.0.0.1:{instance.proxy.port}", str(path)])
    instance.signal(signal.SIGHUP)
    eventually(path.exists)
    client = instance.proxy.client
    client.arbiter("order_reads", listener="postgres", to_primary=True)
    password = instance.proxy.admin_password
    eventually(lambda: ready(admin))
    change(instance, listen=[f"127.0.0.1:{instance.proxy.port}", str(path), f"127.0.0.1:{more}"])
    instance.restart()
    assert client.arbiter("about")["orders"]["reads_to_primary"] == ["postgres"]
    assert instance.proxy.admin_password == password
    eventually(lambda: ready(admin))
    assert instance.proxy._process.wait(30) == 0
    assert eventually(lambda: ready(admin)) and instance.proxy.admin_password == password
    assert int((tmp_path / "pid").read_text()) == instance.pid
    assert (instance.proxy.run_dir / "arbiter.pid").read_text() == f"{instance.pid}\n"
    for where in ({}, {"host": "127.0.0.1", "port": more}):
        with psycopg.connect(**({"host": "127.0.0.1", "port": instance.proxy.port, "user": "postgres",
                                 "password": "postgres-secret", "dbname": "postgres"} | where)) as session:
            assert session.execute("select 1").fetchone() == (1,)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
    change(instance, listen=[f"127.0.0.1:{instance.proxy.port}"])
    instance.restart()
    eventually(lambda: not path.exists())
    with pytest.raises(OSError):
        socket.create_connection((ports.HOST, more))


def ready(admin: str) -> bool:
    with urllib.request.urlopen(f"http://{admin}/readyz", timeout=10) as answer:
        return bool(answer.status == 200)


def test_limits_count_the_sessions_of_both(start):
    instance = start(keywords={"users": {"postgres": "postgres-secret"}}, max_connections="3", workers=2)
    held = [instance.connect(), instance.connect()]
    instance.restart()
    held.append(instance.connect())
    with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already"):
        instance.connect()
    held.pop(0).close()
    eventually(lambda: held.append(instance.connect()) is None)
    for session in held:
        session.close()
