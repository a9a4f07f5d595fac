# What the relay keeps: legs, routes, flows. Part of _crelay.pyx.


cdef class Leg:
    """See leg.py."""

    cdef readonly str name
    cdef readonly object sock, tls
    cdef public bytearray inbox, outbox
    cdef public Py_ssize_t limit
    cdef public object eof
    cdef public bint closed
    cdef public long long received, sent
    cdef array _traffic
    cdef int64_t *sums          # of `traffic`
    cdef Flow _flow
    cdef TlsLink *link          # of `tls`; NULL: the leg is in the clear
    cdef int fd
    cdef bint readable          # there may be more to receive
    cdef bint hung_up           # the peer has ended: read to the end
    cdef bint lazy              # it is not told of less than MUCH: the ticks see to it
    cdef bint queued            # there is room again: it will be read from in the hub
    # of one that somebody else reads from:
    cdef object heard           # to be called when something has come
    cdef object answered        # to be given what comes next, the answer to `ask`

    def __init__(self, str name, sock, tls=None, heard=None):
        self.heard = heard
        self.name = name
        self.sock = sock
        self.tls = tls
        self.link = <TlsLink *> PyCapsule_GetPointer(tls.ssl.link, "pgsplit.tls") if tls is not None else NULL
        self.fd = sock.fileno()
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.limit = LIMIT

    @property
    def flow(self):
        return self._flow

    @property
    def traffic(self):
        return self._traffic

    @traffic.setter
    def traffic(self, array cells not None):
        self._traffic = cells
        self.sums = <int64_t *> cells.data.as_longlongs

    @property
    def full(self):
        return PyByteArray_GET_SIZE(self.inbox) >= self.limit

    @property
    def congested(self):
        return PyByteArray_GET_SIZE(self.outbox) >= LIMIT


cdef class Route:
    """Where a text goes; see routes.py."""

    cdef readonly object repeat
    cdef public bint valid
    cdef bint read, wrote, begins, commits, reads, writes
    cdef int kept, moves
    cdef bytes tag, text
    cdef tuple decisions
    cdef long long calls[WAYS]
    cdef long long autocommits, frontend, backend, texts
    cdef long long buckets[2][BUCKETS]
    cdef long long total_us[WAYS]

    def __init__(self, repeat):
        self.repeat = repeat
        self.valid = True
        self.read = repeat.read
        self.wrote = not repeat.facts.wrote_nothing
        self.kept = repeat.kept
        self.reads = self.kept != NO_READ
        self.writes = repeat.writes
        self.moves = repeat.moves
        self.begins = repeat.begins
        self.commits = repeat.commits
        self.tag = repeat.tag
        self.text = repeat.facts.text
        self.decisions = repeat.decisions

    @property
    def used(self):
        return any([self.calls[way] for way in range(WAYS)])

    def take(self):
        counted = Counted()
        counted.calls = [self.calls[way] for way in range(WAYS)]
        counted.autocommits, counted.frontend = self.autocommits, self.frontend
        counted.backend, counted.texts = self.backend, self.texts
        counted.buckets = [[self.buckets[side][at] for at in range(bound_count + 1)] for side in range(2)]
        counted.total_us = [self.total_us[way] for way in range(WAYS)]
        self.autocommits = self.frontend = self.backend = self.texts = 0
        cdef int one, other
        for one in range(WAYS):
            self.calls[one] = self.total_us[one] = 0
        for one in range(2):
            for other in range(BUCKETS):
                self.buckets[one][other] = 0
        return counted


cdef struct Piece:
    unsigned char *data
    Py_ssize_t size, room


cdef int _keep(Piece *piece, const unsigned char *data, Py_ssize_t size) except -1:
    cdef Py_ssize_t room
    cdef void *more
    if size > piece.room:
        room = 256
        while room < size:
            room *= 2
        more = PyMem_Realloc(piece.data, room)
        if more == NULL:
            raise MemoryError()
        piece.data = <unsigned char *> more
        piece.room = room
    memcpy(piece.data, data, size)
    piece.size = size
    return 0


cdef bytes _kept(Piece *piece, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<const char *> piece.data, size)


cdef void _drop(Piece *piece, Py_ssize_t above) noexcept:
    if piece.room > above:
        PyMem_Free(piece.data)
        piece.data = NULL
        piece.room = 0


