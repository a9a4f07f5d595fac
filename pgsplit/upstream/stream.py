"""A byte stream for the login phase: blocking style on a socket that never blocks, in the clear or inside TLS.

The greenlet waits in gevent's hub. TLS runs on memory BIOs, so that the socket can be handed to the relay afterwards
together with the TLS state.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import gevent
from gevent.socket import cancel_wait, getaddrinfo

from ..errors import ConnectionLost, ProtocolViolation

ALPN: Final = "postgresql"       # the protocol's name inside TLS (RFC 7301), which PostgreSQL 17 insists on
CHUNK: Final = 16384
READ: Final = 1                  # what a watcher of gevent's loop looks for
WRITE: Final = 2
MESSAGE: Final = 1 << 20         # bytes of one during a login
_LENGTH: Final = struct.Struct(">I")


class Tls(NamedTuple):
    """A TLS connection on memory BIOs, of the ssl module or compiled (`tls_context`)."""

    ssl: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO


def begin_tls(context: Any, *, server_side: bool, server_hostname: str | None) -> Tls:
    """Before its handshake; *context* is of either kind."""
    if isinstance(context, ssl.SSLContext):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
        return Tls(made, incoming, outgoing)
    connection = context.wrap(server_side=server_side, server_hostname=server_hostname)
    return Tls(connection, connection.incoming, connection.outgoing)


def close_notify(tls: Tls) -> bytes:
    """TLS's own goodbye (RFC 8446, 6.1): without it a peer cannot tell an end from a cut, and calls it an error."""
    try:
        tls.ssl.unwrap()
    except ssl.SSLError:        # the peer's own has not come, and is not waited for
        pass
    return tls.outgoing.read()


