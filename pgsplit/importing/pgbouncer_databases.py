"""PgBouncer's [databases]: names that lead to servers; pgsplit has one primary, its standbys, and their databases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .draft import Draft, Wishes, address
from .ini import connection_string
from .pgbouncer_rules import OF_DATABASE
from .remarks import Meaning
from .source import Entry, printable

ANY: Final = "*"
LOCAL: Final = "localhost"               # in a Unix socket's place
READ_HERE: Final = ("host", "port", "dbname", "user", "password", "auth_user", "auth_query", "auth_dbname")


@dataclass(frozen=True)
class _Database:
    entry: Entry
    given: dict[str, str]
    servers: tuple[str, ...]


class Databases:
    """*names*: of the databases on the servers. *secrets*: (user, secret, place). *users*: those that are named.

    *auth*: auth_user and its like, where a database has them.
    """

    def __init__(self, draft: Draft, entries: list[Entry], wishes: Wishes) -> None:
        self.names: list[str] = []
        self.secrets: list[tuple[str, str, str]] = []
        self.users: list[str] = []
        self.auth: dict[str, str] = {}
        self.problems = False
        self._draft = draft
        self._entries = entries
        self._wishes = wishes

    @property
    def only(self) -> str:
        """The one database that clients may ask for, or nothing."""
        names = set(self.names)
        return names.pop() if len(names) == 1 and not any(entry.name == ANY for entry in self._entries) else ""

    def read(self) -> None:
        """Sets the draft's servers, or says why there are none."""
        last = {entry.name: entry for entry in self._entries}
        for name in self._wishes.databases:
            if name not in last:
                self._draft.problems.append(f"--database {printable(name)}: [databases] has none of that name; it has "
                                            f"{', '.join(map(printable, last)) or 'none'}")
        found = [database for entry in self._entries
                 if (database := self._database(entry, last[entry.name])) is not None]
        replicas = self._wishes.replicas
        ours = [database for database in found if not set(database.servers) <= set(replicas)]
        chosen = list(dict.fromkeys(database.servers for database in ours))
        if len(chosen) > 1:
            self.problems = True
            self._draft.problems.append(_several(ours))
        servers = list(dict.fromkeys((*(chosen[0] if chosen else ()), *replicas)))
        for database in found:
            if len(chosen) <= 1:
                self._note(database, replica=database not in ours)
            else:
                self._draft.other(database.entry, f"is on {', '.join(database.servers)}: see below", "servers")
        if not servers:
            self.problems = True
            self._draft.missing("servers: [databases] names none: --replica HOST:PORT adds one, whatever it is",
                                "servers")
        self._draft.values["servers"] = list(servers)
        if len(servers) == 1:
            self._draft.note(None, Meaning.OTHER, "PgBouncer knows no standbys: add them here, or by --replica "
                                                  "HOST:PORT. Until then the primary has the reads, "
                                                  "too", "servers", loud=True)

    def _database(self, entry: Entry, last: Entry) -> _Database | None:
        if entry is not last:
            self._draft.nothing(entry, f"stands again in line {last.line}, which holds")
            return None
        if self._wishes.databases and entry.name not in self._wishes.databases:
            self._draft.nothing(entry, "is not among those of --database")
            return None
        try:
            given = connection_string(entry.value)
        except ValueError as error:
            self._draft.wrong(entry, str(error))
            return None
        hosts = [LOCAL if host.startswith(("/", "@")) else host for part in given.get("host", "").split(",")
                 if (host := part.strip())] or [LOCAL]
        return _Database(entry, given, tuple(address(host, given.get("port") or "5432") for host in hosts))

    def _note(self, database: _Database, replica: bool) -> None:
        entry, given = database.entry, database.given
        name = given.get("dbname") or entry.name
        if replica:
            return self._draft.other(entry, "is on a replica: reads go there by themselves, so its clients connect to "
                                            "the other database name", "servers")
        if entry.name != ANY or "dbname" in given:
            self.names.append(name)
        said = [] if entry.name == name else [
            f"its clients ask for {printable(name)}, as the server calls it: names are not mapped"]
        if entry.name == ANY and "dbname" not in given:
            said.append("every database of the servers can be reached")
        elif not any(other.name == ANY for other in self._entries):
            said.append("other databases of the servers can be reached, too: pg_hba.conf says which")
        if len(database.servers) > 1:
            said.append("which of the hosts is the primary is found out, and the others get reads")
        if given.get("host", "/").startswith(("/", "@")):
            said.append("PgBouncer used a Unix socket, and pgsplit reaches its servers by TCP: localhost, where the "
                        "server must listen, and lines of pg_hba.conf that begin with host hold in place of local ones")
        said += self._login(entry, given)
        said += [f"{word}: {OF_DATABASE.get(word, 'is not known')}" for word in given if word not in READ_HERE]
        plain = not said or said == ["every database of the servers can be reached"]
        if plain:
            return self._draft.taken(entry, "servers", text="; ".join(said))
        changes_clients = entry.name not in (name, ANY) or "user" in given
        return self._draft.other(entry, "; ".join(said), "servers", loud=changes_clients or "host" not in given)

    def _login(self, entry: Entry, given: dict[str, str]) -> list[str]:
        """Whoever a connection string names becomes a user of the list."""
        said = []
        if user := given.get("user", ""):
            self.users.append(user)
            if given.get("password"):
                self.secrets.append((user, given["password"], entry.place))
            said.append(f"all clients were {printable(user)} at the server: here each logs in as itself, so they use "
                        "that name and password")
        elif "password" in given:
            said.append("the password is for a user= that is not there")
        for word in ("auth_user", "auth_query", "auth_dbname"):
            if word not in given:
                continue
            if self.auth.setdefault(word, given[word]) != given[word]:
                said.append(f"{word}: there is one for all databases: the first one's")
        return said


def _several(databases: list[_Database]) -> str:
    """Which databases are where, and what to do."""
    by_servers: dict[tuple[str, ...], list[str]] = {}
    for database in databases:
        by_servers.setdefault(database.servers, []).append(printable(database.entry.name))
    where = "; ".join(f"{', '.join(names)} on {', '.join(servers)}" for servers, names in by_servers.items())
    place = databases[0].entry
    return (f"{place.file}:{place.line}: [databases] lead to several servers, and a pgsplit has one primary and its "
            f"standbys: {where}. Where some are standbys of another, name them: --replica HOST:PORT for each. Else "
            "make one configuration for each, with a port of its own: --database NAME --listen HOST:PORT")
