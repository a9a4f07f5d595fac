"""The processes from outside: signals, reload, deaths, addresses. Real ones, in front of the real pair."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pgsplit.demo.proxy import Proxy
from pgsplit.process.client import NotRunning
from tests.waiting import eventually

Start = Callable[..., Proxy]


def connect(proxy: Proxy, **keywords: Any) -> psycopg.Connection[Any]:
    defaults: dict[str, Any] = {"host": "127.0.0.1", "port": proxy.port, "user": "trust_user", "dbname": "postgres",
                                "sslmode": "disable", "autocommit": True}
    return psycopg.connect(**(defaults | keywords))


def workers(proxy: Proxy) -> list[dict[str, Any]]:
    found = proxy.client.arbiter("workers")
    return [worker for worker in found if worker["booted"] and not worker["leaving"]]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(pgsplit_server: Start) -> Iterator[Start]:
    def make(workers: int = 2, **settings: Any) -> Proxy:
        keywords = settings.pop("keywords", {})
        return pgsplit_server(**{"tls": None, "upstream_tls": "disable", "pgsplit": {"workers": workers, **settings}}
                              | keywords)

    yield make


# --- deaths -----------------------------------------------------------------------------------------------------------

def test_no_child_outlives_the_arbiter(start):
    proxy = start()
    pids = [worker["pid"] for worker in workers(proxy)]
    with connect(proxy):
        os.kill(proxy.pid, signal.SIGKILL)
        eventually(lambda: not any(alive(pid) for pid in pids))


def test_a_killed_worker_is_replaced_and_totals_do_not_fall(start):
    proxy = start()
    with connect(proxy) as session:
        for _ in range(20):
            session.execute("select 1")
        eventually(lambda: proxy.client.arbiter("totals")["postgres.postgres.statements"] >= 20)
    before = {worker["pid"] for worker in workers(proxy)}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(workers(proxy)) == 2 and not before & {worker["pid"] for worker in workers(proxy)})
    assert proxy.client.arbiter("totals")["postgres.postgres.statements"] >= 20
    with connect(proxy) as session:
        assert session.execute("select 1").fetchone() == (1,)


def test_a_hung_worker_is_replaced(start):
    proxy = start(worker_timeout="2s")
    victim = workers(proxy)[0]["pid"]
    os.kill(victim, signal.SIGSTOP)
    eventually(lambda: not alive(victim), timeout=60)
    eventually(lambda: len(workers(proxy)) == 2)
    assert "is hung" in proxy.log.read_text()


def test_a_worker_that_dies_again_and_again_comes_back_later_each_time(start):
    proxy = start(workers=2)

    def kill(number: int) -> int:
        victim = eventually(lambda: {worker["worker"]: worker["pid"] for worker in workers(proxy)}.get(number))
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: number in {worker["worker"] for worker in workers(proxy) if worker["pid"] != victim})
        return victim

    for number, expected in ((2, "at once"), (2, "after 0.1 s: death 2"), (2, "after 0.2 s: death 3"), (1, "at once"),
                             (2, "after 0.4 s: death 4")):
        assert f"worker {number} (pid {kill(number)}) ended: signal SIGKILL; its successor starts {expected}" \
            in proxy.log.read_text()
    reload(proxy)
    assert f"worker 2 (pid {kill(2)}) ended: signal SIGKILL; its successor starts at once\n" in proxy.log.read_text()
    [leaver] = [worker["pid"] for worker in workers(proxy) if worker["worker"] == 2]
    os.kill(leaver, signal.SIGTERM)         # the operator's, who may take one after the other
    eventually(lambda: f"worker 2 (pid {leaver}) has left" in proxy.log.read_text())
    kill(2)
    assert proxy.log.read_text().count("death 2 ") == 2


def test_a_place_that_is_not_wanted_any_more_keeps_nobody_awake(start):
    proxy = start(workers=2)
    for deaths in range(1, 7):
        pid = eventually(lambda: {worker["worker"]: worker["pid"] for worker in workers(proxy)}.get(2))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda deaths=deaths: proxy.log.read_text().count("signal SIGKILL") == deaths)
    proxy.signal(signal.SIGTTOU)            # while its successor waits
    eventually(lambda: proxy.client.arbiter("about")["workers_wanted"] == 1)
    assert len(proxy.client.arbiter("workers")) == 1

    def spent() -> float:
        fields = Path(f"/proc/{proxy.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    history = proxy.client.arbiter("about")["started"]
    ticks, before = len(proxy.client.arbiter("history", since=history)), spent()
    eventually(lambda: len(proxy.client.arbiter("history", since=history)) >= ticks + 6)
    assert spent() - before < 1.5        # of six seconds


def test_workers_that_do_not_boot_end_the_arbiter(start):
    proxy = start(workers=1)
    proxy.stop()
    code = ("from pgsplit.process import files; from pgsplit.process.arbiter import Arbiter; from pgsplit import log; "
            f"log.setup(); load = lambda g: files.load_config({str(proxy.file)!r}, g); "
            "Arbiter(load(1), load, 'pgsplit.no_such_service').run()")
    import subprocess
    import sys
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          cwd=Path(__file__).parents[2])
    assert done.returncode != 0
    assert "no_such_service" in done.stderr and "workers do not boot" in done.stderr


# --- signals ----------------------------------------------------------------------------------------------------------

def test_ttin_and_ttou(start):
    proxy = start(workers=1)
    proxy.signal(signal.SIGTTIN)
    eventually(lambda: len(workers(proxy)) == 2)
    proxy.signal(signal.SIGTTOU)
    eventually(lambda: len(workers(proxy)) == 1)
    with connect(proxy) as session:
        assert session.execute("select 1").fetchone() == (1,)


def test_term_lets_a_transaction_finish(start):
    proxy = start(graceful_timeout="30s")
    idle, busy = connect(proxy), connect(proxy)
    busy.execute("begin")
    busy.execute("create temp table drained (a int)")
    proxy.signal(signal.SIGTERM)
    eventually(lambda: not answers(proxy.port))
    eventually(lambda: sum(worker["sessions"] for worker in proxy.client.arbiter("workers")) == 1)
    with pytest.raises(psycopg.errors.AdminShutdown):
        idle.execute("select 1")
    busy.execute("insert into drained values (1)")
    busy.execute("commit")
    assert proxy.stop(signal.SIGTERM) == 0


def test_graceful_timeout_bounds_the_draining(start):
    proxy = start(graceful_timeout="500ms")
    session = connect(proxy)
    session.execute("begin")
    assert proxy.stop(signal.SIGTERM) == 0
    with pytest.raises(psycopg.OperationalError):
        session.execute("select 1")


def test_int_ends_at_once_and_cleans_up(start, tmp_path):
    proxy = start()
    run_dir = proxy.run_dir
    assert run_dir.stat().st_mode & 0o777 == 0o700
    session = connect(proxy)
    session.execute("begin")
    assert proxy.stop(signal.SIGINT) == 0
    with pytest.raises(psycopg.OperationalError):
        session.execute("select 1")
    assert list(run_dir.iterdir()) == []
    with pytest.raises(NotRunning):
        proxy.client.arbiter("totals")


def test_usr1_opens_the_log_anew(start, tmp_path):
    log = tmp_path / "pgsplit.log"
    proxy = start(log_file=str(log))
    eventually(log.exists)
    log.rename(tmp_path / "old.log")
    proxy.signal(signal.SIGUSR1)
    eventually(lambda: "logs reopened" in log.read_text())


def test_the_pidfile(start, tmp_path):
    pidfile = tmp_path / "pid"
    pidfile.write_text("4194304\n")                  # of a process that is no more
    proxy = start(pidfile=str(pidfile))
    assert int(pidfile.read_text()) == proxy.pid
    import subprocess
    import sys
    again = subprocess.run([sys.executable, "app.py", "serve", "-c", str(proxy.file), "-b", "127.0.0.1:1"],
                           capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert again.returncode == 3 and "runs already" in again.stderr
    proxy.stop()
    assert not pidfile.exists()


# --- reload -----------------------------------------------------------------------------------------------------------

def change(proxy: Proxy, **keywords: Any) -> None:
    configuration = yaml.safe_load(proxy.file.read_text())
    proxy.file.write_text(yaml.safe_dump({**configuration, **keywords}))


def reload(proxy: Proxy) -> None:
    generation = proxy.client.arbiter("last_reload")["generation"]
    proxy.signal(signal.SIGHUP)
    eventually(lambda: proxy.client.arbiter("last_reload")["generation"] > generation)


def test_hup_changes_the_users_and_leaves_sessions_alone(start):
    proxy = start(workers=2)
    with connect(proxy) as session:
        session.execute("begin")
        change(proxy, users={"postgres": "postgres-secret", "md5_user": "md5-secret"})
        reload(proxy)
        session.execute("select 1")
        session.execute("commit")
        for _ in range(6):
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                connect(proxy, password="guess")
            connect(proxy, user="md5_user", password="md5-secret").close()
        assert session.execute("select 1").fetchone() == (1,)


def connections(proxy: Proxy) -> int:
    """To replicas, since the start."""
    return sum(proxy.client.worker(number, "totals")["cluster.replicas.upstream_cx_total"]
               for number in proxy.client.workers())


def test_a_changed_setting_leaves_every_open_session_its_replica(start):
    proxy = start(workers=2)
    sessions = [connect(proxy) for _ in range(20)]

    def reads() -> bool:
        for session in sessions:
            session.execute("select 1")
        return {session.execute("show pgsplit.last_route").fetchone()[0] for session in sessions} == {"replica: read"}

    eventually(reads)
    assert connections(proxy) == len(sessions)
    for number, (name, value) in enumerate([("max_lag", "1h"), ("health_interval", "300ms"), ("health_timeout", "5s"),
                                            ("dns_refresh", "1s")]):
        settings = yaml.safe_load(proxy.file.read_text())["pgsplit"]
        change(proxy, pgsplit={**settings, name: value}, replicas=[
            *yaml.safe_load(proxy.file.read_text())["replicas"], f"127.0.0.1:{number + 1}"])
        reload(proxy)
        eventually(reads)
    assert connections(proxy) == len(sessions)
    for session in sessions:
        session.close()


def test_a_bad_file_changes_nothing_and_every_mistake_is_logged(start):
    proxy = start()
    before = proxy.file.read_text()
    proxy.file.write_text(before + "nonsense: 1\nconsistency: sometimes\n")
    proxy.signal(signal.SIGHUP)
    eventually(lambda: proxy.client.arbiter("last_reload")["ok"] is False)
    problems = proxy.client.arbiter("last_reload")["problems"]
    assert len(problems) == 2 and all(problem.startswith(f"{proxy.file}:") for problem in problems)
    assert all(problem in proxy.log.read_text() for problem in problems)
    connect(proxy).close()
    proxy.file.write_text(before)
    reload(proxy)


def test_a_worker_that_cannot_prepare_stops_the_reload(start, cluster):
    """The certificate goes after the arbiter has looked: no worker may take the configuration then."""
    proxy = start(keywords={"tls": {"certificate": str(cluster.key_pair.certificate),
                                    "key": str(cluster.key_pair.key)}})
    change(proxy, tls={"certificate": "/nowhere/server.crt", "key": "/nowhere/server.key"})
    proxy.signal(signal.SIGHUP)
    eventually(lambda: proxy.client.arbiter("last_reload")["ok"] is False)
    connect(proxy, sslmode="require").close()


def test_addresses_come_and_go_with_a_reload(start):
    proxy = start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    session = connect(proxy)
    change(proxy, listen=f"127.0.0.1:{other}")
    reload(proxy)
    connect(proxy, port=other).close()
    eventually(lambda: not answers(proxy.port))
    assert session.execute("select 1").fetchone() == (1,)
    session.close()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


# --- listening --------------------------------------------------------------------------------------------------------

def test_unix_sockets_and_ipv6(start, tmp_path, cluster):
    directory = proxy_directory = Path("/tmp") / f"pgsplit-{os.getpid()}"
    directory.mkdir(mode=0o755)
    try:
        path = directory / ".s.PGSQL.6432"
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()                                 # left behind by a process that died
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            port = probe.getsockname()[1]
        proxy = start()
        change(proxy, listen=[f"127.0.0.1:{proxy.port}", f"[::1]:{port}", f"unix:{path}"])
        reload(proxy)
        connect(proxy, host="::1", port=port).close()
        connect(proxy, host=str(directory), port=6432).close()
        proxy.stop()
        assert not path.exists()
    finally:
        for left in proxy_directory.iterdir():
            left.unlink()
        proxy_directory.rmdir()


def test_two_hundred_connections_are_shared_fairly(start):
    proxy = start()
    sessions: list[psycopg.Connection[Any]] = []
    failures: list[Exception] = []

    def open_some() -> None:
        for _ in range(20):
            try:
                sessions.append(connect(proxy))
            except psycopg.Error as error:
                failures.append(error)

    threads = [threading.Thread(target=open_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    eventually(lambda: sum(worker["sessions"] for worker in workers(proxy)) == 80)
    assert min(worker["sessions"] for worker in workers(proxy)) >= 20
    for session in sessions:
        session.close()


def test_running_out_of_descriptors_pauses_and_recovers(start):
    proxy = start(workers=1)
    import resource
    worker = workers(proxy)[0]["pid"]
    used = len(os.listdir(f"/proc/{worker}/fd"))
    _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 3, hard))
    sockets = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(8)]
    eventually(lambda: "cannot accept: Too many open files" in proxy.log.read_text())
    for sock in sockets:
        sock.close()
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (hard, hard))
    eventually(lambda: connect(proxy).close() is None)


# --- what others see --------------------------------------------------------------------------------------------------

def sockets(pid):
    """The sockets of a process, but for those that it closes meanwhile."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(entry))
    return {link for link in found if link.startswith("socket:")}


