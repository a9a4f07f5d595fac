"""./run demo as a whole: it does what it says, its counts agree, and nothing is left of it."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pgsplit.demo import installation, ports
from pgsplit.demo.__main__ import PORT
from tests.needs import missing

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 180          # seconds, whatever a test waits for
LOCKED = "PGSPLIT_TEST_DEMO_LOCKED"
pytestmark = pytest.mark.pg


@pytest.fixture(autouse=True)
def postgresql() -> None:
    try:
        installation.find()
    except installation.PostgresMissing as error:
        missing(str(error))


@pytest.fixture(autouse=True)
def one_at_a_time() -> Iterator[None]:
    with alone():
        yield


@contextmanager
def alone() -> Iterator[None]:
    """All demos want the same ports, and the other parts of the tests run some, too."""
    if os.environ.get(LOCKED):
        yield
        return
    with Path("/tmp/pgsplit-test-demo.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ[LOCKED] = "yes"      # for the tests that a test starts
        yield
        del os.environ[LOCKED]


@contextmanager
def demo(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The demo as a process, with a directory of its own for all that it makes."""
    with (tempfile.TemporaryDirectory(prefix="t") as directory,
          subprocess.Popen([sys.executable, "-m", "pgsplit.demo", *arguments], cwd=ROOT, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                           env=os.environ | {"TMPDIR": directory}) as process):
        Path(directory).chmod(0o711)
        overdue = threading.Timer(PATIENCE, process.kill)
        overdue.start()
        try:
            yield process, Path(directory)
        finally:
            overdue.cancel()
            process.kill()


@contextmanager
def taken(port: int) -> Iterator[None]:
    """*port* is in use: by us, or by somebody else already."""
    with socket.socket() as listener:
        with suppress(OSError):
            listener.bind((ports.HOST, port))
            listener.listen()
        yield


def processes_in(directory: Path) -> list[str]:
    """The command lines of living processes that name *directory*."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line:
            found.append(line)
    return found


def test_it_ends_by_itself_and_its_counts_agree() -> None:
    with taken(PORT), demo("--seconds", "5") as (process, directory):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert re.search(rf"^port {PORT} is taken, pgsplit gets \d+$", output, re.M)
        assert "they agree" in output and "; 0 reads missed" in output
        primary, replicas = (int(re.search(rf"^{name} +([\d,]+)", output, re.M)[1].replace(",", ""))  # type: ignore[index]
                             for name in ("primary", "replicas"))
        assert primary > 0 and replicas > 0
        assert list(directory.iterdir()) == [] and processes_in(directory) == []


@pytest.mark.slow
def test_a_signal_that_our_starter_ignores_ends_it_all_the_same() -> None:
    """As in a background job of a script: the tests set the signals that they send."""
    command = "trap '' INT QUIT HUP TERM; exec \"$0\" -m pytest -q -p no:cacheprovider \"$1\" -k a_signal_ends_it"
    done = subprocess.run(["sh", "-c", command, sys.executable, __file__], cwd=ROOT, capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("signum", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_it_and_cleans_up(signum: signal.Signals) -> None:
    with demo("--no-load") as (process, directory):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("statements/s"):
                break
        assert processes_in(directory)
        process.send_signal(signum)
        output = process.stdout.read()
        assert process.wait(60) == 0, output
        assert "they agree" in output
        assert list(directory.iterdir()) == [] and processes_in(directory) == []
