# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""TLS by libssl itself: what of ssl.SSLContext and ssl.SSLObject `Stream` and the settings use, and for the compiled
relay a link without a Python object a record (docs/adr/0022).

OpenSSL sees no socket: a BIO of ours gives it what has come and takes what is to be sent, always all of it, so that
neither SSL_write nor an answer of TLS itself ever waits. Every error is one of the ssl module's, with its words.
"""

import ipaddress
import os
import ssl

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_New
from libc.errno cimport errno as c_errno
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

include "upstream/_tls_link.pxi"

cdef extern from *:
    """
    #ifndef PGSPLIT_SOURCES
    #define PGSPLIT_SOURCES ""
    #endif
    """
    const char *PGSPLIT_SOURCES

cdef extern from *:
    """
    #include <errno.h>
    static void set_errno(int number) { errno = number; }
    """
    void set_errno(int number)

cdef extern from "openssl/err.h":
    void ERR_clear_error()
    unsigned long ERR_peek_last_error()
    const char *ERR_reason_error_string(unsigned long code)

cdef extern from "openssl/objects.h":
    ctypedef struct ASN1_OBJECT
    int OBJ_sn2nid(const char *name)
    int OBJ_obj2txt(char *text, int size, const ASN1_OBJECT *of, int no_name)

cdef extern from "openssl/bio.h":
    ctypedef struct BIO
    ctypedef struct BIO_METHOD
    int BIO_TYPE_SOURCE_SINK, BIO_CTRL_FLUSH
    int BIO_get_new_index()
    BIO_METHOD *BIO_meth_new(int kind, const char *name)
    int BIO_meth_set_write(BIO_METHOD *method, int (*write)(BIO *, const char *, int) noexcept)
    int BIO_meth_set_read(BIO_METHOD *method, int (*read)(BIO *, char *, int) noexcept)
    int BIO_meth_set_ctrl(BIO_METHOD *method, long (*ctrl)(BIO *, int, long, void *) noexcept)
    BIO *BIO_new(const BIO_METHOD *method)
    void BIO_set_init(BIO *bio, int on)
    void BIO_set_data(BIO *bio, void *data)
    void *BIO_get_data(BIO *bio)
    void BIO_clear_retry_flags(BIO *bio)
    void BIO_set_retry_read(BIO *bio)

cdef extern from "openssl/x509v3.h":
    ctypedef struct X509
    ctypedef struct X509_NAME
    ctypedef struct X509_NAME_ENTRY
    ctypedef struct X509_STORE
    ctypedef struct X509_VERIFY_PARAM
    ctypedef struct ASN1_STRING
    ctypedef struct GENERAL_NAMES
    ctypedef union GENERAL_NAME_d:
        ASN1_STRING *ia5
    ctypedef struct GENERAL_NAME:
        int type
        GENERAL_NAME_d d
    int NID_subject_alt_name, GEN_EMAIL, GEN_DNS, GEN_URI, X509_V_OK
    int X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
    unsigned long X509_V_FLAG_TRUSTED_FIRST
    unsigned int X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS
    void X509_free(X509 *certificate)
    int i2d_X509(X509 *certificate, unsigned char **out)
    X509_NAME *X509_get_subject_name(X509 *certificate)
    int X509_NAME_entry_count(X509_NAME *name)
    X509_NAME_ENTRY *X509_NAME_get_entry(X509_NAME *name, int at)
    ASN1_OBJECT *X509_NAME_ENTRY_get_object(X509_NAME_ENTRY *entry)
    ASN1_STRING *X509_NAME_ENTRY_get_data(X509_NAME_ENTRY *entry)
    int ASN1_STRING_to_UTF8(unsigned char **out, const ASN1_STRING *text)
    const unsigned char *ASN1_STRING_get0_data(const ASN1_STRING *text)
    int ASN1_STRING_length(const ASN1_STRING *text)
    void *X509_get_ext_d2i(X509 *certificate, int nid, int *critical, int *at)
    int sk_GENERAL_NAME_num(GENERAL_NAMES *names)
    GENERAL_NAME *sk_GENERAL_NAME_value(GENERAL_NAMES *names, int at)
    void GENERAL_NAMES_free(GENERAL_NAMES *names)
    const char *X509_verify_cert_error_string(long code)
    int X509_VERIFY_PARAM_set_flags(X509_VERIFY_PARAM *param, unsigned long flags)
    int X509_VERIFY_PARAM_clear_flags(X509_VERIFY_PARAM *param, unsigned long flags)
    unsigned long X509_VERIFY_PARAM_get_flags(X509_VERIFY_PARAM *param)
    void X509_VERIFY_PARAM_set_hostflags(X509_VERIFY_PARAM *param, unsigned int flags)
    int X509_VERIFY_PARAM_set1_host(X509_VERIFY_PARAM *param, const char *name, size_t size)
    int X509_VERIFY_PARAM_set1_ip(X509_VERIFY_PARAM *param, const unsigned char *address, size_t size)

cdef extern from "openssl/ssl.h":
    ctypedef struct SSL
    ctypedef struct SSL_CTX
    ctypedef struct SSL_METHOD
    int SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    int SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN, SSL_FILETYPE_PEM
    int SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_NOACK, OPENSSL_NPN_NEGOTIATED
    long SSL_MODE_RELEASE_BUFFERS, SSL_MODE_AUTO_RETRY, SSL_SESS_CACHE_OFF
    unsigned long SSL_OP_ALL, SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS, SSL_OP_NO_COMPRESSION, SSL_OP_NO_RENEGOTIATION
    unsigned long SSL_OP_CIPHER_SERVER_PREFERENCE
    const SSL_METHOD *TLS_server_method()
    const SSL_METHOD *TLS_client_method()
    SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
    void SSL_CTX_free(SSL_CTX *context)
    unsigned long SSL_CTX_set_options(SSL_CTX *context, unsigned long options)
    unsigned long SSL_CTX_clear_options(SSL_CTX *context, unsigned long options)
    long SSL_CTX_set_mode(SSL_CTX *context, long mode)
    long SSL_CTX_set_session_cache_mode(SSL_CTX *context, long mode)
    int SSL_CTX_set_session_id_context(SSL_CTX *context, const unsigned char *data, unsigned int size)
    int SSL_CTX_set_min_proto_version(SSL_CTX *context, int version)
    int SSL_CTX_set_max_proto_version(SSL_CTX *context, int version)
    int SSL_CTX_set_cipher_list(SSL_CTX *context, const char *words)
    int SSL_CTX_set1_groups(SSL_CTX *context, int *nids, long count)
    int SSL_CTX_use_certificate_chain_file(SSL_CTX *context, const char *path)
    int SSL_CTX_use_PrivateKey_file(SSL_CTX *context, const char *path, int form)
    int SSL_CTX_check_private_key(const SSL_CTX *context)
    int SSL_CTX_load_verify_locations(SSL_CTX *context, const char *file, const char *directory)
    void SSL_CTX_set_default_passwd_cb(SSL_CTX *context, int (*ask)(char *, int, int, void *) noexcept)
    void SSL_CTX_set_verify(SSL_CTX *context, int mode, void *callback)
    X509_VERIFY_PARAM *SSL_CTX_get0_param(SSL_CTX *context)
    int SSL_CTX_set_alpn_protos(SSL_CTX *context, const unsigned char *names, unsigned int size)
    ctypedef int (*Select)(SSL *connection, const unsigned char **out, unsigned char *out_size,
                           const unsigned char *theirs, unsigned int their_size, void *ours) noexcept
    void SSL_CTX_set_alpn_select_cb(SSL_CTX *context, Select select, void *ours)
    int SSL_select_next_proto(unsigned char **out, unsigned char *out_size, const unsigned char *ours,
                              unsigned int our_size, const unsigned char *theirs, unsigned int their_size)
    SSL *SSL_new(SSL_CTX *context)
    void SSL_free(SSL *connection)
    void SSL_set_bio(SSL *connection, BIO *read, BIO *write)
    void SSL_set_accept_state(SSL *connection)
    void SSL_set_connect_state(SSL *connection)
    long SSL_set_tlsext_host_name(SSL *connection, const char *name)
    X509_VERIFY_PARAM *SSL_get0_param(SSL *connection)
    int SSL_do_handshake(SSL *connection)
    int SSL_is_init_finished(const SSL *connection)
    int SSL_read(SSL *connection, void *into, int room)
    int SSL_write(SSL *connection, const void *data, int size)
    int SSL_pending(const SSL *connection)
    int SSL_shutdown(SSL *connection)
    int SSL_get_error(const SSL *connection, int result)
    long SSL_get_verify_result(const SSL *connection)
    X509 *SSL_get_peer_certificate(const SSL *connection)
    void SSL_get0_alpn_selected(const SSL *connection, const unsigned char **name, unsigned int *size)
    const char *SSL_get_version(const SSL *connection)

cdef extern from "openssl/crypto.h":
    """
    static void pgsplit_openssl_free(void *memory) { OPENSSL_free(memory); }
    """
    void pgsplit_openssl_free(void *memory)

DEF PIECE = 1 << 30        # bytes: SSL_write takes an int

sources = PGSPLIT_SOURCES.decode()

cdef const char *UNKNOWN = b"unknown error"


# --- the BIO ----------------------------------------------------------------------------------------------------

cdef int _bio_read(BIO *bio, char *into, int room) noexcept:
    cdef TlsLink *link = <TlsLink *> BIO_get_data(bio)
    cdef Py_ssize_t size = min(<Py_ssize_t> room, link.wire_size)
    BIO_clear_retry_flags(bio)
    if size <= 0:
        BIO_set_retry_read(bio)
        return -1
    memcpy(into, link.wire, size)
    link.wire += size
    link.wire_size -= size
    if link.wire_size == 0:
        free(link.kept)
        link.wire = link.kept = NULL
    return <int> size


cdef int _bio_write(BIO *bio, const char *data, int size) noexcept:
    cdef TlsLink *link = <TlsLink *> BIO_get_data(bio)
    cdef Py_ssize_t room
    cdef void *more
    BIO_clear_retry_flags(bio)
    if size <= 0:
        return 0
    if link.out_size + size > link.out_room:
        room = link.out_size + size if link.out_size == 0 else 2 * (link.out_size + size)
        more = realloc(link.out, room)
        if more == NULL:
            return -1
        link.out = <unsigned char *> more
        link.out_room = room
    memcpy(link.out + link.out_size, data, size)
    link.out_size += size
    return size


cdef long _bio_ctrl(BIO *bio, int command, long number, void *pointer) noexcept:
    return command == BIO_CTRL_FLUSH


cdef BIO_METHOD *METHOD = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, b"pgsplit")
if METHOD == NULL:
    raise MemoryError()
BIO_meth_set_read(METHOD, _bio_read)
BIO_meth_set_write(METHOD, _bio_write)
BIO_meth_set_ctrl(METHOD, _bio_ctrl)


cdef const char *_words() noexcept:
    """OpenSSL's, of what it has just said; they are its own, and stay."""
    cdef const char *words = ERR_reason_error_string(ERR_peek_last_error())
    return words if words != NULL else UNKNOWN


