"""`app.py import` as it is called: what it writes, what it says, and that pgsplit runs on it."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pgsplit import cli
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
INI = """\
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
auth_type = md5
auth_file = userlist.txt
admin_users = scram_user
pool_mode = transaction
max_client_conn = 90
server_reset_query = DISCARD ALL
server_tls_sslmode = require
client_tls_sslmode = require
client_tls_cert_file = {certificate}
client_tls_key_file = {key}
"""
CONF = """\
backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = 9999
{backends}
pool_passwd = 'pool_passwd'
sr_check_user = 'postgres'
sr_check_password = ''
num_init_children = 32
load_balance_mode = on
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "userlist.txt").write_text('"app" "app-secret"\n')
    file = tmp_path / "pgbouncer.ini"
    file.write_text("[databases]\na = host=db1\n[pgbouncer]\nlisten_addr = *\nauth_file = userlist.txt\n"
                    "server_tls_sslmode = disable\n")
    return file


def test_what_is_written_passes_the_check(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = source.with_name("pgsplit.yaml")
    assert cli.main(["import", str(source), "-o", str(made), "--replica", "db2:5432"]) == 0
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert yaml.safe_load(made.read_text())["servers"] == ["db1:5432", "db2:5432"]
    assert f"check --connect -c {made}" in capsys.readouterr().err
    assert cli.main(["check", "-c", str(made)]) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_file_that_is_there_stays_without_force(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = source.with_name("pgsplit.yaml")
    made.write_text("mine")
    made.chmod(0o644)
    assert cli.main(["import", str(source), "-o", str(made)]) == 1
    assert made.read_text() == "mine" and "--force" in capsys.readouterr().err
    assert cli.main(["import", str(source), "-o", str(made), "--force"]) == 0
    assert "app-secret" in made.read_text() and stat.S_IMODE(made.stat().st_mode) == 0o600


def test_check_says_each_line_and_writes_nothing(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(source.parent.iterdir())
    assert cli.main(["import", "--check", str(source)]) == 0
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith(f"{source}:4: listen_addr = *: becomes listen")]
    assert "app-secret" not in said.out + said.err and sorted(source.parent.iterdir()) == before


def test_standard_output_is_the_configuration(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", str(source)]) == 0
    said = capsys.readouterr()
    assert yaml.safe_load(said.out)["users"] == {"app": "app-secret"}
    assert "chmod 600" in said.err and "app-secret" not in said.err


def test_what_is_missing_is_told_with_the_line_that_lacks_it(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.write_text(source.read_text() + "client_tls_sslmode = require\nclient_tls_cert_file = none.crt\n"
                      "client_tls_key_file = none.key\n")
    made = source.with_name("pgsplit.yaml")
    assert cli.main(["import", str(source), "-o", str(made)]) == 1
    said = capsys.readouterr().err
    assert f"{made}:" in said and "none.crt: No such file or directory" in said and "is not complete" in said
    assert made.exists()        # to be completed


@pytest.mark.parametrize("text, code, words", [
    ("[databases]\na = host=db1\nb = host=db2\n[pgbouncer]\n", 1, "lead to several servers"),
    ("[databases]\nnonsense\n", 2, "pgbouncer.ini:2: is neither"),
    ("[databases]\na = host=db1 password='secret", 1, "is not a connection string"),
    ("port 9999 9\n", 2, "pgbouncer.ini:1: is neither name = value nor a comment"),
])
def test_what_cannot_be_made_is_told(source: Path, capsys: pytest.CaptureFixture[str], text: str, code: int,
                                     words: str) -> None:
    source.write_text(text)
    assert cli.main(["import", str(source)]) == code
    said = capsys.readouterr()
    assert words in said.err and said.out == "" and "secret" not in said.err


def test_a_password_that_is_not_utf_8_stays_the_bytes_it_is(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.with_name("userlist.txt").write_bytes(b'"app" "se\xe9cret"\n; caf\xe9\n')
    made = source.with_name("pgsplit.yaml")
    assert cli.main(["import", str(source), "-o", str(made)]) == 0
    assert yaml.safe_load(made.read_text())["users"]["app"].encode(errors="surrogateescape") == b"se\xe9cret"


def test_the_monitor_s_password_is_read_from_a_file(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    password = source.with_name("password")
    password.write_text("watch-secret\n")
    assert cli.main(["import", str(source), "--monitor", "watch", "--monitor-password-file", str(password)]) == 0
    made = yaml.safe_load(capsys.readouterr().out)
    assert (made["monitor"], made["users"]["watch"]) == ("watch", "watch-secret")
    assert cli.main(["import", str(source), "--monitor-password-file", str(password)]) == 1
    assert cli.main(["import", str(source), "--monitor", "nobody"]) == 1


# --- on real servers ------------------------------------------------------------------------------------------------

def imported(file: Path, *arguments: str) -> dict[str, object]:
    """What `import` writes of *file*, but for where it listens: the test says that."""
    made = file.with_name("pgsplit.yaml")
    assert cli.main(["import", str(file), "-o", str(made), *arguments]) == 0
    done = subprocess.run([sys.executable, "app.py", "check", "--connect", "-c", str(made)], cwd=ROOT, timeout=60,
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    configuration: dict[str, object] = yaml.safe_load(made.read_text())
    del configuration["listen"]
    return configuration


def reads_and_writes(cluster: PrimaryAndStandbys, proxy: Proxy, user: str, sslmode: str) -> None:
    cluster.primary.query("create table imported (a text); grant select, insert on imported to public")
    try:
        with cluster.primary.connect(user, port=proxy.port, sslmode=sslmode, autocommit=True,
                                     prepare_threshold=None) as client:
            client.execute("insert into imported values (%s)", [user])
            assert client.execute("show pgsplit.last_route").fetchone() == ("primary: write",)

            def is_on_the_standby() -> bool:
                assert client.execute("select a from imported").fetchall() == [(user,)]
                return client.execute("show pgsplit.last_route").fetchone() == ("replica: read",)

            eventually(is_on_the_standby)
    finally:
        cluster.primary.query("drop table imported")


@pytest.fixture
def only_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture's own defaults are for other tests: of them nothing may be left here."""
    monkeypatch.setattr("tests.conftest.default_configuration", lambda cluster: {"pgsplit": {"workers": 1}})


@pytest.mark.usefixtures("only_imported")
def test_pgsplit_runs_on_an_imported_pgbouncer_ini(cluster: PrimaryAndStandbys, tmp_path: Path,
                                                   pgsplit_server: Callable[..., Proxy]) -> None:
    host, _, port = cluster.primary.address.rpartition(":")
    file = tmp_path / "pgbouncer.ini"
    pair = cluster.key_pair
    file.write_text(INI.format(host=host, port=port, certificate=pair.certificate, key=pair.key))
    (tmp_path / "userlist.txt").write_text("".join(
        f'"{role.name}" "{role.password}"\n' for role in cluster.roles.values() if role.password))
    configuration = imported(file, "--replica", cluster.standbys[0].address, "--monitor", "postgres")
    proxy = pgsplit_server(**configuration)
    reads_and_writes(cluster, proxy, "scram_user", "require")
    with pytest.raises(Exception, match=r"TLS|SSL|encrypt"):         # client_tls_sslmode = require
        cluster.primary.connect("scram_user", port=proxy.port, sslmode="disable")
    with cluster.primary.connect("scram_user", port=proxy.port, sslmode="require", dbname="pgbouncer",
                                 autocommit=True) as console:
        assert console.execute("show version").fetchone()


@pytest.mark.usefixtures("only_imported")
def test_pgsplit_runs_on_an_imported_pgpool_conf(cluster: PrimaryAndStandbys, tmp_path: Path,
                                                 pgsplit_server: Callable[..., Proxy]) -> None:
    backends = []
    for number, server in enumerate(cluster.servers):
        host, _, port = server.address.rpartition(":")
        backends.append(f"backend_hostname{number} = '{host}'\nbackend_port{number} = {port}\nbackend_weight{number} = "
                        f"{number}\n")
    file = tmp_path / "pgpool.conf"
    file.write_text(CONF.format(backends="".join(backends)))
    (tmp_path / "pool_passwd").write_text("".join(
        f"{role.name}:TEXT{role.password}\n" for role in cluster.roles.values() if role.password))
    proxy = pgsplit_server(**imported(file))
    reads_and_writes(cluster, proxy, "scram_user", "disable")
