"""Who is not in the list meets what a listed user with a wrong password meets: no name can be found out."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgsplit.auth import mock
from pgsplit.auth.scram import (
    SCRAM,
    SCRAM_PLUS,
    STALE,
    ScramClient,
    keys_of,
    parse_server_first,
    salted_password,
    verifier_of,
)
from pgsplit.auth.secret import Kind, Secret, md5_response, verifier_text
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.wire import build
from pgsplit.wire.startup import SSL_REQUEST
from tests.waiting import eventually

GUESS = Secret(Kind.CLEAR, "guess")
METHODS = ("password_user", "md5_user", "scram_user")


def connect(port: int, *, tls: bool) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    if not tls:
        return sock
    sock.sendall(build.untyped(SSL_REQUEST))
    assert sock.recv(1) == b"S"
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return trusting.wrap_socket(sock)


def conversation(port: int, user: str, *, tls: bool, password: Secret = GUESS, database: str = "postgres",
                 **parameters: str) -> list[Any]:
    """All that a login with *password* is told: random bytes as their number, the user's name as ``*``."""
    told: list[Any] = []
    scram = ScramClient(salted_password, secret=password)
    with connect(port, tls=tls) as sock, sock.makefile("rb") as file:
        sock.sendall(build.startup({"user": user, "database": database, **parameters}))
        while header := file.read(5):
            kind, body = header[:1], file.read(int.from_bytes(header[1:], "big") - 4)
            code, data = int.from_bytes(body[:4], "big"), body[4:]
            if kind != b"R":
                told.append((kind, body.replace(b'"%s"' % user.encode(errors="surrogateescape"), b'"*"')))
                if kind == b"Z":
                    break
            elif code == 3:
                told.append("password")
                sock.sendall(build.password(password.text.encode()))
            elif code == 5:
                told.append("md5")
                sock.sendall(build.password(md5_response(password, user, data).encode()))
            elif code == 10:
                told.append(data)
                first = scram.first()
                sock.sendall(build.message(b"p", build.cstring(SCRAM) + len(first).to_bytes(4, "big") + first))
            elif code == 11:
                nonce, salt, iterations = parse_server_first(data)
                told.append((len(nonce), len(salt), iterations))
                sock.sendall(build.message(b"p", scram.final(data)))
            else:
                told.append(code)
    return told


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("user", METHODS)
def test_the_exchange_is_that_of_a_listed_user_with_a_wrong_password(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy], user: str, tls: bool):
    proxy = pgsplit_server(pgsplit={"workers": 2})
    listed = conversation(proxy.port, user, tls=tls)
    assert b"28P01" in listed[-1][1]
    stranger = pgsplit_server(users={"postgres": "postgres-secret"})
    assert conversation(stranger.port, user, tls=tls) == listed
    assert conversation(stranger.port, user, tls=tls, database="nowhere") == listed
    # one with the right password is told no more
    right = Secret(Kind.CLEAR, cluster.roles[user].password or "")
    assert conversation(stranger.port, user, tls=tls, password=right) == listed
    assert f'password authentication failed for user "{user}" (not in the user_list)' in stranger.log.read_text()
    assert "not in the user_list" not in proxy.log.read_text()


@pytest.mark.parametrize("tls", [False, True])
def test_a_verifier_in_the_list_shows_no_more(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy],
                                              tls: bool):
    [(verifier,)] = cluster.primary.query("select rolpassword from pg_authid where rolname = 'scram_user'")
    proxy = pgsplit_server(users={"scram_user": verifier, "postgres": "postgres-secret"})
    listed = conversation(proxy.port, "scram_user", tls=tls)
    assert conversation(pgsplit_server(users={"postgres": "postgres-secret"}).port, "scram_user", tls=tls) == listed


@pytest.mark.parametrize("tls", [False, True])
def test_nor_does_one_that_is_stale(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy], tls: bool):
    salt = b"salt, last year."
    stale = verifier_text(verifier_of(keys_of(salted_password(b"last year's", salt, 4096), salt, 4096)))
    proxy = pgsplit_server(users={"scram_user": stale, "postgres": "postgres-secret"})
    listed = conversation(proxy.port, "scram_user", tls=tls)
    stranger = pgsplit_server(users={"postgres": "postgres-secret"})
    assert listed == conversation(stranger.port, "scram_user", tls=tls)
    right = Secret(Kind.CLEAR, cluster.roles["scram_user"].password or "")
    assert conversation(proxy.port, "scram_user", tls=tls, password=right) == listed
    assert proxy.log.read_text().count(f'password authentication failed for user "scram_user" ({STALE})') == 2
    known = conversation(proxy.port, "scram_user", tls=tls, password=Secret(Kind.CLEAR, "last year's"))
    assert known[-1] == listed[-1]
    assert proxy.log.read_text().count(f'password authentication failed for user "scram_user" ({STALE})') == 3


