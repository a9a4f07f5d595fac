"""Starting the arbiter that is to take this one's place: the same command line, with what lies on disk now.

What the two hold together goes by inheritance: descriptors keep their numbers over exec, and a file without a name
(memfd_create(2)) says which is which, with what else the new one is to know; its own number and that of a channel stand
in an environment variable.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from .activation import VARIABLES
from .channel import Channel, ChannelError, encode
from .children import close_descriptors

VARIABLE: Final = "PGSPLIT_HANDOVER"       # CHANNEL:STATE, two descriptors
PATIENCE: Final = 60.0                     # seconds for it to be ready to serve


def _directory() -> str:
    """Where we are, by the name that the shell had for it: a symbolic link may lead to another release later on."""
    here, named = os.getcwd(), os.environ.get("PWD", "")
    try:
        same = os.path.isabs(named) and os.path.samestat(os.stat(named), os.stat(here))
    except OSError:
        same = False
    return named if same else here


STARTED_IN: Final = _directory()


class Successor:
    """*state*: what it is told (see `Predecessor`). *keep*: the descriptors that it inherits.

    :attr:`problems`: why it will not serve, in its own words.
    """

    def __init__(self, state: Mapping[str, Any], keep: Iterable[int]) -> None:
        ours, theirs = socket.socketpair()
        told = os.memfd_create("pgsplit-handover")
        with open(told, "w", encoding="utf-8", closefd=False) as file:
            json.dump(state, file)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(theirs, told, {0, 1, 2, *keep})
        theirs.close()
        os.close(told)
        self.channel = Channel(ours)
        self.deadline = time.monotonic() + PATIENCE
        self.problems: list[str] = []

    def kill(self, signum: signal.Signals) -> None:
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            pass

    def receive(self) -> list[Any] | None:
        """Its messages; None when it is gone, or says what cannot be understood."""
        try:
            messages = self.channel.receive()
        except ChannelError:
            return None
        for message in messages or ():
            self.problems += message.get("refused", ())
        return messages


def _become(channel: socket.socket, told: int, keep: set[int]) -> NoReturn:
    """In the child."""
    try:
        signal.set_wakeup_fd(-1)
        keep = {channel.fileno(), told, *keep}
        close_descriptors(keep)
        for descriptor in keep:
            os.set_inheritable(descriptor, True)
        for name in ("TTIN", "TTOU", "TERM", "QUIT", "INT", "CHLD"):
            signal.signal(signal.Signals[f"SIG{name}"], signal.SIG_DFL)
        for name in ("HUP", "USR1", "USR2"):         # sent to all of a group, they are not to end it before it listens
            signal.signal(signal.Signals[f"SIG{name}"], signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.chdir(STARTED_IN)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], _environment(channel.fileno(), told))
    except BaseException as error:
        channel.setblocking(True)
        channel.sendall(encode({"refused": [f"cannot run {sys.executable} in {STARTED_IN}: {error}"]}))
    finally:
        os._exit(127)


def _environment(channel: int, told: int) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment[VARIABLE] = f"{channel}:{told}"
    if "WATCHDOG_PID" in environment:
        environment["WATCHDOG_PID"] = str(os.getpid())
    return environment
