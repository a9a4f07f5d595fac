"""TCP ports on the loopback interface."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def choose(preferred: int = 0) -> int:
    """*preferred* if it is free, else one that the system picks."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, preferred))
        except OSError:
            probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
