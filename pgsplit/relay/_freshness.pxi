# Fresh replicas, and reads that wait for one (see split/fence.py). Part of _crelay.pyx.


cdef class Freshness(Texts):
    """*writes*: of each slot of the board the last write (monotonic ns), then how many slots are in use; *slot* is ours.
    *definitions*: of each the last change of a definition.
    """

    cdef object writes_owner
    cdef int64_t[:] writes
    cdef int64_t[:] definitions
    cdef Py_ssize_t slot
    cdef dict stale             # in order, flows with a read that waits for its replica
    cdef object patience        # a timer: the end of the first one's
    cdef int64_t patience_ns

    def __init__(self, writes=None, slot=0, definitions=None):
        super().__init__()
        self.slot = slot
        self.stale = {}
        self.writes_owner = writes if writes is not None else memoryview(bytearray(16)).cast("q")
        self.writes = self.writes_owner
        self.definitions = definitions if definitions is not None else memoryview(
            bytearray(8 * len(self.writes_owner))).cast("q")

    cdef int _send_batch(self, Flow flow, const unsigned char *data, Py_ssize_t size) except -1:
        """Send a batch behind what opens its transaction where it goes, if that is nowhere yet."""
        raise NotImplementedError

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

    cdef int _publish(self, int64_t now) except -1:
        """`Slot.publish_write`."""
        if now > self.writes[self.slot]:
            self.writes[self.slot] = now
        return 0

    # --- reads that wait

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
