"""Who is ended while its own statements are on their way reads why, and meets no reset in the midst of it."""

from __future__ import annotations

import os
import socket
import time

import psycopg
import pytest

from pgsplit.wire import build
from tests.conftest import SUPERUSER_PASSWORD

pytestmark = [pytest.mark.pg, pytest.mark.relay]


@pytest.mark.parametrize("statement", ["select 1", "begin; select 1; commit", "insert into pg_temp.t values (1)"])
def test_who_is_terminated_while_it_is_sending_reads_why(pgsplit_server, statement):
    proxy = pgsplit_server(pgsplit={"workers": 1})
    session = psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password=SUPERUSER_PASSWORD,
                              dbname="postgres", sslmode="disable", autocommit=True)
    session.execute("create temp table t (n int)")
    sock = socket.socket(fileno=os.dup(session.fileno()))
    sock.settimeout(20)
    [known] = proxy.client.worker(1, "sessions")
    number = int(known["id"].partition("-")[2])
    for _ in range(20):
        sock.sendall(build.query(statement) * 5)        # the next is there before the last is answered
    proxy.client.worker(1, "terminate", number=number)
    for _ in range(5):                                  # a client that has not read yet what has become of it
        time.sleep(0.1)
        sock.sendall(build.query(statement))
    got = b""
    while piece := sock.recv(1 << 20):
        got = got[-300:] + piece
    assert b"VFATAL\0C57P01\0Mterminating connection due to administrator command\0" in got
    sock.close()
    session.close()
