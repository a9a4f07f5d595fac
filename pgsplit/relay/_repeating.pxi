# Batches that are repeated (see repeater.py). Part of _crelay.pyx.


# Of each message type: whether it says nothing that matters in an answer that is repeated.
cdef unsigned char quiet[256]
for _at in range(256):
    quiet[_at] = _at in b"DT12nt"


cdef class Repeating(Freshness):
    """Passes batches that are known, and their answers, without the session."""

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
        cdef bytes whole
        flow.opening = flow.place == HELD
        if not flow.opening:
            return self._send(flow.leg, data, size)
        if flow.way != REPLICA:
            flow.place = 0
        whole = (OPENS_REPLICA if flow.way == REPLICA else OPENS_PRIMARY) + <bytes> PyBytes_FromStringAndSize(
            <const char *> data, size)
        return self._send(flow.leg, <const unsigned char *> PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole))

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
