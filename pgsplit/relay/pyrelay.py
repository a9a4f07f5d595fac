"""PyRelay: moves the bytes of flows in pure Python on gevent's hub (DESIGN section 8).

The session's greenlet decides what is sent where; the relay owns the sockets. It reads ahead until a leg's
inbox is full, writes what it is given as the kernel takes it, and wakes the greenlet only while that is parked
in `wait`. Readiness at any other time is a bit that the next `wait` finds.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any, Final

import gevent

from ..split.repeat import Held
from ..split.transaction import Place
from ..stats.offload import BEFORE_WRITE
from ..upstream.stream import READ, WRITE, Tls, close_notify
from .leg import Leg
from .lingering import linger
from .repeater import Repeater
from .routes import Context, Route

CHUNK: Final = 65536

_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


class Event:
    """Why `wait` returned, as bits of an int (an IntFlag costs a microsecond a message)."""

    DATA: Final = 1        # an inbox grew
    DRAINED: Final = 2     # a congested outbox has room again
    CLOSED: Final = 4      # a leg ended
    RAISED: Final = 8      # `raise_` was called: something outside the flow's sockets wants the greenlet
    TIMEOUT: Final = 16


class Flow:
    """One session as the relay sees it. A leg may be absent, and be replaced after a reconnect."""

    __slots__ = ("additional", "client", "default", "events", "parked", "repeater", "timer")

    def __init__(self, client: Leg, default: Leg | None, additional: Leg | None) -> None:
        self.client = client
        self.default = default
        self.additional = additional
        self.events: int = 0
        self.parked: Any = None      # the greenlet, while it sleeps in wait()
        self.timer: Any = None
        self.repeater: Repeater | None = None
        for leg in self.legs():
            leg.flow = self

    def legs(self) -> list[Leg]:
        return [leg for leg in (self.client, self.default, self.additional) if leg is not None]


class PyRelay:
    form: Final = "pure Python"
    route: Final = Route

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._loop = self._hub.loop
        self._buffer = memoryview(bytearray(CHUNK))
        self._plain = memoryview(bytearray(CHUNK))

    # --- legs and flows ---------------------------------------------------------------------------

    def adopt(self, name: str, sock: socket.socket, leftover: bytes = b"", tls: Tls | None = None) -> Leg:
        """Take over a connected socket that nobody else touches any more, and the bytes already read from it."""
        sock.setblocking(False)
        leg = Leg(name, sock, tls)
        leg.inbox += leftover
        leg.reader = self._loop.io(sock.fileno(), READ)
        leg.writer = self._loop.io(sock.fileno(), WRITE)
        if tls is not None and tls.incoming.pending:
            self._decrypt(leg)
        self._read_on(leg)
        return leg

    def open(self, client: Leg, default: Leg | None, additional: Leg | None) -> Flow:
        flow = Flow(client, default, additional)
        flow.events = Event.DATA      # what came with the legs has not been looked at
        return flow

    def attach_default(self, flow: Flow, leg: Leg | None) -> None:
        """Replace the flow's default leg; the old one is closed."""
        if flow.default is not None:
            self.close_leg(flow.default)
        flow.default = leg
        self._attached(flow, leg)

    def attach_additional(self, flow: Flow, leg: Leg | None) -> None:
        """The same of its additional leg."""
        if flow.additional is not None:
            self.close_leg(flow.additional)
        flow.additional = leg
        self._attached(flow, leg)

    def _attached(self, flow: Flow, leg: Leg | None) -> None:
        if leg is not None:
            leg.flow = flow
            self._happened(flow, Event.DATA)

    def close(self, flow: Flow) -> None:
        for leg in flow.legs():
            self.close_leg(leg)

    def close_leg(self, leg: Leg) -> None:
        """Idempotent. Bytes the kernel has not taken are dropped: `wait` for DRAINED first if they matter."""
        if leg.closed:
            return
        leg.closed = True
        leg.eof = leg.eof or "closed"
        for watcher in (leg.reader, leg.writer):
            watcher.stop()
            watcher.close()
        leg.flow = None
        leg.sock.close()

    def shut_down(self, leg: Leg, lingers: bool = False) -> None:
        """Tell the peer that nothing more will be sent, so that what was sent still reaches it. *lingers*: also a peer
        that is sending, when the leg is closed (`lingering`).
        """
        if leg.closed:
            return
        if leg.tls is not None and not leg.outbox:
            self._try_send(leg, close_notify(leg.tls))
        try:
            leg.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return
        if lingers:
            linger(leg.sock)

    # --- repeating --------------------------------------------------------------------------------

    def release(self, flow: Flow, context: Context, fence_ns: int, tx: int, tx_wrote: bool,
                transaction_ns: int, place: Place = Place.PRIMARY, ending: int = 0,
                inside: int = BEFORE_WRITE) -> None:
        """Let known batches pass without the session, from now until `hold`, or until something else comes.

        *place*: where the transaction is, of which *tx* tells. *ending*, *inside*: see `Held`.
        """
        if flow.events or any(leg.inbox or leg.outbox or leg.eof is not None for leg in flow.legs()):
            return
        if flow.repeater is None:
            flow.repeater = Repeater(context)
        flow.repeater.release(fence_ns, tx, tx_wrote, transaction_ns, place, ending, inside)

    def hold(self, flow: Flow) -> Held | None:
        """Repeat no more: what has been done since `release`, or None when that has been told already."""
        return flow.repeater.hold(flow) if flow.repeater is not None else None

    def waits(self, flow: Flow) -> bool:
        """Whether a read of the flow waits here for its replica: only the compiled relay has them do so."""
        return False

    def _repeated(self, flow: Flow, leg: Leg, data: bytes) -> bool:
        """Whether *data*, which has just come, is done with."""
        repeater = flow.repeater
        if repeater is None or not repeater.on:
            return False
        if leg is flow.client:
            done = repeater.client(self, flow, data)
        else:
            done = repeater.upstream(self, flow, leg, data)
        if not done:
            repeater.on = False
        return done

    # --- rows -------------------------------------------------------------------------------------

    def pass_rows(self, flow: Flow, leg: Leg, left: int) -> None:
        """Only the compiled relay can do better than the session's greenlet with them."""

    def rows_passed(self, flow: Flow) -> tuple[int, int] | None:
        """None: nothing was let."""
        return None

    # --- bytes ------------------------------------------------------------------------------------

    def send(self, leg: Leg, data: bytes | bytearray | memoryview) -> None:
        """Queue *data*; never blocks. What cannot be sent any more because the peer is gone is dropped."""
        if leg.closed:
            return
        if leg.tls is not None:
            data = self._encrypt(leg, data)
        if leg.outbox:
            leg.outbox += data
            return
        sent = self._try_send(leg, data)
        if sent < len(data):
            leg.outbox += memoryview(data)[sent:]
            leg.writer.start(self._writable, leg)

    def forward(self, source: Leg, destination: Leg, size: int) -> None:
        """Move the first *size* bytes of the source's inbox on."""
        inbox = source.inbox
        if size == len(inbox):
            self.send(destination, inbox)
            inbox.clear()
        else:
            with memoryview(inbox) as view, view[:size] as part:
                self.send(destination, part)
            del inbox[:size]
        self._read_on(source)

    def cut(self, leg: Leg, start: int, size: int, data: bytes = b"") -> None:
        """Put *data* in the place of *size* bytes at *start* of the inbox."""
        leg.inbox[start:start + size] = data
        self._read_on(leg)

    def consume(self, leg: Leg, size: int) -> None:
        """Drop the first *size* bytes of the inbox."""
        del leg.inbox[:size]
        self._read_on(leg)

    # --- waiting ----------------------------------------------------------------------------------

    def wait(self, flow: Flow, timeout: float | None = None) -> int:
        """Sleep until something happens on the flow, at most *timeout* seconds: the greenlet's only sleep."""
        if not flow.events:
            if timeout is not None:
                flow.timer = self._loop.timer(max(timeout, 0.0))
                flow.timer.start(self._timed_out, flow)
            flow.parked = gevent.getcurrent()
            try:
                self._hub.switch()
            finally:
                flow.parked = None
                if flow.timer is not None:
                    flow.timer.stop()
                    flow.timer.close()
                    flow.timer = None
        events = flow.events
        flow.events = 0
        return events

    def raise_(self, flow: Flow) -> None:
        """Wake the flow's greenlet from outside: a reload, a drain, a termination. Call from any greenlet."""
        flow.events |= Event.RAISED
        if flow.parked is not None:
            self._loop.run_callback(self._happened, flow, 0)

    def _happened(self, flow: Flow, event: int) -> None:
        """In the hub: note the event and, if the greenlet is parked, run it."""
        flow.events |= event
        if flow.repeater is not None:
            flow.repeater.on = False
        parked = flow.parked
        if parked is not None:
            if gevent.getcurrent() is not self._hub:
                self._loop.run_callback(self._happened, flow, 0)
                return
            flow.parked = None
            parked.switch()

    def _timed_out(self, flow: Flow) -> None:
        self._happened(flow, Event.TIMEOUT)

    # --- the hub's callbacks ------------------------------------------------------------------------

    def _read_on(self, leg: Leg) -> None:
        if leg.eof is None and len(leg.inbox) < leg.limit and not leg.reader.active:
            leg.reader.start(self._readable, leg)

    def _readable(self, leg: Leg) -> None:
        try:
            count = leg.sock.recv_into(self._buffer)
        except OSError as error:
            if error.errno in _AGAIN:
                return
            self._ended(leg, error.strerror or str(error))
            return
        if count == 0:
            self._ended(leg, "closed the connection")
            return
        leg.received += count
        if leg.traffic is not None:
            leg.traffic[0] += count
        flow = leg.flow
        if leg.tls is None:
            if flow is not None and flow.repeater is not None and flow.repeater.on:
                data = bytes(self._buffer[:count])
                if self._repeated(flow, leg, data):
                    return
                leg.inbox += data
            else:
                leg.inbox += self._buffer[:count]
        else:
            leg.tls.incoming.write(self._buffer[:count])
            before = len(leg.inbox)
            self._decrypt(leg)
            if leg.eof is None and len(leg.inbox) == before:
                return
            if leg.eof is None and flow is not None and self._repeated(flow, leg, bytes(leg.inbox)):
                leg.inbox.clear()
                return
        if leg.eof is not None or len(leg.inbox) >= leg.limit:
            leg.reader.stop()
        if flow is not None:
            self._happened(flow, Event.DATA if leg.eof is None else Event.DATA | Event.CLOSED)

    def receive_now(self, leg: Leg) -> None:
        """Take in what has come, without waiting to be told of it."""
        if not leg.closed and leg.eof is None and leg.reader.active:
            self._readable(leg)

    def says_more(self, leg: Leg) -> bool:
        """Whether there is something to receive, or an end."""
        try:
            leg.sock.recv(1, socket.MSG_PEEK)
        except OSError as error:
            return error.errno not in _AGAIN
        return True

    def _writable(self, leg: Leg) -> None:
        congested = leg.congested
        del leg.outbox[:self._try_send(leg, leg.outbox)]
        if not leg.outbox:
            leg.writer.stop()
        if leg.flow is not None and (not leg.outbox or (congested and not leg.congested)):
            self._happened(leg.flow, Event.DRAINED)

    def _try_send(self, leg: Leg, data: bytes | bytearray | memoryview) -> int:
        """How many bytes the kernel took; all of them when the peer is gone, since nobody will read them."""
        try:
            sent = leg.sock.send(data)
        except OSError as error:
            if error.errno in _AGAIN:
                return 0
            # The read side finds the end, after any last words that the peer still had for us.
            if not leg.reader.active:
                leg.eof = leg.eof or error.strerror or str(error)
            return len(data)
        leg.sent += sent
        if leg.traffic is not None:
            leg.traffic[1] += sent
        return sent

    def _ended(self, leg: Leg, why: str) -> None:
        leg.eof = why
        leg.reader.stop()
        if leg.flow is not None:
            self._happened(leg.flow, Event.CLOSED)

    # --- TLS ----------------------------------------------------------------------------------------

    def _decrypt(self, leg: Leg) -> None:
        assert leg.tls is not None
        tls = leg.tls
        try:
            while count := int(tls.ssl.read(CHUNK, self._plain)):
                leg.inbox += self._plain[:count]
                if not (tls.incoming.pending or tls.ssl.pending()):     # to ask again would be an exception
                    break
            else:
                leg.eof = "closed the connection"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            leg.eof = f"TLS: {error.reason or error}"
        if tls.outgoing.pending:       # an answer of TLS itself: a key update, an alert
            self._flush_tls(leg)

    def _encrypt(self, leg: Leg, data: bytes | bytearray | memoryview) -> bytes:
        assert leg.tls is not None
        try:
            leg.tls.ssl.write(data)
        except ssl.SSLError as error:
            leg.eof = leg.eof or f"TLS: {error.reason or error}"
            if leg.flow is not None:
                self._happened(leg.flow, Event.CLOSED)
        return leg.tls.outgoing.read()

    def _flush_tls(self, leg: Leg) -> None:
        assert leg.tls is not None
        data = leg.tls.outgoing.read()
        if leg.outbox:
            leg.outbox += data
        elif (sent := self._try_send(leg, data)) < len(data):
            leg.outbox += data[sent:]
            leg.writer.start(self._writable, leg)
