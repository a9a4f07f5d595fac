"""The one client that a fake server answers well: pgsplit's monitor, so that its host counts as healthy."""

from __future__ import annotations

from gevent import socket

from pgsplit.wire import build
from pgsplit.wire.build import message
from tests.hostile.streams import AUTHENTICATED


def is_monitor(startup: bytes) -> bool:
    return b"pgsplit monitor" in startup or b"pgsplit sampler" in startup


def rows(*found: tuple[str | None, ...]) -> bytes:
    return b"".join(map(_row, found)) + message(b"C", b"SELECT 1\0")


def _row(values: tuple[str | None, ...]) -> bytes:
    body = len(values).to_bytes(2, "big")
    for value in values:
        body += b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value.encode()
    return message(b"D", body)


STARTED = "1767225600000000"
# By a word in the question.
ANSWERS = {
    b"pg_postmaster_start_time": rows((STARTED, "127.0.0.1", "5432", "16777216", "8192", "t", "t", "97")),
    b"pg_control_system": rows(("1",)),
    b"pg_conf_load_time": rows(("2026-01-01 00:00:00+00",)),
    b"from pg_settings": rows(("DateStyle", "ISO, MDY"), ("TimeZone", "UTC")),
    b"pg_collation": rows(("c0ffee",)),
}
# Of a primary and of a standby, which is always fresh.
SAMPLES = {True: message(b"2") + rows(("f", "0/1000000", "0/1000000", "00000001", "1764000000000000")),
           False: message(b"2") + rows(("t", "0/1000000", None, "00000001", "1764000000000000"))}
# What a session's own connection is told when it asks which server it has reached.
TRANSACTIONS = ("read committed", "off", "off", "0", None, "0")      # what they are by default
REACHED = {True: rows((STARTED, "f", "00000001", *TRANSACTIONS, "1")),
           False: rows((STARTED, "t", None, *TRANSACTIONS, "1"))}
SAYS_WHICH = REACHED[True] + build.ready_for_query(ord("I"))        # behind a login, asked or not


def answer_monitor(sock: socket.socket, primary: bool) -> None:
    sock.sendall(b"".join(AUTHENTICATED))
    ready = build.ready_for_query(ord("I"))
    while data := sock.recv(65536):
        if data[:1] == b"P":
            answer = message(b"1")
        else:
            answer = next((answer for word, answer in ANSWERS.items() if word in data), SAMPLES[primary])
        sock.sendall(answer + ready)
