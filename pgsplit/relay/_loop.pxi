# The relay's loop: when it sleeps, what wakes it, whose turn it is. Part of _crelay.pyx.


cdef class Loop:
    """Sleeps for gevent's hub, or in it; tells legs of their events and greenlets of what has happened on their flows."""

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
    cdef bint looping, busy
    cdef bint asked             # the hub is to have its turn
    cdef public int hurried     # while it is not 0, somebody counts on the hub's timers
    cdef int threads            # how many of the hub's were at work when this turn began
    cdef int told               # for so many turns more the hub is about to hear of one's end

    def __init__(self):
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
        self.watcher = self.loop.io(self.between, 1)
        self.again = self.loop.timer(0.0)
        self.pool = self.hub.threadpool
        self.legs = set()
        self.raised = []
        self.gone = []
        self.roomy = []
        self.lazy = []

    def __dealloc__(self):
        for fd in (self.between, self.epfd, self.tick):
            if fd > 0:
                c_close(fd)

    cdef int _event(self, Leg leg, uint32_t events) except -1:
        """Something has happened on the leg."""
        raise NotImplementedError

    cdef int _read(self, Leg leg) except -1:
        """Receive what there is and what there is room for."""
        raise NotImplementedError

    cdef int _prompt(self, Leg leg) except -1:
        """Be told of all that comes on a lazy leg again."""
        raise NotImplementedError

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

    def give_turn(self):
        """Something has been left to the hub: it has its turn when this round is done."""
        self.asked = True

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

    # --- legs that have room again

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
