"""The admin page's part of the configuration: its address (Envoy's ``admin``), and ``pgsplit.admin`` for the rest."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

from ..origin import COMMAND
from . import units
from .fields import Kind
from .model import Address, Admin, Operator, ServerTls, Token
from .nodes import Node, Scalar
from .reader import Fields

ADMIN: Final = Kind("pgsplit.admin block", ("password", "users", "tokens", "hosts", "trusted_proxies", "read_only",
                                             "prefix", "tls", "audit_log"))
USER: Final = Kind("user of the admin page", ("password", "role"))
TOKEN: Final = Kind("token", ("sha256", "role"))
TLS: Final = Kind("tls block", ("certificate", "key"))
HASHES: Final = f"{COMMAND} hash-password"
ROLES: Final = ("viewer", "admin")
HASH: Final = re.compile(r"(scrypt|pbkdf2):[^$]+\$[^$]+\$[0-9a-f]{32,}")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def read_admin(address: Address, where: Node, block: Fields) -> Admin:
    """What *block* says of the page that listens on *address*, which stands at *where*; mistakes are noted."""
    operators = [_operator(fields, name) for name, fields in _named(block, "users", USER)]
    if block.has("password"):
        operators.append(Operator(name="admin", password=block.scalar("password", _hash, ""), role="admin"))
    names = [operator.name for operator in operators]
    if len(set(names)) < len(names):
        block.notes.wrong(block.where("users"), block.at("users"), "has an admin, whom password: names, too")
    admin = Admin(
        address=address, operators=tuple(operators),
        tokens=tuple(_token(fields, name) for name, fields in _named(block, "tokens", TOKEN)),
        hosts=tuple(_texts(block, "hosts", str)), trusted_proxies=tuple(_texts(block, "trusted_proxies", _network)),
        read_only=block.scalar("read_only", units.boolean, False), prefix=block.scalar("prefix", _prefix, ""),
        tls=_tls(block), audit_log=block.text("audit_log") or None)
    if not operators and not is_loopback(address):
        block.notes.wrong(where, "admin.password", f"is missing: the admin page listens on {address}, beyond "
                          f"loopback, where a password must be configured ({HASHES})")
    return admin


def is_loopback(address: Address) -> bool:
    if address.path is not None or address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def _named(block: Fields, name: str, kind: Kind) -> list[tuple[str, Fields]]:
    holder = block.mapping(name, Kind(name, tuple(block.names(name))))
    return [(key, Fields(block.notes, node, holder.at(key), kind)) for key, node in holder.items.items()]


def _operator(fields: Fields, name: str) -> Operator:
    fields.required("password")
    role: Any = fields.choice("role", ROLES, "admin")
    return Operator(name=name, password=fields.scalar("password", _hash, ""), role=role)


def _token(fields: Fields, name: str) -> Token:
    fields.required("sha256")
    role: Any = fields.choice("role", ROLES, "viewer")
    return Token(name=name, sha256=fields.scalar("sha256", _sha256, ""), role=role)


def _tls(block: Fields) -> ServerTls | None:
    if not block.has("tls"):
        return None
    fields = block.mapping("tls", TLS)
    return ServerTls(certificate=fields.required("certificate"), key=fields.required("key"))


def _texts(block: Fields, name: str, parse: Any) -> list[str]:
    found = []
    for node, path in block.sequence(name):
        if not isinstance(node, Scalar):
            block.notes.wrong(node, path, "is one value, not a mapping or a list")
            continue
        try:
            found.append(parse(node.value))
        except ValueError as error:
            block.notes.wrong(node, path, str(error))
    return found


def _hash(text: str) -> str:
    if not HASH.fullmatch(text):
        raise ValueError(f"is not a hash that `{HASHES}` prints")
    return text


def _sha256(text: str) -> str:
    if not SHA256.fullmatch(text):
        raise ValueError(f"is not the SHA-256 of a token in 64 hexadecimal digits ({HASHES} --token)")
    return text


def _prefix(text: str) -> str:
    text = text.rstrip("/")
    if text and not PREFIX.fullmatch(text):
        raise ValueError(f"{text!r} is not a path such as /pgsplit")
    return text


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{text!r} is neither an IP address nor a network") from None
