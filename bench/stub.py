"""Starting bench/stub_server.py."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.contenders import Bench
from pgsplit.demo import ports
from pgsplit.demo.server import Role, Server
from pgsplit.upstream.server_identity import START_TIME

SERVED = Role("idle", None, "trust")        # whom it serves itself


def start(bench: Bench, real: Server, number: int = 0) -> int:
    """One more, in front of *real*, for which it passes itself off; returns its port."""
    port = ports.choose()
    [reached] = real.query(f"select {START_TIME}::text, left(pg_is_in_recovery()::text, 1), '00000001', "
                           "system_identifier::text from pg_control_system()")
    command = [sys.executable, str(Path(__file__).with_name("stub_server.py")), "--port", str(port),
               "--user", SERVED.name, "--real", f"{ports.HOST}:{real.port}",
               "--reached", ",".join(reached)]
    bench.start("the stub", command, bench.directory(f"stub{number}"), port, ours=True)
    return port