def test_nobody_gets_in_where_the_server_asks_for_nothing(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    proxy = pgsplit_server(users={"postgres": "postgres-secret"})
    for tls in (False, True):
        mechanisms, challenge, (kind, error) = conversation(proxy.port, "trust_user", tls=tls)
        assert mechanisms == b"".join(f"{name}\0".encode() for name in ([SCRAM_PLUS] * tls + [SCRAM])) + b"\0"
        assert challenge[1:] == (16, 4096)
        assert kind == b"E" and b'password authentication failed for user "*"' in error
    query = "select count(*) from pg_stat_activity where usename = 'trust_user'"
    for server in (cluster.primary, cluster.standbys[0]):
        eventually(lambda server=server: server.query(query) == [(0,)])


def test_replication_takes_a_listed_user(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    proxy = pgsplit_server(users={"postgres": "postgres-secret"}, pgsplit={"unlisted_users": "read_only"})
    told = conversation(proxy.port, "scram_user", tls=True, replication="database",
                        password=Secret(Kind.CLEAR, "scram-secret"))
    assert told == conversation(proxy.port, "postgres", tls=True, replication="database")


@pytest.mark.parametrize("tls", [False, True])
def test_the_console_says_who_may_use_it_behind_the_proof_only(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy], tls: bool):
    proxy = pgsplit_server(pgsplit={"admin_users": "scram_user"})
    told = [conversation(proxy.port, user, tls=tls, database="pgsplit")
            for user in ("scram_user", "password_user", "nobody")]
    assert told[0] == told[1] == told[2]
    with pytest.raises(psycopg.OperationalError, match='user "password_user" may not use the console'):
        psycopg.connect(host="127.0.0.1", port=proxy.port, user="password_user", password="password-secret",
                        dbname="pgsplit", sslmode="require" if tls else "disable")


def salt_of(port: int, user: str) -> bytes:
    with connect(port, tls=True) as sock, sock.makefile("rb") as file:
        sock.sendall(build.startup({"user": user}))
        file.read(int.from_bytes(file.read(5)[1:], "big") - 4)
        first = ScramClient(salted_password).first()
        sock.sendall(build.message(b"p", build.cstring(SCRAM) + len(first).to_bytes(4, "big") + first))
        body = file.read(int.from_bytes(file.read(5)[1:], "big") - 4)
        return parse_server_first(body[4:])[1]


def test_a_name_has_one_salt_in_all_workers_and_over_a_reload(
        cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy]):
    proxy = pgsplit_server(users={"scram_user": "scram-secret", "postgres": "postgres-secret"},
                           pgsplit={"workers": 3})

    def salts() -> dict[str, set[bytes]]:
        return {user: {salt_of(proxy.port, user) for _ in range(12)} for user in ("scram_user", "stranger", "another")}

    before = salts()
    assert [len(found) for found in before.values()] == [1, 1, 1]
    assert len(set.union(*before.values())) == 3
    generation = proxy.client.arbiter("last_reload")["generation"]
    proxy.signal(signal.SIGHUP)
    eventually(lambda: proxy.client.arbiter("last_reload")["generation"] > generation)
    assert salts() == before


MALFORMED = {
    "md5_user": [b"", b"\0", b"abc", b"abc\0def\0", b"abc\0\0", b"\0abc\0"],
    "scram_user": [b"", b"\0", b"SCRAM-SHA-1\0" + bytes(4), b"SCRAM-SHA-256\0", b"SCRAM-SHA-256\0" + bytes(4)],
}


def first_answer(port: int, user: str, answer: bytes, *, tls: bool) -> bytes:
    """What a client is told that answers the first request by *answer*."""
    with connect(port, tls=tls) as sock, sock.makefile("rb") as file:
        sock.sendall(build.startup({"user": user, "database": "postgres"}))
        file.read(int.from_bytes(file.read(5)[1:], "big") - 4)
        sock.sendall(build.message(b"p", answer))
        return file.read()


@pytest.mark.parametrize("tls", [False, True])
def test_malformed_answers_show_no_more(cluster: PrimaryAndStandbys, pgsplit_server: Callable[..., Proxy], tls: bool):
    patient = {"workers": 1, "fence_wait": "60s"}       # so that every login is at the replica
    listed = pgsplit_server(pgsplit=patient)
    stranger = pgsplit_server(pgsplit=patient, users={"postgres": "postgres-secret"})
    for user, answers in {**MALFORMED, "password_user": MALFORMED["md5_user"]}.items():
        for answer in answers:
            told = [first_answer(proxy.port, user, answer, tls=tls) for proxy in (listed, stranger)]
            assert told[0] == told[1], (user, answer)


def test_a_wrong_answer_keeps_the_shape_of_the_client_s():
    message = b"c=biws,r=nonce,p=" + b"A" * 43 + b"="
    wrong = mock.client_final(message)
    assert wrong[:17] == message[:17] and len(wrong) == len(message) and wrong != mock.client_final(message)
    for malformed in (b"c=biws,r=nonce", b"c=biws,r=nonce,p=?", b""):
        assert mock.client_final(malformed) == malformed
    assert mock.password(b"guess\0") != mock.password(b"guess\0")
    for malformed, wrong in ((b"", b""), (b"\0", b"\0"), (b"abc", b"xxx"), (b"a\0bc\0", b"x\0xx\0")):
        assert mock.password(malformed) == wrong
