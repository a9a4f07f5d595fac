"""The end of a connection whose client may be sending: a socket that is closed with input unread resets the connection,
and the client meets the reset, perhaps, before it has read why (RFC 1122, 4.2.2.13).
"""

from __future__ import annotations

import socket
from typing import Final

import gevent
from gevent.socket import wait_read

LINGERS: Final = 2.0            # seconds
CHUNK: Final = 65536


def linger(sock: socket.socket, seconds: float = LINGERS) -> None:
    """Take what still comes on a socket that has been shut down for sending, until the client ends or for *seconds*,
    and close it. *sock* is somebody else's, who may close it meanwhile. Returns at once.
    """
    try:
        own = sock.dup()
    except OSError:
        return
    gevent.spawn(_drop, own, seconds)


def _drop(sock: socket.socket, seconds: float) -> None:
    try:
        sock.setblocking(False)
        with gevent.Timeout(seconds, TimeoutError):
            while True:
                wait_read(sock.fileno())
                if not sock.recv(CHUNK):
                    break
    except OSError:             # a TimeoutError is one
        pass
    finally:
        sock.close()
