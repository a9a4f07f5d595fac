"""What a login costs: CPU of the proxy's processes, by SCRAM-SHA-256 and without a password.

Through pgsplit that splits (it logs in at both upstreams), pgsplit that passes everything through to one (a listener
without split_rw), that in front of bench/stub_server.py, which lets its user in at once, and PgBouncer in session mode,
which keeps its server's connection from one session to the next.
One login after the other, each ended at once by Terminate; contenders in random order within a round.
"""

from __future__ import annotations

import argparse
import random
import secrets
import socket
import statistics
import sys
import time
from collections import defaultdict
from typing import Any

from bench import contenders, cpu, report, stub, workloads
from bench.contenders import Bench, Contender
from pgsplit import __version__
from pgsplit.auth import scram
from pgsplit.auth.secret import parse
from pgsplit.config.short import PROXY, TCP
from pgsplit.demo import account, ports
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from pgsplit.errors import PgSplitError
from pgsplit.upstream.login import sasl_initial
from pgsplit.wire import build

READY = build.ready_for_query(ord("I"))
SETTLE = 0.2        # seconds for the last session to end in


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run bench login", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--logins", type=int, default=300, help="of each kind in a round (300)")
    args = parser.parse_args()
    role, trusted = Role("bench", secrets.token_hex(8)), Role("trusted", None, "trust")
    try:
        with PrimaryAndStandbys([role, trusted, stub.SERVED], superuser_password=secrets.token_hex(8),
                                standbys=1) as servers:
            bench = Bench(servers, role, account.choose(), workers=1)
            workloads.initialize(bench)
            users = {role.name: role.password or "", trusted.name: "unused", stub.SERVED.name: "unused"}
            primary = servers.primary.port
            found = [(contenders.pgsplit(bench, users=users), [role, trusted]),
                     (through(bench, users, "passing through", primary), [role, trusted]),
                     (through(bench, users, "passing through to the stub", stub.start(bench, servers.primary)),
                      [stub.SERVED])]
            try:
                found.append((contenders.pgbouncer(bench), [role]))       # which knows one user
            except contenders.NotHere as missing:
                print(f"without PgBouncer: {missing}")
            compare(found, args)
            return 0
    except PgSplitError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def through(bench: Bench, users: dict[str, str], name: str, server: int) -> Contender:
    """pgsplit with a listener that does not split, in front of the *server* on that port."""
    def address(host: str, port: int) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": host, "port_value": port}}}

    port = ports.choose()
    filters = [
        {"name": "envoy.filters.network.postgres_proxy", "typed_config": {
            "@type": PROXY, "stat_prefix": "through",
            "user_list": [{"username": name, "password": secret} for name, secret in users.items()]}},
        {"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": TCP, "stat_prefix": "tcp", "cluster": "primary"}}]
    endpoint = {"endpoint": address(ports.HOST, server)}
    proxy = Proxy(bench.directory(name.replace(" ", "-")), {
        "static_resources": {
            "listeners": [{"name": "through", **address(ports.HOST, port), "filter_chains": [{"filters": filters}]}],
            "clusters": [{"name": "primary", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
                "cluster_name": "primary", "endpoints": [{"lb_endpoints": [endpoint]}]}}]},
        "pgsplit": {"workers": 1, "monitor": {"username": bench.role.name, "database": "postgres"}},
    }, bench.servers.guardian, port=port)
    proxy.start()
    return Contender(f"pgsplit, {name}", __version__, proxy.port, proxy.pid)


def compare(found: list[tuple[Contender, list[Role]]], args: argparse.Namespace) -> None:
    costs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(args.rounds):
        for contender, roles in random.sample(found, len(found)):
            for role in roles:
                costs[contender.name, role.method].append(cost(contender, role, args.logins))
    for (name, method), values in costs.items():
        low, high = report.interval(values)
        print(f"{name}, {method}: {statistics.median(values):.2f} ms of CPU a login ({low:.2f}–{high:.2f})")


def cost(contender: Contender, role: Role, logins: int) -> float:
    """Milliseconds of CPU of a login, and of what its session's end takes."""
    assert contender.pid is not None
    spent = cpu.seconds(contender.pid)
    for _ in range(logins):
        with login(contender.port, role.name, role.password or "", workloads.DATABASE) as sock:
            sock.sendall(build.TERMINATE)
    time.sleep(SETTLE)
    return 1000 * (cpu.seconds(contender.pid) - spent) / logins


def login(port: int, user: str, password: str, database: str) -> socket.socket:
    """A plain socket with a session on it: no driver could hold ten thousand in as little memory."""
    sock = socket.create_connection((ports.HOST, port), timeout=60)
    sock.sendall(build.startup({"user": user, "database": database}))
    got = b""
    exchange = None
    while not got.endswith(READY):
        got += sock.recv(65536)
        if got[:1] == b"R" and got[5:9] == b"\0\0\0\x0a" and exchange is None:
            exchange = Scram(sock, password)
            got = b""
            exchange.run()
    return sock


class Scram:
    """The client's side of the login of a real session."""

    def __init__(self, sock: socket.socket, password: str) -> None:
        self._sock = sock
        self._password = password

    def run(self) -> None:
        client = scram.ScramClient(scram.salted_password, secret=parse(self._password))
        self._sock.sendall(sasl_initial(client))
        self._sock.sendall(build.message(b"p", client.final(self._body())))
        client.verify(self._body())

    def _body(self) -> bytes:
        header = self._exactly(5)
        body = self._exactly(int.from_bytes(header[1:], "big") - 4)
        if header[:1] != b"R":
            raise PgSplitError(f"login refused: {body!r}")
        return body[4:]

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._sock.recv(size - len(data))
        return data


if __name__ == "__main__":
    sys.exit(main())
