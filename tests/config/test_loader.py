"""Configurations in all their shapes, and the mistakes in them: each one line, with where and what."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml

from pgsplit.config.loader import Loaded, load
from pgsplit.config.model import Address, Config, Placement
from pgsplit.config.settings import BY_NAME, SETTINGS
from pgsplit.errors import ConfigError

SAMPLE = (Path(__file__).parent / "egress_pg.yaml").read_text()
SHORT = """\
listen: 0.0.0.0:6432
primary: db1:5432
replicas: [db2:5432, "db3"]
users: {app: app-secret, report: "md50123456789abcdef0123456789abcdef", no: 0123}
monitor: app
tls: {certificate: server.crt, key: server.key}
upstream_tls: require
admin: 127.0.0.1:8432
consistency: session
"""
DEFAULTS = {"workers": 3, "run_dir": "/run/x"}


def read(name: str) -> str:
    if name == "/etc/users.yaml":
        return "- {username: app, password: secret}\n- {username: b, password: 'yes'}\n"
    raise FileNotFoundError(2, "No such file or directory", name)


def loaded(text: str, **overrides: object) -> Loaded:
    return load(text, "/etc/pgsplit.yaml", read, defaults=DEFAULTS, overrides=overrides)


def problems(text: str, **overrides: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text, **overrides)
    return [problem.removeprefix("/etc/pgsplit.yaml:") for problem in caught.value.problems]


@pytest.mark.parametrize("user", ["app", "report"])
def test_a_listed_user_asks_for_those_who_are_not(user):
    listener = loaded(f"{SHORT}auth_user: {user}\nauth_dbname: users\n").config.listeners[0]
    assert (listener.auth_user, listener.auth_dbname) == (user, "users")
    assert listener.auth_query == BY_NAME["auth_query"].default
    assert loaded(SHORT).config.listeners[0].auth_user == ""


def test_where_nothing_is_split_nobody_asks():
    whole = SAMPLE.replace("split_rw: true", "split_rw: false")
    whole = whole.replace("pgsplit:\n", "pgsplit:\n  auth_user: nobody\n", 1)
    listener = loaded(whole).config.listeners[0]
    assert (listener.split_rw, listener.auth_user) == (False, "nobody")


@pytest.mark.parametrize(("user", "problem"), [
    ("nobody", "user 'nobody' is not in users"),
    ("proved", "user 'proved' is in users with a SCRAM verifier, which cannot log in by itself"),
])
def test_who_asks_must_be_able_to_log_in(user, problem):
    verifier = "SCRAM-SHA-256$4096:c2FsdA==$" + "$".join(["A" * 43 + "="] * 2).replace("$", ":")
    text = SHORT.replace("no: 0123", f"proved: '{verifier}'")
    assert problems(f"{text}auth_user: {user}\n") == [f"10: pgsplit.listeners.postgres.auth_user: {problem}"]


def test_the_sample_is_read_unchanged():
    config = loaded(SAMPLE).config
    listener = config.listeners[0]
    assert listener.addresses == (Address(host="127.0.0.1", port=6432),)
    assert (listener.stat_prefix, listener.downstream_ssl, listener.upstream_ssl) == ("egress_pg", "ALLOW", "REQUIRE")
    assert (listener.read_cluster, listener.write_cluster) == ("pg_cluster_read", "pg_cluster_write")
    assert [user.username for user in listener.users] == ["postgres", "app"]
    assert listener.users[0].secret == "a;quoted.Password"
    assert listener.tls is not None and listener.tls.certificate == "/etc/server.crt"
    assert [str(e) for e in config.cluster("pg_cluster_read").endpoints] == ["127.0.0.1:5433", "127.0.0.1:5434"]
    assert config.monitor.username == "app" and config.process.workers == 2
    assert config.admin is not None and config.admin.address == Address(host="127.0.0.1", port=8432)


def test_tls_to_a_cluster_may_be_direct():
    for text, name in ((SAMPLE, "pg_cluster_read"), (SHORT.replace("consistency: session", ""), "replicas")):
        assert {cluster.sslnegotiation for cluster in loaded(text).config.clusters} == {"postgres"}
        own = f"  clusters: {{{name}: {{sslnegotiation: direct}}}}\n"
        head, _, rest = text.partition("\npgsplit:\n")
        text = f"{head}\npgsplit:\n{own}{rest}"
        found = {cluster.name: cluster.sslnegotiation for cluster in loaded(text).config.clusters}
        assert found.pop(name) == "direct" and set(found.values()) == {"postgres"}


@pytest.mark.parametrize("text, methods", [
    ("scram-sha-256", ("scram-sha-256",)), ("scram-sha-256, md5", ("md5", "scram-sha-256")), ("none", ("none",)),
    ("'!password'", ("none", "md5", "scram-sha-256")), ("'!none,!password'", ("md5", "scram-sha-256")), ("''", ()),
])
def test_what_servers_may_ask_for_is_named_as_in_libpq(text, methods):
    everywhere = f"upstream_auth: {text}\n"
    for config in (loaded(SHORT + everywhere).config,
                   loaded(SAMPLE.replace("\npgsplit:\n", f"\npgsplit:\n  {everywhere}")).config):
        assert {cluster.upstream_auth for cluster in config.clusters} == {methods}
        assert Config.model_validate_json(config.model_dump_json()) == config
    one = loaded(f"{SHORT}pgsplit:\n  clusters:\n    primary:\n      upstream_auth: {text}\n").config
    assert (one.cluster("primary").upstream_auth, one.cluster("replicas").upstream_auth) == (methods, ())


@pytest.mark.parametrize("text, expected", [
    ("scram", "'scram' is not one of none, password, md5, scram-sha-256"),
    ("SCRAM-SHA-256", "'SCRAM-SHA-256' is not one of"),
    ("md5,md5", "md5 stands twice"),
    ("'!md5,!md5'", "md5 stands twice"),
    ("'!md5,password'", "'!md5,password' names methods with ! and without: all have it, or none"),
    ("'password,!md5'", "'password,!md5' names methods with ! and without: all have it, or none"),
    ("'!!md5'", "'!md5' is not one of"),
    ("'!'", "'' is not one of"),
    ("'!none,!password,!md5,!scram-sha-256'", "leaves no method"),
    ("gss", "gss is nothing that pgsplit can do: it can none, password, md5, scram-sha-256"),
    ("'!sspi'", "sspi is nothing that pgsplit can do"),
    ("oauth", "oauth is nothing that pgsplit can do"),
    ("creds", "creds is nothing that pgsplit can do"),
    ("[md5]", "is one value, not a mapping or a list"),
    ("!password", "a text that begins with ! stands in quotes"),
    ("!md5,!password", "while scanning a tag"),
])
def test_methods_that_are_none(text, expected):
    [problem] = problems(f"{SHORT}upstream_auth: {text}\n")
    assert problem.startswith("10: ") and expected in problem


@pytest.mark.parametrize("change, line", [(("no: 0123", "no: !secret "), 4), (("[db2", "!secret [db2"), 3),
                                          (("{certificate", "!secret {certificate"), 6)])
def test_a_text_that_begins_as_a_tag_is_not_lost(change, line):
    """Nor shown: it may be a password."""
    [problem] = [problem for problem in problems(SHORT.replace(*change)) if "is missing" not in problem]
    assert problem == (f"{line}: a text that begins with ! stands in quotes: YAML takes it for a tag, which has no "
                       "meaning here")


def test_a_bare_envoy_file_works_with_the_defaults():
    bare = SAMPLE[:SAMPLE.index("\npgsplit:")]
    config = loaded(bare).config
    assert config.monitor.username == "postgres" and config.process.workers == 3
    assert config.listeners[0].consistency == "global"


def test_the_short_form_makes_the_same_objects():
    result = loaded(SHORT)
    config = result.config
    listener = config.listeners[0]
    assert listener.split_rw and listener.downstream_ssl == "ALLOW" and listener.upstream_ssl == "REQUIRE"
    assert listener.consistency == "session"
    assert [str(e) for e in config.cluster("replicas").endpoints] == ["db2:5432", "db3:5432"]
    assert {user.username: user.secret for user in listener.users}["no"] == "0123"
    assert result.sources["pgsplit.listeners.postgres.consistency"].endswith(":9")
    assert result.sources["pgsplit.listeners.postgres.fence_wait"] == "default"


@pytest.mark.parametrize("mode, expected", [("allow", "ALLOW"), ("require", "REQUIRE")])
def test_the_short_form_says_whether_clients_may_go_without_tls(mode, expected):
    text = SHORT.replace("tls: {", f"tls: {{mode: {mode}, ")
    assert loaded(text).config.listeners[0].downstream_ssl == expected


ONE_LIST = SHORT.replace("primary: db1:5432\nreplicas: [db2:5432, \"db3\"]", "servers: [db1:5432, db2:5432, db3]")


def test_one_list_of_servers_is_both_clusters():
    result = loaded(ONE_LIST)
    for name in ("replicas", "primary"):
        cluster = result.config.cluster(name)
        assert [str(e) for e in cluster.endpoints] == ["db1:5432", "db2:5432", "db3:5432"] and cluster.role == "auto"
        assert result.sources[f"pgsplit.clusters.{name}.role"] == "/etc/pgsplit.yaml:2"
    both = loaded(ONE_LIST + "pgsplit: {clusters: {replicas: {role: read, max_lag: 3s}}}\n").config
    assert (both.cluster("replicas").role, both.cluster("replicas").max_lag) == ("read", 3.0)
    assert (both.cluster("primary").role, both.cluster("primary").max_lag) == ("auto", 0.0)
    assert Config.model_validate_json(both.model_dump_json()) == both


def test_without_one_list_clusters_are_what_listeners_use_them_for():
    assert {cluster.name: cluster.role for cluster in loaded(SHORT).config.clusters} == {
        "replicas": "read", "primary": "write"}
    assert [cluster.role for cluster in loaded(SAMPLE).config.clusters] == ["read", "write"]
    auto = SAMPLE.replace("\npgsplit:\n", "\npgsplit:\n  clusters: {pg_cluster_read: {role: auto}}\n")
    assert [cluster.role for cluster in loaded(auto).config.clusters] == ["auto", "write"]
    whole = SAMPLE.replace("split_rw: true", "split_rw: false").replace(
        "\npgsplit:\n", "\npgsplit:\n  clusters: {pg_cluster_read: {role: auto}}\n")
    assert any("pgsplit.clusters.pg_cluster_read.role: is ignored: no listener splits reads from writes here" in warning
               for warning in loaded(whole).warnings)


@pytest.mark.parametrize("text, expected", [
    (ONE_LIST + "primary: db1\n", ["9: primary: stands beside servers: give one list, or primary and replicas"]),
    (ONE_LIST + "replicas: [db1]\n", ["9: replicas: stands beside servers: give one list, or primary and replicas"]),
    (ONE_LIST.replace("servers: [db1:5432, db2:5432, db3]", "servers: []"), ["2: servers: is an empty list"]),
    (ONE_LIST.replace("servers:", "severs:"),
     ["2: severs: unknown field of a configuration; did you mean servers?"]),
    (ONE_LIST.replace("db2:5432", "db2:x"),
     ["2: servers[1]: 'db2:x' is not HOST:PORT, nor the path of a Unix socket"]),
    (ONE_LIST.replace("db2:5432", "127.0.0.1:6432"),
     ["2: servers[1]: 127.0.0.1:6432 is pgsplit itself: listener postgres listens on 0.0.0.0:6432 (line 1)"]),
    (ONE_LIST + "pgsplit: {clusters: {replicas: {role: both}}}\n",
     ["9: pgsplit.clusters.replicas.role: 'both' is not one of read, write, auto"]),
    (ONE_LIST + "pgsplit: {clusters: {replicas: {role: write}}}\n",
     ["9: pgsplit.clusters.replicas.role: is write, but listener 'postgres' reads from this cluster: read, or auto"]),
    (SHORT + "role: read\n",
     ["10: pgsplit.clusters.primary.role: is read, but listener 'postgres' writes to this cluster: write, or auto"]),
])
def test_mistakes_in_one_list(text, expected):
    assert problems(text) == expected


PATRONI = "topology: {source: patroni, patroni: ['http://db1:8008', 'https://[::1]:8009/', http://db3]}\n"


def test_mode_is_for_listeners_that_split():
    whole = SAMPLE.replace("\npgsplit:\n", "\npgsplit:\n  mode: observe\n")
    [listener] = loaded(whole).config.listeners
    assert listener.observes
    plain = loaded(whole.replace("split_rw: true", "split_rw: false"))
    assert not plain.config.listeners[0].observes
    assert any("mode: is ignored: this listener does not split" in warning for warning in plain.warnings)


def test_patroni_may_say_who_the_primary_is():
    config = loaded(ONE_LIST + PATRONI).config
    topology = config.cluster("primary").topology
    assert (topology.source, topology.patroni) == ("patroni", ("http://db1:8008", "https://[::1]:8009",
                                                               "http://db3:8008"))
    assert config.cluster("replicas").topology == loaded(ONE_LIST).config.cluster("primary").topology
    assert Config.model_validate_json(config.model_dump_json()) == config
    more = ("pgsplit: {topology: {source: patroni, patroni: ['https://a'], ca: ca.crt, certificate: c.crt, key: c.key, "
            "username: u, password: hunter2}, clusters: {primary: {topology: {source: sql}}}}\n")
    assert loaded(ONE_LIST + more).config.cluster("primary").topology.source == "sql"
    result = loaded(ONE_LIST + more.replace(", clusters: {primary: {topology: {source: sql}}}", ""))
    topology = result.config.cluster("primary").topology
    assert (topology.ca, topology.certificate, topology.username) == ("/etc/ca.crt", "/etc/c.crt", "u")
    assert "hunter2" not in repr(result.config) and not result.warnings
    assert result.marks["cluster primary topology ca"] == "/etc/pgsplit.yaml:9: pgsplit.topology.ca"


@pytest.mark.parametrize("topology, expected", [
    ("{source: etcd}", ["topology.source: 'etcd' is not one of sql, patroni"]),
    ("{source: patroni}", ["topology.patroni: is missing: the addresses of Patroni's REST API, [http://db1:8008, …]"]),
    ("{source: patroni, patroni: []}", ["topology.patroni: is a list of addresses, and not empty"]),
    ("{source: patroni, patroni: 'http://db1'}", ["topology.patroni: is a list",
                                                  "topology.patroni: is a list of addresses, and not empty"]),
    ("{source: patroni, patroni: ['db1:8008']}",
     ["topology.patroni[0]: 'db1:8008' is not http://HOST:PORT or https://HOST:PORT"]),
    ("{source: patroni, patroni: ['http://u:p@db1']}",
     ["topology.patroni[0]: 'http://u:p@db1' is not http://HOST:PORT or https://HOST:PORT"]),
    ("{source: patroni, patroni: ['http://db1:99999', {a: b}]}",
     ["topology.patroni[0]: 'http://db1:99999' is not http://HOST:PORT or https://HOST:PORT",
      "topology.patroni[1]: is one address: http://HOST:PORT or https://HOST:PORT"]),
    ("{source: patroni, patroni: ['http://db1', 'http://db1:8008/']}",
     ["topology.patroni[1]: http://db1:8008 stands twice"]),
    ("{source: patroni, patroni: ['http://db1'], ca: x.crt}",
     ["topology.ca: is for https: no member of patroni has that"]),
    ("{source: patroni, patroni: ['https://db1'], certificate: x.crt}", ["topology.key: is missing"]),
    ("{source: patroni, patroni: ['https://db1'], password: x}", ["topology.username: is missing"]),
    ("{patroni: ['http://db1']}", ["topology.patroni: is for source: patroni"]),
    ("{sorce: patroni, patroni: ['http://db1']}",
     ["topology.sorce: unknown field of a topology block; did you mean source?"]),
    ("patroni", ["topology: a topology block is a mapping of fields"]),
])
def test_mistakes_in_the_topology(topology, expected):
    assert problems(f"{ONE_LIST}topology: {topology}\n") == [f"9: {problem}" for problem in expected]
    own = [problem.replace("topology", "pgsplit.clusters.primary.topology", 1) for problem in expected]
    assert problems(f"{ONE_LIST}pgsplit: {{clusters: {{primary: {{topology: {topology}}}}}}}\n") == [
        f"9: {problem}" for problem in own]


def test_a_password_for_patroni_in_the_clear_is_warned_of():
    text = ONE_LIST + "topology: {source: patroni, patroni: ['http://a', 'https://b'], username: u, password: p}\n"
    assert loaded(text).warnings == [
        "/etc/pgsplit.yaml:9: topology.password: is sent in the clear to members with http:"]
    text = ONE_LIST + "pgsplit: {clusters: {replicas: {topology: {source: sql}}}}\n"
    assert loaded(text).warnings == [
        "/etc/pgsplit.yaml:9: pgsplit.clusters.replicas.topology: is ignored: nobody writes to this cluster"]


PLACED = """\
servers:
- db1
- {address: db2:5433, weight: 2, priority: 1, zone: a}
- {address: "[::1]:5434", zone: b}
lb_policy: LEAST_REQUEST
zone: a
"""


def placed(text: str = PLACED) -> str:
    return ONE_LIST.replace("servers: [db1:5432, db2:5432, db3]\n", text)


def test_servers_may_say_which_sessions_they_get():
    result = loaded(placed())
    for cluster in result.config.clusters:
        assert [str(endpoint) for endpoint in cluster.endpoints] == ["db1:5432", "db2:5433", "[::1]:5434"]
        assert cluster.placements == (Placement(), Placement(weight=2, priority=1, zone="a"), Placement(zone="b"))
        assert cluster.lb_policy == "LEAST_REQUEST" and cluster.role == "auto"
    assert result.config.process.zone == "a" and not result.warnings
    lone = loaded(SHORT.replace("primary: db1:5432", "primary: {address: db1:5432, zone: x}")).config
    assert lone.cluster("primary").placements == (Placement(zone="x"),) and lone.process.zone == ""
    assert lone.cluster("replicas").placements == (Placement(), Placement())
    assert Config.model_validate_json(lone.model_dump_json()) == lone


def test_endpoints_may_say_so_in_envoys_form():
    text = SAMPLE.replace("      - lb_endpoints:\n", "      - priority: 1\n        locality: {region: r, zone: a}\n"
                          "        lb_endpoints:\n", 1).replace("lb_policy: ROUND_ROBIN", "lb_policy: RANDOM", 1)
    text = re.sub(r"( +)- (endpoint:)", r"\1- load_balancing_weight: 3\n\1  \2", text, count=1)
    result = loaded(text)
    cluster = next(cluster for cluster in result.config.clusters if cluster.lb_policy == "RANDOM")
    assert cluster.placements[0] == Placement(weight=3, priority=1, zone="a")
    [warning] = [warning for warning in result.warnings if "locality" in warning]
    assert warning.endswith(".load_assignment.endpoints[0].locality.region: is ignored")


@pytest.mark.parametrize("change, expected", [
    (("weight: 2", "weight: 0"), "4: servers[1].weight: 0 is no weight: 1 to 1000000"),
    (("weight: 2", "weight: much"), "4: servers[1].weight: "),
    (("priority: 1", "priority: 200"), "4: servers[1].priority: 200 is no priority: 0 (the first) to 128"),
    (("zone: b", "zone: [b]"), "5: servers[2].zone: is one value, not a mapping or a list"),
    (("address: db2:5433, ", ""), "4: servers[1].address: is missing"),
    (("address: db2:5433", "address: db2:x"), "4: servers[1].address: 'db2:x' is not HOST:PORT"),
    (("weight: 2", "wieght: 2"), "4: servers[1].wieght: unknown field of a server; did you mean weight?"),
    (("LEAST_REQUEST", "MAGLEV"), "6: lb_policy: 'MAGLEV' is not one of ROUND_ROBIN, LEAST_REQUEST, RANDOM"),
])
def test_mistakes_in_a_server_s_place(change, expected):
    [problem] = problems(placed(PLACED.replace(*change)))
    assert problem.startswith(expected)


def test_a_zone_that_no_server_has_is_warned_of():
    assert loaded(placed(PLACED.replace("zone: a\n", "zone: c\n"))).warnings == [
        "/etc/pgsplit.yaml:7: zone: no server is in zone 'c'; they are in a, b"]


def test_addresses():
    text = SHORT.replace("0.0.0.0:6432", '["[::1]:6432", "*:6433", "unix:/tmp/.s.PGSQL.6432"]')
    addresses = loaded(text).config.listeners[0].addresses
    assert [str(address) for address in addresses] == ["[::1]:6432", "0.0.0.0:6433", "/tmp/.s.PGSQL.6432"]
    assert "is not HOST:PORT" in problems(SHORT.replace("0.0.0.0:6432", "nonsense"))[0]


def test_users_may_stand_in_a_file_of_their_own():
    text = "\n".join(line for line in SHORT.splitlines() if not line.startswith("users")) + "\nusers_file: users.yaml\n"
    assert [user.secret for user in loaded(text).config.listeners[0].users] == ["secret", "yes"]
    assert "missing.yaml: No such file" in problems(text.replace("users.yaml", "missing.yaml"))[0]


def test_overrides_for_listeners_and_clusters_and_from_the_command_line():
    text = SHORT + """\
