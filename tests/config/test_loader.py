"""Configurations in all their shapes, and the mistakes in them: each one line, with where and what."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pgsplit.config.loader import Loaded, load
from pgsplit.config.model import Address, Config
from pgsplit.config.settings import SETTINGS
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
    (("consistency: session", "consistency: sesion"), "'sesion' is not one of eventual, session, global"),
    (("monitor: app", "monitor: report"), "user 'report' is not in a user_list with a clear password"),
    (("md50123456789abcdef0123456789abcdef", "md50123456789abcdef0123456789abcde"), "the md5 hash is malformed"),
    (("md50123456789abcdef0123456789abcdef", "SCRAM-SHA-256$x"), "the SCRAM verifier is malformed"),
    (("key: server.key", "kye: server.key"), "unknown field of tls"),
    (("upstream_tls: require", "upstream_tls: verify"), "verify needs ca"),
    (("listen: 0.0.0.0:6432\n", ""), "listen: is missing"),
    (("consistency: session", "consistency: session\nconsistency: global"), "stands twice, first in line 9"),
    (("consistency: session", "pgsplit: {workers: 0}"), "'0' is less than 1"),
    (("consistency: session", "pgsplit: {reask_hold: 5}"), "'5' is not a duration"),
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
     "client certificates are not checked"),
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
