"""Users who are in no list log in by what the primary knows of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgsplit.auth.secret import Kind
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.session.asked_users import AskedUsers
from pgsplit.upstream.auth_query import CannotAsk
from tests.auth.test_unlisted import conversation
from tests.conftest import SUPERUSER_PASSWORD
from tests.waiting import eventually

LISTED = {"postgres": SUPERUSER_PASSWORD}


def start(pgsplit_server: Any, auth_user: str = "postgres", users: dict[str, str] | None = None,
          **settings: Any) -> Proxy:
    return pgsplit_server(users=users or LISTED, pgsplit={"workers": 2, "auth_user": auth_user, **settings})


def login(proxy: Proxy, user: str, password: str, *, tls: str = "disable") -> psycopg.Connection[Any]:
    return psycopg.connect(host="127.0.0.1", port=proxy.port, user=user, password=password, dbname="postgres",
                           sslmode=tls, autocommit=True, connect_timeout=30)


def route_of_a_read(connection: psycopg.Connection[Any]) -> str:
    connection.execute("select 1")
    row = connection.execute("show pgsplit.last_route").fetchone()
    assert row is not None
    return str(row[0])


def refusal(proxy: Proxy, user: str, password: str, *, tls: str = "disable") -> str:
    with pytest.raises(psycopg.OperationalError) as refused:
        login(proxy, user, password, tls=tls)
    return str(refused.value).partition("FATAL:  ")[2].strip()


def wrong(user: str) -> str:
    return f'password authentication failed for user "{user}"'


@contextmanager
def role(cluster: PrimaryAndStandbys, name: str, how: str = "login password 'first'") -> Iterator[str]:
    cluster.primary.query(f"create role {name} {how}")
    cluster.catch_up()
    try:
        yield name
    finally:
        cluster.primary.query(f"drop role {name}")


@pytest.mark.parametrize("tls", ["disable", "require"])
@pytest.mark.parametrize("user", ["password_user", "md5_user", "scram_user"])
def test_a_user_in_no_list_reads_on_the_replica_and_writes(cluster, pgsplit_server, user, tls):
    proxy = start(pgsplit_server)
    for _ in range(2):
        with login(proxy, user, cluster.roles[user].password or "", tls=tls) as connection:
            eventually(lambda: route_of_a_read(connection) == "replica: read", timeout=60)
            assert connection.execute("select txid_current() > 0").fetchone() == (True,)
        assert refusal(proxy, user, "guess", tls=tls) == wrong(user)
    eventually(lambda: proxy.client.arbiter("totals").get("cluster.primary.own.primary.users", 0) > 0)


@pytest.mark.parametrize("tls", ["disable", "require"])
def test_a_password_that_is_changed_through_pgsplit_counts_at_once(cluster, pgsplit_server, tls):
    proxy = start(pgsplit_server)
    with role(cluster, "asked_changes"), login(proxy, "postgres", SUPERUSER_PASSWORD) as operator:
        old = "first"
        for number in range(5):
            with login(proxy, "asked_changes", old, tls=tls) as connection:
                new = f"password {number}"
                (connection if number % 2 else operator).execute(f"alter role asked_changes password '{new}'")
            with login(proxy, "asked_changes", new, tls=tls):
                assert refusal(proxy, "asked_changes", old, tls=tls) == wrong("asked_changes")
            old = new


@pytest.mark.parametrize("tls", ["disable", "require"])
def test_a_password_that_is_changed_beside_pgsplit_counts_after_one_failure_at_most(cluster, pgsplit_server, tls):
    proxy = start(pgsplit_server, workers=1)
    with role(cluster, "asked_beside"):
        login(proxy, "asked_beside", "first", tls=tls).close()
        cluster.primary.query("alter role asked_beside password 'second'")
        assert refusal(proxy, "asked_beside", "first", tls=tls) == wrong("asked_beside")
        login(proxy, "asked_beside", "second", tls=tls).close()
        cluster.primary.query("alter role asked_beside password 'third'")
        try:
            login(proxy, "asked_beside", "third", tls=tls).close()
        except psycopg.OperationalError as refused:
            assert wrong("asked_beside") in str(refused)
            login(proxy, "asked_beside", "third", tls=tls).close()


def test_who_may_not_log_in_meets_what_a_stranger_meets(cluster, pgsplit_server):
    proxy = start(pgsplit_server)
    for how in ("login password 'guess' valid until '2020-01-01'", "nologin password 'guess'", "login",
                "login password 'other'"):
        with role(cluster, "asked_not", how):
            for tls in (False, True):
                told, stranger = (conversation(proxy.port, user, tls=tls) for user in ("asked_not", "nobody_at_all"))
                assert told == stranger, how


def test_the_list_wins(cluster, pgsplit_server):
    proxy = start(pgsplit_server, users=LISTED | {"scram_user": "another password"})
    assert refusal(proxy, "scram_user", "scram-secret", tls="require") == wrong("scram_user")
    login(proxy, "md5_user", "md5-secret").close()


@pytest.fixture
def lookup(cluster):
    """What docs/login.md says is to be made at the primary."""
    section = (Path(__file__).parents[2] / "docs" / "login.md").read_text().partition("## Users from the server")[2]
    cluster.primary.query(section.partition("```sql\n")[2].partition("```")[0])
    cluster.catch_up()
    yield "select * from pgsplit.lookup($1)"
    cluster.primary.query("drop schema pgsplit cascade; drop role pgsplit")


def test_a_function_lets_a_user_ask_who_may_not_read_the_catalogue(cluster, pgsplit_server, lookup):
    proxy = start(pgsplit_server, "pgsplit", LISTED | {"pgsplit": "asking-secret"}, auth_query=lookup)
    login(proxy, "md5_user", "md5-secret").close()
    assert refusal(proxy, "nobody_at_all", "guess") == wrong("nobody_at_all")


CANNOT_BE_ASKED = (
    (None, "permission denied for table pg_authid"),
    ("select 1", "bind message supplies 1 parameters"),
    ("select usename from pg_user where usename = $1", "1 rows of 1 columns"),
    ("select usename, passwd from pg_user where $1 <> ''", "rows of 2 columns"),
    ("selct $1", "syntax error"),
    ("copy pg_user to stdout", "bind message supplies 1 parameters"),
    ("select $1, pg_terminate_backend(pg_backend_pid())::text", "terminating connection"),
)


def generations(proxy: Proxy) -> set[int]:
    return {worker["generation"] for worker in proxy.client.arbiter("workers")}


def test_what_cannot_be_asked_is_said_in_the_log_and_ends_that_login_only(pgsplit_server):
    users = LISTED | {"scram_user": "scram-secret"}
    proxy = start(pgsplit_server, "scram_user", users, watch=False)
    text = proxy.file.read_text()
    with login(proxy, "scram_user", "scram-secret") as connection:
        for generation, (query, why) in enumerate(CANNOT_BE_ASKED, 2):
            more = "" if query is None else f"  auth_query: {json.dumps(query)}\n"
            proxy.file.write_text(text.replace("pgsplit:\n", f"pgsplit:\n{more}"))
            proxy.signal(signal.SIGHUP)
            eventually(lambda wanted={generation}: generations(proxy) == wanted, timeout=60)
            assert refusal(proxy, "md5_user", "md5-secret") == "the primary cannot be asked for users now"
            assert why in proxy.log_end(5) and "scram-secret" not in proxy.log_end()
            assert connection.execute("select 1").fetchone() == (1,)


def test_a_name_is_a_parameter_and_nobody_elses(cluster, pgsplit_server):
    proxy = start(pgsplit_server)
    for name in ("x" * 62, 'quote"\'; drop role md5_user; --', "caf\u00e9", "$1", "0"):
        assert refusal(proxy, name, "guess") == wrong(name)
    login(proxy, "md5_user", "md5-secret").close()
    with role(cluster, "a" * 63):
        login(proxy, "a" * 63, "first").close()
        assert refusal(proxy, "a" * 64, "first").startswith("password authentication failed")
    told = conversation(proxy.port, "\udcff\udcfe", tls=False)
    assert told[-1][0] == b"E" and b"28P01" in told[-1][1]


def test_a_reload_may_begin_and_end_it(cluster, pgsplit_server):
    proxy = pgsplit_server(users=LISTED, pgsplit={"workers": 1})
    assert refusal(proxy, "md5_user", "md5-secret") == wrong("md5_user")
    text = proxy.file.read_text()
    proxy.file.write_text(text.replace("pgsplit:\n", "pgsplit:\n  auth_user: postgres\n"))
    proxy.signal(signal.SIGHUP)

    def gets_in() -> bool:
        try:
            login(proxy, "md5_user", "md5-secret").close()
        except psycopg.OperationalError:
            return False
        return True

    eventually(gets_in, timeout=60)
    assert proxy.client.worker(1, "asked_users") == {"postgres": [{"name": "md5_user", "kind": "md5"}]}
    proxy.file.write_text(text)
    proxy.signal(signal.SIGHUP)
    eventually(lambda: not gets_in(), timeout=60)


# --- what is remembered ---------------------------------------------------------------------------------------------


class Primary:
    def __init__(self) -> None:
        self.secrets: dict[str, str | None] = {"app": "md5" + "0" * 32}
        self.asked: list[str] = []
        self.away = False
        self.written_ns = 0

    def ask(self, user: str) -> str | None:
        self.asked.append(user)
        if self.away:
            raise CannotAsk("it is away")
        return self.secrets.get(user)


@pytest.fixture
def primary():
    return Primary()


@pytest.fixture
def users(primary):
    return AskedUsers(primary.ask, lambda: primary.written_ns)


def test_an_answer_is_good_until_something_is_written_or_a_login_fails(primary, users):
    assert users.find("app").kind is users.find("app").kind is Kind.MD5
    assert primary.asked == ["app"]
    primary.written_ns = users._known["app"].as_of_ns        # at the same moment: it may have been behind the answer
    users.find("app")
    primary.written_ns = 0
    users.find("app")
    assert primary.asked == ["app"] * 2
    users.doubt("app")
    users.find("app")
    assert primary.asked == ["app"] * 3
    users.doubt("nobody")


def test_an_answer_grows_old(primary, users, monkeypatch):
    users.find("app")
    monkeypatch.setattr("pgsplit.session.asked_users.FOR_NS", -1)
    users.find("app")
    assert primary.asked == ["app"] * 2


def test_while_nobody_can_be_asked_the_last_answer_serves(primary, users):
    users.find("app")
    users.doubt("app")
    primary.away = True
    assert users.find("app").kind is Kind.MD5
    with pytest.raises(CannotAsk):
        users.find("other")
    primary.away, primary.secrets = False, {}
    assert users.find("app") is None
    primary.away = True
    with pytest.raises(CannotAsk):          # it is gone, and known to be
        users.find("app")


def test_strangers_are_not_remembered_and_others_not_without_end(primary, users, monkeypatch):
    monkeypatch.setattr("pgsplit.session.asked_users.MOST", 2)
    for name in ("a", "b", "c"):
        assert users.find(name) is None
        primary.secrets[name] = "clear"
        assert users.find(name).kind is Kind.CLEAR
    assert users.kinds() == [("b", "clear"), ("c", "clear")]


def test_cert_is_a_password_like_any_other_there(primary, users):
    primary.secrets["app"] = "cert"
    assert users.find("app").kind is Kind.CLEAR and users.find("app").text == "cert"
