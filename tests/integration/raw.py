"""Bytes on a socket, where a driver would be too polite."""

from __future__ import annotations

import socket

from pgsplit.wire import build
from pgsplit.wire.startup import CANCEL_REQUEST


def send_cancel(port: int, pid: int, key: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(build.untyped(CANCEL_REQUEST, pid.to_bytes(4, "big") + key))
        assert sock.recv(1) == b""
