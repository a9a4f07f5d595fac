"""What servers may ask for: `upstream_auth`, and what is allowed where it names nothing."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
import psycopg
import pytest
from gevent import socket

from pgsplit.auth import allowed as policy
from pgsplit.auth.allowed import METHODS, NotAllowed, allowed
from pgsplit.auth.secret import Kind, md5_secret, parse
from pgsplit.config import units
from pgsplit.config.loader import load
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.errors import ConnectionLost, ServerError
from pgsplit.session import trial
from pgsplit.session.login import LoggedIn, Login, NoReplica, connect_replica
from pgsplit.topology.cluster import ClusterManager
from pgsplit.upstream import connection as connections
from pgsplit.upstream.connection import UpstreamConnection
from pgsplit.upstream.login import Credentials
from pgsplit.upstream.stream import Stream
from pgsplit.wire import build
from pgsplit.wire.startup import StartupMessage
from tests.auth.front import Front, Manager, close, listener, outcome, read_first
from tests.auth.test_login import OK, SESSION, Fake
from tests.waiting import eventually

ALL = frozenset(METHODS.values())
SCRAM_ALONE = frozenset({"scram-sha-256"})
ASKS = {"none": OK + SESSION, "password": build.authentication(3), "md5": build.authentication(5, b"salt"),
        "scram-sha-256": build.authentication(10, b"SCRAM-SHA-256\0\0")}
VERIFIER = "SCRAM-SHA-256$4096:c2FsdA==$" + ("A" * 43 + "=:") + "A" * 43 + "="
ENTRIES = {"clear": "secret", "md5": md5_secret("secret", "app"), "verifier": VERIFIER}


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with gevent.Timeout(60):
        yield


# --- the rule --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, methods", [
    (Kind.CLEAR, SCRAM_ALONE), (Kind.SCRAM, SCRAM_ALONE), (Kind.MD5, {"md5", "scram-sha-256"}),
    (None, ALL - {"none"}), (Kind.CERT, ALL - {"none"}),
])
def test_the_default_is_the_strongest_that_an_entry_can_do_unless_the_server_is_verified(kind, methods):
    def found(**leg: bool) -> frozenset[str]:
        return allowed((), kind, **{"verified": False, "local": False, "certificate": False, **leg}).methods

    assert found() == methods
    assert found(local=True) == methods | {"none"}
    assert found(certificate=True) == methods           # whoever answers may say that it has let it in
    assert found(verified=True) == ALL - {"none"}
    assert found(verified=True, certificate=True) == found(verified=True, local=True) == ALL


@pytest.mark.parametrize("method", sorted(ALL))
def test_what_is_named_is_all_that_is_allowed(method):
    for leg in (False, True):
        for kind in (*Kind, None):
            found = allowed((method,), kind, verified=leg, local=leg, certificate=leg)
            assert found.methods == {method}
            for code, other in METHODS.items():
                if other == method:
                    found.check("db1:5432", code)
                    continue
                with pytest.raises(NotAllowed, match=f"^db1:5432 asks for .*name {other} there$") as refused:
                    found.check("db1:5432", code)
                assert (refused.value.sqlstate, refused.value.severity) == ("28000", "FATAL")
    found.check("db1:5432", 7)      # GSSAPI: whoever cannot answer it says so


def test_a_refusal_says_the_same_whatever_the_list_has():
    for code in (0, 3):
        words = set()
        for kind in (Kind.CLEAR, Kind.MD5, Kind.SCRAM):
            with pytest.raises(NotAllowed) as refused:
                allowed((), kind, verified=False, local=False, certificate=False).check("db1:5432", code)
            words.add(str(refused.value))
        assert len(words) == 1
    assert words.pop() == ("db1:5432 asks for a clear password, which its cluster's upstream_auth does not allow: name "
                           "password there, or have the server's certificate checked by a CA")


def test_the_configuration_knows_the_same_methods():
    assert set(units.AUTH_METHODS) == ALL == set(policy.ASKED)


def test_a_lost_entry_does_not_widen_what_is_allowed():
    credentials = Credentials("app", parse("secret"))
    credentials.secret = None
    assert credentials.kind is Kind.CLEAR


# --- logins ----------------------------------------------------------------------------------------------------------

def server(asks: str, got: list[bytes]) -> Callable[[Stream], None]:
    """One that lets in whoever answers its request, and keeps the answers."""
    def serve(stream: Stream) -> None:
        stream.write(ASKS[asks])
        if asks != "none":
            got.append(stream.read_message()[1])
            stream.write(OK + SESSION)
    return serve


def log_in(manager: Manager, entry: str | None, *, fresh: bool, says: bytes = build.message(b"p", b"secret\0"),
           **over: Any) -> tuple[LoggedIn | ServerError | ConnectionLost, bytes]:
    """What becomes of app's login, and all that its client is told."""
    return log_in_as(manager, {"app": entry} if entry else {}, fresh, says, **over)


