"""The units for systemd say what the program does."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pgsplit.cli import serve
from pgsplit.config import units
from pgsplit.config.settings import BY_NAME
from pgsplit.process.arbiter import SIGNALS

ROOT = Path(__file__).resolve().parents[1]
SERVICE = (ROOT / "contrib/pgsplit.service").read_text()
SOCKET = (ROOT / "contrib/pgsplit.socket").read_text()


def directive(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def test_the_service_starts_what_there_is_and_waits_long_enough() -> None:
    [start] = directive(SERVICE, "ExecStart")
    python, app, command, *rest = shlex.split(start)
    assert (Path(python).name, Path(app).name, command) == ("python", "app.py", "serve")
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert parser.parse_args(rest).config == "/etc/pgsplit/pgsplit.yaml"
    assert directive(SERVICE, "ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert directive(SERVICE, "Type") == ["notify"]
    graceful = BY_NAME["graceful_timeout"].default
    assert graceful is not None
    assert int(directive(SERVICE, "TimeoutStopSec")[0]) > units.duration(graceful)


def test_the_socket_is_the_address_of_the_first_configuration() -> None:
    [listen] = re.findall(r"^listen: (\S+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    [stream] = directive(SOCKET, "ListenStream")
    assert stream == listen
    assert directive(SOCKET, "Accept") == []
    assert directive(SOCKET, "BindIPv6Only") == ["ipv6-only"]


def test_logrotate_has_the_log_opened_again() -> None:
    snippet = (ROOT / "contrib/logrotate.conf").read_text()
    [signal] = re.findall(r"kill -(\w+)", snippet)
    assert signal == "USR1" and signal in SIGNALS
    told = dict(re.findall(r"`(\w+): (\S+)`", snippet))
    assert told.keys() <= BY_NAME.keys() and snippet.count(told["pidfile"]) == 3
    assert Path(told["log_file"]).match(re.findall(r"^(\S+) {$", snippet, re.MULTILINE)[0])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there")
def test_systemd_understands_them(tmp_path: Path) -> None:
    """But for the files and the user, which are not here."""
    unit = tmp_path / "pgsplit.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", SERVICE, flags=re.MULTILINE))
    (tmp_path / "pgsplit.socket").write_text(SOCKET)
    done = subprocess.run(["systemd-analyze", "verify", unit, tmp_path / "pgsplit.socket"], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0 and "Unknown" not in done.stderr and str(tmp_path) not in done.stderr, done.stderr
