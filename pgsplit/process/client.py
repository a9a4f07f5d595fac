"""Asking a running instance, over its sockets in run_dir. Blocking, no gevent: for app.py, the demo, the admin."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import Any, Final

from ..errors import PgSplitError
from .channel import Frames, encode

TIMEOUT: Final = 5.0


class NotRunning(PgSplitError):
    """Nobody answers in that run_dir."""


class Client:
    """*new_socket* makes a socket as `socket.socket` does: gevent's, for who must not block."""

    def __init__(self, run_dir: str, new_socket: Callable[[int, int], Any] = socket.socket) -> None:
        self._run_dir = run_dir
        self._new_socket = new_socket

    def arbiter(self, what: str, /, **args: Any) -> Any:
        """:raises NotRunning: when no instance runs there; PgSplitError with its words when it refuses."""
        return self._ask("arbiter.sock", what, args)

    def worker(self, number: int, what: str, /, **args: Any) -> Any:
        return self._ask(f"worker-{number}.sock", what, args)

    def workers(self) -> list[int]:
        """The numbers of those that have a socket."""
        try:
            names = os.listdir(self._run_dir)
        except OSError as error:
            raise NotRunning(f"{self._run_dir}: {error.strerror}") from None
        return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"worker-(\d+)\.sock", name)))

    def _ask(self, name: str, what: str, args: dict[str, Any]) -> Any:
        path = os.path.join(self._run_dir, name)
        frames = Frames()
        try:
            with self._new_socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(TIMEOUT)
                sock.connect(path)
                sock.sendall(encode({"what": what, "args": args}))
                while data := sock.recv(65536):
                    for reply in frames.feed(data):
                        if "error" in reply:
                            raise PgSplitError(reply["error"])
                        return reply["ok"]
        except OSError as error:
            raise NotRunning(f"no pgsplit answers at {path}: {error.strerror or error}") from None
        raise NotRunning(f"{path}: closed without an answer")
