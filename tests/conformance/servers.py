"""A primary, a standby and pgsplit before them, for one run of one suite: every run begins with the same servers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pgsplit.demo import ports
from pgsplit.demo.counts import Counts
from pgsplit.demo.guardian import Guardian
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import SUPERUSER, Server
from tests.conformance.suites import DATABASE, PASSWORD, Suite

DIRECT: Final = "direct"
PGSPLIT: Final = "pgsplit"
PRIMARY_ONLY: Final = "pgsplit, primary only"


@dataclass
class Servers:
    """Where the suite connects to, and who is there: no ``proxy`` means the primary itself."""

    version: str            # of PostgreSQL
    port: int
    proxy: Proxy | None
    guardian: Guardian
    host: str = ports.HOST

    def counts(self) -> Counts | None:
        """How many statements pgsplit has sent where."""
        return Counts.of(self.proxy.client.arbiter("totals")) if self.proxy else None

    def log_end(self) -> str:
        return self.proxy.log_end() if self.proxy else ""


@contextmanager
def running(suite: Suite, way: str) -> Iterator[Servers]:
    """Servers as *suite* wants them, reached by *way*."""
    with (PrimaryAndStandbys([], superuser_password=PASSWORD) as cluster,
          tempfile.TemporaryDirectory(prefix="pgsplit-") as directory):
        cluster.primary.query(f"create database {DATABASE}")
        for statement in suite.sql:
            for database in (DATABASE, "postgres"):
                cluster.primary.query(statement, dbname=database)
        for server in cluster.servers:
            _prepend_hba(server, suite.hba)
        cluster.catch_up()
        if way == DIRECT:
            yield Servers(cluster.installation.version, cluster.primary.port, None, cluster.guardian)
            return
        proxy = Proxy(Path(directory), _configuration(cluster, suite), cluster.guardian)
        if way == PRIMARY_ONLY:
            for standby in cluster.standbys:
                standby.stop()
        proxy.start()
        try:
            yield Servers(cluster.installation.version, proxy.port, proxy, cluster.guardian)
        finally:
            proxy.stop()


def _configuration(cluster: PrimaryAndStandbys, suite: Suite) -> dict[str, object]:
    """Nothing but what has no default; TLS, since the suites want a server that has it, and every way to log in, since
    they try them.
    """
    return {
        "primary": cluster.primary.address,
        "replicas": [standby.address for standby in cluster.standbys],
        "users": {SUPERUSER: PASSWORD, **suite.users},
        "monitor": SUPERUSER,
        "upstream_auth": "none,password,md5,scram-sha-256",
        "tls": {"certificate": str(cluster.key_pair.certificate), "key": str(cluster.key_pair.key)},
    }


def _prepend_hba(server: Server, lines: tuple[str, ...]) -> None:
    file = server.data / "pg_hba.conf"
    file.write_text("".join(f"{line}\n" for line in lines) + file.read_text())
    server.query("select pg_reload_conf()")
