"""Every cell of the matrix in docs/login.md, on real servers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from pgsplit.demo.replication import PrimaryAndStandbys
from tests.auth.front import Front, Manager, listener, outcome

PAGE = Path(__file__).parents[2] / "docs" / "login.md"
LEGS = ("clear, clear", "clear, TLS", "TLS, clear", "TLS, TLS")
USERS = {"trust": "trust_user", "password": "password_user", "md5": "md5_user", "scram-sha-256": "scram_user"}
ENTRIES = ("clear password", "md5 hash", "SCRAM verifier", "none, `unlisted_users: read_only`",
           "none, `unlisted_users: reject`")


class Cell(NamedTuple):
    entry: str
    method: str
    legs: str
    expected: str

    def __str__(self) -> str:
        return f"{self.entry}-{self.method}-{self.legs}"


def cells() -> list[Cell]:
    rows = [[word.strip() for word in line.strip("|\n").split("|")] for line in PAGE.read_text().splitlines()
            if line.startswith("|")]
    header = ["entry", "server asks for", *LEGS]
    start = rows.index(header) + 2
    return [Cell(row[0], row[1], legs, expected) for row in rows[start:] if len(row) == len(header)
            for legs, expected in zip(LEGS, row[2:], strict=True)]


def test_the_page_has_every_entry_with_every_method():
    found = {(cell.entry, cell.method) for cell in cells()}
    rejected = ENTRIES[-1]
    assert found == {(entry, method) for entry in ENTRIES for method in USERS
                     if entry != rejected or method in ("trust", "scram-sha-256")}


def secret_of(entry: str, user: str, servers: PrimaryAndStandbys) -> str | None:
    password = servers.roles[user].password or "never asked for"
    if entry == "clear password":
        return password
    if entry == "md5 hash":
        return "md5" + hashlib.md5((password + user).encode()).hexdigest()
    if entry == "SCRAM verifier":
        [(stored,)] = servers.primary.query("select rolpassword from pg_authid where rolname = %s", [user])
        if stored and stored.startswith("SCRAM-SHA-256$"):
            return stored
        return servers.primary.query("select rolpassword from pg_authid where rolname = 'scram_user'")[0][0]
    return None


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_cell(cell: Cell, cluster: PrimaryAndStandbys):
    user = USERS[cell.method]
    secret = secret_of(cell.entry, user, cluster)
    client_tls, upstream_tls = (leg == "TLS" for leg in cell.legs.split(", "))
    config = listener({user: secret} if secret is not None else {},
                      upstream_ssl="REQUIRE" if upstream_tls else "DISABLE",
                      unlisted_users="reject" if "reject" in cell.entry else "read_only")
    manager = Manager.of(cluster)
    with Front(manager, config, cluster) as front:
        try:
            got = outcome(front.log_in(user=user, password=cluster.roles[user].password or "guess",
                                       sslmode="require" if client_tls else "disable"))
        except psycopg.OperationalError as error:
            got = str(error)
            assert f"FATAL:  {cell.expected}" in got
        else:
            assert got == cell.expected
            if got == "both":
                assert {("read", True, "identity"), ("write", False, "identity")} == set(manager.questions)
    assert (manager.replica.active, manager.primary.active) == (0, 0)
