"""A byte stream for the login phase: blocking style on a gevent socket, in the clear or inside TLS.

TLS runs on memory BIOs, so that the socket can be handed to the relay afterwards together with the TLS state.
"""

from __future__ import annotations

import socket as plain_socket
import ssl
import struct
from typing import Final, NamedTuple

from gevent import socket

from ..errors import ConnectionLost, ProtocolViolation

CHUNK: Final = 16384
_LENGTH: Final = struct.Struct(">I")


class Tls(NamedTuple):
    """An established TLS connection on memory BIOs."""

    ssl: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO


def close_notify(tls: Tls) -> bytes:
    """TLS's own goodbye (RFC 8446, 6.1): without it a peer cannot tell an end from a cut, and calls it an error."""
    try:
        tls.ssl.unwrap()
    except ssl.SSLError:        # the peer's own has not come, and is not waited for
        pass
    return tls.outgoing.read()


class Stream:
    """*name* says in errors who the peer is (``client``, or an upstream's host)."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.name = name
        self.tls: Tls | None = None
        self._sock: socket.socket | None = sock
        self._buffer = bytearray()
        self._queued = b""
        self._patience: float | None = None
        if sock.family in (plain_socket.AF_INET, plain_socket.AF_INET6):
            sock.setsockopt(plain_socket.IPPROTO_TCP, plain_socket.TCP_NODELAY, 1)
            sock.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_KEEPALIVE, 1)

    def be_patient(self, seconds: float | None) -> None:
        """The peer is lost when it is silent for so long while something is expected of it; None: it never is."""
        self._patience = seconds
        self._socket.settimeout(seconds)

    # --- bytes ------------------------------------------------------------------------------------

    def read_exact(self, count: int) -> bytes:
        """:raises ConnectionLost: when the peer ends before that many bytes."""
        while len(self._buffer) < count:
            self._receive()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def peek(self) -> bytes:
        """What has been read and not taken; at least one byte."""
        while not self._buffer:
            self._receive()
        return bytes(self._buffer)

    def read_message(self, limit: int = 1 << 20) -> tuple[int, bytes]:
        """(type byte, body) of the next message.

        :raises ProtocolViolation: for a length that is impossible or beyond *limit*.
        """
        buffer = self._buffer
        while len(buffer) < 5:
            self._receive()
        (length,) = _LENGTH.unpack_from(buffer, 1)
        if not 4 <= length <= limit:
            raise ProtocolViolation(f"invalid length {length} of message type {buffer[0]} from {self.name}")
        while len(buffer) <= length:
            self._receive()
        kind, body = buffer[0], bytes(buffer[5:length + 1])
        del buffer[:length + 1]
        return kind, body

    def queue(self, data: bytes) -> None:
        """Write *data* together with what is written next, or before anything is read."""
        self._queued += data

    def write(self, data: bytes) -> None:
        if self._queued:
            data, self._queued = self._queued + data, b""
        if self.tls is None:
            self._send(data)
            return
        try:
            self.tls.ssl.write(data)
        except ssl.SSLError as error:
            raise ConnectionLost(self.name, f"TLS: {error.reason or error}") from None
        self._send(self.tls.outgoing.read())

    def _receive(self) -> None:
        """Add to the buffer what comes next."""
        if self._queued:
            self.write(b"")
        if self.tls is None:
            self._buffer += self._recv()
            return
        before = len(self._buffer)
        while self._decrypt(self.tls) and len(self._buffer) == before:
            self.tls.incoming.write(self._recv())
        if len(self._buffer) == before:
            raise ConnectionLost(self.name)

    def _decrypt(self, tls: Tls) -> bool:
        """Take out of TLS what it holds already; False when the peer has ended it."""
        try:
            while piece := tls.ssl.read(CHUNK):
                self._buffer += piece
            return False
        except ssl.SSLWantReadError:
            return True
        except ssl.SSLZeroReturnError:
            return False
        except ssl.SSLError as error:
            raise ConnectionLost(self.name, f"TLS: {error.reason or error}") from None
        finally:
            if tls.outgoing.pending:        # an answer of TLS itself: a key update, an alert
                self._send(tls.outgoing.read())

    def _recv(self) -> bytes:
        try:
            data: bytes = self._socket.recv(CHUNK)
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            raise ConnectionLost(self.name)
        return data

    def _send(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
            if sent < len(data):
                self._socket.sendall(memoryview(data)[sent:])
        except OSError as error:
            raise self._lost(error) from None

    def _lost(self, error: OSError) -> ConnectionLost:
        if isinstance(error, TimeoutError) and error.errno is None:
            return ConnectionLost(self.name, f"did not answer within {self._patience:g} s")
        return ConnectionLost(self.name, error.strerror or str(error))

    @property
    def _socket(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionLost(self.name, "is closed")
        return self._sock

    # --- TLS ----------------------------------------------------------------------------------------

    def start_tls(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None,
                  already_read: bytes = b"") -> None:
        """Do the TLS handshake.

        :raises ProtocolViolation: when bytes came in the clear ahead of it: somebody may have put them there
            (CVE-2021-23222, CVE-2021-23214).
        :raises ConnectionLost: when the handshake fails, with OpenSSL's reason.
        """
        if self._buffer:
            raise ProtocolViolation(f"received unencrypted data after SSL request from {self.name}")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        incoming.write(already_read)
        secured = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
        while True:
            try:
                secured.do_handshake()
                break
            except ssl.SSLWantReadError:
                if outgoing.pending:
                    self._send(outgoing.read())
                incoming.write(self._recv())
            except ssl.SSLError as error:
                if outgoing.pending:
                    self._send(outgoing.read())     # the alert that tells the peer
                why = getattr(error, "verify_message", None) or error.reason or error
                raise ConnectionLost(self.name, f"TLS: {why}") from None
        if outgoing.pending:
            self._send(outgoing.read())
        self.tls = Tls(secured, incoming, outgoing)

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate in DER."""
        return self.tls.ssl.getpeercert(binary_form=True) if self.tls is not None else None

    # --- the end --------------------------------------------------------------------------------------

    def detach(self) -> tuple[plain_socket.socket, bytes, Tls | None]:
        """Give up the socket: a plain non-blocking one, the clear bytes read from it and not taken, the TLS state."""
        sock = self._socket
        if self.tls is not None:
            self._decrypt(self.tls)
        self._sock = None
        plain = plain_socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        plain.setblocking(False)
        leftover = bytes(self._buffer)
        self._buffer.clear()
        return plain, leftover, self.tls

    def close(self) -> None:
        """Idempotent; nothing to do after `detach`. Never waits: a TLS goodbye that finds no room is left out."""
        if self._sock is not None:
            if self.tls is not None:
                self._sock.settimeout(0.0)
                try:
                    self._sock.send(close_notify(self.tls))
                except OSError:
                    pass
            self._sock.close()
            self._sock = None
