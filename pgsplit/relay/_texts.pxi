# Batches that are known: which route one takes. Part of _crelay.pyx.


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


cdef void _forget(Cached *cached) noexcept:
    if cached.route != NULL:
        Py_DECREF(<object> cached.route)
        Py_DECREF(<object> cached.routes)
        cached.route = cached.routes = NULL


cdef class Texts(Asking):
    """Finds routes by what is in the receive buffer, without a dict where it can."""

    cdef unsigned char folded[MOST]
    cdef uint64_t seed
    cdef Cached cache[ROUTES]

    def __init__(self):
        super().__init__()
        self.seed = int.from_bytes(os.urandom(8), "little")

    def __dealloc__(self):
        cdef int at
        for at in range(ROUTES):
            _forget(&self.cache[at])

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
