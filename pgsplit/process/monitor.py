"""The monitor, as the arbiter keeps it: forked, killed when it hangs, restarted with back-off.

It asks the servers for all workers (docs/adr/0024), in a process of its own: no session can make it late.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from .. import log
from ..config.model import Config
from ..errors import PgSplitError
from ..stats.totals import merge
from . import children
from .backoff import BackOff
from .board import Board
from .channel import Channel, ChannelError
from .facts import Facts

logger = log.get("pgsplit.arbiter")

HUNG: Final = 3.0              # seconds without a sign of life until it is killed
WORKERS: Final = 256           # that may wait to be heard
NAME: Final = re.compile(r"monitor-\d+\.sock")


def socket_of(run_dir: str, arbiter: int) -> str:
    """The path of the socket of the monitor of the arbiter with that pid: two generations have one each."""
    return os.path.join(run_dir, f"monitor-{arbiter}.sock")


class MonitorProcess:
    """*config* and *orders* tell what is in force; *note* gets lines of its log. *close* as in `children.fork`.

    It listens where the arbiter does: workers that find nobody wait there for the next one.
    """

    def __init__(self, board: Board, config: Callable[[], Config], orders: Callable[[], Mapping[str, Any]],
                 note: Callable[[Iterable[Mapping[str, Any]]], None], close: Callable[[], None]) -> None:
        self.facts = Facts()
        self.pid = 0
        self.restarts = 0
        self.path = ""
        self.totals: dict[str, int] = {}
        self._dead: dict[str, int] = {}
        self._board, self._config, self._orders, self._note, self._close = board, config, orders, note, close
        self._back_off = BackOff()
        self._started = 0.0
        self._over = False
        self._channel: Channel | None = None
        self._socket: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None

    def listen(self, selector: selectors.BaseSelector, run_dir: str) -> None:
        """:raises PgSplitError:"""
        self._selector = selector
        self.path = socket_of(run_dir, os.getpid())
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self._socket.bind(self.path)
            os.chmod(self.path, 0o600)
            self._socket.listen(WORKERS)
        except OSError as error:
            raise PgSplitError(f"{self.path}: {error.strerror or error}") from None

    def manage(self, now: float) -> None:
        """Fork it if it should run and does not; end it if it hangs."""
        if self._over or self._socket is None:
            return
        if self.pid:
            alive = max(self.facts.alive_ns / 1e9, self._started)
            if now - alive > HUNG:
                logger.error("the monitor (pid %d) is hung: no sign of life for %.0f s; killing it", self.pid, HUNG)
                self._kill(signal.SIGKILL)
                self._started = now         # it takes its time to end
            return
        if now < self._back_off.not_before:
            return
        self._started = now
        listening, facts, board, config, orders = self._socket, self.facts, self._board, self._config(), self._orders()

        def run(channel: socket.socket) -> int:
            from .observer import Observer

            return Observer(config, facts, board, listening, Channel(channel), orders).run()

        self.pid, channel = children.fork_helper("the monitor", run, {listening.fileno()}, self._close)
        self._channel = channel
        if self._selector is not None:
            self._selector.register(channel.sock, selectors.EVENT_READ, lambda: self._hear(channel))

    @property
    def next_start(self) -> list[float]:
        """When `manage` has something to do, on the monotonic clock."""
        return [] if self._over or self.pid else [self._back_off.not_before]

    def send(self, message: Mapping[str, Any]) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def counts(self) -> dict[str, int]:
        """What all monitors have asked."""
        return merge([self._dead, self.totals])

    def _hear(self, channel: Channel) -> None:
        try:
            messages = channel.receive()
        except ChannelError as error:
            logger.error("the monitor: %s", error)
            self._kill(signal.SIGKILL)
            messages = None
        if messages is None:
            self._unregister(channel)
            return
        channel.flush()
        for message in messages:
            self.totals = message["totals"]
            self._note(message["log"])

    def _unregister(self, channel: Channel) -> None:
        if self._selector is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(channel.sock)

    def buried(self, pid: int, code: int) -> bool:
        """Whether *pid*, which has ended with *code*, was the monitor."""
        if pid != self.pid:
            return False
        self.pid = 0
        self.facts.begin(0)
        self._dead, self.totals = self.counts(), {}
        if self._channel is not None:
            self._unregister(self._channel)
            self._channel.close()
            self._channel = None
        if not self._over:
            self.restarts += 1
            now = time.monotonic()
            delay = self._back_off.died(now, now - self._started)
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            logger.error("the monitor (pid %d) ended: %s; no read is known to be fresh until the next one has looked; "
                         "%s", pid, how, self._back_off.words(delay))
        return True

    def mended(self) -> None:
        """What it died of may be: begin anew with the back-off."""
        self._back_off = BackOff()

    def stop(self) -> None:
        """For good."""
        self._over = True
        self._kill(signal.SIGKILL)
        if self.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = 0
        if self._socket is not None:
            self._socket.close()
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def _kill(self, signum: signal.Signals) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)


def forget_old(run_dir: str) -> None:
    """Sockets of arbiters that were killed."""
    for name in os.listdir(run_dir):
        if NAME.fullmatch(name):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(run_dir, name))
