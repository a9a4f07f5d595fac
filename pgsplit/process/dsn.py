"""A connection string, in libpq's key=value form or as a URI (PostgreSQL manual 34.1.1), and its password file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from ..errors import PgSplitError

# The parameters that are looked at, by their variable of the environment (manual 34.15).
KNOWN: Final = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER",
                "password": "PGPASSWORD", "passfile": "PGPASSFILE", "sslmode": "PGSSLMODE",
                "sslrootcert": "PGSSLROOTCERT", "connect_timeout": "PGCONNECT_TIMEOUT"}
# Those that change nothing here.
_NO_MATTER: Final = frozenset({"application_name", "fallback_application_name", "client_encoding", "keepalives",
                               "keepalives_idle", "keepalives_interval", "keepalives_count", "gssencmode",
                               "target_session_attrs", "channel_binding", "options", "tcp_user_timeout"})
SSLMODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_PAIR: Final = re.compile(r"\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|\Z)", re.DOTALL)
_URI: Final = re.compile(r"postgres(?:ql)?://")


class Dsn(NamedTuple):
    """*host* is a name, an address, or the directory of a Unix socket; empty where none is given. *timeout*: seconds.
    """

    host: str
    port: int
    database: str
    user: str
    password: str | None
    passfile: str
    sslmode: str = "prefer"
    sslrootcert: str = ""
    timeout: float = 10.0

    def __str__(self) -> str:
        """Without its password (guarantee G8)."""
        return f"{self.user}@{self.host}:{self.port}/{self.database}"

    def __repr__(self) -> str:
        return f"Dsn({self})"

    @property
    def is_local(self) -> bool:
        return self.host.startswith(("/", "@"))


def parse(text: str, environment: Mapping[str, str], default_user: str) -> Dsn:
    """What *text* says, and *environment* where it says nothing.

    :raises PgSplitError: with what is wrong, and never with the password.
    """
    given = _of_uri(text) if _URI.match(text) else _of_pairs(text)
    for name in given:
        if name not in KNOWN and name not in _NO_MATTER:
            raise PgSplitError(f"connection string: {name!r} is not known here: there are {', '.join(KNOWN)}")
    found = {name: given.get(name) or environment.get(variable, "") for name, variable in KNOWN.items()}
    host = found["hostaddr"] or found["host"]
    if "," in host or "," in found["port"]:
        raise PgSplitError("connection string: give one host, the primary")
    if not re.fullmatch(r"\d{1,5}", found["port"] or "5432") or not 0 < int(found["port"] or 5432) < 65536:
        raise PgSplitError(f"connection string: port {found['port']!r} is no number between 1 and 65535")
    sslmode = found["sslmode"] or "prefer"
    if sslmode not in SSLMODES:
        raise PgSplitError(f"connection string: sslmode {sslmode!r} is none of {', '.join(SSLMODES)}")
    if sslmode.startswith("verify") and not found["sslrootcert"]:
        raise PgSplitError(f"connection string: sslmode {sslmode} needs sslrootcert")
    if not re.fullmatch(r"\d{1,6}", found["connect_timeout"] or "10"):
        raise PgSplitError(f"connection string: connect_timeout {found['connect_timeout']!r} is no number of seconds")
    user = found["user"] or default_user
    return Dsn(host, int(found["port"] or 5432), found["dbname"] or user, user, found["password"] or None,
               found["passfile"], sslmode, found["sslrootcert"], float(found["connect_timeout"] or 10) or 10.0)


def _of_pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    while text[position:].strip():
        match = _PAIR.match(text, position)
        if match is None:
            raise PgSplitError(f"connection string: no key=value at character {position + 1} "
                               "(or a quote that is not closed)")
        value = match[2] if match[2] is not None else match[3]
        found[match[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        position = match.end()
    return found


def _of_uri(text: str) -> dict[str, str]:
    """postgresql://user:password@host:port/database?parameter=value"""
    rest, _, query = text.partition("://")[2].partition("?")
    authority, _, database = rest.partition("/")
    login, at, place = authority.rpartition("@")
    user, _, password = login.partition(":")
    found = {"user": user, "password": password, "dbname": database} if at else {"dbname": database}
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d*))?", place)
    host, _, port = place.partition(":") if "," not in place else (place, "", "")
    found["host"], found["port"] = (bracketed[1], bracketed[2] or "") if bracketed is not None else (host, port)
    found = {name: unquote(value) for name, value in found.items()}
    try:
        found.update(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise PgSplitError("connection string: behind ? there is no parameter=value") from None
    return {name: value for name, value in found.items() if value}


def password_in(lines: Iterable[str], dsn: Dsn) -> str | None:
    """The password that a .pgpass has for *dsn* (PostgreSQL manual 34.16): that of the first line that fits."""
    host = "localhost" if dsn.is_local else dsn.host
    wanted = (host, str(dsn.port), dsn.database, dsn.user)
    for line in lines:
        if line.startswith("#"):
            continue
        fields = [re.sub(r"\\(.)", r"\1", part) for part in re.split(r"(?<!\\):", line.rstrip("\r\n"), maxsplit=4)]
        if len(fields) == 5 and all(field in ("*", value) for field, value in zip(fields, wanted, strict=False)):
            return fields[4]
    return None
