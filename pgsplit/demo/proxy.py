"""pgsplit itself as a process: ``serve`` on a configuration made for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from pgsplit import origin
from pgsplit.demo import ports
from pgsplit.demo.guardian import Guardian
from pgsplit.demo.waiting import eventually
from pgsplit.errors import PgSplitError
from pgsplit.process.client import Client


class Process(Protocol):
    """What is asked of one that was started: it is as `subprocess.Popen` says."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def send_signal(self, sig: int, /) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class Proxy:
    """One instance on ``127.0.0.1:port``; its files (configuration, log, ``run/``) lie in *directory*.

    *configuration* is the short form (docs/configuration.md) without ``listen``, or Envoy's; :meth:`write` takes
    another one for the next start or reload. :attr:`PYTHON` is given :attr:`PROGRAM`.
    """

    PYTHON: str = sys.executable
    PROGRAM: Sequence[str] = origin.PROGRAM

    def __init__(self, directory: Path, configuration: Mapping[str, Any], guardian: Guardian, *, port: int = 0) -> None:
        self.port = ports.choose(port)
        self.run_dir = directory / "run"
        self.file = directory / "pgsplit.yaml"
        self.log = directory / "pgsplit.log"
        self.client = Client(str(self.run_dir))
        self.admin = str(configuration.get("admin", ""))
        self._guardian = guardian
        self._process: Process | None = None
        self.write(configuration)

    def write(self, configuration: Mapping[str, Any]) -> None:
        settings = {"run_dir": str(self.run_dir), **configuration.get("pgsplit", {})}
        listen = {} if "static_resources" in configuration else {"listen": f"{ports.HOST}:{self.port}"}
        whole = {**listen, **configuration, "pgsplit": settings}
        with open(self.file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            yaml.safe_dump(whole, file, sort_keys=False)

    @property
    def pid(self) -> int:
        """The arbiter's."""
        if self._process is None:
            raise PgSplitError("pgsplit is not running")
        return self._process.pid

    @property
    def admin_password(self) -> str:
        """Of the admin page's user ``admin``, made at the start where none is configured."""
        return (self.run_dir / "admin-password").read_text().strip()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start ``serve`` with further *arguments*, *environment* added to ours.

        :raises PgSplitError: with the log's end, if no worker comes up.
        """
        self._process = self._launch([*self.PROGRAM, "serve", "--config", str(self.file), *arguments],
                                     {**os.environ, **(environment or {})})
        self._guardian.watch_process(self.pid)
        eventually(lambda: not self.running or self._serves(), timeout=30)
        if not self.running:
            raise PgSplitError(f"pgsplit did not start:\n{self.log_end()}")

    def _launch(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        with open(self.log, "ab") as log:
            return subprocess.Popen([self.PYTHON, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    cwd=self.file.parent, start_new_session=True, env=environment)

    def stop(self, how: signal.Signals = signal.SIGINT, timeout: float = 60) -> int:
        """Stop by signal *how* (SIGTERM drains, SIGINT ends at once); returns the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(how)
        code = self._process.wait(timeout)
        self._process = None
        return code

    def signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)

    def log_end(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _serves(self) -> bool:
        workers = self.client.arbiter("workers")
        return bool(workers) and all(worker["booted"] for worker in workers)
