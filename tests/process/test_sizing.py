"""The sums of `size`, and that the servers' own count agrees with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pgsplit import cli
from pgsplit.config.loader import load
from pgsplit.config.model import Config
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.process.sizing import Size, of_config, wanted
from tests.conftest import default_configuration
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
TWO = "listen: '*:6432'\nprimary: db1\nreplicas: [db2, db3]\nusers: {app: x}\nmonitor: app\n"
ONE_LIST = TWO.replace("primary: db1\nreplicas: [db2, db3]", "servers: [db1, db2, db3]")


def config(text: str) -> Config:
    return load(text, "f", lambda name: "", defaults={"workers": 4, "run_dir": "/r"}).config


def test_connections_are_the_sum_of_who_makes_them():
    size = Size(100, 4, databases=3, naming=2)
    assert (size.monitors, size.samplers, size.catalogues, size.passing, size.connections) == (2, 4, 12, 4, 122)
    assert Size(100, 4, catalogue=False).connections == 109
    assert size.descriptors == 428


def test_memory_grows_with_sessions_workers_and_tls():
    clear = Size(1000, 2, client_tls=False, server_tls=False, admin=False)
    assert clear.memory == (26 + 17 + 2 * 19 << 20) + (1000 * 21 << 10)
    assert Size(1000, 2, admin=False).memory - clear.memory == 1000 * 3 * 22 << 10


def test_a_configuration_says_most_of_it():
    size = of_config(config(ONE_LIST + "max_connections: 50\ncatalogue: false\n"), databases=2)
    assert (size.sessions, size.workers, size.naming, size.catalogue, size.client_tls) == (50, 4, 2, False, False)
    assert (of_config(config(TWO)).sessions, of_config(config(TWO)).naming) == (0, 1)
    assert of_config(config(TWO), sessions=7).sessions == 7


def test_what_may_be_wanted_of_each_server():
    two = config(TWO + "max_connections: 50\n")
    assert wanted(two, "primary", two.cluster("primary").endpoints[0]) == (50, 1 + 4 + 4 + 4)
    assert wanted(two, "replicas", two.cluster("replicas").endpoints[0]) == (50, 1 + 4 + 4)
    one = config(ONE_LIST + "max_connections: 50\n")
    assert wanted(one, "replicas", one.cluster("replicas").endpoints[0]) == (50, 2 + 4 + 4 + 4)
    assert wanted(config(TWO), "primary", two.cluster("primary").endpoints[0])[0] == 0


def test_the_command_prints_the_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["size", "--clients", "100", "--workers", "2", "--databases", "3", "--others", "5"]) == 0
    said = capsys.readouterr().out
    assert "max_connections = 120 in postgresql.conf" in said and "ulimit -n, LimitNOFILE): 428" in said
    file = tmp_path / "pgsplit.yaml"
    file.write_text(ONE_LIST + "max_connections: 10\n")
    assert cli.main(["size", "-c", str(file), "--workers", "1"]) == 0
    assert "max_connections = 18 in postgresql.conf" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, words", [
    ([], "--clients N: how many?"), (["--clients", "0"], "--clients 0: is too few"),
    (["--clients", "5", "--others", "-1"], "--others -1: is too few")])
def test_what_it_needs_to_know_is_asked_for(arguments: list[str], words: str,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["size", *arguments]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("one_list", [False, True], ids=["primary and replicas", "servers"])
def test_the_servers_count_what_the_sum_says(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy],
                                             one_list: bool) -> None:
    form = {"servers": [server.address for server in cluster.servers], "primary": None,
            "replicas": None} if one_list else {}
    pgsplit_server(pgsplit={"workers": 2}, **form)
    size = Size(0, 2, naming=2 if one_list else 1)
    for server in cluster.servers:
        eventually(lambda server=server: server.query(  # type: ignore[misc]
            "select count(*) from pg_stat_activity where application_name = 'pgsplit monitor'") == [(size.monitors,)])


def test_check_names_servers_with_too_few_connections(cluster: PrimaryAndStandbys, tmp_path: Path) -> None:
    [(allowed,)] = cluster.primary.query(
        "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int")
    own = {"workers": 2}
    file = tmp_path / "pgsplit.yaml"

    def check(limit: int) -> tuple[int, str]:
        file.write_text(yaml.safe_dump({"listen": "127.0.0.1:6432", **default_configuration(cluster),
                                        "max_connections": limit, "pgsplit": own}))
        file.chmod(0o600)
        done = subprocess.run([sys.executable, "app.py", "check", "--connect", "-c", str(file)], cwd=ROOT,
                              capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stderr

    assert check(0) == (0, "")
    assert check(allowed - 7) == (0, "")
    code, said = check(allowed - 6)
    assert code == 1 and said.count("\n") == 1      # the replica has no reader of definitions
    assert (f"primary: {cluster.primary.address} allows {allowed} connections of users who are not superusers, and "
            f"{allowed + 1} may be wanted: {allowed - 6} of sessions (max_connections) and 7 of pgsplit's own: raise "
            f"max_connections there, or set it to {allowed - 7} here") in said