# --- the link (see _tls_link.pxi) ---------------------------------------------------------------------------------

cdef Py_ssize_t _link_decrypt(TlsLink *link, const unsigned char *wire, Py_ssize_t size, unsigned char *clear,
                              Py_ssize_t room) noexcept:
    cdef Py_ssize_t done = 0
    cdef int count
    if size and link.wire_size:
        return -1
    if size:
        link.wire = wire
        link.wire_size = size
    while link.wire_size or SSL_pending(<SSL *> link.ssl):
        if done >= room:
            link.wire_size = 0
            return -1
        ERR_clear_error()
        count = SSL_read(<SSL *> link.ssl, clear + done, <int> min(room - done, <Py_ssize_t> PIECE))
        if count <= 0:
            _note_end(link, count)
            break
        done += count
    link.wire = NULL
    link.wire_size = 0
    return done


cdef bint _link_encrypt(TlsLink *link, const unsigned char *clear, Py_ssize_t size) noexcept:
    cdef int count
    while size > 0:
        ERR_clear_error()
        count = SSL_write(<SSL *> link.ssl, clear, <int> min(size, <Py_ssize_t> PIECE))
        if count <= 0:
            _note_end(link, count)
            return False
        clear += count
        size -= count
    return True


cdef void _link_say_goodbye(TlsLink *link) noexcept:
    ERR_clear_error()
    if link.failure == NULL and SSL_is_init_finished(<SSL *> link.ssl):
        SSL_shutdown(<SSL *> link.ssl)      # the peer's own is not waited for
    ERR_clear_error()


