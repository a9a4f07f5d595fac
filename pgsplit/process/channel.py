"""Frames between pgsplit's processes: four bytes of length, then JSON. Bounded; descriptors may come along."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Final

from ..errors import PgSplitError

LIMIT: Final = 16 << 20
MAX_DESCRIPTORS: Final = 64
_LENGTH: Final = struct.Struct(">I")


class ChannelError(PgSplitError):
    """A frame that is too long, or not JSON."""


def encode(message: Any) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > LIMIT:
        raise ChannelError(f"a message of {len(body)} bytes is too long for a channel")
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        self._buffer += data
        messages = []
        while len(self._buffer) >= 4:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > LIMIT:
                raise ChannelError(f"a frame of {length} bytes is too long")
            if len(self._buffer) < 4 + length:
                break
            try:
                messages.append(json.loads(bytes(self._buffer[4:4 + length])))
            except ValueError as error:
                raise ChannelError(f"a frame is not JSON: {error}") from None
            del self._buffer[:4 + length]
        return messages


class Channel:
    """One end of a socket, never blocking: what the kernel does not take at once waits in `outbox`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.outbox = bytearray()
        self.descriptors: list[int] = []      # received, not yet claimed
        self._frames = Frames()

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Any, descriptors: list[int] | None = None) -> None:
        """Queue a message; descriptors travel with its first byte. Errors of a dead peer show when it is read."""
        data = encode(message)
        if descriptors:
            try:
                sent = socket.send_fds(self.sock, [data[:1]], descriptors)
            except OSError:
                return
            data = data[sent:]
        self.outbox += data
        self.flush()

    def flush(self) -> None:
        while self.outbox:
            try:
                sent = self.sock.send(self.outbox)
            except BlockingIOError:
                return
            except OSError:
                self.outbox.clear()
                return
            del self.outbox[:sent]

    def receive(self) -> list[Any] | None:
        """The messages that have come; None when the peer is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.sock, 65536, MAX_DESCRIPTORS)
        except BlockingIOError:
            return []
        except OSError:
            return None
        self.descriptors += descriptors
        if not data:
            return None
        return self._frames.feed(data)

    def close(self) -> None:
        self.sock.close()