class Stream:
    """*sock* is the stream's own from here on. *name* says in errors who the peer is (``client``, or a host)."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.name = name
        self.tls: Tls | None = None
        self._sock: socket.socket | None = sock
        self._buffer = bytearray()
        self._queued = b""
        self._hub = gevent.get_hub()
        self._watchers: dict[int, Any] = {}
        self._patience: float | None = None
        self._timer: Any = None
        self._await_input: Callable[[], object] | None = None
        sock.setblocking(False)

    @classmethod
    def to(cls, address: tuple[str, int], name: str, patience: float) -> Stream:
        """One that is connected to *address* and `be_patient` for *patience* seconds, of which the connection is the
        first thing expected.

        :raises OSError: what the system says of the last of the addresses that a name has.
        :raises ConnectionLost: when it says nothing in that time.
        """
        failure: OSError = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        for family, numbers in _numbers(address, name, patience):
            sock = socket.socket(family, socket.SOCK_STREAM)
            stream = cls(sock, name)
            stream.be_patient(patience)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                stream._connect(numbers)
                return stream
            except OSError as error:
                stream.close()
                failure = error
            except BaseException:
                stream.close()
                raise
        raise failure

    @classmethod
    def to_path(cls, path: str, name: str, patience: float) -> Stream:
        """The same for a Unix socket; one that begins with @ is in Linux's abstract namespace, as libpq has it."""
        stream = cls(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), name)
        stream.be_patient(patience)
        try:
            stream._connect("\0" + path[1:] if path.startswith("@") else path)
        except BaseException:
            stream.close()
            raise
        return stream

    def be_patient(self, seconds: float | None) -> None:
        """The peer is lost when it is silent for so long while something is expected of it; None: it never is."""
        self._patience = seconds
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def wait_by(self, await_input: Callable[[], object]) -> None:
        """Who waits for the peer's bytes sleeps in *await_input*, which returns when some may have come."""
        self._await_input = await_input

    # --- waiting ----------------------------------------------------------------------------------

    def _connect(self, address: Any) -> None:
        error = self._socket.connect_ex(address)
        if error == errno.EINPROGRESS:
            self._wait(WRITE)
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))

    def _wait(self, what: int) -> None:
        """Until the socket can be read from, or written to.

        :raises ConnectionLost: when that takes longer than `be_patient` has said, or the stream is closed meanwhile.
        """
        if self._patience is None:
            self._sleep(what)
            return
        if self._timer is None:
            self._timer = self._hub.loop.timer(self._patience, self._patience)
        self._timer.again(self._give_up, gevent.getcurrent())
        try:
            self._sleep(what)
        finally:
            if self._timer is not None:
                self._timer.stop()

    def _sleep(self, what: int) -> None:
        if what == READ and self._await_input is not None:
            self._await_input()
            return
        watcher: Any = self._watchers.get(what)
        if watcher is None:
            watcher = self._watchers[what] = self._hub.loop.io(self._socket.fileno(), what)
        assert not watcher.active, "two greenlets wait for one stream"
        self._hub.wait(watcher)

    def _give_up(self, waiting: Any) -> None:
        waiting.throw(ConnectionLost(self.name, f"did not answer within {self._patience:g} s"))

    # --- bytes ------------------------------------------------------------------------------------

    def read_exact(self, count: int) -> bytes:
        """:raises ConnectionLost: when the peer ends before that many bytes."""
        while len(self._buffer) < count:
            self._receive()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    @property
    def unread(self) -> int:
        """How many bytes have been received and not taken."""
        return len(self._buffer)

    def peek(self) -> bytes:
        """What has been read and not taken; at least one byte."""
        while not self._buffer:
            self._receive()
        return bytes(self._buffer)

    def read_message(self, limit: int = MESSAGE) -> tuple[int, bytes]:
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

    def take_received(self, begins: bytes, ends: bytes) -> bytes | None:
        """All that has been received, at least one byte, where that *begins* and *ends* so; else it stays."""
        while not self._buffer:
            self._receive()
        if not (self._buffer.startswith(begins) and self._buffer.endswith(ends)):
            return None
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def put_back(self, data: bytes) -> None:
        """Somebody else has received *data*, which is to be taken here."""
        self._buffer += data

    def take_all(self, kind: int) -> bytes:
        """The messages of type *kind* that come before one of another type, whole, with their headers.

        :raises ProtocolViolation: for a length that is impossible, or for more than MESSAGE bytes of them.
        """
        buffer, end = self._buffer, 0
        while True:
            while len(buffer) < end + 5:
                if len(buffer) > end and buffer[end] != kind:
                    break
                self._receive()
            if buffer[end] != kind:
                break
            (length,) = _LENGTH.unpack_from(buffer, end + 1)
            if not 4 <= length <= MESSAGE - end:
                raise ProtocolViolation(f"invalid length {length} of message type {kind} from {self.name}")
            end += length + 1
        data = bytes(buffer[:end])
        del buffer[:end]
        return data

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
        while True:
            try:
                data = self._socket.recv(CHUNK)
                break
            except BlockingIOError:
                self._wait(READ)
            except OSError as error:
                raise self._lost(error) from None
        if not data:
            raise ConnectionLost(self.name)
        return data

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while True:
            try:
                rest = rest[self._socket.send(rest):]
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._lost(error) from None
            if not rest:
                return
            self._wait(WRITE)

    def _lost(self, error: OSError) -> ConnectionLost:
        return ConnectionLost(self.name, error.strerror or str(error))

    @property
    def _socket(self) -> socket.socket:
        if self._sock is None:
            raise ConnectionLost(self.name, "is closed")
        return self._sock

    @property
    def sock(self) -> socket.socket | None:
        """None where it is closed, or given up."""
        return self._sock

    @property
    def descriptor(self) -> int | None:
        """Of the socket; None where it is closed, or given up."""
        return self._sock.fileno() if self._sock is not None else None

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
        tls = begin_tls(context, server_side=server_side, server_hostname=server_hostname)
        secured, incoming, outgoing = tls
        incoming.write(already_read)
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
        self.tls = tls

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate in DER."""
        return self.tls.ssl.getpeercert(binary_form=True) if self.tls is not None else None

    @property
    def verified(self) -> bool:
        """Whether the TLS handshake has checked the peer's certificate."""
        return self.tls is not None and self.tls.ssl.context.verify_mode is ssl.CERT_REQUIRED

    # --- the end --------------------------------------------------------------------------------------

    def detach(self) -> tuple[socket.socket, bytes, Tls | None]:
        """Give up the socket: non-blocking, the clear bytes read from it and not taken, the TLS state."""
        sock = self._socket
        if self.tls is not None:
            self._decrypt(self.tls)
        self._sock = None
        self._close_watchers()
        leftover = bytes(self._buffer)
        self._buffer.clear()
        return sock, leftover, self.tls

    def close(self) -> None:
        """Idempotent; nothing to do after `detach`. Never waits: a TLS goodbye that finds no room is left out.

        Who waits for the peer in another greenlet gets the ConnectionLost of a closed stream.
        """
        sock, self._sock = self._sock, None
        if sock is None:
            return
        if self.tls is not None:
            try:
                sock.send(close_notify(self.tls))
            except OSError:
                pass
        waiting = [watcher for watcher in self._watchers.values() if watcher.active]
        if not waiting:
            self._close_watchers()
            sock.close()
            return
        for watcher in waiting:
            cancel_wait(watcher, ConnectionLost(self.name, "is closed"))
        self._hub.loop.run_callback(self._close_watchers)       # in this order: its descriptor is watched until then
        self._hub.loop.run_callback(sock.close)

    def _close_watchers(self) -> None:
        for watcher in self._watchers.values():
            watcher.close()
        self._watchers.clear()
        self.be_patient(None)


def _numbers(address: tuple[str, int], name: str, patience: float) -> Iterable[tuple[int, Any]]:
    """(family, address) of what *address* stands for. One in numbers takes no turn through the resolver's threads."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        socket.inet_pton(family, address[0])
    except OSError:
        with gevent.Timeout(patience, ConnectionLost(name, f"did not answer within {patience:g} s")):
            found = getaddrinfo(*address, type=socket.SOCK_STREAM)
        return [(family, numbers) for family, _, _, _, numbers in found]
    return [(family, address)]
