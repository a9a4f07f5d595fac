"""Users whom a certificate lets in, and nobody else: real clients, pgsplit, real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgsplit.auth import user_map
from pgsplit.config.loader import load
from pgsplit.config.user_file import Change, edited, masked
from pgsplit.demo.certificates import Authority, KeyPair
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.errors import ConfigError
from tests.auth.test_client_certificates import NONE_SHOWN, connect, refused, tls
from tests.waiting import eventually

Start = Callable[..., Proxy]


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def cert(cluster: PrimaryAndStandbys, user: str, **more: Any) -> dict[str, Any]:
    """An entry for *user*, as whom pgsplit logs in with the role's password."""
    return {"username": user, "password": "cert", "upstream_password": cluster.roles[user].password or "x", **more}


def listed(cluster: PrimaryAndStandbys, *names: str) -> list[dict[str, str]]:
    return [{"username": name, "password": cluster.roles[name].password or "unused"} for name in names]


def works(cluster: PrimaryAndStandbys, proxy: Proxy, pair: KeyPair, user: str) -> bool:
    """Whether a client with *pair* and a wrong password is *user* on the replica, and on the primary."""
    with connect(cluster, proxy, pair, user, password="wrong", autocommit=True) as connection:

        def on_the_replica() -> bool:
            assert connection.execute("select session_user").fetchone() == (user,)
            return str(connection.execute("show pgsplit.last_route").fetchone()).startswith("('replica")

        eventually(on_the_replica)
        row = connection.execute("/* pgsplit: primary */ select session_user, pg_is_in_recovery()").fetchone()
    return row == (user, False)


@pytest.mark.parametrize("user", ["scram_user", "md5_user", "password_user", "trust_user"])
def test_a_certificate_lets_its_user_in(
        cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority, user: str):
    """Without being asked for a password: whatever the servers ask for is pgsplit's to answer."""
    proxy = pgsplit_server(tls=tls(cluster, clients),
                           users=[*listed(cluster, "postgres"), cert(cluster, user)])
    pair = clients.issue_client(user)
    assert works(cluster, proxy, pair, user)
    assert NONE_SHOWN in refused(cluster, proxy, None, user=user)
    assert NONE_SHOWN in refused(cluster, proxy, None, user=user, sslmode="disable")
    failed = f'certificate authentication failed for user "{user}"'
    assert failed in refused(cluster, proxy, clients.issue_client("somebody"), user=user)
    assert failed in refused(cluster, proxy, clients.issue_client("", [user], file="no-name"), user=user)
    assert "certificate's CN is 'somebody'" in proxy.log.read_text()


def test_a_listed_password_user_is_not_let_in_by_a_certificate(
        cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority):
    proxy = pgsplit_server(tls=tls(cluster, clients), stats_users="md5_user, scram_user, password_user", users=[
        *listed(cluster, "postgres", "scram_user", "password_user"), cert(cluster, "md5_user")])
    for user in ("scram_user", "password_user", "postgres"):
        assert "password authentication failed" in refused(cluster, proxy, clients.issue_client(user), user=user,
                                                           password="wrong")
    unlisted = clients.issue_client("trust_user")
    assert "password authentication failed" in refused(cluster, proxy, unlisted, user="trust_user", password="wrong")
    # nor does the word of the method, nor the servers' password, let anybody in: here and at the console
    for password in ("cert", cluster.roles["md5_user"].password):
        for more in ({}, {"dbname": "pgsplit"}):
            assert NONE_SHOWN in refused(cluster, proxy, None, user="md5_user", password=password, **more)
    connect(cluster, proxy, clients.issue_client("md5_user"), "md5_user", dbname="pgsplit").close()
    other = clients.issue_client("other")
    assert "certificate authentication failed" in refused(cluster, proxy, other, user="md5_user", dbname="pgsplit")


def test_maps(cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority):
    maps = {"people": ["/^(.*)@example\\.com$ \\1", "boss scram_user", 'boss  "md5_user"'], "nobody": []}
    proxy = pgsplit_server(tls=tls(cluster, clients), user_maps=maps, users=[
        *listed(cluster, "postgres"), cert(cluster, "scram_user", map="people"),
        cert(cluster, "md5_user", map="people", clientname="SAN"), cert(cluster, "password_user", map="nobody")])
    scram = clients.issue_client("scram_user@example.com")
    boss, other = clients.issue_client("boss"), clients.issue_client("scram_user@example.community")
    san = clients.issue_client("whoever", ["x@example.org", "md5_user@example.com"])
    assert works(cluster, proxy, scram, "scram_user")
    assert works(cluster, proxy, boss, "scram_user")
    assert works(cluster, proxy, san, "md5_user")
    for pair, user in ((other, "scram_user"), (san, "scram_user"), (scram, "md5_user"), (boss, "md5_user"),
                       (clients.issue_client("scram_user"), "scram_user"),      # a map has the last word
                       (clients.issue_client("password_user"), "password_user")):
        assert f'certificate authentication failed for user "{user}"' in refused(cluster, proxy, pair, user=user)


