"""Listening sockets: bound by the arbiter, or there before it, inherited by the workers, shared by all of them."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable

from .. import log
from ..config.model import Address
from ..errors import PgSplitError

logger = log.get("pgsplit.listeners")


class BindError(PgSplitError):
    """An address that cannot be listened on."""


class Listening(socket.socket):
    """One that existed before: systemd's, or another arbiter's. *owns_file*: whether the file of a Unix socket is ours
    to remove when it is closed.
    """

    def __init__(self, descriptor: int, *, owns_file: bool) -> None:
        super().__init__(fileno=descriptor)
        self.owns_file = owns_file
        self.set_inheritable(False)
        self.setblocking(False)
        if self.family != socket.AF_UNIX:
            _set_options(self)

    def __str__(self) -> str:
        where = self.getsockname()
        if not isinstance(where, tuple):
            return os.fsdecode(where) or "a Unix socket without a name"
        return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"


class Inherited:
    """Sockets that listen already, to be taken by who would bind their address."""

    def __init__(self, sockets: Iterable[Listening] = ()) -> None:
        self.left = list(sockets)

    def take(self, family: int, where: object) -> Listening | None:
        for sock in self.left:
            if sock.family == family and sock.getsockname() == where:
                self.left.remove(sock)
                logger.info("%s is listened on already: taken over", sock)
                return sock
        return None


def bind(address: Address, backlog: int, inherited: Inherited | None = None) -> list[socket.socket]:
    """Listening sockets for *address*: one for each address that its name has. Those that are *inherited* are taken
    from there.

    :raises BindError: naming the address and the system's reason.
    """
    inherited = inherited or Inherited()
    if address.path is not None:
        return [inherited.take(socket.AF_UNIX, address.path) or _bind_unix(address.path, backlog)]
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BindError(f"cannot listen on {address}: {error}") from None
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _, where in dict.fromkeys(found):
            sockets.append(inherited.take(family, where)
                           or _bind_inet(socket.socket(family, kind, proto), where, backlog))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise BindError(f"cannot listen on {address}: {error.strerror}") from None
    return sockets


def _bind_inet(sock: socket.socket, where: tuple[object, ...], backlog: int) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _set_options(sock)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _set_options(sock: socket.socket) -> None:
    """Both are what it accepts will have (Linux)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _bind_unix(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(path)
        os.chmod(path, 0o777)      # noqa: S103 - as PostgreSQL's unix_socket_permissions: the login decides
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise BindError(f"cannot listen on {path}: {error.strerror or error}") from None
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that a dead process left behind. :raises OSError: when somebody listens there."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(17, "exists and is not a socket", path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise FileExistsError(98, "another process listens there", path)


def close(sock: socket.socket) -> None:
    """Stop listening; a Unix socket's file is removed, if it is ours. For the arbiter only."""
    if sock.fileno() < 0:
        return
    name = sock.getsockname()
    sock.close()
    if isinstance(name, str) and name and not (isinstance(sock, Listening) and not sock.owns_file):
        try:
            os.unlink(name)
        except OSError:
            pass
