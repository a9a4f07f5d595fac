# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""CRelay: PyRelay's interface, compiled, for legs in the clear or in the TLS of _openssl.pyx (DESIGN section 8).

Sockets are registered once, edge-triggered, in an epoll set of the relay's own; gevent watches that one descriptor.
Known batches are scanned in the receive buffer and passed on whole. No rule is here: see `split` and `repeater.py`,
which does the same in Python.
"""

import errno
import os
import socket
from contextlib import suppress

import gevent

from cpython.array cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.dict cimport PyDict_GetItem
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EAGAIN, EINTR, errno as c_errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from ..split.decision import Upstream
from ..split import transaction
from ..split.reads import NO_READ
from ..split.repeat import Held
from ..stats import offload
from ..stats.histogram import BOUNDS
from ..topology.host import GROUND
from .bell import Bell
from .lingering import linger
from .pyrelay import Event
from .routes import Counted

cdef extern from *:
    """
    #ifndef PGSPLIT_SOURCES
    #define PGSPLIT_SOURCES ""
    #endif
    """
    const char *PGSPLIT_SOURCES

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CLOEXEC
    uint32_t EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int most, int timeout)

cdef extern from "unistd.h" nogil:
    int c_close "close"(int fd)
    ssize_t c_read "read"(int fd, void *buffer, size_t size)

cdef extern from "sys/socket.h" nogil:
    int MSG_DONTWAIT, MSG_NOSIGNAL, SOL_SOCKET, SO_RCVLOWAT
    int setsockopt(int fd, int level, int name, const void *value, unsigned int size)
    ssize_t recv(int fd, void *buffer, size_t size, int flags)
    ssize_t send(int fd, const void *buffer, size_t size, int flags)

cdef extern from "time.h" nogil:
    ctypedef long time_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *moment)

cdef extern from "sys/timerfd.h" nogil:
    cdef struct itimerspec:
        timespec it_interval
        timespec it_value
    int TFD_NONBLOCK, TFD_CLOEXEC
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new, itimerspec *old)

DEF CHUNK = 65536          # bytes of the receive buffer
DEF RECORD = 18432         # and more than TLS may hold of what came before: a record (RFC 8446, 5.2; RFC 5246, 6.2.3)
DEF LIMIT = 65536          # see leg.py
DEF MOST = 16384           # bytes of a batch that is repeated
DEF ROUND = 64             # events taken from the kernel at once
DEF OFTEN_NS = 1000000     # events that come closer than this keep the loop awake
DEF TICK_NS = 10000000     # the longest that the loop keeps the hub's timers waiting
DEF HURRY_NS = 300000      # the same while somebody counts on them (the sampler's PAUSE) or on a thread, whose end wakes
                           # only a hub that sleeps; and so long may rows wait
DEF LONG = 262144          # bytes of an answer's rows, after which they are received
DEF MUCH = 49152           # so many at a time, or when a tick comes
DEF PIECES = 16            # times that one leg is received from before others have their turn
DEF BUCKETS = 64
DEF ROUTES = 4096          # of a power of two: texts whose routes are found without a dict
DEF NAMES = 8              # statements of a session, likewise
DEF NAME = 40              # bytes of a statement's name
DEF RECENT = 50            # see counting.py
DEF SMALL = 2048           # bytes: a longer piece is not kept for the next batch
DEF EVENTUAL = 0           # see routes.py: CONSISTENCY
DEF GLOBAL = 2
DEF BOUNDED = 3
DEF CLUSTER = 4
DEF REPLICA = 0            # how a batch is repeated: see routes.py
DEF PRIMARY = 1
DEF INSIDE = 2
DEF WITHOUT = 3
DEF ORDERED = 4
DEF SOLE = 5
DEF HERE = 6
DEF STALE = 7
DEF WAYS = 8
DEF HELD = 1               # see split/transaction.py: Place
DEF ON_REPLICA = 2
DEF TICKED = 1             # why the loop goes back to the hub
DEF HUB = 2
DEF DELIVERED = 4
DEF INTERRUPTED = 8
DEF REST = 16
DEF IDLE = 73              # I
DEF IN_TRANSACTION = 84    # T

cdef int BEFORE_WRITE = offload.BEFORE_WRITE, AFTER_WRITE = offload.AFTER_WRITE
cdef bytes OPENS_REPLICA = transaction.ON_REPLICA.data, OPENS_PRIMARY = transaction.OPENING.data
cdef bytes ENDS_ON_REPLICA = transaction.END_ON_REPLICA
cdef bytes _opened = transaction.OPENED, _ended = transaction.ENDED
cdef const unsigned char *OPENED = <const unsigned char *> PyBytes_AS_STRING(_opened)
cdef const unsigned char *ENDED = <const unsigned char *> PyBytes_AS_STRING(_ended)
cdef Py_ssize_t OPENED_SIZE = PyBytes_GET_SIZE(_opened), ENDED_SIZE = PyBytes_GET_SIZE(_ended)

DATA = Event.DATA
DRAINED = Event.DRAINED
CLOSED = Event.CLOSED
RAISED = Event.RAISED
TIMEOUT = Event.TIMEOUT

sources = PGSPLIT_SOURCES.decode()

cdef int64_t bounds[BUCKETS]
cdef int bound_count = len(BOUNDS)
for _at, _bound in enumerate(BOUNDS):
    bounds[_at] = _bound

cdef array _ground = GROUND
cdef const int64_t *ground = <const int64_t *> _ground.data.as_longlongs

# Of each message type: whether it says nothing that matters in an answer that is repeated.
cdef unsigned char quiet[256]
for _at in range(256):
    quiet[_at] = _at in b"DT12nt"


cdef inline int64_t now_ns() noexcept nogil:
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return <int64_t> moment.tv_sec * 1000000000 + moment.tv_nsec


cdef inline uint32_t word32(const unsigned char *at) noexcept nogil:
    return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]


cdef inline uint64_t mix(uint64_t seed, const unsigned char *data, Py_ssize_t size) noexcept nogil:
    """A place for *data* in a cache: who forges one that is another's gets it evicted, never taken for it."""
    cdef uint64_t hashed = seed ^ <uint64_t> size, word
    cdef Py_ssize_t at = 0
    while at + 8 <= size:
        memcpy(&word, data + at, 8)
        hashed = (hashed ^ word) * 0x9FB21C651E98DF25ull
        hashed ^= hashed >> 32
        at += 8
    word = 0
    memcpy(&word, data + at, size - at)
    hashed = (hashed ^ word) * 0x9FB21C651E98DF25ull
    return hashed ^ (hashed >> 29)


include "upstream/_tls_link.pxi"
include "_folding.pxi"
include "_flow.pxi"


cdef void _forget(Cached *cached) noexcept:
    if cached.route != NULL:
        Py_DECREF(<object> cached.route)
        Py_DECREF(<object> cached.routes)
        cached.route = cached.routes = NULL


