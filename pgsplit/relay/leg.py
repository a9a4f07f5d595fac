"""A leg: one connected socket of a flow and its bytes, from adoption to close (DESIGN section 8)."""

from __future__ import annotations

import socket
from array import array
from typing import Any

from ..upstream.stream import Tls

LIMIT = 65536    # bytes: a fuller inbox is not read, and what feeds a fuller outbox is not forwarded


class Leg:
    """*inbox* holds clear bytes received and not yet consumed, *outbox* wire bytes not yet in the kernel.

    Only the relay reads from, writes to or closes the socket.
    """

    __slots__ = ("closed", "eof", "flow", "inbox", "limit", "name", "outbox", "reader", "received", "sent", "sock",
                 "tls", "traffic", "writer")

    def __init__(self, name: str, sock: socket.socket, tls: Tls | None) -> None:
        self.name = name
        self.sock = sock
        self.tls = tls
        self.inbox = bytearray()
        self.limit = LIMIT               # bytes in the inbox from which on nothing more is read
        self.outbox = bytearray()
        self.eof: str | None = None      # why nothing more will come, once that is so
        self.closed = False
        self.received = 0
        self.sent = 0
        self.traffic: array[int] | None = None      # the sums of both over several legs, where they are kept
        self.reader: Any = None          # the hub's watchers
        self.writer: Any = None
        self.flow: Any = None

    @property
    def full(self) -> bool:
        return len(self.inbox) >= self.limit

    @property
    def congested(self) -> bool:
        return len(self.outbox) >= LIMIT
