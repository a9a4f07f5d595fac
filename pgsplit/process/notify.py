"""What systemd is told, and when: sd_notify(3)'s protocol, one datagram a message, without its library."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from .. import log

logger = log.get("pgsplit.arbiter")

NEVER: Final = float("inf")
LAST_WORDS: Final = 5.0           # seconds for which `close` may block


class Notifier:
    """Of the arbiter; where nobody listens (no NOTIFY_SOCKET) nothing is said. It does not block: what the other end
    has no room for (few datagrams may wait in a socket) is said later on, but for signs of life.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address is not None else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self._waiting: deque[str] = deque()
        self._failed = self._gave_way = False
        self._interval = _watchdog(environment) if self._socket is not None else NEVER
        self.next_beat = NEVER if self._interval == NEVER else time.monotonic()      # monotonic seconds

    def ready(self, status: str) -> None:
        """Serving, for the first time or after a reload."""
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def stopping(self, status: str) -> None:
        self._say("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._say(f"STATUS={status}")

    def give_way(self, pid: int) -> None:
        """The service's main process is *pid* from now on, and what this one would say is not listened to any more."""
        self._say(f"MAINPID={pid}", "READY=1")
        self._interval = self.next_beat = NEVER
        self._gave_way = True

    def close(self) -> None:
        """What has not been said yet is said now, or not at all."""
        if self._socket is not None:
            self._socket.settimeout(LAST_WORDS)
            self._flush()
            self._socket.close()
            self._socket = None

    def beat(self, now: float) -> None:
        """The watchdog's sign of life, when it is due: called by the arbiter's loop, so that a loop that hangs gives
        none.
        """
        if self._waiting:
            self._flush()
        if now >= self.next_beat:
            if not self._waiting:
                self._say("WATCHDOG=1")
                self._waiting.clear()
            self.next_beat = now + self._interval

    def _say(self, *lines: str) -> None:
        if self._socket is not None and not self._gave_way:
            self._waiting.append("\n".join(line.replace("\n", " ") for line in lines))
            self._flush()

    def _flush(self) -> None:
        if self._socket is None or self._address is None:
            return
        while self._waiting:
            try:
                self._socket.sendto(self._waiting[0].encode(errors="replace"), self._address)
            except (BlockingIOError, TimeoutError):
                return
            except OSError as error:
                if not self._failed:
                    logger.warning("NOTIFY_SOCKET: cannot say %s: %s", self._waiting[0].split("\n")[0], error.strerror)
                self._failed = True
            self._waiting.popleft()


def _address(name: str) -> str | None:
    """``@`` stands for the NUL of an abstract name. Other kinds (vsock) are a virtual machine's."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog(environment: Mapping[str, str]) -> float:
    """Seconds between two signs of life: half of what may pass (sd_watchdog_enabled(3)); NEVER if none are asked."""
    allowed, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not allowed.isdecimal() or not int(allowed) or (pid and pid != str(os.getpid())):
        return NEVER
    return int(allowed) / 2e6