cdef list _one_row(const unsigned char *data, Py_ssize_t size):
    """The cells of the one row that a bound statement has answered (BindComplete, DataRow, CommandComplete,
    ReadyForQuery outside a transaction); None for anything else.
    """
    cdef Py_ssize_t at = 12, end = size - 20, length
    cdef int columns
    if end < 12 or memcmp(data, b"2\0\0\0\x04D", 6) or memcmp(
            data + end, b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I", 20) or <Py_ssize_t> word32(data + 6) != end - 6:
        return None
    columns = (data[10] << 8) | data[11]
    cells = []
    for _ in range(columns):
        if end - at < 4:
            return None
        length = <int> word32(data + at)
        at += 4
        if length == -1:
            cells.append(None)
            continue
        if length < 0 or length > end - at:
            return None
        cells.append(PyBytes_FromStringAndSize(<const char *> data + at, length))
        at += length
    return cells if at == end else None


cdef int _watch(int epfd, int fd, uint32_t events, void *as_what) except -1:
    cdef epoll_event event
    event.events = events
    event.data.ptr = as_what
    if epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) < 0:
        raise OSError(c_errno, os.strerror(c_errno))
    return 0


cdef class CRelay:
    """*writes*: of each slot of the board the last write (monotonic ns), then how many slots are in use; *slot* is ours.
    *definitions*: of each the last change of a definition.
    """

    form = "compiled"
    route = Route

    cdef object hub, loop
    cdef object pool            # the hub's threads
    cdef object watcher         # by which gevent's hub, asleep, watches this set
    cdef object again           # a timer by which the hub, when it has had its turn, gives the loop the next
    cdef bint awake             # the loop sleeps in the hub's place, and this set watches the hub's
    cdef int64_t ready_ns       # when the hub last found something here
    cdef int64_t turn_ns        # and when it last had its turn
    cdef int epfd, between, hub_fd
    cdef int tick               # a timer in this set
    cdef int64_t tick_ns
    cdef set legs
    cdef list raised, gone, roomy, lazy
    cdef dict stale             # in order, flows with a read that waits for its replica
    cdef object patience        # a timer: the end of the first one's
    cdef int64_t patience_ns
    cdef bint looping, busy
    cdef bint asked             # the hub is to have its turn
    cdef public int hurried     # while it is not 0, somebody counts on the hub's timers
    cdef int threads            # how many of the hub's were at work when this turn began
    cdef int told               # for so many turns more the hub is about to hear of one's end
    cdef unsigned char buffer[LIMIT + CHUNK + RECORD]
    cdef unsigned char wire[CHUNK]      # what a leg in TLS has received
    cdef unsigned char folded[MOST]
    cdef uint64_t seed
    cdef Cached cache[ROUTES]
    cdef object writes_owner
    cdef int64_t[:] writes
    cdef int64_t[:] definitions
    cdef Py_ssize_t slot

    def __init__(self, writes=None, slot=0, definitions=None):
        self.slot = slot
        self.hub = gevent.get_hub()
        self.loop = self.hub.loop
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        self.between = epoll_create1(EPOLL_CLOEXEC)
        self.tick = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.epfd < 0 or self.between < 0 or self.tick < 0:
            raise OSError(c_errno, os.strerror(c_errno))
        _watch(self.epfd, self.tick, EPOLLIN, &self.tick)
        _watch(self.between, self.epfd, EPOLLIN, NULL)
        self.hub_fd = self.loop.fileno()
        self.seed = int.from_bytes(os.urandom(8), "little")
        self.watcher = self.loop.io(self.between, 1)
        self.again = self.loop.timer(0.0)
        self.pool = self.hub.threadpool
        self.legs = set()
        self.raised = []
        self.gone = []
        self.roomy = []
        self.lazy = []
        self.stale = {}
        self.writes_owner = writes if writes is not None else memoryview(bytearray(16)).cast("q")
        self.writes = self.writes_owner
        self.definitions = definitions if definitions is not None else memoryview(
            bytearray(8 * len(self.writes_owner))).cast("q")

    def __dealloc__(self):
        for fd in (self.between, self.epfd, self.tick):
            if fd > 0:
                c_close(fd)
        cdef int at
        for at in range(ROUTES):
            _forget(&self.cache[at])

    # --- legs and flows -------------------------------------------------------------------------------------

    def adopt(self, str name, sock, leftover=b"", tls=None):
        """Take over a connected socket that nobody else touches any more, and the bytes already read from it.

        *tls* is of the compiled form, too (`tls_context.make`).
        """
        sock.setblocking(False)
        cdef Leg leg = Leg(name, sock, tls)
        leg.inbox += leftover
        _watch(self.epfd, leg.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, <void *> leg)
        if not self.legs:
            self.watcher.start(self._ready)
        self.legs.add(leg)
        if leg.link != NULL and (leg.link.closed or leg.link.failure != NULL):
            leg.readable = True         # no event will tell
            self._read_on(leg)
        return leg

    def watch(self, str name, sock, heard):
        """Call *heard*, which may not wait, whenever something has come on a socket that somebody else reads from.

        Until `unwatch` of what is returned, which has to be before the socket is closed.
        """
        cdef Leg leg = Leg(name, sock, None, heard)
        _watch(self.epfd, leg.fd, EPOLLIN | EPOLLRDHUP | EPOLLET, <void *> leg)
        if not self.legs:
            self.watcher.start(self._ready)
        self.legs.add(leg)
        return leg

    def bell(self):
        """By which a greenlet can be woken from what `watch` calls."""
        return Bell(self)

    def unwatch(self, Leg leg):
        """Idempotent."""
        if not leg.closed:
            leg.closed = True
            leg.answered = None
            self._leave(leg)

    def ask(self, Leg leg, bytes question, answered):
        """Send a *question* whose answer is one row, and give that to *answered*, which may not wait, in the loop itself.

        *answered* gets the cells, each None or bytes, and the bytes that have come. The cells are None where that is not
        one row at once and alone; the rest is for whoever reads there otherwise. False: it could not be sent.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(question), sent
        if leg.closed:
            return False
        sent = send(leg.fd, PyBytes_AS_STRING(question), size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent <= 0:
            return False
        if sent < size:
            with suppress(OSError):
                leg.sock.shutdown(socket.SHUT_RDWR)     # half a question is none, and the next would be its rest
        leg.answered = answered
        return True

    def ask_no_more(self, Leg leg):
        """What comes is not an answer to `ask` any more."""
        leg.answered = None

    def give_turn(self):
        """Something has been left to the hub: it has its turn when this round is done."""
        self.asked = True

    cdef int _answer_to_ask(self, Leg leg) except -1:
        cdef ssize_t count
        while True:
            count = recv(leg.fd, self.buffer, CHUNK, MSG_DONTWAIT)
            if count >= 0 or c_errno != EINTR:
                break
        if count < 0 and c_errno == EAGAIN:
            return 0                # told of before it was asked
        answered, leg.answered = leg.answered, None
        count = max(count, 0)
        received = PyBytes_FromStringAndSize(<const char *> self.buffer, count)
        answered(_one_row(self.buffer, count), received)
        return 0

    def open(self, Leg client, Leg default, Leg additional):
        cdef Flow flow = Flow()
        flow.client = client
        flow.default = default
        flow.additional = additional
        flow.events = DATA          # what came with the legs has not been looked at
        for leg in (client, default, additional):
            if leg is not None:
                (<Leg> leg)._flow = flow
        return flow

    def attach_default(self, Flow flow, Leg leg):
        """Replace the flow's default leg; the old one is closed."""
        if flow.default is not None:
            self.close_leg(flow.default)
        flow.default = leg
        self._attached(flow, leg)

    def attach_additional(self, Flow flow, Leg leg):
        """The same of its additional leg."""
        if flow.additional is not None:
            self.close_leg(flow.additional)
        flow.additional = leg
        self._attached(flow, leg)

    cdef int _attached(self, Flow flow, Leg leg) except -1:
        if leg is not None:
            leg._flow = flow
            self._happened(flow, DATA)
        return 0

    def close(self, Flow flow):
        self._waits_no_more(flow)
        for leg in flow.legs():
            self.close_leg(leg)

    def close_leg(self, Leg leg):
        """Idempotent. Bytes the kernel has not taken are dropped: `wait` for DRAINED first if they matter."""
        if leg.closed:
            return
        leg.closed = True
        leg.eof = leg.eof or "closed"
        if leg.lazy:
            self.lazy.remove(leg)
        self._leave(leg)
        leg._flow = None
        leg.sock.close()

    cdef int _leave(self, Leg leg) except -1:
        epoll_ctl(self.epfd, EPOLL_CTL_DEL, leg.fd, NULL)
        self.legs.discard(leg)
        self.gone.append(leg)       # an event of this round may still name it
        if not self.looping:
            self.gone.clear()
        if not self.legs:
            self.watcher.stop()
        return 0

    def shut_down(self, Leg leg, bint lingers=False):
        """See PyRelay's."""
        if leg.closed:
            return
        if leg.link != NULL and PyByteArray_GET_SIZE(leg.outbox) == 0:
            leg.link.say_goodbye(leg.link)
            self._send_out(leg)
        try:
            leg.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return
        if lingers:
            linger(leg.sock)

    # --- bytes ----------------------------------------------------------------------------------------------

    def send(self, Leg leg, data):
        """Queue *data*; never blocks. What cannot be sent any more because the peer is gone is dropped."""
        cdef Py_buffer view
        if leg.closed:
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._send(leg, <const unsigned char *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int _send(self, Leg leg, const unsigned char *data, Py_ssize_t size) except -1:
        if leg.link == NULL:
            return self._send_wire(leg, data, size)
        if not leg.link.encrypt(leg.link, data, size):
            leg.eof = leg.eof or f"TLS: {leg.tls.ssl.failure}"
            if leg._flow is not None:
                self._happened(leg._flow, CLOSED)
        return self._send_out(leg)

    cdef int _send_out(self, Leg leg) except -1:
        """What TLS has for the peer."""
        cdef TlsLink *link = leg.link
        if link.out_size:
            self._send_wire(leg, link.out, link.out_size)
            link.drop_out(link)
        return 0

    cdef int _send_wire(self, Leg leg, const unsigned char *data, Py_ssize_t size) except -1:
        cdef Py_ssize_t sent = 0
        if PyByteArray_GET_SIZE(leg.outbox) == 0:
            sent = self._try_send(leg, data, size)
        if sent < size:
            leg.outbox += <bytes> PyBytes_FromStringAndSize(<const char *> data + sent, size - sent)
        return 0

    cdef Py_ssize_t _try_send(self, Leg leg, const unsigned char *data, Py_ssize_t size) except -1:
        """How many bytes the kernel took; all of them when the peer is gone, since nobody will read them."""
        cdef ssize_t sent
        while True:
            sent = send(leg.fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent >= 0:
                leg.sent += sent
                if leg.sums != NULL:
                    leg.sums[1] += sent
                return sent
            if c_errno == EINTR:
                continue
            if c_errno == EAGAIN:
                return 0
            # The read side finds the end, after any last words that the peer still had for us.
            if PyByteArray_GET_SIZE(leg.inbox) >= leg.limit:
                leg.eof = leg.eof or os.strerror(c_errno)
            return size

    def forward(self, Leg source, Leg destination, Py_ssize_t size):
        """Move the first *size* bytes of the source's inbox on."""
        if not destination.closed:
            self._send(destination, <const unsigned char *> PyByteArray_AS_STRING(source.inbox), size)
        self.consume(source, size)

    def cut(self, Leg leg, Py_ssize_t start, Py_ssize_t size, bytes data=b""):
        """Put *data* in the place of *size* bytes at *start* of the inbox."""
        leg.inbox[start:start + size] = data
        self._read_on(leg)

    def consume(self, Leg leg, Py_ssize_t size):
        """Drop the first *size* bytes of the inbox."""
        if size == PyByteArray_GET_SIZE(leg.inbox):
            PyByteArray_Resize(leg.inbox, 0)
        else:
            del leg.inbox[:size]
        self._read_on(leg)

    cdef int _read_on(self, Leg leg) except -1:
        """There is room again. It is filled from the hub: whoever sends without end must not keep all others waiting."""
        if (leg.readable and not leg.queued and leg.eof is None and PyByteArray_GET_SIZE(leg.inbox) < leg.limit):
            leg.queued = True
            self.roomy.append(leg)
            if not self.looping and len(self.roomy) == 1:
                self.loop.run_callback(self._fill)
        return 0

    def _fill(self):
        """In the hub: read from legs that have room again."""
        self.looping = True
        try:
            self._read_roomy()
        finally:
            self.looping = False
            self.gone.clear()
        self._deliver()
        self._fill_later()

    cdef int _fill_later(self) except -1:
        """Those that had their turn and have more; the loop sees to them while it is awake."""
        if self.roomy and not self.awake:
            self.loop.run_callback(self._fill)
        return 0

    cdef int _read_roomy(self) except -1:
        cdef Leg leg
        roomy, self.roomy = self.roomy, []
        for leg in roomy:
            leg.queued = False
            if not leg.closed:
                self._read(leg)
        return 0

    # --- waiting --------------------------------------------------------------------------------------------

    def wait(self, Flow flow, timeout=None):
        """Sleep until something happens on the flow, at most *timeout* seconds: the greenlet's only sleep."""
        if not flow.events:
            if timeout is not None:
                flow.timer = self.loop.timer(max(timeout, 0.0))
                flow.timer.start(self._timed_out, flow)
            flow.parked = gevent.getcurrent()
            try:
                self.hub.switch()
            finally:
                flow.parked = None
                if flow.timer is not None:
                    flow.timer.stop()
                    flow.timer.close()
                    flow.timer = None
        events = flow.events
        flow.events = 0
        return events

    def raise_(self, Flow flow):
        """Wake the flow's greenlet from outside: a reload, a drain, a termination. Call from any greenlet."""
        self._happened(flow, RAISED)

    cdef int _happened(self, Flow flow, int event) except -1:
        """Note the event; if the greenlet is parked, it will be run."""
        flow.events |= event
        flow.on = False
        flow.rows_from = None
        if flow.parked is not None and not flow.waiting:
            flow.waiting = True
            self.raised.append(flow)
            if not self.looping and len(self.raised) == 1:
                self.loop.run_callback(self._deliver)
        return 0

    def _deliver(self):
        """In the hub: run the greenlets of flows on which something has happened."""
        cdef Flow flow
        while self.raised:
            raised, self.raised = self.raised, []
            for flow in raised:
                flow.waiting = False
                parked = flow.parked
                if parked is not None and flow.events:
                    flow.parked = None
                    parked.switch()

    def _timed_out(self, Flow flow):
        self._happened(flow, TIMEOUT)

    # --- the loop -------------------------------------------------------------------------------------------

    # Either the hub sleeps, and watches this set as one descriptor, or, when events come often, the loop sleeps in its
    # place and watches the hub's set: then an event costs no round of the hub. Never both, since epoll allows no
    # circle; the set between them is there so that ours can be taken out of the hub's at once.

    def _ready(self):
        """In the hub, which has slept: something has happened on a socket."""
        cdef int64_t now = now_ns()
        cdef bint often = now - self.ready_ns < OFTEN_NS
        self.ready_ns = now
        self._round(0)
        if often and self.legs and not self.awake:
            epoll_ctl(self.between, EPOLL_CTL_DEL, self.epfd, NULL)
            _watch(self.epfd, self.hub_fd, EPOLLIN, <void *> self)
            self.awake = self.busy = True
            self._set_tick(TICK_NS)
            self.again.start(self._turn)
        self._fill_later()

    def _turn(self):
        """In the hub, which has had its turn: sleep, and do what comes, until there is something for it to do.

        It is the first thing in a round of the hub: what else has come is still pending, and then there is no sleep. What
        follows may watch descriptors that the hub's set has only in its next round.
        """
        cdef int found = 0, threads = len(self.pool), patience = 0 if self.loop.pendingcnt else -1
        self.again.start(self._turn)
        self.turn_ns = now_ns()
        if threads < self.threads:
            self.told = 2       # in this round or the next; who waits for it has its turn in the one after that
        self.threads = threads
        if self.told:
            self.told -= 1
            patience = 0
        if (self.hurried or self.threads) and self.tick_ns != HURRY_NS:
            self._set_tick(HURRY_NS)
        while not found:
            found = self._round(patience)
            if found & TICKED:
                found = found & ~TICKED | self._ticked()
            if not patience:
                break
        if found & REST:
            self.again.stop()
            self.awake = False
            epoll_ctl(self.epfd, EPOLL_CTL_DEL, self.hub_fd, NULL)
            _watch(self.between, self.epfd, EPOLLIN, NULL)

    cdef int _ticked(self) except -1:
        """See to rows that wait, and to the hub's timers; REST when nothing has come for a while."""
        cdef int64_t times, tick_ns
        cdef Leg leg
        cdef bint late = now_ns() - self.turn_ns >= TICK_NS
        cdef bint hurried = self.hurried or self.threads    # one that has ended since may not have been heard
        self.looping = True
        try:
            for leg in self.lazy[:]:
                times = leg.received
                leg.readable = True
                self._read(leg)
                self.busy |= leg.received != times
        finally:
            self.looping = False
            self.gone.clear()
        self.busy |= len(self.raised) > 0
        if late and not self.busy:
            for leg in self.lazy[:]:
                self._prompt(leg)
            self._set_tick(0)
            return REST
        tick_ns = HURRY_NS if hurried or self.lazy else TICK_NS
        if self.tick_ns != tick_ns:
            self._set_tick(tick_ns)
        else:
            c_read(self.tick, &times, sizeof(times))        # which sets it anew
        if late:
            self.busy = False
        if self.raised:
            self._deliver()
            return DELIVERED
        return HUB if late or hurried else 0

    cdef int _set_tick(self, int64_t nanoseconds) except -1:
        cdef itimerspec period
        period.it_interval.tv_sec = period.it_value.tv_sec = 0
        period.it_interval.tv_nsec = period.it_value.tv_nsec = nanoseconds
        if timerfd_settime(self.tick, 0, &period, NULL) < 0:
            raise OSError(c_errno, os.strerror(c_errno))
        self.tick_ns = nanoseconds
        return 0

    cdef int _round(self, int timeout) except -1:
        """Take what has happened, after a sleep of *timeout* at most (-1: any), and do it; returns what the hub is to do."""
        cdef epoll_event events[ROUND]
        cdef int count, at, found = 0
        cdef void *what
        if self.roomy or timeout == 0:
            count = epoll_wait(self.epfd, events, ROUND, 0)
        else:
            with nogil:
                count = epoll_wait(self.epfd, events, ROUND, -1)
        if count < 0:
            return INTERRUPTED      # by a signal
        self.looping = True
        try:
            if count > 1:
                self._hear_primaries(events, count)
            for at in range(count):
                what = events[at].data.ptr
                if what == NULL:
                    continue
                if what == &self.tick:
                    found |= TICKED
                elif what == <void *> self:
                    found |= HUB
                else:
                    self.busy = True
                    self._event(<Leg> what, events[at].events)
            if self.roomy:
                self.busy = True
                self._read_roomy()
        finally:
            self.looping = False
            if self.gone:
                self.gone.clear()
        if self.asked:
            self.asked = False
            found |= HUB
        if self.raised:
            self._deliver()
            found |= DELIVERED
        return found

    cdef int _hear_primaries(self, epoll_event *events, int count) except -1:
        """First what a primary says while a replica has the batch: who was ended there gets no replica's answer."""
        cdef int at
        cdef void *what
        cdef Leg leg
        cdef Flow flow
        for at in range(count):
            what = events[at].data.ptr
            if what == &self.tick or what == <void *> self:
                continue
            leg = <Leg> what
            flow = leg._flow
            if flow is not None and leg is flow.additional and flow.leg is not None and flow.leg is flow.default:
                events[at].data.ptr = NULL
                self.busy = True
                self._event(leg, events[at].events)
        return 0

    cdef int _event(self, Leg leg, uint32_t events) except -1:
        if leg.closed:
            return 0
        if leg.answered is not None:
            return self._answer_to_ask(leg)
        if leg.heard is not None:
            leg.heard()
            return 0
        if events & EPOLLOUT and PyByteArray_GET_SIZE(leg.outbox):
            self._writable(leg)
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            leg.readable = True
            if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                leg.hung_up = True
            self._read(leg)
        return 0

    cdef int _writable(self, Leg leg) except -1:
        cdef Py_ssize_t size = PyByteArray_GET_SIZE(leg.outbox)
        cdef Py_ssize_t sent = self._try_send(leg, <const unsigned char *> PyByteArray_AS_STRING(leg.outbox), size)
        cdef Flow flow = leg._flow
        del leg.outbox[:sent]
        if flow is not None and (sent == size or (size >= LIMIT and size - sent < LIMIT)):
            if flow.rows_from is not None and leg is flow.client:
                if sent == size:
                    self._read_on(flow.rows_from)
            else:
                self._happened(flow, DRAINED)
        return 0

    cdef int _read(self, Leg leg) except -1:
        """Receive what there is and what there is room for."""
        cdef ssize_t count
        cdef Py_ssize_t before, tail
        cdef unsigned char *into
        cdef int happened = 0, pieces = 0
        cdef Flow flow = leg._flow
        while leg.readable and leg.eof is None and PyByteArray_GET_SIZE(leg.inbox) < leg.limit:
            tail = 0
            if flow is not None and flow.rows_from is leg:
                if PyByteArray_GET_SIZE(flow.client.outbox):
                    break               # goes on when the client has taken that
                tail = PyByteArray_GET_SIZE(leg.inbox)
                memcpy(self.buffer, PyByteArray_AS_STRING(leg.inbox), tail)
            if leg.link != NULL and (leg.link.closed or leg.link.failure != NULL):
                leg.readable = False
                leg.eof = f"TLS: {leg.tls.ssl.failure}" if leg.link.failure != NULL else "closed the connection"
                happened |= CLOSED
                break
            into = <unsigned char *> self.wire
            if leg.link == NULL:
                into = <unsigned char *> self.buffer + tail
            count = recv(leg.fd, into, CHUNK, MSG_DONTWAIT)
            if count < 0:
                if c_errno == EINTR:
                    continue
                leg.readable = False
                if c_errno != EAGAIN:
                    leg.eof = os.strerror(c_errno)
                    happened |= CLOSED
                break
            if count == 0:
                leg.readable = False
                leg.eof = "closed the connection"
                happened |= CLOSED
                break
            leg.received += count
            if leg.sums != NULL:
                leg.sums[0] += count
            if count < CHUNK and not leg.hung_up:
                leg.readable = False        # all of it; what comes next is another event
            if leg.link != NULL:
                count = self._decrypt(leg, count, tail)
                if count == 0:
                    continue
            if flow is not None and flow.on:
                if self._repeat(flow, leg, count):
                    continue
                flow.on = False
            if flow is not None and flow.rows_from is leg:
                if not self._rows(flow, leg, tail + count):
                    happened |= DATA
                    flow.rows_from = None       # what else comes fits the inbox, not the buffer
                    if leg.lazy:
                        self._prompt(leg)
                elif not leg.lazy and flow.row_bytes > LONG and self.awake:
                    self._be_lazy(leg)
                pieces += 1
                if pieces == PIECES or PyByteArray_GET_SIZE(flow.client.outbox):
                    self._read_on(leg)
                    break
                continue
            before = PyByteArray_GET_SIZE(leg.inbox)
            PyByteArray_Resize(leg.inbox, before + count)
            memcpy(PyByteArray_AS_STRING(leg.inbox) + before, self.buffer, count)
            happened |= DATA
        if happened and flow is not None:
            self._happened(flow, happened)
        return 0

    cdef Py_ssize_t _decrypt(self, Leg leg, Py_ssize_t size, Py_ssize_t tail) except -1:
        """How many clear bytes the *size* received ones add to the buffer behind *tail*; an end is seen next."""
        cdef TlsLink *link = leg.link
        cdef Py_ssize_t count = link.decrypt(link, self.wire, size, self.buffer + tail, CHUNK + RECORD)
        if count < 0:
            raise SystemError("more came out of TLS than went in")
        if link.closed or link.failure != NULL:
            leg.readable = True
        if link.out_size:       # an answer of TLS itself: a key update, an alert
            self._send_out(leg)
        return count

    # --- rows ------------------------------------------------------------------------------------------------

    def pass_rows(self, Flow flow, Leg leg, left):
        """Pass rows on from *leg* to the client, whole ones only, until something else comes or happens.

        *left*: of a row that is longer than an inbox and has begun to pass: bytes to come. `rows_passed` ends it.
        """
        if flow.events or leg.eof is not None or flow.client.eof is not None or leg.limit < LIMIT:
            return
        if PyByteArray_GET_SIZE(leg.inbox) >= LIMIT:
            return
        flow.rows_from = leg
        flow.rows_let = True
        flow.rows = flow.row_bytes = 0
        flow.rows_left = left
        self._read_on(leg)

    def rows_passed(self, Flow flow):
        """How many rows have begun to pass since `pass_rows`, and what is left of the last; None: nothing was let."""
        if not flow.rows_let:
            return None
        flow.rows_let = False
        flow.rows_from = None
        for leg in (flow.default, flow.additional):
            if leg is not None and (<Leg> leg).lazy:
                self._prompt(leg)
        return flow.rows, flow.rows_left

    # To be woken for each 8 KiB that a server sends costs more than to pass them on. Of a long answer's rows more come
    # together, where the kernel tells only of many (socket(7), SO_RCVLOWAT) and ticks see to the last ones.

    cdef int _be_lazy(self, Leg leg) except -1:
        cdef int least = MUCH
        leg.lazy = setsockopt(leg.fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof(least)) == 0
        if leg.lazy:
            self.lazy.append(leg)
            if self.tick_ns != HURRY_NS:
                self._set_tick(HURRY_NS)
        return 0

    cdef int _prompt(self, Leg leg) except -1:
        cdef int least = 1
        setsockopt(leg.fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof(least))
        leg.lazy = False
        self.lazy.remove(leg)
        leg.readable = True             # what has come meanwhile was not told
        self._read_on(leg)
        return 0

    cdef bint _rows(self, Flow flow, Leg leg, Py_ssize_t size) except -1:
        """The buffer has *size* bytes, the inbox's among them. Whether there was nothing but rows."""
        cdef const unsigned char *data = self.buffer
        cdef Py_ssize_t position = 0
        cdef uint32_t length
        cdef bint rows = True
        if flow.rows_left:
            position = min(<long long> size, flow.rows_left)
            flow.rows_left -= position
        while size - position >= 5:
            length = word32(data + position + 1)
            rows = (data[position] == 68 or data[position] == 100) and 4 <= length < 0x40000000    # DataRow, CopyData
            if not rows:
                break
            if <Py_ssize_t> length > size - position - 1:
                if length < LIMIT:
                    break
                flow.rows_left = 1 + <long long> length - (size - position)
                flow.rows += 1
                position = size
                break
            position += 1 + <Py_ssize_t> length
            flow.rows += 1
        if position:
            flow.row_bytes += position
            self._send(flow.client, data, position)
        PyByteArray_Resize(leg.inbox, size - position)
        memcpy(PyByteArray_AS_STRING(leg.inbox), data + position, size - position)
        return rows

    # --- repeating (see repeater.py) --------------------------------------------------------------------------

    def release(self, Flow flow, context, int64_t fence_ns, int tx, bint tx_wrote, int64_t transaction_ns,
                int place=0, int ending=0, int inside=0):
        """Let known batches pass without the session, from now until `hold`, or until something else comes."""
        cdef Leg leg
        if flow.events or flow.additional is None:
            return
        for leg in (flow.client, flow.default, flow.additional):
            if leg is None:
                continue
            if PyByteArray_GET_SIZE(leg.inbox) or PyByteArray_GET_SIZE(leg.outbox) or leg.eof is not None:
                return
        if flow.context is not context:
            flow.context = context
            flow.routes = context.table.routes
            flow.consistency = context.consistency
            flow.staleness_ns = context.staleness_ns
            flow.kept = context.table.kept
            flow.keeps = <int64_t *> flow.kept.data.as_longlongs
        flow.statements = context.statements
        flow.named_count = 0
        if flow.freshness is not context.freshness:
            flow.freshness = context.freshness
            if flow.freshness is not None and len(flow.freshness) < 2:
                raise ValueError("a host has two cells of freshness")
        flow.fresh = <const int64_t *> flow.freshness.data.as_longlongs if flow.freshness is not None else NULL
        flow.known_owner = context.known
        flow.known = <const int64_t *> flow.known_owner.data.as_longlongs
        flow.cleared = context.cleared
        flow.stale = context.stale
        flow.ordered = context.ordered
        flow.without = context.without
        flow.sole = context.sole
        flow.holds_begin = context.holds_begin
        flow.begins_as = context.begins_as
        flow.inside = max(inside, BEFORE_WRITE)
        flow.leaves_begin = context.leaves_begin
        flow.writes_nothing = context.writes_nothing
        flow.fence_ns = fence_ns
        flow.tx = tx
        flow.tx_wrote = tx_wrote
        flow.place = place
        flow.ending = ending
        flow.opening = False
        flow.transaction_ns = transaction_ns
        flow.replica = flow.primary = flow.answered_ns = 0
        flow.last = None
        flow.has_unnamed = False
        flow.primary_unnamed = -1
        flow.on = flow.let = True

    def hold(self, Flow flow):
        """Repeat no more: what has been done since `release`, or None when that has been told already."""
        if not flow.let:
            return None
        flow.on = flow.let = False
        running, sent, unnamed, last = None, b"", None, None
        if flow.leg is not None:
            sent = _kept(&flow.batch, flow.batch.size)
            if flow.leg is flow.default:
                flow.client.inbox[0:0] = sent
            if flow.pending:
                self._waits_no_more(flow)
                self._happened(flow, DATA)      # whoever has asked: the session has it to do now
            else:
                running = flow.route.decisions[flow.way]
        if flow.last is not None:
            last = flow.last.decisions[flow.last_way]
        if flow.has_unnamed:
            unnamed = _kept(&flow.unnamed, flow.unnamed_size)
        if flow.answer_count:
            flow.tell_answers()
        flow.leg = None
        flow.route = flow.last = None
        _drop(&flow.batch, SMALL)
        _drop(&flow.unnamed, SMALL)
        return Held(flow.replica, flow.primary, last, flow.tx, flow.tx_wrote, flow.fence_ns, flow.answered_ns,
                    flow.transaction_ns, unnamed, Upstream(flow.unnamed_on),
                    None if flow.primary_unnamed < 0 else bool(flow.primary_unnamed), transaction.Place(flow.place),
                    flow.ending, flow.opening and running is not None, running, flow.started, sent, flow.inside)

    cdef bint _repeat(self, Flow flow, Leg leg, Py_ssize_t size) except -1:
        """Whether the *size* bytes in the buffer, which have just come, are done with."""
        if leg is flow.client:
            return self._client(flow, size)
        return self._upstream(flow, leg, size)

    cdef bint _client(self, Flow flow, Py_ssize_t size) except -1:
        cdef Route route
        cdef Leg leg
        cdef int way
        if flow.leg is not None or size > MOST:
            return False
        route = self._route_of(flow, size)
        if route is None or not route.valid:
            return False
        if (route.commits if flow.tx == IDLE else route.begins) or PyByteArray_GET_SIZE(flow.client.outbox):
            return False
        if route.commits and flow.place:
            return self._end_here(flow, route, size)
        if route.begins and flow.leaves_begin:
            return False
        if route.begins and flow.holds_begin:
            return self._answer(flow, route, size, IN_TRANSACTION)
        way = self._way_of(flow, route)
        if way < 0:
            return route.read and self._wait_fresh(flow, route, size)      # or goes to the primary
        flow.way = way
        leg = flow.default if way == REPLICA else flow.additional
        if leg is None or leg.eof is not None or PyByteArray_GET_SIZE(leg.outbox):
            return False
        flow.started = now_ns()
        flow.leg = leg
        flow.route = route
        _keep(&flow.batch, self.buffer, size)
        self._send_batch(flow, self.buffer, size)
        return True

    cdef int _send_batch(self, Flow flow, const unsigned char *data, Py_ssize_t size) except -1:
        """Send a batch behind what opens its transaction where it goes, if that is nowhere yet."""
        cdef bytes whole
        flow.opening = flow.place == HELD
        if not flow.opening:
            return self._send(flow.leg, data, size)
        if flow.way != REPLICA:
            flow.place = 0
        whole = (OPENS_REPLICA if flow.way == REPLICA else OPENS_PRIMARY) + <bytes> PyBytes_FromStringAndSize(
            <const char *> data, size)
        return self._send(flow.leg, <const unsigned char *> PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole))

    # --- transactions that the primary does not know of (see split/transaction.py) ----------------------------

    cdef bint _answer(self, Flow flow, Route route, Py_ssize_t size, int status) except -1:
        """Answer a BEGIN, or the end of a transaction, where that is known to the byte."""
        answer = transaction.answer_to(PyBytes_FromStringAndSize(<const char *> self.buffer, size), route.tag, status)
        if answer is None:
            return False
        self._send(flow.client, <const unsigned char *> PyBytes_AS_STRING(answer), PyBytes_GET_SIZE(answer))
        route.calls[HERE] += 1
        route.frontend += flow.requests
        route.texts += flow.texts
        flow.place = HELD if status == IN_TRANSACTION else 0
        flow.tx = status
        flow.last = route
        flow.last_way = HERE
        flow.answered_ns = now_ns()
        flow.transaction_ns = flow.answered_ns if status == IN_TRANSACTION else 0
        if flow.texts:
            _keep(&flow.unnamed, self.buffer, flow.parse_size)
            flow.has_unnamed = True
            flow.unnamed_size = flow.parse_size
            flow.unnamed_on = 0         # whoever needs it is given it
        return True

    cdef bint _end_here(self, Flow flow, Route route, Py_ssize_t size) except -1:
        cdef bint there = flow.place == ON_REPLICA
        if there and (flow.default is None or flow.default.eof is not None):
            return False
        if not self._answer(flow, route, size, IDLE):
            return False
        if there:
            self._send(flow.default, <const unsigned char *> PyBytes_AS_STRING(ENDS_ON_REPLICA),
                       PyBytes_GET_SIZE(ENDS_ON_REPLICA))
            flow.ending += 1
        return True

    cdef int _way_of(self, Flow flow, Route route) noexcept:
        """How a batch of *route* goes now; -1 when the session has to say."""
        if flow.sole:
            return SOLE
        if flow.place:
            if route.read:
                return REPLICA if self._fresh(flow) else -1
            return PRIMARY if flow.place == HELD else -1
        if flow.tx != IDLE:
            return INSIDE
        if not route.read:
            return PRIMARY
        if self._fresh(flow):
            return REPLICA
        if flow.without:
            return WITHOUT
        return ORDERED if flow.ordered == ground[0] else -1

    cdef bint _fresh(self, Flow flow) noexcept:
        """Whether the replica may be read from without another question (`Context.fresh`)."""
        if flow.fresh == NULL or flow.cleared != ground[0] or not self._defined(flow):
            return False
        return flow.consistency == EVENTUAL or flow.fresh[0] > self._fence(flow)

    cdef bint _defined(self, Flow flow) noexcept:
        """Whether no definition has been changed since those of the flow's database were read."""
        cdef Py_ssize_t at, slots = self.writes.shape[0] - 1
        slots = min(slots, <Py_ssize_t> self.writes[slots])
        for at in range(min(slots, self.definitions.shape[0])):
            if self.definitions[at] >= flow.known[0]:
                return False
        return True

    cdef int64_t _fence(self, Flow flow) noexcept:
        """As of later than when a replica must be fresh for a read that comes now (`Context.fence`)."""
        cdef int64_t fence_ns = flow.fence_ns
        cdef Py_ssize_t at, slots
        if flow.consistency == CLUSTER:
            return max(fence_ns, now_ns())
        if flow.consistency == BOUNDED:
            return max(fence_ns, now_ns() - flow.staleness_ns)
        if flow.consistency == GLOBAL:
            slots = self.writes.shape[0] - 1
            slots = min(slots, <Py_ssize_t> self.writes[slots])
            for at in range(slots):
                if self.writes[at] > fence_ns:
                    fence_ns = self.writes[at]
        return fence_ns

    # --- reads that wait for their replica --------------------------------------------------------------------
    # The sampler is told once a read, and says when replicas are fresher. A read whose patience ends goes to the primary.
    # What else is not a matter of a moment is left to the session, with the batch where it was.

    cdef bint _wait_fresh(self, Flow flow, Route route, Py_ssize_t size) except -1:
        """Keep a read that its replica is not fresh enough for, when it lacks nothing else. Where waiting is to no avail,
        or not wanted, it is the primary's.
        """
        cdef int64_t now, wait_ns = <int64_t> flow.context.fence_wait_ns
        if flow.fresh == NULL or flow.default is None or wait_ns < 0:
            return False
        now = now_ns()
        if (flow.fresh[1] > now or not wait_ns) and ground[0] in (flow.cleared, flow.stale):
            if flow.place or not self._takes(flow.additional):
                return False
            _keep(&flow.batch, self.buffer, size)
            flow.started = now
            flow.route = route
            return self._to_primary(flow, self._fence(flow))
        if flow.cleared != ground[0] or not self._defined(flow):
            return False
        _keep(&flow.batch, self.buffer, size)
        flow.started = now
        flow.until_ns = now + wait_ns
        flow.wait_ns = self._fence(flow)
        flow.leg = flow.default
        flow.route = route
        flow.way = REPLICA
        flow.pending = True
        self.stale[flow] = None
        flow.context.want(flow.wait_ns)
        if self.patience is None or flow.until_ns < self.patience_ns:
            self._be_patient(flow.until_ns, flow.started)
        return True

    cdef bint _takes(self, Leg leg) noexcept:
        return leg is not None and leg.eof is None and PyByteArray_GET_SIZE(leg.outbox) == 0

    cdef bint _to_primary(self, Flow flow, int64_t fence_ns) except -1:
        """Send a read for which no replica is as fresh as *fence_ns* where it always can go."""
        flow.context.gave_up(fence_ns)
        flow.way = STALE
        flow.leg = flow.additional
        self._send_batch(flow, flow.batch.data, flow.batch.size)
        return True

    cdef int _be_patient(self, int64_t until, int64_t now) except -1:
        if self.patience is not None:
            self.patience.close()
        self.patience = self.loop.timer(max(0, until - now) / 1e9)
        self.patience.start(self._impatient)
        self.patience_ns = until
        return 0

    def waits(self, Flow flow):
        """Whether a read of the flow waits here for its replica."""
        return flow.pending

    def fresher(self):
        """Replicas are fresher than they were: let go what has waited for that."""
        cdef Flow flow
        for flow in list(self.stale):
            if flow.cleared != ground[0] or not self._defined(flow):
                self._happened(flow, DATA)
            elif flow.on and flow.fresh[0] > flow.wait_ns:
                self._waits_no_more(flow)
                if flow.leg.eof is None and not PyByteArray_GET_SIZE(flow.leg.outbox) and (
                        not PyByteArray_GET_SIZE(flow.client.outbox)):
                    flow.started = now_ns()
                    self._send_batch(flow, flow.batch.data, flow.batch.size)
                else:
                    flow.pending = True
                    self._happened(flow, DATA)

    def _impatient(self):
        cdef Flow flow
        cdef int64_t now = now_ns(), until = 0
        self.patience.close()
        self.patience = None
        for flow in list(self.stale):
            if flow.until_ns <= now:
                flow.context.waited_in_vain(now)
                if (flow.on and not flow.place and flow.cleared == ground[0] and self._defined(flow)
                        and self._takes(flow.additional) and not PyByteArray_GET_SIZE(flow.client.outbox)):
                    self._waits_no_more(flow)
                    self._to_primary(flow, flow.wait_ns)
                else:
                    flow.context.waited = True
                    self._happened(flow, DATA)
            elif not until or flow.until_ns < until:
                until = flow.until_ns
        if until:
            self._be_patient(until, now)

    cdef int _waits_no_more(self, Flow flow) except -1:
        flow.pending = False
        self.stale.pop(flow, None)
        return 0

    # --- what a batch is ----------------------------------------------------------------------------------------

    cdef Route _route_of(self, Flow flow, Py_ssize_t size):
        """The route of a batch that is whole and of the plainest kind; None for all others."""
        cdef unsigned char *data = self.buffer
        cdef unsigned char *end
        cdef Py_ssize_t position = 0, length
        cdef Route route = None
        flow.parse_size = 0
        if data[0] == 81:       # Query
            if size < 6 or word32(data + 1) != <uint32_t> (size - 1) or data[size - 1]:
                return None
            flow.requests = flow.texts = 1
            return self._text(flow, data + 5, size - 6, True)
        if size < 10 or memcmp(data + size - 5, b"S\0\0\0\x04", 5):
            return None
        flow.texts = 0
        flow.requests = 3
        if data[0] == 80:       # Parse
            if data[5]:
                return None
            length = word32(data + 1)
            if length < 7 or length + 12 > size:
                return None
            position = 1 + length
            end = <unsigned char *> memchr(data + 6, 0, position - 6)
            if end == NULL:
                return None
            route = self._text(flow, data + 6, end - (data + 6), False)
            if route is None:
                return None
            flow.parse_size = position
            flow.texts = 1
            flow.requests = 4
        if data[position] != 66 or data[position + 5]:          # Bind, of the unnamed portal
            return None
        end = <unsigned char *> memchr(data + position + 6, 0, size - position - 6)
        if end == NULL:
            return None
        if flow.parse_size == 0:
            route = self._statement(flow, data + position + 6, end - (data + position + 6))
            if route is None:
                return None
        elif end != data + position + 6:
            return None
        length = word32(data + position + 1)
        if length > size - position - 1:
            return None
        position += 1 + length
        if size - position >= 7 and not memcmp(data + position, b"D\0\0\0\x06P\0", 7):
            position += 7
            flow.requests += 1
        if size - position != 15 or memcmp(data + position, b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04", 15):
            return None
        return route

    cdef Route _statement(self, Flow flow, const unsigned char *name, Py_ssize_t size):
        """The route of the named statement (or the unnamed one), where the upstream that it would go to has it."""
        cdef unsigned int at
        cdef Named *named
        cdef PyObject *found
        cdef object statement
        cdef Route route
        for at in range(min(flow.named_count, <unsigned int> NAMES)):
            named = flow.named + at
            if named.size == size and not memcmp(named.name, name, size):
                route = <Route> <object> named.route
                return route if named.on_default or self._on_primary(flow, route) else None
        found = PyDict_GetItem(flow.statements, PyBytes_FromStringAndSize(<const char *> name, size))
        if found == NULL:
            return None
        statement = <object> found
        if statement.only_primary or statement.route is None:
            return None
        route = <Route?> statement.route
        if size <= NAME:
            if flow.named == NULL:
                flow.named = <Named *> PyMem_Malloc(NAMES * sizeof(Named))
                if flow.named == NULL:
                    raise MemoryError()
            named = flow.named + flow.named_count % NAMES
            flow.named_count += 1
            named.route = <PyObject *> route
            named.on_default = statement.default
            named.size = size
            memcpy(named.name, name, size)
        return route if statement.default or self._on_primary(flow, route) else None

    cdef bint _on_primary(self, Flow flow, Route route) noexcept:
        """Whether a batch of *route* does not go to a replica, which may lack its statement."""
        return not route.read or flow.sole or flow.without or (flow.tx != IDLE and not flow.place)

    cdef Route _text(self, Flow flow, const unsigned char *text, Py_ssize_t size, bint folded_first):
        cdef Route found = None
        cdef Py_ssize_t length
        if not folded_first:
            found = self._known(flow, text, size)
        if found is None:
            length = _fold(text, size, self.folded)
            if length >= 0:
                found = self._known(flow, self.folded, length)
        if found is None and folded_first:
            found = self._known(flow, text, size)
        return found

    cdef Route _known(self, Flow flow, const unsigned char *text, Py_ssize_t size):
        """The route of a text as the table has it."""
        cdef uint64_t hashed = mix(self.seed, text, size)
        cdef Cached *cached = self.cache + (hashed & (ROUTES - 1))
        cdef Route route
        cdef PyObject *found
        if cached.hashed == hashed and cached.routes == <PyObject *> flow.routes:
            route = <Route> <object> cached.route
            if (route.valid and PyBytes_GET_SIZE(route.text) == size
                    and not memcmp(PyBytes_AS_STRING(route.text), text, size)):
                return route
        found = PyDict_GetItem(flow.routes, PyBytes_FromStringAndSize(<const char *> text, size))
        if found == NULL:
            return None
        route = <Route?> <object> found
        Py_INCREF(route)
        Py_INCREF(flow.routes)
        _forget(cached)
        cached.hashed = hashed
        cached.routes = <PyObject *> flow.routes
        cached.route = <PyObject *> route
        return route

    cdef bint _upstream(self, Flow flow, Leg leg, Py_ssize_t size) except -1:
        cdef Route route = flow.route
        cdef const unsigned char *data = self.buffer
        cdef Py_ssize_t position = 0, end = size - 6, length, tag_size
        cdef int commands = 0, messages = 1
        cdef unsigned char status
        cdef int64_t now
        cdef bint on_replica
        cdef int ending = flow.ending
        cdef Py_ssize_t start
        if ending and leg is flow.default:
            while ending and size - position >= ENDED_SIZE and not memcmp(data + position, ENDED, ENDED_SIZE):
                ending -= 1
                position += ENDED_SIZE
            if position == size:
                flow.ending = ending
                return True
            if ending:
                return False
        if (leg is not flow.leg or flow.pending or route is None or end <= position
                or memcmp(data + end, b"Z\0\0\0\x05", 5)):
            return False
        if flow.opening:
            if end - position < OPENED_SIZE or memcmp(data + position, OPENED, OPENED_SIZE):
                return False
            position += OPENED_SIZE
        start = position
        tag_size = PyBytes_GET_SIZE(route.tag)
        while position < end:
            if end - position < 5:
                return False
            length = word32(data + position + 1)
            if length < 4 or length > end - position - 1:
                return False
            if not quiet[data[position]]:
                if data[position] != 67 or length < tag_size + 5:        # CommandComplete
                    return False
                if memcmp(data + position + 5, PyBytes_AS_STRING(route.tag), tag_size):
                    return False
                status = data[position + 5 + tag_size]
                if status != 32 and status != 0:
                    return False
                commands += 1
            position += 1 + length
            messages += 1
        if commands != 1:
            return False
        status = data[size - 1]
        if status != IN_TRANSACTION and (status != IDLE or flow.place):
            return False
        now = now_ns()
        on_replica = leg is flow.default
        if on_replica:
            flow.ending = ending
            if flow.place == HELD:
                flow.place = ON_REPLICA
        else:
            if route.begins:
                flow.inside = flow.begins_as
            elif flow.opening:
                flow.inside = route.moves
            elif route.writes:
                flow.inside = AFTER_WRITE
        flow.opening = False
        if not on_replica:
            flow.fence_ns = now
            if (not flow.writes_nothing and (flow.tx == IDLE or route.commits)
                    and (route.wrote or (route.commits and flow.tx_wrote))):
                self._publish(now)
            flow.tx_wrote = status != IDLE and (flow.tx_wrote or route.wrote)
        self._send(flow.client, data + start, size - start)
        flow.leg = None
        flow.route = None
        self._done(flow, route, on_replica, now, status, messages)
        return True

    def receive_now(self, Leg leg):
        """Take in what has come, without waiting to be told of it."""
        if not leg.closed and leg.eof is None:
            leg.readable = True
            self._read(leg)

    cdef int _publish(self, int64_t now) except -1:
        """`Slot.publish_write`."""
        if now > self.writes[self.slot]:
            self.writes[self.slot] = now
        return 0

    cdef int _done(self, Flow flow, Route route, bint on_replica, int64_t now, int status, int messages) except -1:
        cdef int64_t microseconds = (now - flow.started) // 1000
        cdef int side = 0 if on_replica else 1, low = 0, high = bound_count, middle
        while low < high:
            middle = (low + high) // 2
            if bounds[middle] < microseconds:
                low = middle + 1
            else:
                high = middle
        route.calls[flow.way] += 1
        if flow.way == REPLICA or flow.way == SOLE:
            flow.replica += 1
        else:
            flow.primary += 1
        route.autocommits += flow.tx == IDLE
        route.frontend += flow.requests
        route.backend += messages
        route.texts += flow.texts
        route.buckets[side][low] += 1
        route.total_us[flow.way] += microseconds
        if flow.way == INSIDE and route.reads:
            middle = 2 * (flow.inside if route.kept < 0 or flow.inside == AFTER_WRITE else route.kept)
            flow.keeps[middle] += 1
            flow.keeps[middle + 1] += microseconds
        if status == IDLE:
            flow.transaction_ns = 0
        elif not flow.transaction_ns:
            flow.transaction_ns = flow.started
        flow.tx = status
        flow.last = route
        flow.last_way = flow.way
        flow.answered_ns = now
        if flow.texts:
            flow.batch, flow.unnamed = flow.unnamed, flow.batch
            flow.has_unnamed = True
            flow.unnamed_size = flow.parse_size     # a Query leaves none behind (manual 55.2.3)
            flow.unnamed_on = side
            if not on_replica:
                flow.primary_unnamed = flow.parse_size > 0
        flow.remember(now, microseconds, side, route)
        return 0


cdef tuple _UPSTREAMS = (Upstream.DEFAULT, Upstream.ADDITIONAL)
