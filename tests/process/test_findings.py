"""What only the servers can tell of a configuration: `check --connect` says it, and `serve` at its start."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pgsplit.demo.replication import PrimaryAndStandbys
from tests.conftest import default_configuration
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def silent() -> Iterator[str]:
    """Whoever connects there waits for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


Case = tuple[Callable[[PrimaryAndStandbys, str], dict[str, Any]], list[str]]
CASES: dict[str, Case] = {
    "right": (lambda servers, silent: {}, []),
    "the primary among its replicas": (
        lambda servers, silent: {"replicas": [servers.primary.address, servers.standbys[0].address]}, []),
    "a standby beside the primary": (
        lambda servers, silent: {"primary": [servers.primary.address, servers.standbys[0].address]}, []),
    "exchanged": (
        lambda servers, silent: {"primary": servers.standbys[0].address, "replicas": [servers.primary.address]},
        ["primary: {standby} is a standby, and {primary} of the cluster replicas a primary: they are exchanged",
         r"replicas\[0\]: {primary}: is not in recovery, and not the primary of the write cluster",
         "primary: {standby}: is in recovery, not a primary"]),
    "the monitor's password": (
        lambda servers, silent: {"users": {"scram_user": "wrong"}, "monitor": "scram_user"},
        [r"replicas\[0\]: {standby} does not let the monitor, scram_user, in: password authentication failed.*",
         "primary: {primary} does not let the monitor, scram_user, in: password authentication failed.*"]),
    "the monitor's role": (
        lambda servers, silent: {"monitor": "scram_user"},
        [r"replicas\[0\]: {standby}: the monitor's role may not see which timeline .*: GRANT pg_monitor TO .*"]),
    "the monitor's database": (
        lambda servers, silent: {"monitor": {"username": "postgres", "database": "none"}},
        [r'replicas\[0\]: {standby} does not let the monitor, postgres, in: database "none" does not exist',
         'primary: {primary} does not let the monitor, postgres, in: database "none" does not exist']),
    "a name that is none": (
        lambda servers, silent: {"replicas": ["no-such-host.invalid:5432", servers.standbys[0].address]},
        [r"replicas\[0\]: no-such-host.invalid does not resolve"]),
    "nobody there": (
        lambda servers, silent: {"replicas": [servers.standbys[0].address, closed()]},
        [r"replicas\[1\]: could not connect to 127.0.0.1:\d+: Connection refused"]),
    "nobody answers": (
        lambda servers, silent: {"replicas": [servers.standbys[0].address, silent]},
        [r"replicas\[1\]: could not connect to {silent}: the health check timed out"]),
}


@pytest.mark.parametrize("name", CASES)
def test_check_connects_when_it_is_told_to(name, cluster, tmp_path, silent):
    make, expected = CASES[name]
    file = tmp_path / "pgsplit.yaml"
    file.write_text(yaml.safe_dump({"listen": "127.0.0.1:6432", **default_configuration(cluster),
                                    **make(cluster, silent)}))
    file.chmod(0o600)
    command = [sys.executable, "app.py", "check", "-c", str(file)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 0
    done = subprocess.run([*command, "--connect"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    said = done.stderr.splitlines()
    assert (done.returncode, len(said)) == (int(bool(expected)), len(expected)), said
    places = {"primary": cluster.primary.address, "standby": cluster.standbys[0].address, "silent": silent}
    for line, words in zip(said, expected, strict=True):
        pattern = re.sub(r"\{(\w+)\}", lambda match: re.escape(places[match[1]]), words)
        assert re.fullmatch(rf"{re.escape(str(file))}:\d+: {pattern}", line), line
    assert not any(secret in done.stderr + done.stdout for secret in ("wrong", "postgres-secret"))


def test_serve_says_it_at_its_start(cluster, pgsplit_server):
    proxy = pgsplit_server(primary=cluster.standbys[0].address, pgsplit={"workers": 2},
                           replicas=[cluster.primary.address, "no-such-host.invalid:5432"])
    eventually(lambda: "they are exchanged" in proxy.log.read_text())
    for words in ("cluster replicas: no-such-host.invalid does not resolve",
                  f"cluster primary: {cluster.standbys[0].address}: is in recovery, not a primary"):
        told = f"WARNING pgsplit.worker: {words}"
        eventually(lambda told=told: proxy.log.read_text().count(told) == 1)


def test_a_host_in_maintenance_is_nothing_to_tell(cluster, pgsplit_server):
    """A worker that starts while the operator has taken a host out."""
    proxy = pgsplit_server(pgsplit={"workers": 1}, replicas=[cluster.standbys[0].address, closed()])
    eventually(lambda: proxy.log.read_text().count("WARNING pgsplit.worker: cluster replicas: could not connect") == 1)
    proxy.client.arbiter("order_host", cluster="replicas", host=cluster.standbys[0].address, order="maintenance")
    [worker] = proxy.client.arbiter("workers")
    os.kill(worker["pid"], signal.SIGKILL)
    eventually(lambda: proxy.log.read_text().count("WARNING pgsplit.worker: cluster replicas: could not connect") == 2)
    assert f"cluster replicas: {cluster.standbys[0].address}" not in proxy.log.read_text()
