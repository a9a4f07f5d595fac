"""`topology`: who says which server is the primary, the servers alone or Patroni."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from .fields import TOPOLOGY
from .model import Topology
from .nodes import Node, Scalar
from .reader import Fields, Notes

SOURCES: Final = ("sql", "patroni")
FILES: Final = ("ca", "certificate", "key")
PORT: Final = 8008             # Patroni's REST API
URL: Final = re.compile(r"(https?)://(\[[0-9A-Fa-f:.%]+\]|[^\s/:@\[\]?#]+)(?::(\d{1,5}))?/?")


def read_topology(notes: Notes, node: Node | None, path: str, file: Callable[[str], str]) -> Topology:
    """The block *node*; mistakes are noted. *file*: the path of a file that the configuration names."""
    fields = Fields(notes, node, path, TOPOLOGY)
    source: Any = fields.choice("source", SOURCES, "sql")
    given = [name for name in TOPOLOGY.read if name != "source" and fields.has(name)]
    if source == "sql" and given:
        notes.wrong(fields.where(given[0]), fields.at(given[0]), "is for source: patroni")
        return Topology()
    if source == "sql":
        return Topology()
    members = _members(fields)
    if not members and not fields.has("patroni"):
        notes.wrong(fields.where("source"), fields.at("patroni"),
                    "is missing: the addresses of Patroni's REST API, [http://db1:8008, …]")
    secure = any(member.startswith("https:") for member in members)
    for name in FILES:
        if fields.has(name) and members and not secure:
            notes.wrong(fields.where(name), fields.at(name), "is for https: no member of patroni has that")
    _both(fields, "certificate", "key")
    _both(fields, "username", "password")
    if fields.has("password") and members and not all(member.startswith("https:") for member in members):
        notes.warn(fields.where("password"), fields.at("password"), "is sent in the clear to members with http:")
    return Topology(source=source, patroni=tuple(members), username=fields.text("username"),
                    password=fields.text("password"),
                    **{name: file(fields.text(name)) or None for name in FILES})


def _both(fields: Fields, *names: str) -> None:
    if any(map(fields.has, names)):
        for name in names:
            fields.required(name)


def _members(fields: Fields) -> list[str]:
    found: list[str] = []
    items = fields.sequence("patroni")
    if fields.has("patroni") and not items:
        fields.notes.wrong(fields.where("patroni"), fields.at("patroni"), "is a list of addresses, and not empty")
    for item, path in items:
        if not isinstance(item, Scalar):
            fields.notes.wrong(item, path, "is one address: http://HOST:PORT or https://HOST:PORT")
            continue
        match = URL.fullmatch(item.value)
        port = int(match[3] or PORT) if match else 0
        if match is None or not 0 < port < 65536:
            fields.notes.wrong(item, path, f"{item.value!r} is not http://HOST:PORT or https://HOST:PORT")
            continue
        member = f"{match[1]}://{match[2]}:{port}"
        if member in found:
            fields.notes.wrong(item, path, f"{member} stands twice")
        found.append(member)
    return found
