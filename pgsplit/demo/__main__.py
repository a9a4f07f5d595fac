"""``./run demo``: a primary and two standbys, pgsplit in front of them, a small load, and what becomes of it."""

from __future__ import annotations

import argparse
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pgsplit.demo import load, ports
from pgsplit.demo.counts import Counts, Tally, calls, forget_calls, lags
from pgsplit.demo.load import Load, Report
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.screen import Screen
from pgsplit.demo.server import Role
from pgsplit.demo.waiting import eventually
from pgsplit.errors import PgSplitError
from pgsplit.origin import DEMO

PORT = 6432
SERVER_PORTS = (6441, 6442, 6443)
CLIENTS = 8
ADMIN_PORT = 8432
USERS = ("app", "report")       # app's password is stored for SCRAM, report's as md5
MONITOR = "monitor"


class Demo:
    """All that runs: between :func:`running`'s enter and exit."""

    def __init__(self, servers: PrimaryAndStandbys, proxy: Proxy, screen: Screen) -> None:
        self.servers = servers
        self.proxy = proxy
        self._screen = screen

    def introduce(self, workers: int) -> None:
        """Say what runs where, and how to try it."""
        say, password = self._screen.say, self.servers.roles["app"].password
        psql = "psql" if shutil.which("psql") else shlex.quote(self.servers.installation.program("psql"))
        say(f"pgsplit on {ports.HOST}:{self.proxy.port} with {workers} workers, "
            f"users {' (SCRAM) and '.join(USERS)} (md5), TLS on both sides")
        say(f"admin page: http://{self.proxy.admin}/, user admin, password {self.proxy.admin_password}")
        say("try it:")
        say(f'  {psql} "host={ports.HOST} port={self.proxy.port} user=app password={password} dbname=postgres"')
        say()

    def logins(self) -> list[dict[str, Any]]:
        return [{"host": ports.HOST, "port": self.proxy.port, "user": user, "dbname": "postgres", "sslmode": "require",
                 "password": self.servers.roles[user].password} for user in USERS * (CLIENTS // len(USERS))]

    def counts(self) -> Counts:
        return Counts.of(self.proxy.client.arbiter("totals"))

    def watch(self, running: Load | None, seconds: float | None) -> None:
        """Keep the display up to date until *seconds* are over, the load ends, or Ctrl-C."""
        start = before_at = time.monotonic()
        before = self.counts()
        try:
            while seconds is None or time.monotonic() - start < seconds:
                time.sleep(1)
                counts, now = self.counts(), time.monotonic()
                self._screen.show(self._lines(before, counts, now - before_at))
                before, before_at = counts, now
                if running and not running.running:
                    return
                if not self.proxy.running:
                    raise PgSplitError(f"pgsplit ended:\n{self.proxy.log_end()}")
        except KeyboardInterrupt:
            pass
        finally:
            self._screen.keep()

    def _lines(self, before: Counts, now: Counts, seconds: float) -> list[str]:
        replica, primary = (now.replica - before.replica) / seconds, (now.primary - before.primary) / seconds
        share = f"{100 * replica / (replica + primary):.0f} % on replicas" if replica + primary else "idle"
        lag = "   ".join(f"{name} {lag}" for name, lag in lags(self.servers).items())
        return [f"statements/s   replica {replica:7,.0f}   primary {primary:7,.0f}   {share}",
                f"sessions       {now.sessions}",
                f"replica lag    {lag}"]

    def tally(self) -> Tally:
        return Tally(self.counts(), {server.name: calls(server, USERS) for server in self.servers.servers})

    def summary(self, report: Report) -> bool:
        """Print what pgsplit and the servers counted; true when they agree and every client was content."""
        with suppress(TimeoutError):    # a worker tells its totals once a second
            eventually(lambda: self.tally().agrees, timeout=5, every=0.25)
        tally, say = self.tally(), self._screen.say
        each = ", ".join(f"{standby.name} {tally.counted[standby.name]:,}" for standby in self.servers.standbys)
        say()
        say(f"statements    pgsplit sent   servers counted (pg_stat_statements, users {' and '.join(USERS)})")
        say(f"primary     {tally.sent.primary:>14,}{tally.primary:>18,}")
        say(f"replicas    {tally.sent.replica:>14,}{tally.replicas:>18,}   ({each})")
        say("they agree" if tally.agrees else "THEY DO NOT AGREE")
        say(f"clients ran {report.statements:,} statements; {report.stale} reads missed the client's own last write")
        for error in report.errors:
            say(f"error: {error}")
        return tally.agrees and not report.stale and not report.errors


@contextmanager
def running(screen: Screen, workers: int) -> Iterator[Demo]:
    """Servers with the load's tables, and pgsplit in front of them; all is gone afterwards."""
    roles = [Role("app", secrets.token_hex(8)), Role("report", secrets.token_hex(8), "md5"),
             Role(MONITOR, secrets.token_hex(8))]
    with (PrimaryAndStandbys(roles, superuser_password=secrets.token_hex(8), standbys=2, preferred_ports=SERVER_PORTS,
                             say=screen.say) as servers,
          tempfile.TemporaryDirectory(prefix="pgsplit-demo-") as directory):
        servers.guardian.watch_directory(Path(directory))
        servers.primary.query(load.prepare(CLIENTS))
        servers.catch_up()
        forget_calls(servers)
        proxy = Proxy(Path(directory), {
            "primary": servers.primary.address,
            "replicas": [standby.address for standby in servers.standbys],
            "users": {role.name: role.password for role in roles},
            "monitor": MONITOR,
            "tls": {"certificate": str(servers.key_pair.certificate), "key": str(servers.key_pair.key)},
            "upstream_tls": "require",
            "upstream_auth": "md5,scram-sha-256",       # report's password is stored as md5
            "admin": f"{ports.HOST}:{ports.choose(ADMIN_PORT)}",
            "pgsplit": {"workers": workers},
        }, servers.guardian, port=PORT)
        if proxy.port != PORT:
            screen.say(f"port {PORT} is taken, pgsplit gets {proxy.port}")
        try:
            proxy.start()
            yield Demo(servers, proxy, screen)
        finally:
            proxy.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog=DEMO, description=__doc__.partition(": ")[2])
    parser.add_argument("--seconds", type=float, metavar="N", help="end by itself, with a summary (default: at Ctrl-C)")
    parser.add_argument("--no-load", action="store_true", help="only the servers and pgsplit, for your own clients")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="pgsplit's worker processes (2)")
    args = parser.parse_args()
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    screen = Screen()
    try:
        with running(screen, args.workers) as demo:
            demo.introduce(args.workers)
            traffic = None if args.no_load else Load(demo.logins(), demo.servers.guardian)
            if traffic:
                traffic.start()
            demo.watch(traffic, args.seconds)
            good = demo.summary(traffic.stop() if traffic else Report())
        return 0 if good else 1
    except PgSplitError as error:
        screen.say(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