cdef void _link_drop_out(TlsLink *link) noexcept:
    free(link.out)
    link.out = NULL
    link.out_size = link.out_room = 0


cdef int _note_end(TlsLink *link, int result) noexcept:
    """What SSL_get_error says of *result*; the end, if it is one, is noted."""
    cdef int error = SSL_get_error(<SSL *> link.ssl, result)
    if error == SSL_ERROR_ZERO_RETURN:
        link.closed = True
    elif error != SSL_ERROR_WANT_READ:
        link.failure = _words()
    return error


# --- errors -------------------------------------------------------------------------------------------------------

cdef str _reason(const char *words):
    """As the ssl module names it."""
    return words.decode("ascii", "replace").upper().replace(" ", "_")


cdef object _failed():
    """The exception for what OpenSSL has just said."""
    cdef const char *words = _words()
    ERR_clear_error()
    return _error(ssl.SSLError, words)


cdef object _error(object kind, const char *words):
    error = kind(1, words.decode("ascii", "replace"))
    error.reason = _reason(words)
    error.library = "SSL"
    return error


# --- contexts -----------------------------------------------------------------------------------------------------

cdef int _ask_nobody(char *into, int room, int writing, void *with_) noexcept:
    """Of an encrypted key's passphrase."""
    return 0


cdef int _select_alpn(SSL *connection, const unsigned char **out, unsigned char *out_size, const unsigned char *theirs,
                      unsigned int their_size, void *ours) noexcept:
    cdef bytes names = <bytes> ours
    if SSL_select_next_proto(<unsigned char **> out, out_size, <const unsigned char *> PyBytes_AS_STRING(names),
                             <unsigned int> PyBytes_GET_SIZE(names), theirs, their_size) != OPENSSL_NPN_NEGOTIATED:
        return SSL_TLSEXT_ERR_NOACK
    return SSL_TLSEXT_ERR_OK


