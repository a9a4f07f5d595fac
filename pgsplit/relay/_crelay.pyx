# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""CRelay: PyRelay's interface, compiled, for legs in the clear or in the TLS of _openssl.pyx (DESIGN section 8).

Sockets are registered once, edge-triggered, in an epoll set of the relay's own; gevent watches that one descriptor.
Known batches are scanned in the receive buffer and passed on whole. No rule is here: see `split` and `repeater.py`,
which does the same in Python. docs/relay.md draws the way of an event through the files that are included below.
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


cdef inline uint32_t word32(const unsigned char *at) noexcept nogil:
    return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]


# Each adds to the one before what its name says, and knows of those behind it only what it declares.
include "_kernel.pxi"
include "upstream/_tls_link.pxi"
include "_folding.pxi"
include "_flow.pxi"
include "_loop.pxi"
include "_bytes.pxi"
include "_rows.pxi"
include "_legs.pxi"
include "_asking.pxi"
include "_texts.pxi"
include "_freshness.pxi"
include "_repeating.pxi"


cdef class CRelay(Repeating):
    """See `Freshness` for its arguments."""

    form = "compiled"
    route = Route


cdef tuple _UPSTREAMS = (Upstream.DEFAULT, Upstream.ADDITIONAL)
