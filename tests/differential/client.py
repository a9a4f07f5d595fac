"""A client without manners of its own: it sends what it is told and gives back every message of the answer."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from pgsplit.wire import build

PATIENCE = 60.0         # seconds for an answer
COPIED = b"1\n2\n3\n"     # what every COPY FROM STDIN gets

Message = tuple[bytes, bytes]       # type byte, body


class Hung(Exception):
    """No ReadyForQuery within PATIENCE; what came until then is the argument."""


class Client:
    """A session of *user* (trust) in *dbname*, clear text. ``greeting`` is what the login answered."""

    def __init__(self, port: int, user: str, dbname: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.closed = False
        self._socket.sendall(build.startup({"user": user, "database": dbname, "application_name": "differential"}))
        self.greeting = self.replies(1)

    def close(self) -> None:
        self.closed = True
        self._socket.close()

    def ask(self, data: bytes, syncs: int) -> list[Message]:
        """The messages that answer *data*, in which there are *syncs* Query or Sync messages."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.closed = True
            return [(b"", b"closed")]
        return self.replies(syncs)

    def replies(self, syncs: int) -> list[Message]:
        found: list[Message] = []
        while syncs:
            try:
                message = self._next()
            except TimeoutError:
                raise Hung(found) from None
            except OSError:
                message = None
            if message is None:
                self.closed = True
                return [*found, (b"", b"closed")]
            found.append(message)
            if message[0] == b"Z":
                syncs -= 1
            elif message[0] == b"G":
                self._socket.sendall(build.message(b"d", COPIED) + build.message(b"c") + build.SYNC)
        return found

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def until(self, kind: bytes) -> list[Message]:
        """The messages up to the first of type *kind*, whatever else the server would send later."""
        found: list[Message] = []
        while not found or found[-1][0] != kind:
            try:
                message = self._next()
            except TimeoutError:
                raise Hung(found) from None
            if message is None:
                return [*found, (b"", b"closed")]
            found.append(message)
        return found

    def _next(self) -> Message | None:
        while len(self._buffer) < 5 or len(self._buffer) < self._length():
            data = self._socket.recv(262144)
            if not data:
                return None
            self._buffer += data
        size = self._length()
        message = self._buffer[:1], self._buffer[5:size]
        self._buffer = self._buffer[size:]
        return message

    def _length(self) -> int:
        return 1 + int.from_bytes(self._buffer[1:5], "big")


def bind(statement: str, values: Sequence[str], *, binary: bool) -> bytes:
    """A Bind of the unnamed portal: parameters as text, results as text or binary."""
    parameters = b"".join(struct.pack(">I", len(value)) + value.encode() for value in values)
    return build.message(b"B", b"\0" + build.cstring(statement) + struct.pack(">HH", 0, len(values)) + parameters
                         + struct.pack(">HH", 1, int(binary)))