cdef bytes _ciphers(protocol):
    """What an ssl.SSLContext begins with, which is for who builds Python to say, so that both forms agree with the same
    peers. The suites of TLS 1.3 are OpenSSL's in both.
    """
    context = ssl.SSLContext(protocol)
    names = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    return f"@SECLEVEL={context.security_level}:{':'.join(names)}".encode()


cdef class Context:
    """What of ssl.SSLContext is used here, with the same names, errors and defaults.

    *protocol*: ssl.PROTOCOL_TLS_CLIENT, which checks certificates and names until it is told not to, or
    ssl.PROTOCOL_TLS_SERVER.
    """

    cdef SSL_CTX *context
    cdef bytes alpn
    cdef bint server_side, checks_hostname
    cdef int mode

    def __cinit__(self, protocol):
        if protocol not in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
            raise ValueError("a context is a client's or a server's")
        self.server_side = protocol == ssl.PROTOCOL_TLS_SERVER
        ERR_clear_error()
        self.context = SSL_CTX_new(TLS_server_method() if self.server_side else TLS_client_method())
        if self.context == NULL:
            raise _failed()
        SSL_CTX_set_options(self.context, SSL_OP_ALL | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION
                            | SSL_OP_CIPHER_SERVER_PREFERENCE)
        SSL_CTX_clear_options(self.context, SSL_OP_DONT_INSERT_EMPTY_FRAGMENTS)
        SSL_CTX_set_mode(self.context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY)
        SSL_CTX_set_session_cache_mode(self.context, SSL_SESS_CACHE_OFF)       # tickets are the client's to keep
        SSL_CTX_set_default_passwd_cb(self.context, _ask_nobody)
        cdef X509_VERIFY_PARAM *param = SSL_CTX_get0_param(self.context)
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_TRUSTED_FIRST)
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
        cdef bytes ciphers = _ciphers(protocol)
        if not (SSL_CTX_set_cipher_list(self.context, ciphers)
                and SSL_CTX_set_session_id_context(self.context, b"pgsplit", 7)):
            raise _failed()
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self.checks_hostname = False
        self.verify_mode = ssl.CERT_NONE if self.server_side else ssl.CERT_REQUIRED
        self.checks_hostname = not self.server_side

    def __dealloc__(self):
        SSL_CTX_free(self.context)

    @property
    def minimum_version(self):
        raise AttributeError("minimum_version can only be set")

    @minimum_version.setter
    def minimum_version(self, version):
        ERR_clear_error()
        if not SSL_CTX_set_min_proto_version(self.context, version):
            raise _failed()

    @property
    def maximum_version(self):
        raise AttributeError("maximum_version can only be set")

    @maximum_version.setter
    def maximum_version(self, version):
        ERR_clear_error()
        if not SSL_CTX_set_max_proto_version(self.context, version):
            raise _failed()

    @property
    def verify_mode(self):
        return ssl.VerifyMode(self.mode)

    @verify_mode.setter
    def verify_mode(self, mode):
        mode = ssl.VerifyMode(mode)
        if mode == ssl.CERT_NONE and self.checks_hostname:
            raise ValueError("Cannot set verify_mode to CERT_NONE when check_hostname is enabled.")
        cdef int flags = SSL_VERIFY_NONE
        if mode == ssl.CERT_OPTIONAL:
            flags = SSL_VERIFY_PEER
        elif mode == ssl.CERT_REQUIRED:
            flags = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
        SSL_CTX_set_verify(self.context, flags, NULL)
        self.mode = mode

    @property
    def check_hostname(self):
        return self.checks_hostname

    @check_hostname.setter
    def check_hostname(self, on):
        if on and self.mode == ssl.CERT_NONE:
            self.verify_mode = ssl.CERT_REQUIRED
        self.checks_hostname = bool(on)

    @property
    def verify_flags(self):
        return X509_VERIFY_PARAM_get_flags(SSL_CTX_get0_param(self.context))

    @verify_flags.setter
    def verify_flags(self, flags):
        cdef X509_VERIFY_PARAM *param = SSL_CTX_get0_param(self.context)
        cdef unsigned long now = X509_VERIFY_PARAM_get_flags(param), wanted = int(flags)
        ERR_clear_error()
        if not (X509_VERIFY_PARAM_clear_flags(param, now & ~wanted)
                and X509_VERIFY_PARAM_set_flags(param, wanted & ~now)):
            raise _failed()

    def set_ciphers(self, str words):
        cdef bytes encoded = words.encode()
        ERR_clear_error()
        if not SSL_CTX_set_cipher_list(self.context, encoded):
            ERR_clear_error()
            raise ssl.SSLError("No cipher can be selected.")

    def set_ecdh_curve(self, str name):
        cdef bytes encoded = name.encode()
        cdef int nid = OBJ_sn2nid(encoded)
        if nid == 0:
            raise ValueError(f"unknown elliptic curve name {name!r}")
        ERR_clear_error()
        if not SSL_CTX_set1_groups(self.context, &nid, 1):
            raise _failed()

    def load_cert_chain(self, certificate, key):
        cdef bytes certificate_path = os.fsencode(certificate), key_path = os.fsencode(key or certificate)
        ERR_clear_error()
        set_errno(0)
        if SSL_CTX_use_certificate_chain_file(self.context, certificate_path) != 1:
            raise _of_file()
        set_errno(0)
        if SSL_CTX_use_PrivateKey_file(self.context, key_path, SSL_FILETYPE_PEM) != 1:
            raise _of_file()
        if not SSL_CTX_check_private_key(self.context):
            raise _failed()

    def load_verify_locations(self, path):
        cdef bytes encoded = os.fsencode(path)
        ERR_clear_error()
        set_errno(0)
        if SSL_CTX_load_verify_locations(self.context, encoded, NULL) != 1:
            raise _of_file()

    def set_alpn_protocols(self, names):
        """Once a context: a handshake may be looking at the list."""
        if self.alpn is not None:
            raise ValueError("the protocols have been set")
        encoded = [name.encode("ascii") for name in names]
        if not all(0 < len(name) < 256 for name in encoded):
            raise ssl.SSLError("ALPN protocols must be 1 to 255 bytes long")
        self.alpn = b"".join(bytes([len(name)]) + name for name in encoded)
        if SSL_CTX_set_alpn_protos(self.context, self.alpn, <unsigned int> PyBytes_GET_SIZE(self.alpn)):
            raise MemoryError()
        SSL_CTX_set_alpn_select_cb(self.context, _select_alpn, <void *> self.alpn)

    def wrap(self, *, bint server_side, server_hostname=None):
        """A `Connection` before its handshake."""
        if server_side != self.server_side:
            raise ValueError("a context is a client's or a server's")
        if server_side and server_hostname:
            raise ValueError("server_hostname can only be specified in client mode")
        if self.checks_hostname and not server_hostname:
            raise ValueError("check_hostname requires server_hostname")
        return Connection(self, server_hostname)


