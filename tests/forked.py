"""pgsplit forked from a process that has imported it: to start it so costs a twentieth of the time.

Only its beginning is another. Tests of that (the command line, the environment, what one arbiter leaves to the next)
start `Proxy` itself, as `./run serve` would.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired

from pgsplit import cli
from pgsplit.demo.proxy import Proxy
from pgsplit.process.title import set_title

IMPORTED = ["tests.forked", "pgsplit.cli.serve", "pgsplit.process.worker", "pgsplit.process.proxy", "admin.serving"]

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(IMPORTED)


class ForkedProxy(Proxy):
    """A `Proxy` whose process begins in :func:`become`."""

    def _launch(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
        return Forked(arguments, environment, self.file.parent, self.log)


class Forked:
    """As much of `subprocess.Popen` as `Proxy` needs."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> None:
        self._process = context.Process(target=become, args=(arguments, dict(environment), directory, log), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise TimeoutExpired("pgsplit", timeout or 0)
        return code


def become(arguments: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> None:
    """In the child: be what `python *arguments*` would be, in *directory*, with its output in *log*."""
    set_title("being started")      # its place is found next to the environment that the process began with
    os.setsid()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    with open(log, "ab") as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    sys.argv = list(arguments)
    sys.exit(cli.main())
