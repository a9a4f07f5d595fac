"""One run of one suite by one way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgsplit.demo.counts import Counts
from pgsplit.errors import PgSplitError
from tests.conformance import outcome, servers
from tests.conformance.checkout import Checkout
from tests.conformance.servers import Servers
from tests.conformance.suites import DATABASE, PASSWORD, Suite

PLUGINS: Final = Path(__file__).with_name("plugins")
TEST_SECONDS: Final = 120       # a test that takes longer has failed


@dataclass(frozen=True)
class Trial:
    """``counts`` is what pgsplit has sent where; None where there was no pgsplit."""

    outcomes: outcome.Outcomes
    counts: Counts | None
    postgresql: str
    log: Path


def run(suite: Suite, way: str, more: Sequence[str] = ()) -> Trial:
    """Run the tests, with *more* arguments for pytest. PgSplitError if pytest did not come to its end."""
    checkout = Checkout(suite)
    checkout.make()
    home = checkout.home / way.replace(", ", "-").replace(" ", "-")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    with servers.running(suite, way) as reached:
        try:
            _pytest(suite, checkout, reached, home, more)
        finally:
            if reached.proxy:
                shutil.copy(reached.proxy.log, home)
        if not (home / "junit.xml").exists():
            raise PgSplitError(f"{suite.name}, {way}: pytest told no results; {home / 'log'} ends with\n"
                               + "\n".join((home / "log").read_text(errors="replace").splitlines()[-15:]))
        return Trial(outcome.read(home / "junit.xml"), reached.counts(), reached.version, home / "log")


def _pytest(suite: Suite, checkout: Checkout, reached: Servers, home: Path, more: Sequence[str]) -> None:
    places = {"host": reached.host, "port": reached.port, "password": PASSWORD, "database": DATABASE}
    command: list[str | Path] = [checkout.python, "-P", "-m", "pytest", "-p", "no:cacheprovider",
                                 "--timeout", str(TEST_SECONDS), "--junit-xml", home / "junit.xml",
                                 *(argument.format(**places) for argument in suite.arguments), *more]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTEST"))}
    environment |= {name: value.format(**places) for name, value in suite.environment.items()}
    environment["PYTHONPATH"] = str(PLUGINS)
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=checkout.directory, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, start_new_session=True)
        reached.guardian.watch_process(process.pid)
        try:
            process.wait(suite.seconds)
        except subprocess.TimeoutExpired:
            raise PgSplitError(f"{suite.name}: not at its end after {suite.seconds} s, see {home / 'log'}") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
