# Bytes between sockets and boxes. Part of _crelay.pyx.


cdef class Bytes(Loop):
    """Sends and receives on legs, in the clear or in TLS; never blocks."""

    cdef unsigned char buffer[LIMIT + CHUNK + RECORD]
    cdef unsigned char wire[CHUNK]      # what a leg in TLS has received

    cdef bint _repeat(self, Flow flow, Leg leg, Py_ssize_t size) except -1:
        """Whether the *size* bytes in the buffer, which have just come, are done with."""
        raise NotImplementedError

    cdef bint _rows(self, Flow flow, Leg leg, Py_ssize_t size) except -1:
        """The buffer has *size* bytes, the inbox's among them. Whether there was nothing but rows."""
        raise NotImplementedError

    cdef int _be_lazy(self, Leg leg) except -1:
        """Be told only when much has come."""
        raise NotImplementedError

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

    def receive_now(self, Leg leg):
        """Take in what has come, without waiting to be told of it."""
        if not leg.closed and leg.eof is None:
            leg.readable = True
            self._read(leg)
