# A text without its literals, as `split.folding.fold` makes it. Part of _crelay.pyx.

# Of each byte: what it means to `fold`. 1: not to be folded; 2: part of a word or number; 4: white space; 8: looked at.
cdef unsigned char folding[256]


cdef void _fill_folding() noexcept:
    cdef int at
    for at in range(256):
        folding[at] = 0
        if at in b'"$\\\x00\x01\x02':
            folding[at] = 1
        elif at in b"0123456789":
            folding[at] = 2 | 8
        elif at >= 128 or at in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_.":
            folding[at] = 2
        elif at in b" \t\n\r\f\v":
            folding[at] = 4
        elif at in b"'-/&":
            folding[at] = 8


_fill_folding()


cdef bint _word(const unsigned char *text, Py_ssize_t left, const char *word, Py_ssize_t size) noexcept nogil:
    """Whether *text* goes on with *word*, which is in lower case."""
    cdef Py_ssize_t at
    if left < size:
        return False
    for at in range(size):
        if text[at] != <unsigned char> word[at] and (text[at] | 32) != <unsigned char> word[at]:
            return False
    return True


cdef bint _telling(const unsigned char *text, Py_ssize_t size) noexcept nogil:
    """`folding._TELLING`."""
    cdef Py_ssize_t at
    cdef unsigned char byte
    for at in range(size):
        byte = text[at] | 32
        if (byte == 110 or byte == 116 or byte == 121 or byte == 99) and (
                _word(text + at, size - at, b"now", 3) or _word(text + at, size - at, b"today", 5)
                or _word(text + at, size - at, b"tomorrow", 8) or _word(text + at, size - at, b"yesterday", 9)
                or _word(text + at, size - at, b"current_setting", 15)):
            return True
    return False


cdef inline bint _unplain(const unsigned char *text, Py_ssize_t left) noexcept nogil:
    """Whether a comment begins here, or a string with Unicode escapes."""
    return left > 1 and ((text[0] == 45 and text[1] == 45) or (text[0] == 47 and text[1] == 42)
                         or (text[0] == 38 and text[1] == 39))


cdef Py_ssize_t _fold(const unsigned char *text, Py_ssize_t size, unsigned char *out) noexcept nogil:
    """`split.folding.fold` into *out*; -1 for None."""
    cdef Py_ssize_t at = 0, to = 0, end
    cdef unsigned char byte, before = 32, kind
    cdef bint quotes = False
    cdef int pieces = 0            # 1: a string has just ended, 2: and white space has followed
    while at < size:
        byte = text[at]
        kind = folding[byte]
        if kind & 9:
            if kind & 1 or _unplain(text + at, size - at):
                return -1
            if byte == 39:
                if pieces == 2:
                    return -1
                quotes = True
                at += 1
                while at < size and text[at] != 39:
                    if folding[text[at]] & 9 and (folding[text[at]] & 1 or _unplain(text + at, size - at)):
                        return -1
                    at += 1
                if at == size:
                    return -1
                out[to] = before = 1
                to += 1
                at += 1
                pieces = 1
                continue
            if kind & 2 and not folding[before] & 2:
                end = at + 1
                while end < size and 48 <= text[end] <= 57:
                    end += 1
                if end + 1 < size and text[end] == 46 and 48 <= text[end + 1] <= 57:
                    end += 2
                    while end < size and 48 <= text[end] <= 57:
                        end += 1
                if end == size or not folding[text[end]] & 2:
                    out[to] = 2
                    to += 1
                    before = text[end - 1]
                    at = end
                    pieces = 0
                    continue
        if pieces:
            pieces = 2 if kind & 4 else 0
        out[to] = before = byte
        to += 1
        at += 1
    if quotes and _telling(text, size):
        return -1
    return to


def fold(bytes sql not None):
    """As `split.folding.fold`, for the test that compares the two."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(sql) + 1)
    cdef Py_ssize_t size = _fold(<const unsigned char *> PyBytes_AS_STRING(sql), PyBytes_GET_SIZE(sql),
                                 <unsigned char *> PyBytes_AS_STRING(out))
    return None if size < 0 else out[:size]