def test_children_have_nothing_of_their_siblings(start):
    proxy = start(workers=3)
    for worker in workers(proxy):
        assert len(sockets(worker["pid"]) & sockets(proxy.pid)) == 1, "only the listening socket is shared"


def test_titles_tell_the_role_and_no_secret(start):
    proxy = start()
    eventually(lambda: b"pgsplit: arbiter" in Path(f"/proc/{proxy.pid}/cmdline").read_bytes())
    for worker in workers(proxy):
        title = Path(f"/proc/{worker['pid']}/cmdline").read_bytes()
        assert title.startswith(f"pgsplit: worker {worker['worker']}".encode()) and b"secret" not in title


def test_questions_and_bad_questions(start):
    proxy = start()
    with connect(proxy) as session:
        session.execute("select 1")
        eventually(lambda: proxy.client.arbiter("totals")["postgres.postgres.sessions"] == 1)
        sessions = [found for number in proxy.client.workers() for found in proxy.client.worker(number, "sessions")]
        assert [found["user"] for found in sessions] == ["trust_user"]
    goodbye = 5                                        # Terminate
    for name, more in (("bytes_received", goodbye), ("bytes_sent", 0)):
        eventually(lambda: proxy.client.arbiter("totals")[f"postgres.postgres.{name}"] == sessions[0][name] + more > 9)
    assert eventually(lambda: len(proxy.client.arbiter("history")) >= 2)
    from pgsplit.errors import PgSplitError
    for ask in (proxy.client.arbiter, lambda what: proxy.client.worker(1, what)):
        with pytest.raises(PgSplitError, match="unknown question"):
            ask("nonsense")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(proxy.run_dir / "arbiter.sock"))
        sock.sendall(b"\xff\xff\xff\xff")
        assert sock.recv(10) == b""
    assert len(workers(proxy)) == 2
