"""Socket activation: listening sockets that systemd has bound (sd_listen_fds(3)), so that it can hold them while
pgsplit is not there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, MutableMapping
from typing import Final

from ..config.model import Address
from .listeners import BindError, Inherited, Listening

FIRST: Final = 3                  # SD_LISTEN_FDS_START
VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Activation(Inherited):
    """The sockets that this process was started with, none where it was not."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """The variables are taken out of *environment*: what is started by us is not meant.

        :raises BindError: for one that is no listening stream socket.
        """
        pid, count, names = (environment.pop(name, "") for name in VARIABLES)
        self._names: dict[int, str] = {}
        if pid != str(os.getpid()):
            super().__init__()
            return
        if not count.isdecimal():
            raise BindError(f"LISTEN_FDS is {count!r}, and is to be a number")
        given = range(FIRST, FIRST + int(count))
        self._names = dict(zip(given, names.split(":"), strict=False))
        super().__init__([_listening(descriptor, self._called(descriptor)) for descriptor in given])

    def all_taken(self, addresses: Iterable[Address]) -> None:
        """:raises BindError: naming what is left, of which no listener (nor the admin page) has the address."""
        if self.left:
            known = ", ".join(map(str, addresses))
            raise BindError("; ".join(
                f"{self._called(sock.fileno())} listens on {sock}, which is the address of nobody here: {known}"
                for sock in self.left))

    def _called(self, descriptor: int) -> str:
        name = self._names.get(descriptor)
        return f"the socket {name} (descriptor {descriptor} of LISTEN_FDS)" if name else \
            f"descriptor {descriptor} of LISTEN_FDS"


def _listening(descriptor: int, called: str) -> Listening:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            stream = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            known = sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    except OSError as error:
        raise BindError(f"{called}: {error.strerror}") from None
    if not stream or not known:
        raise BindError(f"{called} is no listening stream socket (ListenStream=, Accept=no)")
    return Listening(descriptor, owns_file=False)
