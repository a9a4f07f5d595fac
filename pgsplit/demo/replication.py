"""A primary and its streaming standbys, made from nothing in a few seconds and gone without a trace.

TLS is on with a certificate of the run's own authority; ``pg_stat_statements`` is there to count; ``fsync`` is off.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from psycopg import sql

from pgsplit.demo import account, installation, ports
from pgsplit.demo.certificates import Authority, KeyPair
from pgsplit.demo.guardian import Guardian
from pgsplit.demo.server import SUPERUSER, House, Role, Server
from pgsplit.demo.waiting import eventually

SETTINGS = {
    "listen_addresses": ports.HOST,
    "ssl": "on",
    "fsync": "off",
    "max_connections": "300",
    "max_wal_senders": "10",
    "wal_keep_size": "512MB",           # a standby that was stopped for a while finds its WAL
    "max_prepared_transactions": "10",
    "shared_preload_libraries": "pg_stat_statements",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class PrimaryAndStandbys:
    """``primary`` and ``standbys``, running between :meth:`start` and :meth:`stop`, or as a context manager.

    *roles* may log in over TCP, each by its own method; the superuser ``postgres`` by SCRAM with *superuser_password*.
    *preferred_ports* (primary's first) are taken where they are free. *say* is told what happens, a line each time.
    """

    def __init__(self, roles: Sequence[Role], *, superuser_password: str, standbys: int = 1,
                 preferred_ports: Sequence[int] = (), say: Callable[[str], None] = lambda line: None) -> None:
        self._say = say
        found = installation.find()
        say(f"using {found}")
        owner = account.choose()
        self.directory = _new_directory(owner)
        self.guardian = Guardian()
        self.guardian.watch_directory(self.directory)
        if found.movable and owner.popen:
            found = found.copied_to(self.directory / "postgresql")
        self.installation = found
        self.roles = {role.name: role for role in (*roles, Role(SUPERUSER, superuser_password))}
        house = House(found, owner, self.directory, self.guardian, self.roles)
        self._house = house
        house.sockets.mkdir(mode=0o700)
        owner.own(house.sockets)
        authority = Authority(self.directory)
        self.ca = authority.ca
        self.key_pair = self._key_pair(authority)
        names = ["primary", *(f"standby{number}" for number in range(1, standbys + 1))]
        wanted = [*preferred_ports, *[0] * (len(names) - len(preferred_ports))]
        self.primary, *self.standbys = (Server(house, name, self._port(name, port))
                                        for name, port in zip(names, wanted, strict=True))
        self.authority = authority

    @property
    def servers(self) -> list[Server]:
        return [self.primary, *self.standbys]

    def __enter__(self) -> PrimaryAndStandbys:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Make and start all servers; returns when every standby is streaming."""
        try:
            self._make_primary()
            with ThreadPoolExecutor() as pool:
                list(pool.map(self._make_standby, self.standbys))
            eventually(self._all_streaming, timeout=60)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all servers at once and remove what they left: the data is of no use to anybody."""
        self.guardian.close()

    def catch_up(self, timeout: float = 30) -> None:
        """Return when every standby that runs has replayed all that is committed now."""
        [(lsn,)] = self.primary.query("select pg_current_wal_insert_lsn()")
        for standby in filter(lambda server: server.running, self.standbys):
            eventually(lambda server=standby: server.query(  # type: ignore[misc]
                "select pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn]) == [(True,)], timeout)

    def _make_primary(self) -> None:
        self._say(f"primary on {self.primary.address}: initdb")
        data = self.primary.data
        self._house.run("initdb", "-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        settings = SETTINGS | {"unix_socket_directories": str(self._house.sockets),
                               "ssl_cert_file": str(self.key_pair.certificate), "ssl_key_file": str(self.key_pair.key)}
        with open(data / "postgresql.conf", "a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        (data / "pg_hba.conf").write_text("".join(line + "\n" for line in self._hba()))
        self.primary.start()
        self.primary.query("create extension pg_stat_statements")
        for role in self.roles.values():
            self._make_role(role)

    def _make_standby(self, standby: Server) -> None:
        self._say(f"{standby.name} on {standby.address}: pg_basebackup")
        standby.copy_from(self.primary)
        standby.start()

    def _hba(self) -> list[str]:
        return ["local all all trust", "local replication all trust",
                *(f'host all "{role.name}" all {role.method}' for role in self.roles.values()),
                "host all all all scram-sha-256", "host replication all all scram-sha-256"]

    def _make_role(self, role: Role) -> None:
        verb = "alter" if role.name == SUPERUSER else "create"
        encryption = "md5" if role.method == "md5" else "scram-sha-256"
        self.primary.query(sql.SQL("set password_encryption = {}; {} role {} login password {}").format(
            sql.Literal(encryption), sql.SQL(verb), sql.Identifier(role.name), sql.Literal(role.password)).as_string())

    def _all_streaming(self) -> bool:
        [(count,)] = self.primary.query("select count(*) from pg_stat_replication where state = 'streaming'")
        return bool(count == len(self.standbys))

    def _key_pair(self, authority: Authority) -> KeyPair:
        pair = authority.issue("server")
        self._house.account.own(pair.key)       # PostgreSQL wants its key to be its own, or root's with group read
        return pair

    def _port(self, name: str, preferred: int) -> int:
        port = ports.choose(preferred)
        if preferred not in (0, port):
            self._say(f"port {preferred} is taken, {name} gets {port}")
        return port


def _new_directory(owner: account.Account) -> Path:
    """A directory that *owner* can reach and write to, outside any home."""
    parent = tempfile.gettempdir()
    if len(parent) > 40:                        # Unix sockets will lie in it
        parent = "/tmp"
    directory = Path(tempfile.mkdtemp(prefix="pgsplit-", dir=parent))
    owner.own(directory)
    return directory
