# Sockets that somebody else reads from: the monitor's, the sampler's. Part of _crelay.pyx.


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


cdef class Asking(Legs):
    """Tells others that something has come on theirs, or asks there, and gives them the answer in the loop itself."""

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
