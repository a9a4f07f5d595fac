"""Starting bench/stub_server.py."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.contenders import Bench
from pgsplit.demo import ports
from pgsplit.demo.server import Role

SERVED = Role("idle", None, "trust")        # whom it serves itself


def start(bench: Bench, real: int, number: int = 0) -> int:
    """One more, in front of the server on port *real*; returns its port."""
    port = ports.choose()
    command = [sys.executable, str(Path(__file__).with_name("stub_server.py")), "--port", str(port),
               "--user", SERVED.name, "--real", f"{ports.HOST}:{real}"]
    bench.start("the stub", command, bench.directory(f"stub{number}"), port, ours=True)
    return port