def log_in_as(manager: Manager, users: dict[str, str], fresh: bool, says: bytes,
              **over: Any) -> tuple[LoggedIn | ServerError | ConnectionLost, bytes]:
    near, far = socket.socketpair()
    far.sendall(says)
    far.shutdown(socket.SHUT_WR)
    found: LoggedIn | ServerError | ConnectionLost
    try:
        found = Login(Stream(near, "client"), StartupMessage(3, 0, {"user": "app"}), listener(users, **over), manager,
                      lambda: manager.replica if fresh else None, None).run()
    except (ServerError, ConnectionLost) as error:
        found = error
    near.shutdown(socket.SHUT_WR)
    told = b"".join(iter(lambda: far.recv(65536), b""))
    near.close()
    far.close()
    return found, told


@pytest.fixture
def managed() -> Iterator[Callable[..., Manager]]:
    """A manager of two servers that ask for what is named, and what they get."""
    fakes: list[Fake] = []

    def manage(replica: str, primary: str, got: list[bytes], named: Sequence[str] = ()) -> Manager:
        pair = [Fake(server(asks, got)) for asks in (replica, primary)]
        fakes.extend(pair)
        manager = Manager(pair[0].port, pair[1].port)
        for cluster in manager.clusters.values():
            cluster.upstream_auth = tuple(named)
        return manager

    yield manage
    for fake in fakes:
        fake.__exit__()


@pytest.mark.parametrize("asks", ["password", "md5"])
@pytest.mark.parametrize("entry", ["clear", "verifier"])
def test_a_server_that_asks_for_less_than_scram_gets_nothing_and_the_client_is_not_asked(managed, entry, asks):
    got: list[bytes] = []
    manager = managed(asks, asks, got)
    refused, told = log_in(manager, ENTRIES[entry], fresh=True)
    assert isinstance(refused, NotAllowed) and f"name {asks} there" in str(refused)
    assert (got, told) == ([], b"")
    assert (manager.replica.active, manager.primary.active) == (0, 0)
    assert (manager.replica.refused, manager.primary.refused) == ([], [str(refused)])


def test_an_md5_hash_answers_md5_and_no_clear_password_is_asked_for(managed):
    got: list[bytes] = []
    refused, told = log_in(managed("password", "password", got), ENTRIES["md5"], fresh=True)
    assert isinstance(refused, NotAllowed) and (got, told) == ([], b"")
    manager = managed("md5", "md5", got)
    logged_in, told = log_in(manager, ENTRIES["md5"], fresh=True)
    assert isinstance(logged_in, LoggedIn) and told == ASKS["md5"] and len(got) == 1
    read_first(logged_in, listener({"app": ENTRIES["md5"]}), manager)
    assert logged_in.default is not None and len(got) == 2
    close(logged_in)


