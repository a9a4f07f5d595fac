# Legs and flows: how they come and go. Part of _crelay.pyx.


cdef class Legs(Rows):
    """Takes connected sockets over, ties them to a session's flow, and closes them."""

    cdef int _waits_no_more(self, Flow flow) except -1:
        """No read of the flow waits for its replica from now on."""
        raise NotImplementedError

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
