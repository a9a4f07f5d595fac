# Rows that pass without the session. Part of _crelay.pyx.


cdef class Rows(Bytes):
    """Passes whole rows from a server to its client, until something else comes."""

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