@pytest.mark.parametrize("entry", [*ENTRIES.values(), None])
def test_nobody_gets_in_at_another_machine_that_asks_for_nothing(managed, monkeypatch, entry):
    manager = managed("none", "none", [])
    logged_in, _ = log_in(manager, entry, fresh=True, unlisted_users="read_only")
    assert isinstance(logged_in, LoggedIn)
    close(logged_in)
    monkeypatch.setattr(connections, "_is_local", lambda address: False)
    refused, told = log_in(manager, entry, fresh=True, unlisted_users="read_only")
    assert isinstance(refused, NotAllowed) and "asks for nothing" in str(refused) and told == b""
    for cluster in manager.clusters.values():
        cluster.upstream_auth = ("none",)
    logged_in, _ = log_in(manager, entry, fresh=True, unlisted_users="read_only")
    assert isinstance(logged_in, LoggedIn)
    close(logged_in)


@pytest.mark.parametrize("address, local", [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("10.0.0.1", False), ("0.0.0.0", False),
    ("fe80::1", False), ("db1", False)])
def test_which_addresses_are_this_machine(address, local):
    assert connections._is_local(address) is local


@pytest.mark.parametrize("asks", ["password", "md5"])
def test_what_a_stranger_passes_through_is_the_client_s_to_answer(managed, asks):
    got: list[bytes] = []
    logged_in, told = log_in(managed(asks, asks, got), None, fresh=True, unlisted_users="read_only")
    assert isinstance(logged_in, LoggedIn) and told == ASKS[asks] and got == [b"secret\0"]
    close(logged_in)


@pytest.mark.parametrize("others, asks", [([], "password"), (["md5"], "password"), (["md5"], "md5"), ([], "md5")])
def test_a_stranger_meets_what_a_listed_user_meets(managed, others, asks):
    """Of the list's weakest kind of entry, if it has several."""
    manager = managed(asks, asks, [])
    listed = log_in(manager, ENTRIES["md5" if others else "clear"], fresh=False, says=b"")
    users = {f"another{n}": ENTRIES[kind] for n, kind in enumerate(["clear", *others])}
    stranger = log_in_as(manager, users, False, b"")
    assert (type(stranger[0]), str(stranger[0]), stranger[1]) == (type(listed[0]), str(listed[0]), listed[1])


@pytest.mark.parametrize("behind", ["password", "md5", "none"])
def test_nor_does_the_server_of_the_other_connection_get_a_thing(managed, monkeypatch, behind):
    """The client has logged in at one server; pgsplit itself logs in at the other."""
    monkeypatch.setattr(connections, "_is_local", lambda address: False)
    got: list[bytes] = []
    manager = managed(behind, "md5", got)
    manager.clusters["write"].upstream_auth = ("md5",)
    logged_in, _ = log_in(manager, "secret", fresh=False)
    assert isinstance(logged_in, LoggedIn)
    with pytest.raises(NoReplica, match=f"name {behind} there"):
        connect_replica(manager, listener({"app": "secret"}), logged_in, manager.replica, 0)    # type: ignore[arg-type]
    assert f"name {behind} there" in manager.replica.refused[-1]
    assert len(got) == 1                                # the primary's, which was named
    close(logged_in)


def test_a_server_that_was_given_what_it_may_ask_for_gets_no_more():
    """A second request is looked at as the first is."""
    got: list[bytes] = []

    def two(stream: Stream) -> None:
        for request_ in ("md5", "password"):
            stream.write(ASKS[request_])
            got.append(stream.read_message()[1])
        stream.write(OK + SESSION)

    with Fake(two) as fake:
        manager = Manager(fake.port, fake.port)
        manager.clusters["write"].upstream_auth = ("md5",)
        refused, told = log_in(manager, "secret", fresh=False, says=build.message(b"p", b"md5\0") * 2)
        assert isinstance(refused, NotAllowed) and told == ASKS["md5"] and got == [b"md5\0"]
        connection = UpstreamConnection(manager, "write", tls=False)
        connection.connect()
        with pytest.raises(NotAllowed), connection.logging_in():
            connection.log_in(Credentials("app", parse("secret")), connection.start({"user": "app"}))
        assert len(got) == 2


def test_a_salt_is_asked_for_where_a_login_would_be(managed):
    manager = managed("none", "none", [], ["md5"])
    with pytest.raises(NotAllowed, match="asks for nothing"):
        trial.scram_salt(manager, listener({}), "app", "postgres")      # type: ignore[arg-type]


# --- real servers ----------------------------------------------------------------------------------------------------

