"""The session's settings and role, as the primary has them and as a replica is given them (guarantee G4).

What the session wants is asked of the primary, which alone knows what functions, roll-backs and time have made of
it. A replica is given all of it: everything back to what the login gave, then setting by setting. These statements
travel ahead of a batch, without a Sync of their own: where one fails the server skips the batch too, so that
nothing ever runs in the wrong role.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from ..classify.options import RESULT_SETTINGS as RESULT_SETTINGS
from ..classify.set_commands import ALL, Change
from ..wire import build

# A statement of pgsplit's own on a session's connection. Named, since the unnamed one is the client's; closed at once.
OWN: Final = "pgsplit"

# Settings that stay as a read connection has them: reads only, and what times out a connection that idles while the
# other works. Another connection to a primary is given them. Then those that say something of a transaction.
PRIMARY_ONLY: Final = ("default_transaction_read_only", "idle_session_timeout", "idle_in_transaction_session_timeout",
                       "synchronous_commit")
OF_TRANSACTION: Final = ("transaction_deferrable", "transaction_isolation", "transaction_read_only")

ROLE: Final = b"role"
USER: Final = b"session_authorization"

Pair = tuple[bytes, bytes]


class Settings(NamedTuple):
    """Values as `set_config` takes them. *user* is empty for the one that has logged in."""

    values: tuple[Pair, ...] = ()
    user: bytes = b""
    role: bytes = b"none"


LOGIN: Final = Settings()


def changed(settings: Settings, changes: Iterable[Change]) -> Settings:
    """What *changes*, read from a text, make of the session's *settings*.

    An option that was ever touched is empty when it is reset, and not unknown.
    """
    values, user, role = dict(settings.values), settings.user, settings.role
    for name, value in changes:
        if name == "session_authorization":
            user, role = b"", b"none"
        elif name == "role":
            role = (value or "none").encode("latin-1")
        elif name == ALL:
            values = {known: b"" for known in values if b"." in known}
        else:
            same = [known for known in values if known.lower() == name.encode("latin-1")]
            key = same[0] if same else name.encode("latin-1")
            if value is not None:
                values[key] = value.encode("latin-1")
            elif "." in name:
                values[key] = b""
            else:
                values.pop(key, None)
    return Settings(tuple(sorted(values.items())), user, role)


class Ahead(NamedTuple):
    """What pgsplit puts before a batch, and the types of the messages by which a server acknowledges it."""

    data: bytes
    answers: bytes


NOTHING: Final = Ahead(b"", b"")
# An error behind its Parse leaves a statement of pgsplit's own behind: prepared statements are not rolled back.
CLOSE_OWN: Final = Ahead(build.close(name=OWN), b"3")


def run(sql: str, values: Iterable[Iterable[bytes]] = ((),), *, row: bool = False) -> Ahead:
    """*sql* once for each of *values*, its parameters; *row*: it gives one."""
    data = [build.parse(OWN, sql)]
    answers = b"1"
    for parameters in values:
        data += [build.bind(statement=OWN, values=tuple(parameters)), build.execute()]
        answers += b"2DC" if row else b"2C"
    data.append(build.close(name=OWN))
    return Ahead(b"".join(data), answers + b"3")


def set_config(pairs: Iterable[Pair]) -> Ahead:
    return run("select pg_catalog.set_config($1, $2, false)", pairs, row=True)


def empty(option: str) -> Ahead:
    """Have a server know the customized *option*, empty. It is no query: SET TRANSACTION may come behind it."""
    name = ".".join('"' + part.replace('"', '""') + '"' for part in option.split("."))
    return run(f"set {name} to ''")


def give(settings: Settings) -> Ahead:
    """Make a connection's settings *settings*, whatever they are now."""
    parts = [run("reset session authorization"), run("reset all")]
    encoding = [pair for pair in settings.values if pair[0] == b"client_encoding"]
    if encoding:
        parts.append(set_config(encoding))      # the values behind it are in that encoding
    rest = [pair for pair in settings.values if pair[0] != b"client_encoding"]
    if rest:
        parts.append(set_config(rest))
    identity = [(name, value) for name, value in ((USER, settings.user), (ROLE, settings.role)) if value]
    parts += [set_config([pair]) for pair in identity if pair != (ROLE, b"none")]
    return Ahead(b"".join(part.data for part in parts), b"".join(part.answers for part in parts))
