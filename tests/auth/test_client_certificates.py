"""Client certificates: who must show one, and what becomes of who shows none, or a bad one."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pgsplit.demo.certificates import Authority, KeyPair
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.errors import ConfigError
from pgsplit.process.files import load_config
from tests.waiting import eventually

NONE_SHOWN = "connection requires a valid client certificate"
Start = Callable[..., Proxy]


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return Authority(tmp_path_factory.mktemp("other")).issue_client("scram_user")


def tls(cluster: PrimaryAndStandbys, clients: Authority, **more: Any) -> dict[str, Any]:
    return {"certificate": str(cluster.key_pair.certificate), "key": str(cluster.key_pair.key),
            "client_ca": str(clients.ca), **more}


def shown(pair: KeyPair | None) -> dict[str, str]:
    return {"sslcert": str(pair.certificate), "sslkey": str(pair.key)} if pair else {"sslcert": "", "sslkey": ""}


def connect(cluster: PrimaryAndStandbys, proxy: Proxy, pair: KeyPair | None, user: str = "scram_user",
            **more: Any) -> psycopg.Connection[Any]:
    return cluster.primary.connect(user, port=proxy.port, **{"sslmode": "require", **shown(pair), **more})


def refused(cluster: PrimaryAndStandbys, proxy: Proxy, pair: KeyPair | None, **more: Any) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        connect(cluster, proxy, pair, **more)
    return str(caught.value)


def change(proxy: Proxy, **keys: Any) -> None:
    proxy.write(yaml.safe_load(proxy.file.read_text()) | keys)
    proxy.client.arbiter("reload")


def test_one_must_be_shown(cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority, stranger: KeyPair):
    proxy = pgsplit_server(tls=tls(cluster, clients, require_client_certificate=True),
                           stats_users="scram_user, password_user")
    pair = clients.issue_client("anybody")
    with connect(cluster, proxy, pair) as connection:
        assert connection.execute("select session_user").fetchone() == ("scram_user",)
    connect(cluster, proxy, pair, dbname="pgsplit").close()
    for more in ({}, {"sslmode": "disable"}, {"dbname": "pgsplit"}, {"user": "trust_user"}):
        assert NONE_SHOWN in refused(cluster, proxy, None, **more), more
    assert re.search("unknown ca|certificate", refused(cluster, proxy, stranger))
    assert "password authentication failed" in refused(cluster, proxy, pair, password="wrong")


def test_one_may_be_shown(cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority, stranger: KeyPair):
    """Without `require_client_certificate`, as with PostgreSQL's ssl_ca_file alone: a bad one is worse than none."""
    proxy = pgsplit_server(tls=tls(cluster, clients))
    for pair in (None, clients.issue_client("anybody")):
        connect(cluster, proxy, pair).close()
    connect(cluster, proxy, None, sslmode="disable").close()
    assert re.search("unknown ca|certificate", refused(cluster, proxy, stranger))


def test_what_is_told_is_what_postgresql_tells(
        cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority, demanding: None):
    """A server with clientcert=verify-ca, and pgsplit beside it."""
    proxy = pgsplit_server(tls=tls(cluster, clients, require_client_certificate=True))
    port = cluster.primary.port
    told = []
    for where in (port, proxy.port):
        with pytest.raises(psycopg.OperationalError) as caught:
            cluster.primary.connect("scram_user", port=where, sslmode="require", **shown(None))
        told.append(str(caught.value).partition("FATAL:")[2])
    assert told[0] == told[1] != ""


