# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""`framing.skip`, compiled: rows by the thousand are gone over without an object for any."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t

cdef extern from *:
    """
    #ifndef PGSPLIT_SOURCES
    #define PGSPLIT_SOURCES ""
    #endif
    """
    const char *PGSPLIT_SOURCES

sources = PGSPLIT_SOURCES.decode()

cdef dict _tables = {}


cdef bytes _table(passed):
    table = _tables.get(passed)
    if table is None:
        table = _tables[passed] = bytes(kind in passed for kind in range(256))
    return table


def skip(buffer, Py_ssize_t start, Py_ssize_t end, passed):
    """See framing.py."""
    cdef bytes owner = _table(passed)
    cdef const unsigned char *table = owner
    cdef const unsigned char *at
    cdef uint32_t length
    cdef Py_ssize_t count = 0
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        while end - start >= 5:
            at = <const unsigned char *> view.buf + start
            length = (<uint32_t> at[1] << 24) | (<uint32_t> at[2] << 16) | (<uint32_t> at[3] << 8) | at[4]
            if not table[at[0]] or length < 4 or <Py_ssize_t> length > end - start - 1:
                break
            start += 1 + <Py_ssize_t> length
            count += 1
    finally:
        PyBuffer_Release(&view)
    return start, count