cdef object _of_file():
    """The exception for a file that cannot be used: the system's word where it has one, as in the ssl module."""
    cdef int number = c_errno
    if number:
        ERR_clear_error()
        return OSError(number, os.strerror(number))
    return _failed()


# --- connections ----------------------------------------------------------------------------------------------------

cdef class Connection:
    """What of ssl.SSLObject is used here: one connection, from its handshake to its end."""

    cdef readonly Context context
    cdef readonly object server_hostname
    cdef TlsLink _link

    def __cinit__(self, Context context not None, server_hostname):
        cdef BIO *bio
        cdef SSL *connection
        cdef bytes name
        self._link.decrypt = _link_decrypt
        self._link.encrypt = _link_encrypt
        self._link.say_goodbye = _link_say_goodbye
        self._link.drop_out = _link_drop_out
        self.context = context
        self.server_hostname = server_hostname
        ERR_clear_error()
        connection = SSL_new(context.context)
        if connection == NULL:
            raise _failed()
        self._link.ssl = connection
        bio = BIO_new(METHOD)
        if bio == NULL:
            raise MemoryError()
        BIO_set_data(bio, &self._link)
        BIO_set_init(bio, 1)
        SSL_set_bio(connection, bio, bio)
        if context.server_side:
            SSL_set_accept_state(connection)
        else:
            SSL_set_connect_state(connection)
            if server_hostname:
                self._expect(connection, server_hostname)

    cdef int _expect(self, SSL *connection, str hostname) except -1:
        """SNI, where the name is one and no address, and whose certificate it has to be."""
        cdef bytes name = hostname.encode("idna"), address = None
        cdef X509_VERIFY_PARAM *param = SSL_get0_param(connection)
        if not name or name.startswith(b".") or b"\0" in name:
            raise ValueError("server_hostname cannot be an empty string or start with a leading dot.")
        try:
            address = ipaddress.ip_address(hostname).packed
        except ValueError:
            if not SSL_set_tlsext_host_name(connection, name):
                raise _failed()
        if self.context.checks_hostname:
            if address is None:
                if not X509_VERIFY_PARAM_set1_host(param, name, PyBytes_GET_SIZE(name)):
                    raise _failed()
            elif not X509_VERIFY_PARAM_set1_ip(param, address, PyBytes_GET_SIZE(address)):
                raise _failed()
        return 0

    def __dealloc__(self):
        SSL_free(<SSL *> self._link.ssl)        # and its BIO
        free(self._link.out)
        free(self._link.kept)

    @property
    def link(self):
        """For the compiled relay, which keeps this connection while it has it."""
        return PyCapsule_New(&self._link, "pgsplit.tls", NULL)

    @property
    def incoming(self):
        return Incoming(self)

    @property
    def outgoing(self):
        return Outgoing(self)

    @property
    def failure(self):
        """The ssl module's word for what has ended it; None: nothing has."""
        return _reason(self._link.failure) if self._link.failure != NULL else None

    def do_handshake(self):
        ERR_clear_error()
        cdef int result = SSL_do_handshake(<SSL *> self._link.ssl)
        if result <= 0:
            raise self._raised(result)

    def read(self, int size, buffer=None):
        """Bytes of the peer's, or how many went into *buffer*; nothing when it has said goodbye."""
        cdef Py_buffer view
        cdef bytes data
        cdef int count
        if buffer is None:
            if size <= 0:
                raise ValueError("size should be positive")
            data = PyBytes_FromStringAndSize(NULL, size)
            count = self._read(PyBytes_AS_STRING(data), size)
            return data[:count]
        PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        try:
            return self._read(<char *> view.buf, <int> min(<Py_ssize_t> size, view.len))
        finally:
            PyBuffer_Release(&view)

    cdef int _read(self, char *into, int room) except -1:
        ERR_clear_error()
        cdef int count = SSL_read(<SSL *> self._link.ssl, into, room)
        if count <= 0:
            error = self._raised(count)
            if not isinstance(error, ssl.SSLZeroReturnError):
                raise error
            return 0
        return count

    def write(self, data):
        """All of it."""
        cdef Py_buffer view
        cdef bint done
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            done = _link_encrypt(&self._link, <const unsigned char *> view.buf, view.len)
            size = view.len
        finally:
            PyBuffer_Release(&view)
        if not done:
            if self._link.failure == NULL:
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete")
            raise _error(ssl.SSLError, self._link.failure)
        return size

    cdef object _raised(self, int result):
        """The exception for a *result* that was none."""
        cdef int code = _note_end(&self._link, result)
        cdef long verified
        if code == SSL_ERROR_WANT_READ:
            return ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)")
        if code == SSL_ERROR_ZERO_RETURN:
            return ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "TLS/SSL connection has been closed (EOF)")
        error = _failed()
        if error.reason == "CERTIFICATE_VERIFY_FAILED":
            error = _error(ssl.SSLCertVerificationError, self._link.failure)
            verified = SSL_get_verify_result(<SSL *> self._link.ssl)
            error.verify_code = verified
            if verified == X509_V_ERR_HOSTNAME_MISMATCH:
                error.verify_message = f"Hostname mismatch, certificate is not valid for '{self.server_hostname}'."
            elif verified == X509_V_ERR_IP_ADDRESS_MISMATCH:
                error.verify_message = f"IP address mismatch, certificate is not valid for '{self.server_hostname}'."
            else:
                error.verify_message = X509_verify_cert_error_string(verified).decode()
        return error

    def pending(self):
        return SSL_pending(<SSL *> self._link.ssl)

    def unwrap(self):
        """Say goodbye; the peer's own is not waited for."""
        _link_say_goodbye(&self._link)

    def version(self):
        return SSL_get_version(<SSL *> self._link.ssl).decode()

    def selected_alpn_protocol(self):
        cdef const unsigned char *name = NULL
        cdef unsigned int size = 0
        SSL_get0_alpn_selected(<SSL *> self._link.ssl, &name, &size)
        return PyBytes_FromStringAndSize(<const char *> name, size).decode("ascii") if name != NULL else None

    def getpeercert(self, bint binary_form=False):
        """In DER; or its subject and subjectAltName (DNS, email, URI), of one that has been checked."""
        cdef X509 *certificate
        if not SSL_is_init_finished(<SSL *> self._link.ssl):
            raise ValueError("handshake not done yet")
        certificate = SSL_get_peer_certificate(<SSL *> self._link.ssl)
        if certificate == NULL:
            return None
        try:
            if binary_form:
                return _der(certificate)
            if self.context.mode == ssl.CERT_NONE:
                return {}
            return {"subject": _subject(certificate), "subjectAltName": _alternatives(certificate)}
        finally:
            X509_free(certificate)


