"""Logins whose servers disagree, lag, lie, fall silent or vanish; the plain ones are in test_matrix.py."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gevent
import psycopg
import pytest
from gevent import socket
from hypothesis import given, settings
from hypothesis import strategies as st

from pgsplit.auth.scram import STALE, ScramServer, keys_of, normalise, salted_password, verifier_of
from pgsplit.auth.secret import md5_response, md5_secret, parse, verifier_text
from pgsplit.demo.ports import choose
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.errors import ConnectionLost, ProtocolViolation, ServerError
from pgsplit.session.login import LoggedIn, Login, read_only
from pgsplit.upstream import passwords
from pgsplit.upstream.connection import UpstreamConnection
from pgsplit.upstream.login import Credentials
from pgsplit.upstream.stream import Stream
from pgsplit.wire import build
from pgsplit.wire.startup import StartupMessage
from tests.auth.front import Front, Manager, ask, close, listen, listener, outcome, read_first
from tests.hostile.health import SAYS_WHICH

SECRET = "scram-secret"
OK = build.authentication(0)
ASKS_SCRAM = build.authentication(10, b"SCRAM-SHA-256\0\0")
SESSION = b"".join((build.parameter_status("TimeZone", "UTC"), build.parameter_status("server_version", "15.0"),
                    build.backend_key_data(99, b"keys"), build.ready_for_query(ord("I")), SAYS_WHICH))


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    with gevent.Timeout(60):
        yield


class Fake:
    """A server that answers each startup with *says* and then, unless *stays*, goes away."""

    def __init__(self, says: bytes | Callable[[Stream], None] = b"", *, stays: bool = True) -> None:
        self._says = says
        self._stays = stays
        self._socket = listen()
        self.port: int = self._socket.getsockname()[1]
        self._greenlet = gevent.spawn(self._run)
        self.open: list[Stream] = []

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        self._greenlet.kill()
        self._socket.close()
        for stream in self.open:
            stream.close()

    def _run(self) -> None:
        while True:
            stream = Stream(self._socket.accept()[0], "pgsplit")
            self.open.append(stream)
            gevent.spawn(self._answer, stream)

    def _answer(self, stream: Stream) -> None:
        try:
            length = int.from_bytes(stream.read_exact(4), "big")
            stream.read_exact(length - 4)
            if callable(self._says):
                self._says(stream)
            else:
                stream.write(self._says)
            if not self._stays:
                stream.close()
        except ConnectionLost:
            pass


def straight(manager: Manager, users: dict[str, str], *, fresh: bool = True, user: str = "app",
             says: bytes = b"", **over: Any) -> LoggedIn:
    """A login whose client says nothing beyond its startup, but *says*."""
    near, far = socket.socketpair()
    try:
        far.sendall(says)
        config = listener(users, **over)
        logged_in = Login(Stream(near, "client"), StartupMessage(3, 0, {"user": user}), config, manager,
                          lambda: manager.replica if fresh else None, None).run()
        if fresh:
            read_first(logged_in, config, manager)
        return logged_in
    finally:
        near.close()
        far.close()


# --- what the client is told -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("user", ["password_user", "md5_user", "scram_user"])
def test_a_wrong_password_is_refused_in_the_server_s_words(cluster: PrimaryAndStandbys, user: str, fresh: bool):
    def refusal(port: int) -> str:
        with pytest.raises(psycopg.OperationalError) as refused:
            psycopg.connect(host="127.0.0.1", port=port, user=user, password="guess", dbname="postgres",
                            sslmode="disable", gssencmode="disable")
        return str(refused.value).rpartition("failed: ")[2]

    manager = Manager.of(cluster)
    with Front(manager, listener({user: cluster.roles[user].password or ""}), cluster, fresh=fresh) as front:
        with pytest.raises(psycopg.OperationalError) as refused:
            front.log_in(user=user, password="guess", sslmode="disable")
        assert str(refused.value).rpartition("failed: ")[2] == refusal(cluster.primary.port)
        with pytest.raises(psycopg.OperationalError) as refused:
            front.log_in(user=user, password="guess", sslmode="require")
        assert f'FATAL:  password authentication failed for user "{user}"' in str(refused.value)
    assert (manager.replica.active, manager.primary.active) == (0, 0)


def test_what_the_primary_refuses_reaches_the_client(cluster: PrimaryAndStandbys):
    with Front(Manager.of(cluster), listener({"scram_user": SECRET}), cluster) as front:
        with pytest.raises(psycopg.OperationalError, match='FATAL:  database "nowhere" does not exist'):
            front.log_in(user="scram_user", password=SECRET, dbname="nowhere", sslmode="disable")
    # the list's password is not the server's: the client's own exchange goes well, pgsplit's at the replica does not
    with Front(Manager.of(cluster), listener({"md5_user": "old"}), cluster) as front:
        assert outcome(front.log_in(user="md5_user", password="md5-secret", sslmode="disable")) == "primary only"
        with pytest.raises(psycopg.OperationalError, match='password authentication failed for user "md5_user"'):
            front.log_in(user="md5_user", password="old", sslmode="disable")


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_a_stale_verifier_lets_nobody_in_and_says_no_more_than_a_wrong_password(cluster: PrimaryAndStandbys,
                                                                               sslmode: str):
    salt = b"salt, last year."
    entry = verifier_text(verifier_of(keys_of(salted_password(normalise("last year's"), salt, 4096), salt, 4096)))
    manager = Manager.of(cluster)
    for fresh in (True, False):
        with Front(manager, listener({"scram_user": entry}), cluster, fresh=fresh) as front:
            for password in (SECRET, "last year's", "guess"):
                with pytest.raises(psycopg.OperationalError,
                                   match=r'FATAL:  password authentication failed for user "scram_user"$'):
                    front.log_in(user="scram_user", password=password, sslmode=sslmode)
    assert (manager.replica.active, manager.primary.active) == (0, 0)


@pytest.mark.parametrize("lost", [True, False])
def test_nor_does_a_server_that_takes_any_proof_or_is_lost_let_in_by_a_stale_one(lost: bool):
    """What reaches it is none, its yes is no, and the list's verifier does not take its place."""
    first, proof = b"n,,n=,r=abc", b"c=biws,r=abcdef,p=" + base64.b64encode(bytes(32))
    got: list[bytes] = []

    def server(stream: Stream) -> None:
        for request_ in (ASKS_SCRAM, build.authentication(11, b"r=abcdef,s=c2FsdA==,i=4096")):
            stream.write(request_)
            got.append(stream.read_message()[1])
        if lost:
            stream.close()
        else:
            stream.write(build.authentication(12, b"v=") + OK + SESSION)

    entry = verifier_text(verifier_of(keys_of(bytes(32), b"another salt", 4096)))
    with Fake(server) as fake:
        with pytest.raises(ServerError) as refused:
            straight(Manager(fake.port, fake.port), {"app": entry}, says=build.message(
                b"p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first) + build.message(b"p", proof))
    if lost:
        assert refused.value.sqlstate == "08006"
    else:
        assert str(refused.value) == 'password authentication failed for user "app"'
        assert (refused.value.sqlstate, refused.value.for_log) == ("28P01", STALE)
    assert got[1][:18] == proof[:18] and got[1] != proof


@pytest.mark.parametrize("upstream_ssl", ["DISABLE", "REQUIRE"])
def test_a_client_may_insist_on_channel_binding_with_pgsplit(cluster: PrimaryAndStandbys, upstream_ssl: str):
    with Front(Manager.of(cluster), listener({"scram_user": SECRET}, upstream_ssl=upstream_ssl), cluster) as front:
        logged_in = front.log_in(user="scram_user", password=SECRET, sslmode="require", channel_binding="require")
        assert outcome(logged_in) == "both"


def test_a_client_that_does_not_bind_is_relayed_between_two_tls_legs(cluster: PrimaryAndStandbys):
    config = listener({}, upstream_ssl="REQUIRE", unlisted_users="read_only")
    with Front(Manager.of(cluster), config, cluster) as front:
        logged_in = front.log_in(user="scram_user", password=SECRET, sslmode="require", channel_binding="disable")
        assert outcome(logged_in) == "reads only"


def test_unsupported_methods_are_named():
    for code, name in ((7, "GSSAPI"), (9, "SSPI"), (2, "KerberosV5"), (42, "authentication 42")):
        with Fake(build.authentication(code)) as fake:
            with pytest.raises(ServerError, match=f"primary asks for {name}, which pgsplit cannot do") as refused:
                straight(Manager(fake.port, fake.port), {"app": "secret"}, fresh=False,
                         says=build.message(b"p", b"a token"))
            assert refused.value.severity == "FATAL"


# --- which upstream --------------------------------------------------------------------------------------------------

def test_a_replica_that_lags_is_not_asked(cluster: PrimaryAndStandbys):
    [standby] = cluster.standbys[:1]
    manager = Manager.of(cluster)
    cluster.catch_up()
    standby.pause_replay()
    try:
        cluster.primary.query("create role newcomer login password 'fresh-secret'")
        with Front(manager, listener({"newcomer": "fresh-secret"}), cluster, fresh=False) as front:
            assert outcome(front.log_in(user="newcomer", password="fresh-secret")) == "primary only"
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                front.log_in(user="newcomer", password="stale-secret")
    finally:
        standby.resume_replay()
        cluster.primary.query("drop role newcomer")


def test_a_replica_that_refuses_before_it_asks_is_overruled_by_the_primary(cluster: PrimaryAndStandbys):
    [standby] = cluster.standbys[:1]
    manager = Manager.of(cluster)
    cluster.catch_up()
    standby.pause_replay()
    try:
        cluster.primary.query("create database newly_made")
        with Front(manager, listener({"trust_user": "unused"}), cluster) as front:
            logged_in = front.log_in(user="trust_user", dbname="newly_made")
            assert outcome(logged_in) == "primary only"
    finally:
        standby.resume_replay()
        cluster.primary.query("drop database newly_made")


def test_replication_connections_have_no_replica(cluster: PrimaryAndStandbys):
    with Front(Manager.of(cluster), listener({"trust_user": "unused"}), cluster) as front:
        with pytest.raises(psycopg.OperationalError, match=r"replication role|start WAL sender"):
            front.log_in(user="trust_user", replication="database")
        assert (front.manager.replica.active, front.manager.primary.active) == (0, 0)
        logged_in = front.log_in(user="trust_user", replication="off")
        assert outcome(logged_in) == "both"


def test_who_was_asked_for_nothing_gets_nothing_on_the_list_s_password(cluster: PrimaryAndStandbys):
    """The replica trusts, the primary does not: its question is the client's to answer."""
    with Fake(OK + SESSION) as trusting:
        manager = Manager(trusting.port, cluster.primary.port)
        with Front(manager, listener({"scram_user": SECRET}), cluster) as front:
            for sslmode in ("disable", "require"):
                with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                    front.log_in(user="scram_user", password="guess", sslmode=sslmode)
                logged_in = front.log_in(user="scram_user", password=SECRET, sslmode=sslmode)
                assert logged_in.additional is not None
                assert ask(logged_in.additional, "select session_user") == ["scram_user"]
                close(logged_in)
        assert (manager.replica.active, manager.primary.active) == (0, 0)


def test_a_replica_that_cannot_be_made_alike_is_not_read_from():
    elsewhere = build.parameter_status("server_encoding", "LATIN1") + SESSION
    with Fake(OK + SESSION) as primary, Fake(OK + elsewhere) as replica:
        manager = Manager(replica.port, primary.port)
        for fresh in (True, False):
            logged_in = straight(manager, {"app": "secret"}, fresh=fresh)
            assert logged_in.default is None
            close(logged_in)
        assert manager.replica.active == 0


def test_reads_stay_read_only_whatever_the_client_asks_for(cluster: PrimaryAndStandbys):
    with Front(Manager.of(cluster), listener({"trust_user": "unused"}), cluster) as front:
        logged_in = front.log_in(user="trust_user", options="-c default_transaction_read_only=off")
        assert outcome(logged_in) == "both"
    assert read_only({"user": "app", "Default_Transaction_Read_Only": "off"}) == {
        "user": "app", "default_transaction_read_only": "on"}


def test_unlisted_users_without_a_fresh_replica(cluster: PrimaryAndStandbys):
    config = {"unlisted_users": "read_only"}
    with Front(Manager.of(cluster), listener({}, **config), cluster, fresh=False) as front:
        logged_in = front.log_in(user="scram_user", password=SECRET, sslmode="disable")
        assert logged_in.read_only and logged_in.additional is None and logged_in.default is not None
        assert ask(logged_in.default, "select pg_is_in_recovery(), current_setting('transaction_read_only')") == [
            "f", "on"]
        close(logged_in)
    with Front(Manager.of(cluster), listener({}, read_fallback="error", **config), cluster, fresh=False) as front:
        with pytest.raises(psycopg.OperationalError, match="no replica can take this login now"):
            front.log_in(user="scram_user", password=SECRET, sslmode="disable")


def test_a_listener_that_does_not_split_passes_everybody_through(cluster: PrimaryAndStandbys):
    config = listener({}, split_rw=False, read_cluster="write")
    with Front(Manager.of(cluster), config, cluster) as front:
        logged_in = front.log_in(user="scram_user", password=SECRET)
        assert (logged_in.additional, logged_in.read_only) == (None, False)
        assert ask(logged_in.main, "select current_setting('transaction_read_only')") == ["off"]
        close(logged_in)


# --- servers that are away -------------------------------------------------------------------------------------------

def test_without_the_primary_a_login_is_refused_or_reads_only(cluster: PrimaryAndStandbys):
    for fresh in (True, False):
        manager = Manager(cluster.standbys[0].port, choose())
        for sslmode in ("disable", "require"):
            with Front(manager, listener({"scram_user": SECRET}), cluster, fresh=fresh) as front:
                with pytest.raises(psycopg.OperationalError, match="FATAL:  the primary cannot be reached"):
                    front.log_in(user="scram_user", password=SECRET, sslmode=sslmode)
            config = listener({"scram_user": SECRET}, login_without_primary=True)
            with Front(manager, config, cluster, fresh=fresh) as front:
                assert outcome(front.log_in(user="scram_user", password=SECRET, sslmode=sslmode)) == "reads only"
        assert manager.replica.active == 0
        assert len(manager.primary.failures) == 4


def test_a_silent_replica_is_passed_over_and_a_silent_primary_reported():
    with Fake() as silent, Fake(OK + SESSION) as talking:
        manager = Manager(silent.port, talking.port)
        manager.clusters["read"].connect_timeout = 0.2
        logged_in = straight(manager, {"app": "secret"})
        assert logged_in.default is None and logged_in.main.host is manager.primary
        close(logged_in)
        manager = Manager(talking.port, silent.port)
        manager.clusters["write"].connect_timeout = 0.2
        for fresh in (True, False):
            with pytest.raises(ServerError, match=r"primary: did not answer within 0\.2 s") as refused:
                straight(manager, {"app": "secret"}, fresh=fresh)
            assert refused.value.sqlstate == "08006"
        assert (manager.replica.active, manager.primary.active) == (0, 0)


def test_a_client_s_time_may_be_over_at_any_point_of_its_login():
    with Fake() as silent, Fake(OK + SESSION) as talking:
        for replica, primary, users in ((silent, talking, {}), (talking, silent, {"app": "secret"})):
            manager = Manager(replica.port, primary.port)
            near, far = socket.socketpair()
            attempt = Login(Stream(near, "client"), StartupMessage(3, 0, {"user": "app"}),
                            listener(users, unlisted_users="read_only"), manager, lambda: manager.replica, None)
            with pytest.raises(ConnectionLost, match="client: late"):
                with gevent.Timeout(0.2, ConnectionLost("client", "late")):
                    attempt.run()
            assert (manager.replica.active, manager.primary.active) == (0, 0)
            assert not manager.replica.failures and not manager.primary.failures
            far.close()


def test_a_server_that_does_not_do_tls_is_not_talked_to_in_the_clear():
    with Fake(b"N") as clear:
        with pytest.raises(ServerError, match="the primary cannot be reached") as refused:
            straight(Manager(clear.port, clear.port), {"app": "secret"}, fresh=False, upstream_ssl="REQUIRE")
        assert "does not support TLS" in str(refused.value.detail)


def test_an_upstream_may_vanish_at_any_byte(cluster: PrimaryAndStandbys):
    whole = build.notice_response("WARNING", "01000", "x") + OK + SESSION
    with Fake(OK + SESSION) as well:
        for size in range(len(whole)):
            with Fake(whole[:size], stays=False) as broken:
                manager = Manager(broken.port, well.port)
                logged_in = straight(manager, {"app": "secret"})
                assert logged_in.default is None
                close(logged_in)
                manager = Manager(well.port, broken.port)
                with pytest.raises(ServerError) as refused:
                    straight(manager, {"app": "secret"})
                assert refused.value.sqlstate == "08006"
                assert (manager.replica.active, manager.primary.active) == (0, 0)


class Cut:
    """A way to a server that breaks, with a reset, when the server has sent *messages*."""

    def __init__(self, port: int, messages: int) -> None:
        self._server = port
        self._messages = messages
        self._socket = listen()
        self.port: int = self._socket.getsockname()[1]
        self._greenlet = gevent.spawn(self._run)

    def __enter__(self) -> Cut:
        return self

    def __exit__(self, *_: object) -> None:
        self._greenlet.kill()
        self._socket.close()

    def _run(self) -> None:
        while True:
            gevent.spawn(self._pass_on, self._socket.accept()[0])

    def _pass_on(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        near = Stream(sock, "pgsplit")
        far = Stream(socket.create_connection(("127.0.0.1", self._server)), "server")
        length = near.read_exact(4)
        far.write(length + near.read_exact(int.from_bytes(length, "big") - 4))
        back = gevent.spawn(self._answers, far, near)
        try:
            while not back.ready():
                kind, body = near.read_message()
                far.write(build.message(bytes([kind]), body))
        except ConnectionLost:
            pass
        finally:
            back.kill()
            far.close()

    def _answers(self, far: Stream, near: Stream) -> None:
        with suppress(ConnectionLost):
            for _ in range(self._messages):
                kind, body = far.read_message()
                near.write(build.message(bytes([kind]), body))
        near.close()


def entries(cluster: PrimaryAndStandbys) -> list[tuple[str, str]]:
    """Users and what the list has of them."""
    [(verifier,)] = cluster.primary.query("select rolpassword from pg_authid where rolname = 'scram_user'")
    return [("password_user", cluster.roles["password_user"].password or ""), ("scram_user", SECRET),
            ("scram_user", verifier), ("md5_user", "md5-secret"), ("md5_user", md5_secret("md5-secret", "md5_user"))]


def by_the_primary_alone(front: Front, user: str, password: str | None, sslmode: str) -> None:
    """Who has the password gets in, without a replica; who guesses does not."""
    assert outcome(front.log_in(user=user, password=password, sslmode=sslmode)) == "primary only"
    with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for .*"{user}"'):
        front.log_in(user=user, password="guess", sslmode=sslmode)


@pytest.mark.parametrize("sslmode", ["disable", "require"])
@pytest.mark.parametrize("messages", range(7))
def test_a_replica_that_is_lost_amid_a_login_is_no_error(cluster: PrimaryAndStandbys, messages: int, sslmode: str):
    for user, entry in entries(cluster):
        with Cut(cluster.standbys[0].port, messages) as cut:
            manager = Manager(cut.port, cluster.primary.port)
            with Front(manager, listener({user: entry}), cluster) as front:
                by_the_primary_alone(front, user, cluster.roles[user].password, sslmode)
            assert (manager.replica.active, manager.primary.active) == (0, 0)


def test_a_role_s_connection_limit_on_the_replica_alone_is_no_error():
    """What it says after the proof: too many connections for the role."""
    def full(stream: Stream) -> None:
        stream.write(build.authentication(5, b"salt"))
        stream.read_message()
        stream.write(OK + build.error_response("FATAL", "53300", "too many connections for role"))

    def well(stream: Stream) -> None:
        stream.write(build.authentication(5, b"pepp"))
        stream.read_message()
        stream.write(OK + SESSION)

    answer = build.message(b"p", md5_response(parse("secret"), "app", b"salt").encode() + b"\0")
    with Fake(full) as replica, Fake(well) as primary:
        manager = Manager(replica.port, primary.port)
        logged_in = straight(manager, {"app": "secret"}, says=answer)
        assert logged_in.default is None and logged_in.main.host is manager.primary
        close(logged_in)


class Elsewhere(Manager):
    """Behind the replica's address is a balancer that leads to a server of which nothing is known."""

    def server_of(self, connection: UpstreamConnection) -> Any:
        return None if connection.host is self.replica else connection.host

    def await_server(self, connection: UpstreamConnection, as_of_ns: int) -> Any:
        return self.server_of(connection)


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_a_replica_that_is_another_server_than_expected_is_no_error(cluster: PrimaryAndStandbys, sslmode: str):
    """Its *yes* may be of last year's password; that of the primary counts."""
    manager = Elsewhere.of(cluster)
    for user, entry in entries(cluster):
        with Front(manager, listener({user: entry}), cluster) as front:
            by_the_primary_alone(front, user, cluster.roles[user].password, sslmode)
    assert (manager.replica.active, manager.primary.active) == (0, 0)


def test_who_is_not_in_the_list_is_told_of_another_server(cluster: PrimaryAndStandbys):
    """Nothing here can judge the proof; a clear password goes to the primary."""
    manager = Elsewhere.of(cluster)
    with Front(manager, listener({}, unlisted_users="read_only"), cluster) as front:
        with pytest.raises(psycopg.OperationalError, match="another server than expected has answered the login"):
            front.log_in(user="scram_user", password=SECRET)
        logged_in = front.log_in(user="password_user", password=cluster.roles["password_user"].password)
        assert logged_in.read_only and logged_in.default is not None
        assert ask(logged_in.default, "select pg_is_in_recovery()") == ["f"]
        close(logged_in)
    assert (manager.replica.active, manager.primary.active) == (0, 0)


def test_who_is_not_in_the_list_is_told_that_the_replica_is_lost(cluster: PrimaryAndStandbys):
    """Nothing can take the replica's place; a clear password is the client's own, and goes to the primary."""
    for user, lost in (("scram_user", True), ("password_user", False)):
        with Cut(cluster.standbys[0].port, 1) as cut:
            manager = Manager(cut.port, cluster.primary.port)
            with Front(manager, listener({}, unlisted_users="read_only"), cluster) as front:
                login = {"user": user, "password": cluster.roles[user].password, "sslmode": "disable"}
                if lost:
                    with pytest.raises(psycopg.OperationalError, match="during authentication"):
                        front.log_in(**login)
                else:
                    logged_in = front.log_in(**login)
                    assert logged_in.read_only and logged_in.default is not None
                    assert ask(logged_in.default, "select pg_is_in_recovery(), session_user") == ["f", user]
                    close(logged_in)


# --- pgsplit's own answers -------------------------------------------------------------------------------------------

def log_in(connection: UpstreamConnection, credentials: Credentials) -> None:
    connection.connect()
    with connection.logging_in():
        connection.log_in(credentials, connection.start({"user": "app"}))


def test_a_server_that_does_not_know_the_password_is_not_believed():
    """It goes through SCRAM's motions and says OK, but cannot sign."""
    def impostor(stream: Stream) -> None:
        guess = verifier_of(keys_of(bytes(32), b"some salt", 4096))
        server = ScramServer(guess, None)
        stream.write(build.authentication(10, b"SCRAM-SHA-256\0\0"))
        initial = stream.read_message()[1]
        challenge = server.first("SCRAM-SHA-256", initial.partition(b"\0")[2][4:])
        stream.write(build.authentication(11, challenge))
        stream.read_message()
        stream.write(build.authentication(12, b"v=" + bytes(44).hex().encode()[:44]) + OK + SESSION)

    with Fake(impostor) as fake:
        connection = UpstreamConnection(Manager(fake.port, fake.port), "write", tls=False)
        with pytest.raises(ServerError, match="does not know this password"):
            log_in(connection, Credentials("app", parse("secret")))
        assert connection.stream is None


@pytest.mark.parametrize("said", [(), (build.authentication(11, b"r=abcdef,s=c2FsdA==,i=4096"),)],
                         ids=["before the challenge", "in the signature's place"])
@pytest.mark.parametrize("users", [{}, {"app": "secret"}], ids=["unlisted", "listed"])
def test_a_server_that_says_ok_amid_scram_has_proved_nothing(users: dict[str, str], said: tuple[bytes, ...]):
    """To nobody: neither the client nor pgsplit has seen its signature (RFC 5802 section 5)."""
    first = b"n,,n=,r=abc"
    proof = b"c=biws,r=abcdef,p=" + base64.b64encode(bytes(32))
    client = (build.message(b"p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first)
              + build.message(b"p", proof))

    def impostor(stream: Stream) -> None:
        for request_ in (build.authentication(10, b"SCRAM-SHA-256\0\0"), *said):
            stream.write(request_)
            stream.read_message()
        stream.write(OK + SESSION)

    with Fake(impostor) as fake:
        manager = Manager(fake.port, fake.port)
        with pytest.raises(ProtocolViolation, match="sent authentication request 0 instead of"):
            straight(manager, users, fresh=not users, says=client, unlisted_users="read_only")
        connection = UpstreamConnection(manager, "write", tls=False)
        with pytest.raises(ServerError) as refused:
            log_in(connection, Credentials("app", parse("secret")))
        assert refused.value.sqlstate == "08P01"
        assert (manager.replica.active, manager.primary.active) == (0, 0)


@pytest.mark.parametrize("entry, request_, why", [
    (None, build.authentication(3), "asks for a clear password: the user_list has no entry for this user"),
    ("md5" + "0" * 32, build.authentication(3), "the user_list has an md5 hash, which cannot answer that"),
    ("md5" + "0" * 32, build.authentication(10, b"SCRAM-SHA-256\0\0"), "asks for SCRAM-SHA-256: .* md5 hash"),
    ("secret", build.authentication(10, b"SCRAM-SHA-512\0\0"), "offers SCRAM-SHA-512, which pgsplit cannot do"),
    ("secret", build.authentication(10, b"SCRAM-SHA-256-PLUS\0\0"), "offers SCRAM-SHA-256-PLUS, which pgsplit"),
    ("secret", build.authentication(10, b"\0"), "offers no mechanism"),
])
def test_why_an_entry_cannot_answer(entry: str | None, request_: bytes, why: str):
    with Fake(request_) as fake:
        connection = UpstreamConnection(Manager(fake.port, fake.port), "write", tls=False)
        with pytest.raises(ServerError, match=why):
            log_in(connection, Credentials("app", parse(entry) if entry else None))


def test_passwords_that_are_not_utf_8_are_sent_as_they_came():
    seen = Credentials("app", None, seen_password=parse(b"p\xff".decode(errors="surrogateescape")))
    got: list[bytes] = []

    def server(stream: Stream) -> None:
        for code, data in ((3, b""), (5, b"salt")):
            stream.write(build.authentication(code, data))
            got.append(stream.read_message()[1])
        stream.write(OK + SESSION)

    with Fake(server) as fake:
        connection = UpstreamConnection(Manager(fake.port, fake.port), "write", tls=False)
        log_in(connection, seen)
        session = connection.session
        connection.close()
    assert got[0] == b"p\xff\0"
    assert got[1].startswith(b"md5")
    assert (session.pid, session.key, session.parameters["TimeZone"]) == (99, b"keys", "UTC")


def test_a_slow_hash_does_not_hold_up_the_others():
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            gevent.sleep(0)

    clock = gevent.spawn(tick)
    first = passwords.salted(b"secret", b"a salt of this test", 300_000)
    assert first == salted_password(b"secret", b"a salt of this test", 300_000)
    assert ticks > 1
    before = ticks
    assert passwords.salted(b"secret", b"a salt of this test", 300_000) == first
    assert ticks == before                  # known already: nobody else had a turn
    clock.kill()


REFUSAL = build.error_response("FATAL", "28P01", "no")
answers = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=40).map(lambda body: build.message(b"p", body)),
    st.builds(lambda name, rest: build.message(b"p", name + b"\0" + len(rest).to_bytes(4, "big") + rest),
              st.sampled_from([b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS", b"", b"GS2"]),
              st.sampled_from([b"n,,n=,r=abc", b"y,,n=,r=abc", b"p=tls-server-end-point,,n=,r=abc", b"", b"n,,"])),
    st.just(build.TERMINATE))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([build.authentication(3), build.authentication(5, b"salt"),
                        build.authentication(10, b"SCRAM-SHA-256\0\0")]), st.lists(answers, max_size=3))
def test_no_answer_of_a_client_does_worse_than_a_fatal(request_: bytes, answers: list[bytes]):
    def server(stream: Stream) -> None:
        stream.write(request_)
        stream.read_message()
        stream.write(REFUSAL)

    near, far = socket.socketpair()
    with Fake(server) as fake:
        manager = Manager(fake.port, fake.port)
        far.sendall(b"".join(answers))
        far.close()
        with pytest.raises((ServerError, ConnectionLost)) as ended:
            Login(Stream(near, "client"), StartupMessage(3, 0, {"user": "app"}), listener({"app": "secret"}), manager,
                  lambda: manager.replica, None).run()
        assert isinstance(ended.value, ConnectionLost) or ended.value.severity == "FATAL"
        assert (manager.replica.active, manager.primary.active) == (0, 0)
    near.close()