def test_what_pgsplit_needs_is_said(cluster: PrimaryAndStandbys, pgsplit_server: Start, clients: Authority):
    proxy = pgsplit_server(tls=tls(cluster, clients), users=[
        *listed(cluster, "postgres"), {"username": "scram_user", "password": "cert"},
        cert(cluster, "password_user") | {"upstream_password": "wrong"}])
    assert "the user_list has cert and no upstream_password, which cannot answer that" in refused(
        cluster, proxy, clients.issue_client("scram_user"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(cluster, proxy, clients.issue_client("password_user"), "password_user")


@pytest.mark.parametrize("lines, name, user, expected", [
    (None, "bob", "bob", True), (None, "bob", "Bob", False), (None, "bob", "bobby", False), ((), "bob", "bob", False),
    ((("bob", "app"),), "bob", "app", True), ((("bob", "app"),), "bob", "bob", False),
    ((("/^(.*)@example\\.com$", "\\1"),), "bob@example.com", "bob", True),
    ((("/^(.*)@example\\.com$", "\\1"),), "bob@example.com", "rob", False),
    ((("/^(.*)@example\\.com$", "\\1"),), "bob@exampleXcom", "bob", False),
    ((("/^(.*)@example\\.com$", "app_\\1"),), "bob@example.com", "app_bob", True),
    ((("/@example\\.com$", "guest"),), "bob@example.com", "guest", True),
    ((("/^(a)?bob$", "\\1"),), "bob", "", False), ((("x", "\\1"),), "x", "\\1", True),
])
def test_lines(lines: Any, name: str, user: str, expected: bool):
    assert user_map.allows(lines, name, user) is expected


SHORT = """\
listen: 127.0.0.1:6432
primary: a:1
replicas: [b:1]
tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}
user_maps: {m: [LINE]}
users:
  - {username: u, password: p}
  - {username: c, password: cert, map: m}
"""


@pytest.mark.parametrize("change, expected", [
    (("[LINE]", "[a]"), "5: user_maps.m[0]: 'a' is not SYSTEM-USERNAME PG-USERNAME"),
    (("[LINE]", "[a b c]"), "5: user_maps.m[0]: 'a b c' is not SYSTEM-USERNAME PG-USERNAME"),
    (("[LINE]", "['/( b']"),
     "5: user_maps.m[0]: '/(' is no regular expression: missing ), unterminated subpattern at position 0"),
    (("[LINE]", "['/a \\1']"), "5: user_maps.m[0]: /a has no subexpression for the \\1 of \\1"),
    (("[LINE]", "{}"), "5: user_maps.m: is a list"),
    (("map: m", "map: other"), "8: users[1].map: there is no map 'other' in user_maps; there are m"),
    (("map: m", "clientname: DN"), "8: users[1].clientname: 'DN' is not one of CN, SAN"),
    (("map: m", "upstream_password: cert"),
     "8: users[1].upstream_password: is what pgsplit logs in with: a password, or its md5 hash"),
    (("password: p", "password: p, map: m"), "7: users[0].map: is for a user whose password is cert"),
    ((", client_ca: ca.crt", ""),
     "7: users: user 'c' is let in by a certificate, but there is no CA for those of clients"),
])
def test_mistakes(change: tuple[str, str], expected: str):
    text = SHORT.replace(*change).replace("[LINE]", "[a b]")
    with pytest.raises(ConfigError) as caught:
        load(text, "x", lambda name: "", defaults={"workers": 1, "run_dir": "/run/x"})
    assert caught.value.problems == [f"x:{expected}"]


def test_no_secret_is_shown_where_a_list_is_edited():
    before = ("- {username: a, password: p}\n- {username: b, password: cert, upstream_password: hidden}\n"
              "- {username: c, password: q}\n")
    after = edited(before, (), [Change("c", None)])
    for text in (before, after):
        shown = masked(text, [()], before)
        assert "hidden" not in shown and shown.count("***") == text.count("password")
