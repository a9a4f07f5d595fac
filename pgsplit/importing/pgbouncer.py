"""pgbouncer.ini and its list of users, made into a draft."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Mapping
from typing import Final

from ..config.settings import AUTH_QUERY
from ..config.users import is_clear, is_verifier
from ..errors import ConfigError
from .draft import Draft, Wishes, address
from .ini import read_ini, read_userlist
from .pgbouncer_databases import Databases
from .pgbouncer_rules import OF_USER, RULES
from .pgbouncer_tls import client_tls, server_tls
from .remarks import Meaning
from .rules import is_off, port_of, words
from .source import Entry, Read, printable

SECTIONS: Final = ("databases", "pgbouncer", "users", "peers")
# Those that are read together; pgbouncer_rules has the others.
TOGETHER: Final = ("listen_addr", "listen_port", "unix_socket_dir", "auth_type", "auth_file", "auth_user", "auth_query",
                   "auth_dbname", "client_tls_sslmode", "client_tls_cert_file", "client_tls_key_file",
                   "client_tls_ca_file", "client_tls_protocols", "client_tls_ciphers", "client_tls_ecdhcurve",
                   "server_tls_sslmode", "server_tls_cert_file", "server_tls_key_file", "server_tls_ca_file",
                   "server_tls_protocols", "server_tls_ciphers")
DECIDES: Final = "PostgreSQL decides who gets in, by its pg_hba.conf"
AUTH_TYPES: Final[Mapping[str, str]] = {
    "md5": f"{DECIDES}; an md5 hash of the list serves where it asks for md5, a clear password for SCRAM "
           "(upstream_auth allows more)",
    "scram-sha-256": DECIDES,
    "plain": f"{DECIDES}: no password is asked for in the clear unless it does",
    "hba": f"{DECIDES}, not auth_hba_file",
    "trust": f"PgBouncer let everybody in; {DECIDES}: clients need their passwords, or the server must trust pgsplit's "
             "address",
    "any": f"PgBouncer let everybody in, under one name; here each client logs in as itself, and {DECIDES}",
    "pam": f"{DECIDES}; pgsplit needs each user's secret, too, for the connections that it opens itself (users, or "
           "auth_query)",
    "ldap": f"{DECIDES}; pgsplit needs each user's secret, too, for the connections that it opens itself (users, or "
            "auth_query)",
}
STRICTER: Final = ("trust", "any", "pam", "ldap", "hba")


def from_pgbouncer(text: str, file: str, read: Read, userlist: str | None, wishes: Wishes) -> Draft:
    """*file*: as its settings are called in remarks. *userlist*: its path, which goes over auth_file.

    :raises ConfigError: when a file cannot be read or understood, with each line that is wrong.
    """
    source = _Source(read_ini(text, file, read), Draft(posixpath.basename(file)))
    draft = source.draft
    directory = posixpath.dirname(file)
    _listen(source, wishes)
    databases = Databases(draft, [entry for entry in source.entries if entry.section == "databases"], wishes)
    databases.read()
    _users(source, read, userlist, directory)
    for name, secret, place in databases.secrets:
        draft.add_user(name, secret, place)
    auth_user = _auth_query(source, databases)
    client_tls(draft, source.take, directory)
    _auth_type(source)
    server_tls(draft, source.take, directory)
    _rest(source)
    if draft.users or not databases.problems:
        draft.choose_monitor([auth_user, *databases.users], wishes)
    return draft


class _Source:
    """The settings of [pgbouncer] by name, each to be taken once."""

    def __init__(self, entries: list[Entry], draft: Draft) -> None:
        self.entries = entries
        self.draft = draft
        self.settings: dict[str, Entry] = {}
        for entry in entries:
            if entry.section != "pgbouncer":
                continue
            if (before := self.settings.get(entry.name)) is not None:
                draft.nothing(before, f"stands again in line {entry.line}, which holds")
            self.settings[entry.name] = entry

    def take(self, name: str) -> Entry | None:
        return self.settings.pop(name, None)


def _listen(source: _Source, wishes: Wishes) -> None:
    draft = source.draft
    addr, port_entry = source.take("listen_addr"), source.take("listen_port")
    directory = source.settings.get("unix_socket_dir")
    port = port_of(draft, port_entry, "6432")
    found = [address(host, port) for host in words(addr.value)] if addr is not None else []
    if directory is not None and directory.value.startswith("/"):
        found.append(address(directory.value, port))
    for entry in (addr, port_entry, directory):
        if entry is None:
            continue
        if wishes.listen:
            draft.other(entry, "--listen stands in its place", "listen")
        elif entry is directory and not entry.value.startswith("/"):
            draft.nothing(entry, "names no directory" if is_off(entry.value) else
                          "sockets of the abstract namespace are not served")
        else:
            draft.taken(entry, "listen")
    if not wishes.listen and addr is None:
        draft.note(None, Meaning.OTHER, "listen_addr is not set: PgBouncer listened on a Unix socket alone", "listen")
    if not wishes.listen and not found:
        found = [address("/tmp", port)]
    draft.values["listen"] = list(wishes.listen) or found


def _users(source: _Source, read: Read, userlist: str | None, directory: str) -> None:
    draft, entry = source.draft, source.take("auth_file")
    path = userlist or (posixpath.join(directory, entry.value) if entry is not None and entry.value else "")
    if not path:
        if entry is not None:
            draft.nothing(entry, "names no file")
        return None
    try:
        found = read_userlist(read(path), path)
    except OSError as error:
        if userlist or entry is None:
            raise ConfigError([f"{path}: {error.strerror or error}"]) from None
        return draft.missing(f"{printable(path)} cannot be read here ({error.strerror or error}): give its path behind "
                             "this file's", "users", entry)
    for place, name, secret in found:
        draft.add_user(name, secret, place)
    text = f"{len(found)} users, their secrets as they are: this file holds passwords now, so its mode is to be 0600"
    if entry is not None:
        draft.taken(entry, "users", text=text if not userlist else f"{userlist}: {text}")
    else:
        draft.note(None, Meaning.TAKEN, f"{userlist}: {text}", "users")
    return None


def _auth_type(source: _Source) -> None:
    draft, entry = source.draft, source.take("auth_type")
    if entry is None:
        return None
    kind = entry.value.lower()
    if kind == "cert":
        draft.certificates = True
        tls = draft.values.get("tls")
        if not isinstance(tls, dict) or "client_ca" not in tls:
            return draft.missing("users who are let in by a certificate need client_tls_sslmode = verify-full and "
                                 "client_tls_ca_file", "users", entry)
        for name in [name for name, secret in draft.users.items() if is_verifier(secret)]:
            draft.note(None, Meaning.OTHER, f"user {printable(name)!r} has a SCRAM verifier: with a certificate "
                                            "pgsplit logs in by itself, for which it needs a password or an md5 "
                                            "hash", "users", loud=True)
        return draft.taken(entry, "users", text="password: cert, and what pgsplit logs in with at the servers")
    if kind not in AUTH_TYPES:
        return draft.wrong(entry, f"is not one of {', '.join((*AUTH_TYPES, 'cert'))}")
    return draft.other(entry, AUTH_TYPES[kind], loud=kind in STRICTER)


def _auth_query(source: _Source, databases: Databases) -> str:
    """The global settings, or those of the database that has some; returns the user."""
    draft = source.draft
    user, query, dbname = (source.take(name) for name in ("auth_user", "auth_query", "auth_dbname"))
    name = user.value if user is not None else databases.auth.get("auth_user", "")
    if not name:
        for entry in (query, dbname):
            if entry is not None:
                draft.nothing(entry, "nobody is asked without auth_user")
        return ""
    secret = draft.users.get(name, "")
    if not secret or is_verifier(secret):
        why = "has a SCRAM verifier, with which nobody can log in" if secret else "has no password in the list of users"
        draft.missing(f"auth_user: {printable(name)!r} {why}, so users who are not listed are not asked for: give it "
                      "one, and add auth_user", "users", user)
        for entry in (query, dbname):
            if entry is not None:
                draft.other(entry, "waits for auth_user: add it with that")
        return name
    draft.values["auth_user"] = name
    if user is not None and not is_clear(secret):
        draft.taken(user, "auth_user", text="its md5 hash serves where the server asks for md5")
    elif user is not None:
        draft.taken(user, "auth_user")
    text = query.value if query is not None else databases.auth.get("auth_query", "")
    if text and text != AUTH_QUERY:
        draft.values["auth_query"] = text
    if query is not None:
        draft.taken(query, "auth_query")
    where = dbname.value if dbname is not None else databases.auth.get("auth_dbname", "")
    where = where or databases.only
    if where:
        draft.values["auth_dbname"] = where
    if dbname is not None:
        draft.taken(dbname, "auth_dbname")
    elif where:
        draft.note(None, Meaning.TAKEN, "PgBouncer asked in the client's database, pgsplit asks in one for all",
                   "auth_dbname")
    elif text:
        draft.note(None, Meaning.OTHER, "auth_query: PgBouncer asked in the client's database, pgsplit asks in one for "
                                        "all, which is postgres where auth_dbname names no other: a function must be "
                                        "there", "auth_query", loud=True)
    return name


def _rest(source: _Source) -> None:
    """What a table knows, and what nobody knows."""
    draft = source.draft
    for entry in source.entries:
        if entry.section == "pgbouncer" and source.settings.get(entry.name) is entry:
            if entry.name in RULES:
                RULES[entry.name](draft, entry)
            elif entry.name not in TOGETHER:
                near = difflib.get_close_matches(entry.name, (*RULES, *TOGETHER), 1, 0.75)
                draft.note(entry, Meaning.UNKNOWN, f"no setting of PgBouncer's: {near[0]}?" if near else
                           "no setting of PgBouncer's that is known here", loud=True)
        elif entry.section == "users":
            parts = [f"{name}: {OF_USER.get(name, 'is not known')}" for name in _names(entry.value)]
            draft.other(entry, "[users]: settings of one user are the server's. "
                               f"{'; '.join(parts) or 'There are none'}")
        elif entry.section == "peers":
            draft.nothing(entry, "[peers]: workers of one pgsplit pass cancels on to each other")
        elif entry.section not in SECTIONS:
            draft.note(entry, Meaning.UNKNOWN, f"no section of PgBouncer's: [{printable(entry.section)}]")


def _names(text: str) -> list[str]:
    return [word.partition("=")[0] for word in text.split() if "=" in word]