pgsplit:
  workers: 4
  health_interval: 2s
  reask_buffer: 128KiB
  listeners: {postgres: {reask_buffer: 1MiB, fence_wait: 20ms}}
  clusters: {primary: {health_interval: 250ms}}
"""
    config = loaded(text, workers=7, bind="127.0.0.1:7000").config
    assert config.process.workers == 7
    assert config.listeners[0].addresses == (Address(host="127.0.0.1", port=7000),)
    assert (config.listeners[0].reask_buffer, config.listeners[0].fence_wait) == (1 << 20, 0.02)
    assert config.cluster("primary").health_interval == 0.25
    assert config.cluster("replicas").health_interval == 2.0


@pytest.mark.parametrize("change, expected", [
    (("primary: db1:5432", "primry: db1:5432"), "2: primry: unknown field of a configuration; did you mean primary?"),
    (("consistency: session", "consistency: sesion"),
     "'sesion' is not one of eventual, session, bounded, global, cluster"),
    (("monitor: app", "monitor: report"), "user 'report' is not in users with a clear password"),
    (("md50123456789abcdef0123456789abcdef", "md50123456789abcdef0123456789abcde"), "the md5 hash is malformed"),
    (("md50123456789abcdef0123456789abcdef", "SCRAM-SHA-256$x"), "the SCRAM verifier is malformed"),
    (("tls: {", "tls: {mode: maybe, "), "tls.mode: 'maybe' is not one of allow, require"),
    (("key: server.key", "kye: server.key"), "tls.kye: unknown field of a tls block; did you mean key?"),
    (("upstream_tls: require", "upstream_tls: verify"), "verify needs ca"),
    (("listen: 0.0.0.0:6432\n", ""), "listen: is missing"),
    (("consistency: session", "consistency: session\nconsistency: global"), "stands twice, first in line 9"),
    (("consistency: session", "pgsplit: {workers: 0}"), "'0' is less than 1"),
    (("consistency: session", "pgsplit: {reask_hold: 5}"), "'5' is not a duration"),
    (("consistency: session", "pgsplit: {sslnegotiation: directly}"), "'directly' is not one of postgres, direct"),
    (("upstream_tls: require", "pgsplit: {sslnegotiation: direct}"),
     "7: pgsplit.clusters.primary.sslnegotiation: direct is TLS, and listener 'postgres' has none to its upstreams"),
    (("upstream_tls: require", "pgsplit: {clusters: {replicas: {sslnegotiation: direct}}}"),
     "7: pgsplit.clusters.replicas.sslnegotiation: direct is TLS"),
    (("consistency: session", "pgsplit: {listeners: {other: {}}}"), "pgsplit.listeners.other: unknown field"),
    (("consistency: session", "pgsplit: {fence_wiat: 5ms}"), "did you mean fence_wait?"),
    (("consistency: session", "x: [unclosed"), "expected"),
])
def test_mistakes_in_the_short_form(change, expected):
    found = problems(SHORT.replace(*change))
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize("change, expected", [
    (("cluster: pg_cluster_read", "cluster: nowhere"), "there is no cluster 'nowhere'"),
    (('write_cluster_name: "pg_cluster_write"', "stat_prefix2: x"), "split_rw needs it"),
    (("envoy.filters.network.tcp_proxy\n", "envoy.filters.network.rbac\n"), "rbac is not supported"),
    (("  - filters:", "  - filter_chain_match: {}\n      filters:"), "every connection would be served"),
    (("type: STRICT_DNS", "type: EDS"), "'EDS' is not one of STATIC, STRICT_DNS"),
    (("port_value: 6432", "port_value: 99999"), "99999 is not a port"),
    (("terminate_ssl: true", "terminate_ssl: maybe"), "'maybe' is not true or false"),
    (("terminate_ssl: true", "terminate_ssl: true\n          downstream_ssl: DISABLE"), "contradicts downstream_ssl"),
    (("upstream_ssl: REQUIRE", "upstream_ssl: PREFER"), "'PREFER' is not one of DISABLE, REQUIRE"),
    (("common_tls_context:", "require_client_certificate: true\n            common_tls_context:"),
     "require_client_certificate: needs the CA's certificate, by which clients' are checked"),
    (("common_tls_context:", "common_tls_context:\n              validation_context: {crl: {filename: a.crl}}"),
     "validation_context.crl: is looked at with a CA only"),
    (("common_tls_context:",
      "common_tls_context:\n              validation_context: {match_typed_subject_alt_names: []}"),
     "match_typed_subject_alt_names: is not supported, and cannot be ignored: names of clients are not checked"),
    (('username: "postgres"', 'username: "app"'), "user 'app' stands twice"),
    (("connect_timeout: 5s", "connect_timeout: soon"), "'soon' is not a duration"),
])
def test_mistakes_in_envoys_form(change, expected):
    found = problems(SAMPLE.replace(*change))
    assert any(expected in problem for problem in found), found
    assert all(problem.split(":")[0].isdigit() for problem in found)


def test_mistakes_in_the_short_form_are_named_as_it_names_things():
    text = SHORT.replace("md50123456789abcdef0123456789abcdef", "md5012345678901234567890123").replace(
        "db1:5432", "db1:x")
    assert problems(text) == ["2: primary: 'db1:x' is not HOST:PORT, nor the path of a Unix socket",
                              "4: users.report: the md5 hash is malformed: md5 and 32 hexadecimal digits"]


ENVOYS_TERMS = re.compile(
    r"user_list|endpoint|cluster|socket_|filter|typed_config|starttls|static_resources|load_assignment|lb_|validation_|"
    r"certificate_chain|common_tls|private_key|_ssl|upstream's|filename|stat_prefix|pgsplit\\.monitor|line 0|:0:")


@pytest.mark.parametrize("name", ["listen", "primary", "replicas", "users", "monitor", "tls", "upstream_tls", "ca",
                                  "admin", "consistency", "workers"])
def test_a_slip_in_the_short_form_is_one_mistake_in_its_own_words(name):
    fields = yaml.safe_load(SHORT) | {"upstream_tls": "verify", "ca": "ca.crt", "workers": 2}
    slip = name[:-2] + name[-1]
    text = yaml.safe_dump({slip if key == name else key: value for key, value in fields.items()}, sort_keys=False)
    [problem] = problems(text)
    assert f"{slip}: unknown field of a configuration; did you mean {name}?" in problem
    for value in (None, [], {}, ["x"], {"a": "b"}, {"a": ["b"]}, [{"a": "b"}], [[]], "x", "a:b:c", "DROPPED"):
        changed = fields | {name: value}
        if value == "DROPPED":
            del changed[name]
        try:
            loaded(yaml.safe_dump(changed, sort_keys=False))
        except ConfigError as error:
            said = [problem.removeprefix("/etc/pgsplit.yaml:").replace("bounded, global, cluster", "")
                    for problem in error.problems]
            assert not any(map(ENVOYS_TERMS.search, said)), said
            assert all(name in problem or slip in problem or ("ca" in problem and name == "upstream_tls")
                       or ("monitor" in problem and name == "users") for problem in said), said


def test_misspelt_replicas():
    assert problems(SHORT.replace("replicas:", "replcas:")) == [
        "3: replcas: unknown field of a configuration; did you mean replicas?"]
    both = SHORT.replace("replicas:", "replcas:").replace("primary:", "primry:").replace("listen:", "lisen:")
    assert [problem.partition(";")[0] for problem in problems(both)] == [
        f"{line}: {slip}: unknown field of a configuration"
        for line, slip in ((1, "lisen"), (2, "primry"), (3, "replcas"))]


@pytest.mark.parametrize("field", sorted(set(re.findall(r"[\s{](\w{4,}):\s", SAMPLE)) - {"shape", "optional", "serve"}
                                         - {"user_list"}))
def test_a_slip_in_envoys_form_is_one_mistake(field):
    slip = field[:-2] + field[-1]
    [problem] = problems(re.sub(rf"([\s{{]){field}:(?=\s)", rf"\1{slip}:", SAMPLE, count=1))
    assert f"did you mean {field}?" in problem


def test_settings_may_stand_at_the_top_of_the_short_form():
    text = SHORT + "workers: 7\nlog_level: warning\nread_fallback: error\nmax_lag: 3s\npgsplit: {fence_wait: 20ms}\n"
    result = loaded(text)
    config = result.config
    assert (config.process.workers, config.process.log_level) == (7, "warning")
    assert (config.listeners[0].read_fallback, config.listeners[0].fence_wait) == ("error", 0.02)
    assert config.cluster("replicas").max_lag == 3.0
    assert result.sources["pgsplit.workers"] == "/etc/pgsplit.yaml:10"
    assert problems(SHORT + "workers: 0\n") == ["10: workers: '0' is less than 1"]
    assert problems(SHORT + "workers: 2\npgsplit:\n  workers: 3\n") == [
        "10: workers: stands in pgsplit, too, in line 12"]
    assert "unknown field" in problems(SAMPLE + "\nworkers: 2\n")[0]


@pytest.mark.parametrize("change, expected", [
    (("admin: 127.0.0.1:8432", "admin: 127.0.0.1:6432"),
     ["8: admin: 127.0.0.1:6432 is taken: listener postgres listens on 0.0.0.0:6432 (line 1)"]),
    (("listen: 0.0.0.0:6432", "listen: localhost:8432"),
     ["8: admin: 127.0.0.1:8432 is taken: listener postgres listens on localhost:8432 (line 1)"]),
    (("listen: 0.0.0.0:6432", 'listen: ["[::1]:8432", "[::1]:8432"]'),
     ["1: listen[1]: [::1]:8432 is taken: listener postgres listens on [::1]:8432 (line 1)"]),
    (("listen: 0.0.0.0:6432", "listen: [/tmp/x/.s.PGSQL.1, unix:/tmp/x/.s.PGSQL.1]"),
     ["1: listen[1]: /tmp/x/.s.PGSQL.1 is taken: listener postgres listens on /tmp/x/.s.PGSQL.1 (line 1)"]),
    (('"db3"', "127.0.0.1:6432"),
     ["3: replicas[1]: 127.0.0.1:6432 is pgsplit itself: listener postgres listens on 0.0.0.0:6432 (line 1)"]),
    (("db1:5432", "localhost:8432"),
     ["2: primary: localhost:8432 is pgsplit itself: the admin page listens on 127.0.0.1:8432 (line 8)"]),
    (("listen: 0.0.0.0:6432", 'listen: ["0.0.0.0:6432", "[::]:6432", "10.0.0.1:6433", "10.0.0.2:6433", /tmp/a]'), []),
    (('"db3"', '"10.0.0.7:6432", "db1:5432", "db4:6432"'), []),
])
def test_nobody_listens_where_another_does(change, expected):
    text = SHORT.replace(*change)
    assert (problems(text) if expected else loaded(text) and []) == expected


def test_the_command_line_s_address_is_looked_at_too():
    assert problems(SHORT, bind="127.0.0.1:8432") == [
        "8: admin: 127.0.0.1:8432 is taken: listener postgres listens on 127.0.0.1:8432 (line 1)"]


def two_listeners(read: str, write: str) -> str:
    start, end = SAMPLE.index("  - name: postgres\n"), SAMPLE.index("  clusters:")
    second = SAMPLE[start:end].replace("name: postgres\n", "name: second\n", 1).replace("6432", "6433").replace(
        '"pg_cluster_write"', write).replace("cluster: pg_cluster_read", f"cluster: {read}")
    cluster = SAMPLE[SAMPLE.index("  - name: pg_cluster_write"):SAMPLE.index("\nadmin:")]
    return SAMPLE[:end] + second + SAMPLE[end:].replace("\nadmin:", f"\n{cluster}\nadmin:".replace(
        "- name: pg_cluster_write", "- name: other", 1), 1)


def test_replicas_follow_one_primary():
    assert len(loaded(two_listeners("pg_cluster_read", "pg_cluster_write")).config.listeners) == 2
    assert len(loaded(two_listeners("pg_cluster_write", "pg_cluster_write")).config.listeners) == 2
    [problem] = problems(two_listeners("pg_cluster_read", "other"))
    assert problem.endswith("listener second has the cluster other for the replicas of pg_cluster_read, but listener "
                            "postgres (line 18) has pg_cluster_write: replicas follow one primary")
    [problem] = problems(two_listeners("other", "pg_cluster_read"))
    assert "listener second writes to the cluster pg_cluster_read, whose hosts are replicas for listener postgres" \
        in problem


def test_a_certificate_that_is_not_the_key_s_is_found(tmp_path):
    from pgsplit.demo.certificates import Authority
    from pgsplit.process.files import load_config

    authority = Authority(tmp_path)
    authority.issue("server")
    authority.issue("other").key.rename(tmp_path / "server.key")
    file = tmp_path / "pgsplit.yaml"
    file.write_text(SHORT)
    with pytest.raises(ConfigError) as caught:
        load_config(str(file))
    assert caught.value.problems == [
        f"{file}:6: tls: the key {tmp_path}/server.key is not that of the certificate {tmp_path}/server.crt"]


def test_all_mistakes_at_once():
    text = SHORT.replace("primary: db1:5432", "primary: x:y").replace("session", "sesion").replace(
        "tls: {", "tsl: {")
    assert len(problems(text)) >= 3


def test_what_is_ignored_is_said():
    warnings = loaded(SAMPLE.replace("  - name: postgres\n", "  - name: postgres\n    access_log: []\n")).warnings
    assert len(warnings) == 1 and "access_log: is ignored" in warnings[0]


def test_tls_needs_a_certificate():
    text = SHORT.replace("tls: {certificate: server.crt, key: server.key}\n", "")
    assert loaded(text).config.listeners[0].downstream_ssl == "DISABLE"
    sample = SAMPLE[:SAMPLE.index("      transport_socket:")] + SAMPLE[SAMPLE.index("  clusters:"):]
    assert "needs a certificate" in problems(sample)[0]


def test_no_secret_is_shown_and_json_gives_the_same_objects():
    config = loaded(SHORT).config
    assert "app-secret" not in repr(config) and "app-secret" not in str(config.monitor)
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_a_malformed_secret_is_not_printed():
    assert not any("hunter2" in problem for problem in problems(SHORT.replace("app-secret", "SCRAM-SHA-256$hunter2")))


def test_aliases_and_merges():
    text = SHORT.replace("replicas: [db2:5432, \"db3\"]", "replicas: &r [db2:5432]").replace(
        "monitor: app", "monitor: &m app")
    assert loaded(text).config.monitor.username == "app"
    assert "an alias contains itself" in problems("listen: &a [*a]\nprimary: x:1\nreplicas: [x:1]\nusers: {a: b}\n")[0]


def test_every_mutation_gives_a_configuration_or_mistakes():
    dice = random.Random(3)
    for number in range(1500):
        text = SAMPLE if number % 2 else SHORT
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(text))
            piece = dice.choice(["", ":", "\n", "- ", "{", "}", "[", "'", "&a ", "*a", "x", "\t", "#", "<<: "])
            text = text[:at] + piece + text[at + dice.randint(0, 6):]
        try:
            loaded(text)
        except ConfigError as error:
            assert error.problems and all("\n" not in problem for problem in error.problems)


def test_the_documentation_has_the_table_of_settings():
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    for setting in SETTINGS:
        cells = (f"`{setting.name}`", setting.unit.replace("|", "or"), setting.default or "—", setting.scope,
                 "yes" if setting.reloadable else "no", setting.help)
        assert f"| {' | '.join(cells)} |" in text, setting.name
