"""run_dir belongs to one living instance; with the default one, two on a machine do not meet."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pgsplit.demo import ports
from pgsplit.demo.proxy import Proxy
from pgsplit.errors import PgSplitError
from pgsplit.process import files, instances
from pgsplit.process.client import Client, NotRunning
from pgsplit.process.rundir import RunDir
from tests.conftest import default_configuration
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def proxy_class() -> type[Proxy]:
    """Here its beginning is tested, too."""
    return Proxy


def app(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "app.py", *words], capture_output=True, text=True, timeout=60, cwd=ROOT,
                          check=False)


class WithDefaults(Proxy):
    """Its configuration names no run_dir."""

    def write(self, configuration: Mapping[str, Any]) -> None:
        super().write(configuration)
        whole = yaml.safe_load(self.file.read_text())
        del whole["pgsplit"]["run_dir"]
        self.file.write_text(yaml.safe_dump(whole))
        self.run_dir = Path(files.default_run_dir(str(self.port)))
        self.client = Client(str(self.run_dir))


@pytest.fixture
def with_defaults(cluster, tmp_path, monkeypatch) -> Iterator[Callable[..., WithDefaults]]:
    if os.geteuid():
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made: list[WithDefaults] = []

    def start(*arguments: str) -> WithDefaults:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        proxy = WithDefaults(directory, default_configuration(cluster) | {"pgsplit": {"workers": 1}}, cluster.guardian)
        made.append(proxy)
        proxy.start(*arguments)
        return proxy

    yield start
    for proxy in made:
        if proxy.running:
            proxy.stop()
        shutil.rmtree(proxy.run_dir, ignore_errors=True)


def stats(*words: str) -> str:
    done = app("stats", "--filter", r"^postgres\.postgres\.sessions$", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_second_instance_leaves_a_living_one_alone(pgsplit_server):
    proxy = pgsplit_server(pgsplit={"workers": 1})
    second = app("serve", "-c", str(proxy.file), "-b", "127.0.0.1:1")
    assert second.returncode == 3
    assert f"run_dir {proxy.run_dir}: pgsplit runs already, pid {proxy.pid}" in second.stderr
    assert proxy.client.arbiter("about")["pid"] == proxy.pid
    assert proxy.client.worker(1, "about")
    proxy.stop(signal.SIGKILL)
    assert (proxy.run_dir / "arbiter.pid").exists()       # left by the dead, who holds nothing
    proxy.start()
    assert proxy.client.arbiter("about")["pid"] == proxy.pid


def test_two_instances_with_defaults_simply_work(with_defaults, cluster):
    first, second = with_defaults(), with_defaults()
    assert first.run_dir != second.run_dir
    for proxy, logins in ((first, 1), (second, 2)):
        for _ in range(logins):
            cluster.primary.connect("scram_user", port=proxy.port).close()
        eventually(lambda proxy=proxy, logins=logins:
                   stats("-c", str(proxy.file)) == f"postgres.postgres.sessions: {logins}")
    for proxy in (first, second):
        assert proxy.client.arbiter("about")["pid"] == proxy.pid
    which = app("stats")
    assert which.returncode == 1
    assert all(f"pid {proxy.pid}" in which.stderr and str(proxy.file) in which.stderr for proxy in (first, second))
    first.stop()
    assert not (first.run_dir / "arbiter.sock").exists()
    assert stats("-c", str(second.file)) == "postgres.postgres.sessions: 2"


def test_an_instance_is_found_where_its_port_is_not_the_file_s(with_defaults):
    proxy = with_defaults()
    configuration = yaml.safe_load(proxy.file.read_text())
    generation = proxy.client.arbiter("about")["generation"]
    proxy.file.write_text(yaml.safe_dump(configuration | {"listen": f"{ports.HOST}:{ports.choose()}"}))
    proxy.signal(signal.SIGHUP)
    eventually(lambda: proxy.client.arbiter("about")["generation"] > generation)
    assert stats("-c", str(proxy.file)) == "postgres.postgres.sessions: 0"
    assert stats("-c", str(proxy.file), "-b", f"127.0.0.1:{proxy.port}") == "postgres.postgres.sessions: 0"
    assert str(proxy.run_dir) in proxy.client.arbiter("configuration")["text"]
    assert proxy.client.worker(1, "about")["generation"] > generation


def test_a_reload_does_not_move_it(pgsplit_server, tmp_path):
    proxy = pgsplit_server(pgsplit={"workers": 2})
    configuration = yaml.safe_load(proxy.file.read_text())
    configuration["pgsplit"]["run_dir"] = str(tmp_path / "elsewhere")
    generation = proxy.client.arbiter("about")["generation"]
    proxy.file.write_text(yaml.safe_dump(configuration))
    proxy.signal(signal.SIGHUP)
    eventually(lambda: proxy.client.arbiter("about")["generation"] > generation)
    proxy.signal(signal.SIGTTIN)                          # a worker that was forked with the new configuration
    eventually(lambda: len([worker for worker in proxy.client.arbiter("workers") if worker["booted"]]) == 3)
    assert proxy.client.workers() == [1, 2, 3]


def test_the_only_one_is_found_without_being_named(pgsplit_server, monkeypatch, tmp_path):
    proxy = pgsplit_server(pgsplit={"workers": 1})
    base = tmp_path / "base"
    base.mkdir()
    monkeypatch.setattr(files, "default_run_dir", lambda port: str(base / f"pgsplit-{port}"))
    with pytest.raises(NotRunning, match="no pgsplit runs here"):
        instances.find(None, None)
    (base / "pgsplit-1").mkdir()            # nobody's
    (base / "pgsplit").symlink_to(proxy.run_dir)
    assert instances.running() == [instances.Instance(str(base / "pgsplit"), proxy.pid, str(proxy.file))]
    assert instances.find(None, None) == str(base / "pgsplit")
    assert instances.find(None, "/given") == "/given"


def test_what_is_not_a_directory_of_ours_is_not_taken(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(PgSplitError, match=f"run_dir {re.escape(str(tmp_path / name))}: "):
            RunDir(str(tmp_path / name)).__enter__()
    with RunDir(str(tmp_path / "made" / "deep")):
        assert (tmp_path / "made" / "deep").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "made" / "deep").iterdir()) == []
