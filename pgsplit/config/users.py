"""Lists of users and their secrets, in the configuration or in a file of their own."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any, Final

from .fields import USER
from .model import User
from .nodes import Mapping, Node, Scalar, Sequence
from .reader import Fields, Notes
from .user_maps import UserMaps

CERT: Final = "cert"            # in a password's place: as pg_hba.conf calls the method
CERTIFICATE_ONLY: Final = ("clientname", "map", "upstream_password")


@dataclass(frozen=True)
class _Item:
    node: Node
    path: str
    name: str
    secret: str
    more: dict[str, Any] = field(default_factory=dict)


def read_list(notes: Notes, node: Node | None, path: str, maps: UserMaps | None = None) -> list[User]:
    """Items ``{username, password, …}``, or the short form's mapping of names to secrets.

    *maps*: those that an item may name; None: any, which are then not looked at.
    """
    found: list[_Item] = []
    path = (node.path if node is not None else "") or path
    if isinstance(node, Mapping):
        for name, value in node.items.items():
            if isinstance(value, Scalar):
                found.append(_Item(Node(node.file, node.key_lines[name]), f"{path}.{name}", name, value.value))
            else:
                notes.wrong(value, f"{path}.{name}", "is one value: the user's secret")
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            fields = Fields(notes, item, f"{path}[{index}]", USER)
            name, secret = fields.required("username"), fields.required("password")
            found.append(_Item(item, fields.path, name, secret, _certificate(fields, secret, maps)))
    elif node is not None:
        notes.wrong(node, path, "is a list of users")
    return _checked(notes, found)


def _certificate(fields: Fields, secret: str, maps: UserMaps | None) -> dict[str, Any]:
    """What an item says of its certificate, and of what pgsplit logs in with behind it."""
    notes, given = fields.notes, [name for name in CERTIFICATE_ONLY if fields.has(name)]
    if secret != CERT:
        for name in given:
            notes.wrong(fields.where(name), fields.at(name), f"is for a user whose password is {CERT}")
        return {}
    upstream, name = fields.text("upstream_password"), fields.text("map")
    if problem := _problem(upstream):
        notes.wrong(fields.where("upstream_password"), fields.at("upstream_password"), problem)
    elif is_verifier(upstream) or upstream == CERT:
        notes.wrong(fields.where("upstream_password"), fields.at("upstream_password"),
                    "is what pgsplit logs in with: a password, or its md5 hash")
    if maps is not None and name and name not in maps:
        notes.wrong(fields.where("map"), fields.at("map"),
                    f"there is no map {name!r} in user_maps; there are {', '.join(sorted(maps)) or 'none'}")
    lines = None if not fields.has("map") else (maps or {}).get(name, ())
    return {"clientname": fields.choice("clientname", ("CN", "SAN"), "CN"), "map": lines, "upstream_secret": upstream}


def _checked(notes: Notes, found: list[_Item]) -> list[User]:
    users: dict[str, User] = {}
    for item in found:
        problem = _problem(item.secret)
        if problem:
            notes.wrong(item.node, item.path, problem)
        if item.name in users:
            notes.wrong(item.node, item.path, f"user {item.name!r} stands twice")
        elif item.name:
            users[item.name] = User(username=item.name, secret=item.secret, **item.more)
    return list(users.values())


def _problem(secret: str) -> str:
    """What is wrong with a secret that looks like a hash or verifier and is none; never the secret itself."""
    if secret.startswith("SCRAM-SHA-256$") and not is_verifier(secret):
        return "the SCRAM verifier is malformed: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"
    if re.fullmatch(r"md5[0-9a-fA-F]{20,}", secret) and len(secret) != 35:
        return "the md5 hash is malformed: md5 and 32 hexadecimal digits"
    return ""


def is_verifier(secret: str) -> bool:
    match = re.fullmatch(r"SCRAM-SHA-256\$([1-9]\d{0,8}):([^$:]+)\$([^$:]+):([^$:]+)", secret)
    if match is None:
        return False
    try:
        salt, stored, server = (base64.b64decode(match[i], validate=True) for i in (2, 3, 4))
    except (binascii.Error, ValueError):
        return False
    return bool(salt) and len(stored) == len(server) == 32


def is_clear(secret: str) -> bool:
    return secret != CERT and not is_verifier(secret) and not re.fullmatch(r"md5[0-9a-fA-F]{32}", secret)
