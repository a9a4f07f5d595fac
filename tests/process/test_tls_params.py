"""Envoy's tls_params, and what the short form calls them, are obeyed on both legs: real clients, real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from pgsplit.config.loader import load
from pgsplit.config.model import TlsParams
from pgsplit.demo.certificates import Authority
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.errors import ConfigError
from pgsplit.process.files import load_config
from tests.waiting import eventually

GCM, CHACHA = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"
SSL = "select version, cipher from pg_stat_ssl where pid = pg_backend_pid()"


def client(cluster: PrimaryAndStandbys, proxy: Proxy, **arguments: Any) -> Any:
    return psycopg2.connect(host="127.0.0.1", port=proxy.port, user="scram_user", dbname="postgres",
                            password=cluster.roles["scram_user"].password, sslmode="require", **arguments)


def tls(cluster: PrimaryAndStandbys, **params: Any) -> dict[str, Any]:
    return {"certificate": str(cluster.key_pair.certificate), "key": str(cluster.key_pair.key), **params}


def attributes(connection: Any) -> tuple[str, str]:
    return connection.info.ssl_attribute("protocol"), connection.info.ssl_attribute("cipher")


def test_clients(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    proxy = pgsplit_server(tls=tls(cluster, min_protocol_version="TLSv1.3"))
    assert attributes(client(cluster, proxy))[0] == "TLSv1.3"
    with pytest.raises(psycopg2.OperationalError, match="protocol version"):
        client(cluster, proxy, ssl_max_protocol_version="TLSv1.2")
    proxy.write(yaml.safe_load(proxy.file.read_text()) | {"tls": tls(
        cluster, max_protocol_version="TLSv1_2", ciphers=CHACHA, ecdh_curves=["P-384"])})
    proxy.client.arbiter("reload")
    eventually(lambda: attributes(client(cluster, proxy)) == ("TLSv1.2", CHACHA))


def test_servers(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    """The session's two connections, and the monitor's."""
    proxy = pgsplit_server(upstream_tls={"mode": "require", "max_protocol_version": "TLSv1.2", "ciphers": [GCM],
                                         "ecdh_curves": ["P-256"]})
    with client(cluster, proxy) as connection, connection.cursor() as cursor:
        for query in (SSL, f"/* pgsplit: primary */ {SSL}"):
            cursor.execute(query)
            assert cursor.fetchall() == [("TLSv1.2", GCM)]
    for server in (cluster.primary, *cluster.standbys):
        assert set(server.query("select version, cipher from pg_stat_ssl join pg_stat_activity using (pid) "
                                "where ssl and application_name like 'pgsplit%'")) == {("TLSv1.2", GCM)}


@pytest.mark.parametrize("params", [{"min_protocol_version": "TLSv1.3"}, {"ecdh_curves": "P-384"}])
def test_a_server_that_does_less_is_not_used(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy], params: dict[str, str]):
    """Its own curve is P-256, which is left to it with TLS 1.2."""
    cluster.primary.query("alter system set ssl_max_protocol_version = 'TLSv1.2'")
    try:
        cluster.primary.query("select pg_reload_conf()")
        proxy = pgsplit_server(upstream_tls={"mode": "require", **params})
        with pytest.raises(psycopg2.OperationalError, match="primary cannot be reached"):
            client(cluster, proxy)
    finally:
        cluster.primary.query("alter system reset ssl_max_protocol_version")
        cluster.primary.query("select pg_reload_conf()")


SHORT = """\
listen: 127.0.0.1:6432
primary: a:1
replicas: [b:1]
users: {u: p}
tls:
  certificate: server.crt
  key: server.key
  LISTENER: x
upstream_tls:
  mode: require
  CLUSTER: x
"""
NONE = "is no cipher suite that OpenSSL has for TLS 1.2 (those of TLS 1.3 are its own choice)"
TOO_OLD = "TLSv1.1 is not done: OpenSSL does not at its security level, TLSv1.2 is the oldest"
WRONG = [
    ("min_protocol_version: TLSv1.1", TOO_OLD),
    ("min_protocol_version: SSLv3", "'SSLv3' is not one of TLSv1.2, TLSv1.3"),
    ("max_protocol_version: [TLSv1.3]", "is one value, not a mapping or a list"),
    ("ciphers: RC4-MD5", f"RC4-MD5 {NONE}"),
    (f"ciphers: {GCM}:nonsense", f"nonsense {NONE}"),
    ("ciphers: TLS_AES_256_GCM_SHA384", f"TLS_AES_256_GCM_SHA384 {NONE}"),
    ("ciphers: HIGH:@SECLEVEL=0", "@SECLEVEL=0 is no cipher suite"),
    ("ciphers: HIGH:!HIGH", "no cipher suite is left"),
    ("ciphers: []", "is empty"),
    ("ecdh_curves: nonsense", "nonsense is no curve that OpenSSL has"),
    ("ecdh_curves: [P-256, P-384]", "only one curve can be set"),
]


@pytest.mark.parametrize("given, why", WRONG)
def test_mistakes_are_named_where_they_stand(tmp_path: Path, given: str, why: str):
    Authority(tmp_path).issue("server")
    file = tmp_path / "pgsplit.yaml"
    name = given.partition(":")[0]
    for slot, other, line, block in (("LISTENER: x", "  CLUSTER: x\n", 8, "tls"),
                                     ("CLUSTER: x", "  LISTENER: x\n", 10, "upstream_tls")):
        file.write_text(SHORT.replace(other, "").replace(slot, given))
        with pytest.raises(ConfigError) as caught:
            load_config(str(file))
        assert caught.value.problems == [f"{file}:{line}: {block}.{name}: {why}"]


def test_the_minimum_is_not_above_the_maximum_and_disable_leaves_nothing(tmp_path: Path):
    Authority(tmp_path).issue("server")
    file = tmp_path / "pgsplit.yaml"
    file.write_text(SHORT.replace("LISTENER: x", "min_protocol_version: TLSv1.3\n  max_protocol_version: TLSv1.2")
                    .replace("mode: require", "mode: disable").replace("CLUSTER: x", "ciphers: HIGH"))
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    assert caught.value.problems == [
        f"{file}:11: upstream_tls.mode: disable leaves nothing for the rest to say",
        f"{file}:8: tls.min_protocol_version: TLSv1.3 is above the maximum, TLSv1.2"]


def test_envoys_form(tmp_path: Path):
    Authority(tmp_path).issue("server")
    sample = (Path(__file__).parents[1] / "config" / "egress_pg.yaml").read_text()
    file = tmp_path / "pgsplit.yaml"
    file.write_text(sample)
    params = ("tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLS_AUTO, "
              f"cipher_suites: [{GCM}], ecdh_curves: [X25519]}}\n")
    indent = sample[:sample.index("tls_certificates")].rpartition("\n")[2]
    changed = sample.replace("tls_certificates", f"{params}{indent}tls_certificates", 1)
    loaded = load(changed, "/etc/pgsplit.yaml", lambda name: "", defaults={"workers": 1, "run_dir": "/run/x"})
    assert not loaded.warnings
    [listener] = loaded.config.listeners
    assert listener.tls is not None and listener.tls.params == TlsParams(
        minimum="TLSv1.3", cipher_suites=(GCM,), ecdh_curves=("X25519",))
    assert loaded.marks["listener postgres cipher_suites"].endswith("tls_params.cipher_suites")