cdef bytes _der(X509 *certificate):
    cdef unsigned char *out = NULL
    ERR_clear_error()
    cdef int size = i2d_X509(certificate, &out)
    if size < 0:
        raise _failed()
    try:
        return PyBytes_FromStringAndSize(<const char *> out, size)
    finally:
        pgsplit_openssl_free(out)


cdef tuple _subject(X509 *certificate):
    """Each attribute as a relative name of its own."""
    cdef X509_NAME *name = X509_get_subject_name(certificate)
    cdef X509_NAME_ENTRY *entry
    cdef unsigned char *value
    cdef char kind[256]
    cdef int at, size
    found = []
    for at in range(X509_NAME_entry_count(name)):
        entry = X509_NAME_get_entry(name, at)
        ERR_clear_error()
        if OBJ_obj2txt(kind, sizeof(kind), X509_NAME_ENTRY_get_object(entry), 0) < 0:
            raise _failed()
        value = NULL
        size = ASN1_STRING_to_UTF8(&value, X509_NAME_ENTRY_get_data(entry))
        if size < 0:
            raise _failed()
        try:
            text = PyBytes_FromStringAndSize(<const char *> value, size).decode()
            found.append((((<const char *> kind).decode(), text),))
        finally:
            pgsplit_openssl_free(value)
    return tuple(found)


