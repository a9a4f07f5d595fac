"""The one client that a fake server answers well: pgsplit's monitor, so that its host counts as healthy."""

from __future__ import annotations

from gevent import socket

from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.hostile.streams import AUTHENTICATED


def is_monitor(startup: bytes) -> bool:
    return b"pgsplit monitor" in startup


def row(*values: str | None) -> bytes:
    body = len(values).to_bytes(2, "big")
    for value in values:
        body += b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value.encode()
    return message(b"D", body) + message(b"C", b"SELECT 1\0")


def answer_monitor(sock: socket.socket) -> None:
    """It is the primary, listed in both clusters; each question is told by a word in it."""
    sock.sendall(b"".join(AUTHENTICATED))
    ready = build.ready_for_query(ord("I"))
    while data := sock.recv(65536):
        if b"pg_postmaster_start_time" in data:
            answer = row("2026-01-01 00:00:00+00", "16777216", "8192", "f")
        elif b"pg_control_system" in data:
            answer = row("1")
        elif data[:1] == b"P":
            answer = message(b"1")
        else:
            answer = message(b"2") + row("f", "0/1000000", "0/1000000")
        sock.sendall(answer + ready)
