# What the compiled relay is shown of a TLS connection: part of _openssl.pyx, which fills it, and of _crelay.pyx, which
# needs no OpenSSL of its own for it.

cdef struct TlsLink:
    # Decrypts *size* bytes that have come into *clear* and returns how many that makes; of none, those that have been
    # written to the connection's `incoming`. -1: there was no room, which there is for RECORD more than *size*.
    Py_ssize_t (*decrypt)(TlsLink *link, const unsigned char *wire, Py_ssize_t size, unsigned char *clear,
                          Py_ssize_t room) noexcept
    # Adds to *out*; False: TLS has failed.
    bint (*encrypt)(TlsLink *link, const unsigned char *clear, Py_ssize_t size) noexcept
    void (*say_goodbye)(TlsLink *link) noexcept
    void (*drop_out)(TlsLink *link) noexcept        # when it has been sent, or copied
    unsigned char *out                              # bytes for the peer, also TLS's own answers
    Py_ssize_t out_size, out_room
    const unsigned char *wire                       # bytes from the peer which OpenSSL has not taken
    Py_ssize_t wire_size
    unsigned char *kept                             # where *wire* lies, when it is the connection's own
    void *ssl
    const char *failure                             # OpenSSL's words, once TLS has failed
    bint closed                                     # the peer has said goodbye
