"""Servers copied from a primary that was made once, in a third of the time that initdb and pg_basebackup take."""

from __future__ import annotations

import subprocess
from typing import Any

from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import SUPERUSER, Server


class Copied(PrimaryAndStandbys):
    """A primary and standbys with roles, data and system identifier of *model*'s primary, which is stopped."""

    def __init__(self, model: PrimaryAndStandbys, **keywords: Any) -> None:
        super().__init__([role for role in model.roles.values() if role.name != SUPERUSER],
                         superuser_password=model.roles[SUPERUSER].password or "", **keywords)
        self._model = model.primary

    def _make_primary(self) -> None:
        self._copy(self.primary)
        self.primary.start()

    def _make_standby(self, standby: Server) -> None:
        self._copy(standby)
        (standby.data / "standby.signal").touch()
        _append(standby, "primary_conninfo",
                f"host={self._house.sockets} port={self.primary.port} user={SUPERUSER}")
        standby.start()

    def _copy(self, server: Server) -> None:
        subprocess.run(["cp", "-a", self._model.data, server.data], check=True)
        _append(server, "unix_socket_directories", str(self._house.sockets))
        _append(server, "ssl_cert_file", str(self.key_pair.certificate))
        _append(server, "ssl_key_file", str(self.key_pair.key))


def _append(server: Server, name: str, value: str) -> None:
    with open(server.data / "postgresql.auto.conf", "a") as file:
        file.write(f"{name} = '{value}'\n")
