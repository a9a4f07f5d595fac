"""Listening sockets and what comes of them."""

from __future__ import annotations

import socket

from pgsplit.config.model import Address
from pgsplit.process.listeners import bind


def test_what_is_accepted_sends_at_once_and_notices_a_peer_that_is_gone():
    [listening] = bind(Address(host="127.0.0.1", port=0), 16)
    with listening, socket.create_connection(listening.getsockname()):
        listening.setblocking(True)
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