USERS = {"none": "trust_user", "password": "password_user", "md5": "md5_user", "scram-sha-256": "scram_user"}


@pytest.mark.parametrize("method", USERS)
def test_each_word_lets_in_whom_it_names(cluster: PrimaryAndStandbys, method: str):
    users = {user: cluster.roles[user].password or "unused" for user in USERS.values()}
    for negated in (False, True):
        manager = Manager.of(cluster)
        for known in manager.clusters.values():
            known.upstream_auth = units.auth_methods(f"{'!' * negated}{method}")
        with Front(manager, listener(users), cluster) as front:
            for other, user in USERS.items():
                if (other == method) != negated:
                    assert outcome(front.log_in(user=user, password=users[user])) == "both"
                else:
                    with pytest.raises(psycopg.OperationalError, match=f"upstream_auth does not allow: name {other}"):
                        front.log_in(user=user, password=users[user])


@pytest.mark.parametrize("verify", [True, False])
def test_a_server_that_a_ca_vouches_for_may_ask_for_more(cluster: PrimaryAndStandbys, verify: bool):
    trusting = ssl.create_default_context(cafile=str(cluster.ca))
    trusting.check_hostname = False
    manager = Manager.of(cluster)
    for known in manager.clusters.values():
        known.upstream_auth = ()
        if verify:
            known.ssl_context = lambda: trusting        # type: ignore[method-assign]
    users = {user: cluster.roles[user].password or "" for user in ("password_user", "md5_user", "scram_user")}
    with Front(manager, listener(users, upstream_ssl="REQUIRE"), cluster) as front:
        for user, password in users.items():
            if verify or user == "scram_user":
                assert outcome(front.log_in(user=user, password=password)) == "both"
            else:
                with pytest.raises(psycopg.OperationalError, match="have the server's certificate checked by a CA"):
                    front.log_in(user=user, password=password)


def test_the_monitor_gives_nothing_away_and_logs_in_anew_after_a_reload(caplog):
    got: list[bytes] = []
    with Fake(server("md5", got)) as fake:
        text = (f"listen: 127.0.0.1:6432\nprimary: 127.0.0.1:{fake.port}\nreplicas: [127.0.0.1:1]\n"
                "users: {app: secret}\nmonitor: app\nhealth_interval: 50ms\n")

        def config(more: str) -> Any:
            return load(text + more, "test.yaml", lambda name: "",
                        defaults={"workers": 1, "run_dir": "/nowhere"}).config

        manager = ClusterManager(config(""))
        try:
            hosts = manager.cluster("primary").hosts
            eventually(lambda: ["asks for an md5 password" in host.found for host in hosts.values()] == [True],
                       sleep=gevent.sleep)
            gevent.sleep(0.2)
            assert not got
            check = next(iter(manager.cluster("primary").checks.values()))
            manager.update(config("upstream_auth: md5\n"))
            eventually(lambda: got, sleep=gevent.sleep)
            assert next(iter(manager.cluster("primary").checks.values())) is not check
        finally:
            manager.stop()
    assert [record.getMessage() for record in caplog.records].count(
        f"127.0.0.1:{fake.port} of cluster primary is out: 127.0.0.1:{fake.port} asks for an md5 password, which its "
        "cluster's upstream_auth does not allow: name md5 there, or have the server's certificate checked by a CA") == 1


def test_the_operator_sees_which_logins_end_for_that_once_in_a_while(cluster: PrimaryAndStandbys, pgsplit_server):
    """Also where the client does not: a session without a replica works."""
    proxy: Proxy = pgsplit_server(upstream_auth=None, pgsplit={
        "workers": 1, "clusters": {"primary": {"upstream_auth": "md5,scram-sha-256"}}}, fence_wait="10s")
    for _ in range(3):
        with cluster.primary.connect("md5_user", port=proxy.port) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    log = Path(proxy.log).read_text()
    standby = cluster.standbys[0].port
    assert log.count(f"WARNING pgsplit.cluster: cluster replicas: no login: 127.0.0.1:{standby} asks for an md5") == 1
