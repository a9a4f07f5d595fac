"""The admin page's settings, in both forms of the configuration."""

from __future__ import annotations

import pytest

from pgsplit.config.loader import load
from pgsplit.errors import ConfigError

SHORT = """\
listen: 127.0.0.1:6432
primary: db1:5432
replicas: [db2:5432]
users: {app: app-secret}
"""
HASH = "scrypt:32768:8:1$abcdefgh$" + "0" * 128
FULL = f"""\
admin:
  address: 0.0.0.0:8432
  password: "{HASH}"
  users: {{eve: {{password: "{HASH}", role: viewer}}}}
  tokens: {{prometheus: {{sha256: "{'a' * 64}"}}}}
  hosts: [pgsplit.example.com]
  trusted_proxies: [127.0.0.1, 10.0.0.0/8]
  read_only: true
  prefix: /pgsplit/
  audit_log: /var/log/pgsplit-audit.log
"""


def read(more):
    return load(SHORT + more, "t.yaml", open, defaults={"workers": 1, "run_dir": "/run/x"}).config.admin


def problems(more):
    with pytest.raises(ConfigError) as caught:
        read(more)
    return caught.value.problems


def test_just_an_address():
    admin = read("admin: 127.0.0.1:8432\n")
    assert (str(admin.address), admin.operators, admin.prefix, admin.read_only) == ("127.0.0.1:8432", (), "", False)


def test_everything():
    admin = read(FULL)
    assert [(operator.name, operator.role) for operator in admin.operators] == [("eve", "viewer"), ("admin", "admin")]
    assert [(token.name, token.role) for token in admin.tokens] == [("prometheus", "viewer")]
    assert admin.hosts == ("pgsplit.example.com",)
    assert admin.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/8")
    assert (admin.read_only, admin.prefix, admin.audit_log) == (True, "/pgsplit", "/var/log/pgsplit-audit.log")
    assert HASH not in repr(admin.operators)


@pytest.mark.parametrize(("more", "said"), [
    ("admin: 0.0.0.0:8432\n", "t.yaml:5: admin.password: is missing"),
    ("admin: {address: '127.0.0.1:1', password: clear}\n", "t.yaml:5: admin.password: is not a hash"),
    ("admin: {address: '127.0.0.1:1', hosst: [x]}\n", "admin.hosst: unknown field of a pgsplit.admin block; did"),
    ("admin: {address: '127.0.0.1:1', prefix: '//evil'}\n", "t.yaml:5: admin.prefix: '//evil' is not a path"),
    ("admin: {address: '127.0.0.1:1', trusted_proxies: [nobody]}\n", "t.yaml:5: admin.trusted_proxies[0]: 'nobody'"),
    ("admin: {address: '127.0.0.1:1', tokens: {t: {sha256: secret}}}\n", "t.yaml:5: admin.tokens.t.sha256: is not"),
    ("admin: {address: '127.0.0.1:1', users: {a: {role: king}}}\n", "t.yaml:5: admin.users.a.password: is missing"),
    ("pgsplit: {admin: {read_only: true}}\n", "admin: is missing: the address"),
])
def test_mistakes_are_named(more, said):
    assert any(said in problem for problem in problems(more)), problems(more)


def test_a_hash_is_not_printed_in_a_mistake():
    assert "clear" not in " ".join(problems("admin: {address: '127.0.0.1:1', password: clear}\n"))
