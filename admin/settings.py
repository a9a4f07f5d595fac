"""What the admin application is given at its start."""

from __future__ import annotations

from dataclasses import dataclass

from werkzeug.security import generate_password_hash

from pgsplit.config.model import Admin, Operator


@dataclass(frozen=True)
class AdminSettings:
    """*key*: signs the session cookies. *loopback*: it listens there only. The rest as in the configuration."""

    operators: dict[str, Operator]
    tokens: dict[str, tuple[str, str]]      # SHA-256 -> (name, role)
    key: bytes
    secrets: dict[str, str]                 # by operator: what a log-in is tied to, so that another password ends it
    hosts: frozenset[str]
    trusted_proxies: tuple[str, ...]
    read_only: bool
    prefix: str
    tls: bool
    loopback: bool = True

    @classmethod
    def of(cls, admin: Admin, key: bytes, password: str | None, loopback: bool) -> AdminSettings:
        """*password*: of the user ``admin`` where the configuration has no operator."""
        operators = {operator.name: operator for operator in admin.operators}
        secrets = {operator.name: operator.password for operator in admin.operators}
        if password is not None and not operators:
            made = Operator(name="admin", password=generate_password_hash(password), role="admin")
            operators, secrets = {made.name: made}, {made.name: password}
        return cls(operators=operators, tokens={token.sha256: (token.name, token.role) for token in admin.tokens},
                   key=key, secrets=secrets, hosts=frozenset(host.lower() for host in admin.hosts),
                   trusted_proxies=admin.trusted_proxies, read_only=admin.read_only, prefix=admin.prefix,
                   tls=admin.tls is not None, loopback=loopback)
