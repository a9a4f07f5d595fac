"""pgsplit's own certificate, which servers let in, and what it does not prove; servers' that are revoked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pgsplit.demo.certificates import Authority, KeyPair
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Server
from pgsplit.errors import ConfigError
from pgsplit.process.files import load_config
from tests.auth.test_cert_users import connect, listed, tls, works
from tests.waiting import eventually

Start = Callable[..., Proxy]
HBA = "hostssl all scram_user,md5_user,trust_user,postgres all cert map=proxies\n"
IDENT = "".join(f"proxies the-proxy {user}\n" for user in ("scram_user", "md5_user", "trust_user", "postgres"))


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory, cluster: PrimaryAndStandbys) -> Iterator[Authority]:
    """Of pgsplit's certificates: both servers let ``the-proxy`` in as any of HBA's users, and nobody else."""
    authority = Authority(tmp_path_factory.mktemp("own"))
    before = {}
    for server in (cluster.primary, *cluster.standbys):
        ca = server.data / "proxies.crt"
        ca.write_bytes(authority.ca.read_bytes())
        ca.chmod(0o644)
        for name, lines in (("pg_hba.conf", HBA), ("pg_ident.conf", IDENT)):
            file = server.data / name
            before[file] = file.read_text()
            file.write_text(lines + before[file])
        _set(server, "set ssl_ca_file = 'proxies.crt'", "proxies.crt")
    yield authority
    for file, text in before.items():
        file.write_text(text)
    for server in (cluster.primary, *cluster.standbys):
        _set(server, "reset ssl_ca_file", "")


def _set(server: Server, what: str, value: str) -> None:
    server.query(f"alter system {what}")
    server.query("select pg_reload_conf()")
    eventually(lambda: server.query("show ssl_ca_file") == [(value,)])


def upstream(pair: KeyPair) -> dict[str, str]:
    return {"mode": "require", "certificate": str(pair.certificate), "key": str(pair.key)}


def wrong_password(cluster: PrimaryAndStandbys, proxy: Proxy, user: str, **more: Any) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        cluster.primary.connect(user, port=proxy.port, **{"password": "wrong", "sslmode": "require", **more})
    return str(caught.value)


def test_a_cert_user_gets_in_by_pgsplit_s_own_certificate(
        cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority, own: Authority):
    """No password anywhere, the monitor's aside, which nobody asks for; a cancel arrives."""
    proxy = pgsplit_server(tls=tls(cluster, clients), upstream_tls=upstream(own.issue_client("the-proxy")), users=[
        {"username": "postgres", "password": "not the password"}, {"username": "scram_user", "password": "cert"}])
    pair = clients.issue_client("scram_user")
    assert works(cluster, proxy, pair, "scram_user")
    [(subjects,)] = cluster.primary.query(
        "select array_agg(distinct client_dn) from pg_stat_ssl join pg_stat_activity using (pid) "
        "where application_name like 'pgsplit%'")
    assert subjects == ["/CN=the-proxy"]
    with connect(cluster, proxy, pair, "scram_user") as connection:
        timer = threading.Timer(0.5, connection.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(60)")
        timer.join()


@pytest.mark.parametrize("entry", ["clear", "md5", "verifier"])
@pytest.mark.parametrize("user", ["scram_user", "md5_user", "trust_user"])
@pytest.mark.parametrize("leg", ["require", "disable"])
def test_it_lets_no_client_in_who_has_proved_nothing(
        cluster: PrimaryAndStandbys, pgsplit_server: Start, own: Authority, user: str, entry: str, leg: str):
    """The servers ask pgsplit for nothing, so pgsplit asks the client, by what the list has."""
    clear = "the listed password"
    [(verifier,)] = cluster.primary.query("select rolpassword from pg_authid where rolname = 'scram_user'")
    clear = cluster.roles["scram_user"].password if entry == "verifier" else clear
    secret = {"clear": clear, "md5": "md5" + hashlib.md5((clear + user).encode()).hexdigest(), "verifier": verifier}
    proxy = pgsplit_server(upstream_tls=upstream(own.issue_client("the-proxy")), users=[
        *listed(cluster, "postgres"), {"username": user, "password": secret[entry]}])
    assert "password authentication failed" in wrong_password(cluster, proxy, user, sslmode=leg)
    with cluster.primary.connect(user, port=proxy.port, password=clear, sslmode=leg) as connection:
        assert connection.execute("select session_user").fetchone() == (user,)


@pytest.mark.parametrize("unlisted, words", [
    ("reject", 'password authentication failed for user "trust_user"'),
    ("read_only", "the user_list has nothing by which the client could prove itself"),
])
def test_nor_one_who_is_not_in_the_list(
        cluster: PrimaryAndStandbys, pgsplit_server: Start, own: Authority, unlisted: str, words: str):
    proxy = pgsplit_server(upstream_tls=upstream(own.issue_client("the-proxy")), users=listed(cluster, "postgres"),
                           unlisted_users=unlisted)
    assert words in wrong_password(cluster, proxy, "trust_user")


def test_a_certificate_that_servers_do_not_know_and_a_reload(
        cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority, own: Authority):
    wrong, right = own.issue_client("somebody"), own.issue_client("the-proxy")
    users = [*listed(cluster, "password_user"), {"username": "scram_user", "password": "cert"}]
    proxy = pgsplit_server(tls=tls(cluster, clients), upstream_tls=upstream(wrong), users=users,
                           monitor="password_user")
    pair = clients.issue_client("scram_user")
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed for user"):
        connect(cluster, proxy, pair, "scram_user")
    right.certificate.replace(wrong.certificate)        # the same names, other content
    right.key.replace(wrong.key)
    proxy.client.arbiter("reload")
    eventually(lambda: _gets_in(cluster, proxy, pair))


def _gets_in(cluster: PrimaryAndStandbys, proxy: Proxy, pair: KeyPair | None) -> bool:
    try:
        cluster.primary.connect("scram_user", port=proxy.port, sslmode="require", **(
            {"sslcert": str(pair.certificate), "sslkey": str(pair.key)} if pair else {})).close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_server_s_certificate_that_is_revoked(cluster: PrimaryAndStandbys, pgsplit_server: Start):
    none, servers = str(cluster.authority.crl()), str(cluster.authority.crl(cluster.key_pair))
    proxy = pgsplit_server(upstream_tls={"mode": "verify", "crl": none}, ca=str(cluster.ca))
    eventually(lambda: _gets_in(cluster, proxy, None))
    proxy.write(yaml.safe_load(proxy.file.read_text()) | {"upstream_tls": {"mode": "verify", "crl": servers}})
    proxy.client.arbiter("reload")
    eventually(lambda: not _gets_in(cluster, proxy, None))
    with pytest.raises(psycopg.OperationalError, match="certificate revoked"):
        cluster.primary.connect("scram_user", port=proxy.port)


SHORT = """\
listen: 127.0.0.1:6432
primary: a:1
replicas: [b:1]
users: {u: p}
ca: ca.crt
upstream_tls:
  mode: verify
"""


@pytest.mark.parametrize("given, expected", [
    ("certificate: own.crt", "7: upstream_tls.key: is missing"),
    ("key: own.key", "7: upstream_tls.certificate: is missing"),
    ("{certificate: own.crt, key: other.key}",
     "7: upstream_tls: the key {0}/other.key is not that of the certificate {0}/own.crt"),
    ("{certificate: x.crt, key: own.key}", "7: upstream_tls: {0}/x.crt: No such file or directory"),
    ("crl: own.crt",
     "8: upstream_tls.crl: {0}/own.crt: holds a certificate, no revocation list in PEM (-----BEGIN X509 CRL-----)"),
    ("crl: x.crl", "8: upstream_tls.crl: {0}/x.crl: No such file or directory"),
])
def test_bad_files(clients: Authority, given: str, expected: str):
    directory = clients.ca.parent
    for name in ("own", "other"):
        clients.issue_client(name)
    lines = given.strip("{}").split(", ")
    file = directory / "pgsplit.yaml"
    file.write_text(SHORT + "".join(f"  {line}\n" for line in lines))
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    assert caught.value.problems == [f"{file}:{expected.format(directory)}"]


def test_lists_take_a_ca(clients: Authority):
    file = clients.ca.parent / "pgsplit.yaml"
    clients.crl()
    file.write_text(SHORT.replace("ca: ca.crt\n", "").replace("verify", "require") + "  crl: 1.crl\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    assert caught.value.problems == [f"{file}:7: upstream_tls.crl: is looked at with a CA only"]
