"""The admin process, as the arbiter keeps it: bound, forked, restarted with back-off, replaced with its settings.

It listens for HTTP in a process of its own, so that no page can slow a session down. Its log-in key and password are
the arbiter's: a restart logs nobody out.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .. import log
from ..config.model import Admin, Config
from ..errors import PgSplitError
from . import children, listeners
from .backoff import BackOff
from .channel import Channel, ChannelError

logger = log.get("pgsplit.admin")

PASSWORD_FILE: Final = "admin-password"


@dataclass(frozen=True)
class AdminContext:
    """What the admin process is given: no secret of the proxy's users.

    *key*: session cookies are signed with it. *password*: of the user ``admin``, where none is configured.
    *channel*: the arbiter's end closed means that it is gone.
    """

    settings: Admin
    run_dir: str
    sockets: list[socket.socket]
    channel: socket.socket
    key: bytes
    password: str | None


class AdminProcess:
    """*service*: the module whose ``run(AdminContext) -> int`` is the process. *close* as in `children.fork`.

    :attr:`held`: another arbiter's process serves its address, which was there before or comes after this one's.
    """

    def __init__(self, service: str, close: Callable[[], None]) -> None:
        self._service = service
        self._close = close
        self.key = secrets.token_bytes(32)
        self.password: str | None = None
        self.held = False
        self._settings: Admin | None = None
        self.sockets: list[socket.socket] = []
        self._channel: Channel | None = None
        self._run_dir = ""
        self._back_off = BackOff()
        self._started = 0.0
        self.pid = 0

    def configure(self, config: Config, inherited: listeners.Inherited | None = None) -> None:
        """Take over the settings: listen where they say, and fork a process that knows them.

        :raises BindError: when the address cannot be listened on; nothing has changed then.
        """
        settings = config.admin
        if settings == self._settings:
            return
        self._run_dir = config.process.run_dir
        if settings is None or self._settings is None or settings.address != self._settings.address:
            sockets = listeners.bind(settings.address, 128, inherited) if settings is not None else []
            for old in self.sockets:
                listeners.close(old)
            self.sockets = sockets
        self._settings = settings
        if settings is None:
            self.stop()
            return
        logger.info("admin page on http%s://%s%s/", "s" if settings.tls else "", settings.address, settings.prefix)
        if not settings.operators and self.password is None:
            self.password = self._make_password()
        self._back_off = BackOff()
        if self.pid:
            self._kill(signal.SIGTERM)        # the next one knows the new settings
        self.manage(time.monotonic())

    def check(self, config: Config) -> None:
        """:raises BindError: when the address that *config* names cannot be listened on."""
        settings = config.admin
        if settings is not None and (self._settings is None or settings.address != self._settings.address):
            for sock in listeners.bind(settings.address, 128):
                listeners.close(sock)

    def manage(self, now: float) -> None:
        """Fork it if it should run and does not."""
        if self._settings is None or self.held or self.pid or now < self._back_off.not_before:
            return
        self._started = now
        settings, sockets = self._settings, self.sockets

        def run(channel: socket.socket) -> int:
            service = importlib.import_module(self._service)
            code: int = service.run(AdminContext(settings, self._run_dir, sockets, channel, self.key, self.password))
            return code

        self.pid, self._channel = children.fork_helper("the admin process", run,
                                                       {sock.fileno() for sock in sockets}, self._close)

    @property
    def next_start(self) -> list[float]:
        """When `manage` has something to do, on the monotonic clock."""
        return [self._back_off.not_before] if self._settings is not None and not (self.held or self.pid) else []

    def buried(self, pid: int, code: int) -> bool:
        """Whether *pid*, which has ended with *code*, was the admin process."""
        if pid != self.pid:
            return False
        self.pid = 0
        if self._channel is not None:
            self._channel.close()
        if code and self._settings is not None:
            now = time.monotonic()
            delay = self._back_off.died(now, now - self._started)
            logger.error("the admin process (pid %d) ended: %d; %s", pid, code, self._back_off.words(delay))
        return True

    def stop(self) -> None:
        """For good."""
        self._settings = None
        for sock in self.sockets:
            listeners.close(sock)
        self.sockets = []
        self._kill(signal.SIGTERM)
        if not self.held:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._run_dir, PASSWORD_FILE))

    def give_way(self) -> None:
        """Another arbiter's process is to serve in the place of this one's, with the same key and password."""
        self.held = True
        self.stop()

    def kill(self) -> None:
        self._kill(signal.SIGKILL)

    def _kill(self, signum: signal.Signals) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _make_password(self) -> str:
        password = secrets.token_urlsafe(18)
        path = os.path.join(self._run_dir, PASSWORD_FILE)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(password + "\n")
        except OSError as error:
            raise PgSplitError(f"{path}: {error.strerror}") from None
        logger.info("no password for the admin page is configured: that of user admin is in %s", path)
        return password


def gone(channel: Any) -> bool:
    """Whether the arbiter is: for the admin process, when its channel can be read."""
    try:
        return Channel(channel).receive() is None
    except ChannelError:
        return True