cdef tuple _alternatives(X509 *certificate):
    cdef GENERAL_NAMES *names = <GENERAL_NAMES *> X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL)
    cdef GENERAL_NAME *name
    cdef int at
    if names == NULL:
        return ()
    found = []
    try:
        for at in range(sk_GENERAL_NAME_num(names)):
            name = sk_GENERAL_NAME_value(names, at)
            kind = "email" if name.type == GEN_EMAIL else "DNS" if name.type == GEN_DNS else "URI"
            if name.type == GEN_EMAIL or name.type == GEN_DNS or name.type == GEN_URI:
                found.append((kind, PyBytes_FromStringAndSize(<const char *> ASN1_STRING_get0_data(name.d.ia5),
                                                              ASN1_STRING_length(name.d.ia5)).decode()))
    finally:
        GENERAL_NAMES_free(names)
    return tuple(found)


cdef class Incoming:
    """As an ssl.MemoryBIO: bytes from the peer."""

    cdef Connection connection

    def __cinit__(self, Connection connection not None):
        self.connection = connection

    @property
    def pending(self):
        return self.connection._link.wire_size

    def write(self, data):
        cdef TlsLink *link = &self.connection._link
        cdef Py_buffer view
        cdef unsigned char *whole
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if view.len == 0:
                return 0
            whole = <unsigned char *> malloc(link.wire_size + view.len)
            if whole == NULL:
                raise MemoryError()
            if link.wire_size:
                memcpy(whole, link.wire, link.wire_size)
            memcpy(whole + link.wire_size, view.buf, view.len)
            free(link.kept)
            link.wire = link.kept = whole
            link.wire_size += view.len
            return view.len
        finally:
            PyBuffer_Release(&view)


cdef class Outgoing:
    """As an ssl.MemoryBIO: bytes for the peer."""

    cdef Connection connection

    def __cinit__(self, Connection connection not None):
        self.connection = connection

    @property
    def pending(self):
        return self.connection._link.out_size

    def read(self):
        cdef TlsLink *link = &self.connection._link
        cdef bytes data = PyBytes_FromStringAndSize(<const char *> link.out, link.out_size)
        _link_drop_out(link)
        return data
