"""A configuration of pgsplit's that is being made: the short form's values, the users, and what is to be said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from ..config.users import CERT, is_clear
from .remarks import Meaning, Remark
from .source import Entry, printable

Value = str | list[str] | dict[str, str] | list["str | dict[str, str]"]

COMMENT: Final = re.compile(r"\s[;#]").search      # behind a value, where PgBouncer's files have none
LOCAL: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Wishes:
    """What the command line adds to the source.

    *replicas*: servers that the source does not name, each ``HOST:PORT``. *listen*: addresses in the place of the
    source's. *databases*: of PgBouncer's, those alone. *monitor*: a user, and *monitor_password*.
    """

    replicas: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    monitor: str = ""
    monitor_password: str = field(default="", repr=False)


@dataclass
class Draft:
    """*name*: of the source, as the first line of the result calls it. *problems*: why nothing can be written."""

    name: str
    values: dict[str, Value] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict, repr=False)
    certificates: bool = False          # users are let in by theirs
    remarks: list[Remark] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, entry: Entry | None, meaning: Meaning, text: str = "", target: str = "", *,
             loud: bool = False) -> None:
        self.remarks.append(Remark(meaning, entry, text, target, loud))

    def taken(self, entry: Entry, target: str, value: Value | None = None, text: str = "") -> None:
        if value is not None:
            self.values[target] = value
        self.note(entry, Meaning.TAKEN, text, target)

    def other(self, entry: Entry, text: str, target: str = "", *, loud: bool = False) -> None:
        self.note(entry, Meaning.OTHER, text, target, loud=loud)

    def nothing(self, entry: Entry, text: str) -> None:
        self.note(entry, Meaning.NOTHING, text)

    def missing(self, text: str, target: str = "", entry: Entry | None = None) -> None:
        """Without which the result cannot be used."""
        self.note(entry, Meaning.MISSING, text, target, loud=True)

    def wrong(self, entry: Entry, text: str) -> None:
        """*text* says what its value is not."""
        behind = ": a comment stands in a line of its own" if entry.section and COMMENT(entry.value) else ""
        self.problems.append(f"{entry.place}: {entry.shown}: {text}{behind}")

    def add_user(self, name: str, secret: str, place: str) -> None:
        """The first entry of a name stays, as both programs have it. A secret that cannot be one here is left out."""
        shown = printable(name)
        if name in self.users:
            if self.users[name] != secret:
                self.note(None, Meaning.OTHER, f"{place}: user {shown!r} has another secret before: that holds, and "
                                               "all databases have it", "users", loud=True)
            return
        if not name or not secret:
            self.note(None, Meaning.OTHER, f"{place}: user {shown!r} has no password: pgsplit needs the secret of each "
                                           "user for the connections that it opens itself (any text, where the server "
                                           "trusts the user)", "users", loud=True)
        elif secret == CERT or "\0" in name + secret:
            self.note(None, Meaning.OTHER, f"{place}: user {shown!r} has a password that means something else here, "
                                           "and is left out: give the user another one", "users", loud=True)
        else:
            self.users[name] = secret

    def choose_monitor(self, candidates: list[str], wishes: Wishes) -> None:
        """The first of *candidates* that has a clear password, else any user with one."""
        if wishes.monitor and wishes.monitor_password:
            self.users[wishes.monitor] = wishes.monitor_password
        clear = [name for name, secret in self.users.items() if is_clear(secret)]
        named = [wishes.monitor] if wishes.monitor else candidates
        chosen = next((name for name in (*named, *(() if wishes.monitor else clear)) if name in clear), None)
        if chosen is None:
            who = f"{printable(wishes.monitor)!r} has none here" if wishes.monitor else "no user has one here"
            self.missing("monitor: as whom pgsplit asks the servers for roles and positions needs a clear password, "
                         f"and {who}: --monitor USER --monitor-password-file FILE", "monitor")
            return
        self.values["monitor"] = chosen
        if chosen != wishes.monitor:
            self.note(None, Meaning.OTHER, "pgsplit asks each server for its role and position as this user: better "
                                           "one made for it, with the role pg_monitor (--monitor)", "monitor")

    def local(self) -> bool:
        """Whether all servers are on this machine."""
        addresses = []
        for name in ("servers", "primary", "replicas"):
            items = self.values.get(name, [])
            addresses += [str(item["address"] if isinstance(item, dict) else item)
                          for item in (items if isinstance(items, list) else [items])]
        return bool(addresses) and all(address.startswith("unix:") or address.rpartition(":")[0].strip("[]") in LOCAL
                                       for address in addresses)


def address(host: str, port: str) -> str:
    """As the short form has it."""
    if host.startswith("/"):
        return f"unix:{host.rstrip('/')}/.s.PGSQL.{port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
