"""One connection to a server by a connection string, with no configuration and no cluster: for `pgsplit observe`."""

from __future__ import annotations

import getpass
import json
import os
import ssl
import stat
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final

import gevent

from ..auth.allowed import ANY, NONE, Allowed
from ..auth.secret import Kind, Secret
from ..errors import ConnectionLost, PgSplitError, ServerError
from ..topology.definitions import QUESTIONS
from ..upstream.login import Credentials, authenticate, finish, read_request, start_tls
from ..upstream.rows import take_rows
from ..upstream.stream import ALPN, Stream
from ..wire import build
from .dsn import Dsn, parse, password_in

SOCKETS: Final = ("/var/run/postgresql", "/tmp")      # where servers have theirs: Debian's, and PostgreSQL's own
PATIENCE: Final = 60.0          # seconds that an answer may take
PARAMETERS: Final = {"application_name": "pgsplit observe", "client_encoding": "SQL_ASCII",
                     "search_path": "pg_catalog", "default_transaction_read_only": "on", "statement_timeout": "50s"}
_PLAIN: Final = frozenset({"disable", "allow"})     # modes that begin without TLS
_MAY_BE_PLAIN: Final = frozenset({"prefer"})        # and those that go on without, where the server has none


def dsn_of(text: str) -> Dsn:
    """The connection string *text*, completed by the environment and the password file as libpq does.

    :raises PgSplitError: with what is wrong in it, or with the file.
    """
    dsn = parse(text, os.environ, getpass.getuser())
    if not dsn.host:
        dsn = dsn._replace(host=next((path for path in SOCKETS if os.path.exists(_socket(path, dsn.port))),
                                     "localhost"))
    if dsn.password is not None:
        return dsn
    path = dsn.passfile or os.path.expanduser("~/.pgpass")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise PgSplitError(f"{path}: others may read it; libpq does not use it either (chmod 0600)")
            return dsn._replace(password=password_in(file, dsn))
    except FileNotFoundError:
        return dsn
    except OSError as error:
        raise PgSplitError(f"{path}: {error.strerror}") from None


class Direct:
    """A connection that is logged in, a context manager.

    :raises PgSplitError: when it cannot be made: in the server's words, or the system's.
    """

    def __init__(self, dsn: Dsn) -> None:
        self._dsn = dsn
        try:
            self._stream = self._connected()
            try:
                self._log_in()
            except BaseException:
                self._stream.close()
                raise
        except ssl.SSLError as error:
            raise PgSplitError(f"{dsn}: TLS: {error}") from None
        except OSError as error:
            raise PgSplitError(f"{dsn}: {error.strerror or error}") from None
        except (ServerError, ConnectionLost) as error:
            raise PgSplitError(f"{dsn}: {error}") from None

    def __enter__(self) -> Direct:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stream.close()

    def _connected(self) -> Stream:
        dsn = self._dsn
        if dsn.is_local:
            return Stream.to_path(_socket(dsn.host, dsn.port), str(dsn), dsn.timeout)
        stream = Stream.to((dsn.host, dsn.port), str(dsn), dsn.timeout)
        if dsn.sslmode in _PLAIN:
            return stream
        try:
            start_tls(stream, _context(dsn), dsn.host if dsn.sslmode == "verify-full" else None)
        except ServerError:
            if dsn.sslmode not in _MAY_BE_PLAIN:
                stream.close()
                raise ServerError("08001", "the server does not support TLS, which sslmode asks for") from None
        except BaseException:
            stream.close()
            raise
        return stream

    def _log_in(self) -> None:
        dsn, stream = self._dsn, self._stream
        stream.write(build.startup({"user": dsn.user, "database": dsn.database, **PARAMETERS}))
        first = read_request(stream)
        if first[0] and dsn.password is None:
            raise ServerError("28P01", "a password is asked for: give it by PGPASSWORD, in ~/.pgpass or in the "
                              "connection string")
        secret = Secret(Kind.CLEAR, dsn.password) if dsn.password is not None else None
        authenticate(stream, Credentials(dsn.user, secret), Allowed(ANY | {NONE}), first)
        finish(stream)
        stream.be_patient(PATIENCE)

    def ask(self, sql: str) -> list[list[bytes | None]]:
        """The rows that *sql* gives.

        :raises PgSplitError: with the server's error, or when the connection is lost.
        """
        try:
            with gevent.Timeout(PATIENCE, ConnectionLost(str(self._dsn), f"did not answer within {PATIENCE:g} s")):
                self._stream.write(build.query(sql))
                rows, failure = take_rows(self._stream)
        except (OSError, ServerError, ConnectionLost) as error:
            raise PgSplitError(f"{self._dsn}: {error}") from None
        if failure is not None:
            raise PgSplitError(f"{self._dsn}: {failure.message}")
        return rows

    def definitions(self) -> Iterator[Mapping[str, Any]]:
        """What the catalogue of the database is made from."""
        self.ask("begin isolation level repeatable read read only")
        answers = [self.ask(question) for question in QUESTIONS]
        self.ask("commit")
        for answer in answers:
            for (row,) in answer:
                yield json.loads((row or b"").decode("latin-1"))


def _socket(directory: str, port: int) -> str:
    return f"{directory}/.s.PGSQL.{port}"


def _context(dsn: Dsn) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([ALPN])
    context.check_hostname = dsn.sslmode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if dsn.sslmode.startswith("verify") else ssl.CERT_NONE
    if dsn.sslmode.startswith("verify"):
        context.load_verify_locations(dsn.sslrootcert)
    return context