@pytest.fixture
def demanding(cluster: PrimaryAndStandbys, clients: Authority) -> Iterator[None]:
    """The primary asks scram_user for a certificate of the clients' CA."""
    file = cluster.primary.data / "pg_hba.conf"
    before = file.read_text()
    clients.ca.parent.chmod(0o755)
    ca = cluster.primary.data / "clients.crt"
    ca.write_bytes(clients.ca.read_bytes())
    ca.chmod(0o644)
    file.write_text(f"hostssl all scram_user all scram-sha-256 clientcert=verify-ca\n{before}")
    cluster.primary.query("alter system set ssl_ca_file = 'clients.crt'")
    cluster.primary.query("select pg_reload_conf()")
    eventually(lambda: cluster.primary.query("show ssl_ca_file") == [("clients.crt",)])
    yield
    file.write_text(before)
    cluster.primary.query("alter system reset ssl_ca_file")
    cluster.primary.query("select pg_reload_conf()")
    eventually(lambda: cluster.primary.query("show ssl_ca_file") == [("",)])


def test_revoked_ones_and_a_reload(cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority):
    good, bad = clients.issue_client("good"), clients.issue_client("bad")
    proxy = pgsplit_server(tls=tls(cluster, clients, client_crl=str(clients.crl(bad))))
    assert "revoked" in refused(cluster, proxy, bad)
    session = connect(cluster, proxy, good)
    clients.crl(good).rename(clients.ca.parent / "1.crl")        # the same name, other content
    proxy.client.arbiter("reload")
    eventually(lambda: _is_refused(cluster, proxy, good, "revoked"))
    connect(cluster, proxy, bad).close()
    assert session.execute("select 1").fetchone() == (1,)        # it keeps what it began with
    change(proxy, tls=tls(cluster, clients, client_crl=str(clients.crl(next_update=-datetime.timedelta(hours=1)))))
    eventually(lambda: _is_refused(cluster, proxy, bad, "expired|alert"))
    change(proxy, tls=tls(cluster, clients))
    eventually(lambda: not _is_refused(cluster, proxy, bad, ""))


def _is_refused(cluster: PrimaryAndStandbys, proxy: Proxy, pair: KeyPair, words: str) -> bool:
    try:
        connect(cluster, proxy, pair).close()
    except psycopg.OperationalError as error:
        return bool(re.search(words, str(error)))
    return False


SHORT = """\
listen: 127.0.0.1:6432
primary: a:1
replicas: [b:1]
users: {u: p}
tls:
  certificate: server.crt
  key: server.key
"""


@pytest.mark.parametrize("content, why", [
    (None, "No such file or directory"),
    ("certificate", "holds a certificate, no revocation list in PEM (-----BEGIN X509 CRL-----)"),
    ("both", "holds a certificate, too, which would be trusted: give revocation lists only"),
    ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "a revocation list in it is damaged"),
])
def test_a_bad_list_is_named_where_it_stands(clients: Authority, content: str | None, why: str):
    directory = clients.ca.parent
    clients.issue("server")
    made = {"certificate": clients.ca.read_text(), "both": clients.crl().read_text() + clients.ca.read_text()}
    if content is not None:
        (directory / "x.crl").write_text(made.get(content, content))
    file = directory / "pgsplit.yaml"
    file.write_text(f"{SHORT}  client_ca: ca.crt\n  client_crl: x.crl\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    [problem] = caught.value.problems
    assert problem.startswith(f"{file}:9: tls.client_crl: {directory}/x.crl: {why}"), problem


@pytest.mark.parametrize("given, expected", [
    ("client_ca: server.key",
     "8: tls.client_ca: {}/server.key: holds a key, no certificate in PEM (-----BEGIN CERTIFICATE-----)"),
    ("client_crl: x.crl", "8: tls.client_crl: is looked at with a CA only"),
    ("require_client_certificate: true",
     "8: tls.require_client_certificate: needs the CA's certificate, by which clients' are checked"),
    ("require_client_certificate: maybe", "8: tls.require_client_certificate: 'maybe' is not true or false"),
])
def test_mistakes(clients: Authority, given: str, expected: str):
    directory = clients.ca.parent
    clients.issue("server")
    file = directory / "pgsplit.yaml"
    file.write_text(f"{SHORT}  {given}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    assert caught.value.problems == [f"{file}:{expected.format(directory)}"]
