"""Lists of users and their secrets, in the configuration or in a file of their own."""

from __future__ import annotations

import base64
import binascii
import re

from .fields import USER
from .model import User
from .nodes import Mapping, Node, Scalar, Sequence
from .reader import Fields, Notes


def read_list(notes: Notes, node: Node | None, path: str) -> list[User]:
    """Items ``{username, password}``, or the short form's mapping of names to secrets."""
    found: list[tuple[Node, str, str, str]] = []
    path = (node.path if node is not None else "") or path
    if isinstance(node, Mapping):
        for name, value in node.items.items():
            if isinstance(value, Scalar):
                found.append((Node(node.file, node.key_lines[name]), f"{path}.{name}", name, value.value))
            else:
                notes.wrong(value, f"{path}.{name}", "is one value: the user's secret")
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            fields = Fields(notes, item, f"{path}[{index}]", USER)
            found.append((item, fields.path, fields.required("username"), fields.required("password")))
    elif node is not None:
        notes.wrong(node, path, "is a list of users")
    return _checked(notes, found)


def _checked(notes: Notes, found: list[tuple[Node, str, str, str]]) -> list[User]:
    users: dict[str, User] = {}
    for node, path, name, secret in found:
        problem = _problem(secret)
        if problem:
            notes.wrong(node, path, problem)
        if name in users:
            notes.wrong(node, path, f"user {name!r} stands twice")
        elif name:
            users[name] = User(username=name, secret=secret)
    return list(users.values())


def _problem(secret: str) -> str:
    """What is wrong with a secret that looks like a hash or verifier and is none; never the secret itself."""
    if secret.startswith("SCRAM-SHA-256$") and not _is_verifier(secret):
        return "the SCRAM verifier is malformed: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>"
    if re.fullmatch(r"md5[0-9a-fA-F]{20,}", secret) and len(secret) != 35:
        return "the md5 hash is malformed: md5 and 32 hexadecimal digits"
    return ""


def _is_verifier(secret: str) -> bool:
    match = re.fullmatch(r"SCRAM-SHA-256\$([1-9]\d{0,8}):([^$:]+)\$([^$:]+):([^$:]+)", secret)
    if match is None:
        return False
    try:
        salt, stored, server = (base64.b64decode(match[i], validate=True) for i in (2, 3, 4))
    except (binascii.Error, ValueError):
        return False
    return bool(salt) and len(stored) == len(server) == 32


def is_clear(secret: str) -> bool:
    return not _is_verifier(secret) and not re.fullmatch(r"md5[0-9a-fA-F]{32}", secret)
