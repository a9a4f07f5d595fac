"""Forking children, and what the arbiter knows of each."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from .. import log
from ..auth import mock as _mock  # noqa: F401 (its nonce is to be the same in all children)
from ..config.model import Address, Config
from .board import Board
from .channel import Channel
from .facts import Facts


@dataclass(eq=False)
class Child:
    """*index* is the worker's slot on the board, from 0."""

    pid: int
    index: int
    channel: Channel
    forked_ns: int = field(default_factory=time.monotonic_ns)
    started: float = field(default_factory=time.time)
    booted: bool = False
    booted_at: float = 0.0        # monotonic
    leaving: bool = False
    sessions: int = 0
    generation: int = 0
    totals: dict[str, int] = field(default_factory=dict)

    def kill(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signum)

    def leave(self, grace: float, undisturbed: float = 0.0) -> None:
        """Accept no more; sessions in a transaction may take *grace* seconds to finish it, after *undisturbed* seconds
        for which all may go on.
        """
        self.leaving = True
        self.channel.send({"order": "leave", "grace": grace, "undisturbed": undisturbed})


def fork_helper(name: str, run: Callable[[socket.socket], int], keep: set[int],
                close: Callable[[], None]) -> tuple[int, Channel]:
    """A process that is no worker: *run* is called in it with its end of the channel. *keep*: descriptors that it
    inherits.
    """
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_a_child(name, lambda: run(theirs), {theirs.fileno(), *keep}, close)
    theirs.close()
    return pid, Channel(ours)


def fork(index: int, service: str, config: Config, sockets: Mapping[Address, list[socket.socket]], board: Board,
         monitor: tuple[Facts, str], *, close: Callable[[], None], orders: Mapping[str, Any], first: bool,
         accepts: bool) -> Child:
    """A new worker. *close* is called in it first, to take down what it has of the arbiter's. *monitor*: its facts, and
    the path of its socket.

    *orders*: that are in force. *first*: it speaks for all. *accepts*: at once, not only when it is told to.
    """
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_a_worker(index, service, config, sockets, board, monitor, theirs, close, orders, first=first,
                     accepts=accepts)
    theirs.close()
    return Child(pid, index, Channel(ours))


def _be_a_worker(index: int, service: str, config: Config, sockets: Mapping[Address, list[socket.socket]],
                 board: Board, monitor: tuple[Facts, str], channel: socket.socket, close: Callable[[], None],
                 orders: Mapping[str, Any], *, first: bool, accepts: bool) -> NoReturn:
    def run() -> int:
        from .worker import Worker

        return Worker(index, service, config, sockets, board, monitor, Channel(channel), orders,
                      first=first).run(accepts)

    keep = {channel.fileno(), *(sock.fileno() for group in sockets.values() for sock in group)}
    _be_a_child(f"worker {index + 1}", run, keep, close)


def _be_a_child(name: str, run: Callable[[], int], keep: set[int], close: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        keep = {0, 1, 2, *keep, *log.descriptors()}
        close()
        close_descriptors(keep)
        for signum in ("HUP", "TTIN", "TTOU", "TERM", "QUIT", "USR1", "CHLD"):
            signal.signal(signal.Signals[f"SIG{signum}"], signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C reaches the whole group: the arbiter decides
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)       # as HUP is the arbiter's, also where all are sent it
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        gc.freeze()
        code = run()
    except BaseException:
        log.get("pgsplit.worker").critical("%s failed:\n%s", name, traceback.format_exc())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def close_descriptors(keep: set[int]) -> None:
    """Siblings' channel ends above all: with them open no child would see the arbiter's death."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            with suppress(OSError):
                os.close(int(name))