cdef struct Cached:
    uint64_t hashed
    PyObject *routes            # the table's dict
    PyObject *route


cdef struct Named:
    PyObject *route             # lent: what a flow's statements are changes only while its session holds it
    int size
    bint on_default
    unsigned char name[NAME]


cdef struct Answered:
    int64_t at_ns, microseconds
    int side, way
    PyObject *route


cdef class Flow:
    """See pyrelay.py; and what `repeater.py` keeps of a flow."""

    cdef readonly Leg client, default, additional
    cdef public int events
    cdef object parked, timer
    # what is repeated
    cdef bint on, let, waiting      # waiting: it is in the relay's list of those that are to be woken
    cdef object context
    cdef dict routes, statements
    cdef Named *named           # those that have been used since `release`
    cdef unsigned int named_count
    cdef array freshness
    cdef const int64_t *fresh       # as of when its replica is fresh; until when nobody waits for that
    cdef array known_owner
    cdef const int64_t *known       # as of when the definitions of its database are known
    cdef int consistency
    cdef int64_t staleness_ns
    cdef int64_t cleared, stale, ordered, fence_ns, started, answered_ns, transaction_ns
    cdef int tx
    cdef array kept             # where reads in transactions on the primary are counted
    cdef int64_t *keeps
    cdef int inside, begins_as  # see split/reads.py
    cdef int place              # of the transaction that tx tells of; see split/transaction.py
    cdef int ending             # ends of transactions that the replica has not answered
    cdef bint opening           # the batch was sent behind the opening of its transaction
    cdef bint tx_wrote, without, sole, writes_nothing, holds_begin, leaves_begin
    cdef int way, last_way
    cdef Leg leg
    cdef Route route
    cdef Route last
    cdef Piece batch            # what has been sent and is not answered
    cdef Piece unnamed          # what left the unnamed statement behind, in its first bytes
    cdef Py_ssize_t parse_size
    cdef int requests, texts
    cdef long long replica, primary
    cdef bint has_unnamed
    cdef Py_ssize_t unnamed_size
    cdef int unnamed_on
    cdef int primary_unnamed
    cdef Answered *answers      # the last RECENT since `release`, the oldest overwritten
    cdef long long answer_count
    # a read that waits for its replica (see `_wait_fresh`)
    cdef bint pending
    cdef int64_t wait_ns, until_ns
    # rows that pass (see `pass_rows`)
    cdef Leg rows_from
    cdef bint rows_let
    cdef long long rows, rows_left, row_bytes

    def __dealloc__(self):
        _drop(&self.batch, 0)
        _drop(&self.unnamed, 0)
        self.forget_answers()
        PyMem_Free(self.answers)
        PyMem_Free(self.named)

    cdef int remember(self, int64_t at_ns, int64_t microseconds, int side, Route route) except -1:
        cdef Answered *answer
        if self.answers == NULL:
            self.answers = <Answered *> PyMem_Malloc(RECENT * sizeof(Answered))
            if self.answers == NULL:
                raise MemoryError()
        answer = self.answers + self.answer_count % RECENT
        if self.answer_count >= RECENT:
            Py_DECREF(<object> answer.route)
        Py_INCREF(route)
        answer.at_ns = at_ns
        answer.microseconds = microseconds
        answer.side = side
        answer.way = self.way
        answer.route = <PyObject *> route
        self.answer_count += 1
        return 0

    cdef int tell_answers(self) except -1:
        """Add them to what the session remembers."""
        cdef long long at
        cdef Answered *answer
        cdef Route route
        for at in range(max(0, self.answer_count - RECENT), self.answer_count):
            answer = self.answers + at % RECENT
            route = <Route> <object> answer.route
            self.context.recent.append((answer.at_ns, answer.microseconds, _UPSTREAMS[answer.side],
                                        route.decisions[answer.way], route.text))
        self.forget_answers()
        return 0

    cdef void forget_answers(self) noexcept:
        cdef long long at
        for at in range(min(self.answer_count, RECENT)):
            Py_DECREF(<object> self.answers[at].route)
        self.answer_count = 0

    def legs(self):
        return [leg for leg in (self.client, self.default, self.additional) if leg is not None]
