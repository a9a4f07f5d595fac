"""pgpool.conf and pool_passwd, made into a draft."""

from __future__ import annotations

import difflib
import posixpath
import re
from typing import Final

from ..errors import ConfigError
from .conf import plain, read_conf, read_pool_passwd
from .draft import Draft, Wishes, address
from .pgpool_backends import backend, read_backends
from .pgpool_functions import LISTS, functions
from .pgpool_rules import RULES, is_mode
from .remarks import Meaning
from .rules import is_off, is_on, port_of, words
from .source import Entry, Read, printable
from .tls import Block, ciphers, curve

SOCKETS: Final = ("unix_socket_directories", "socket_dir")
TLS: Final = ("ssl", "ssl_cert", "ssl_key", "ssl_ca_cert", "ssl_ca_cert_dir", "ssl_crl_file", "ssl_ciphers",
              "ssl_ecdh_curve", "ssl_passphrase_command")
MODES: Final = ("backend_clustering_mode", "master_slave_mode", "master_slave_sub_mode", "replication_mode")
MONITORS: Final = (("sr_check_user", "sr_check_password"), ("health_check_user", "health_check_password"))
TOGETHER: Final = ("listen_addresses", "port", *SOCKETS, "pool_passwd", *TLS, *MODES, *LISTS,
                   *(name for pair in MONITORS for name in pair))
STREAMING: Final = ("pgsplit is for streaming replication, one primary and its standbys: here every server would be "
                    "taken for one of them")


def from_pgpool(text: str, file: str, read: Read, pool_passwd: str | None, wishes: Wishes) -> Draft:
    """*file*: as its settings are called in remarks. *pool_passwd*: its path, which goes over the setting of that name.

    :raises ConfigError: when a file cannot be read or understood, with each line that is wrong.
    """
    draft = Draft(posixpath.basename(file))
    settings: dict[str, Entry] = {}
    for entry in read_conf(text, file):
        if (before := settings.get(entry.name)) is not None:
            draft.nothing(before, f"stands again in line {entry.line}, which holds")
        settings[entry.name] = entry
    directory = posixpath.dirname(file)
    _listen(draft, settings, wishes)
    _mode(draft, settings)
    read_backends(draft, list(settings.values()), wishes)
    _users(draft, settings, read, pool_passwd, directory)
    _tls(draft, settings, directory)
    for name in LISTS:
        if name in settings:
            functions(draft, settings[name])
    _rest(draft, settings)
    _monitor(draft, settings, wishes)
    return draft


def _listen(draft: Draft, settings: dict[str, Entry], wishes: Wishes) -> None:
    addresses, port_entry = settings.get("listen_addresses"), settings.get("port")
    port = port_of(draft, port_entry, "9999")
    found = [address(host, port) for host in (words(addresses.value) if addresses is not None else ["localhost"])]
    for name in SOCKETS:
        if name in settings:
            found += [address(directory,
                              port) for directory in words(settings[name].value) if directory.startswith("/")]
    for entry in (addresses, port_entry, *(settings.get(name) for name in SOCKETS)):
        if entry is not None and wishes.listen:
            draft.other(entry, "--listen stands in its place", "listen")
        elif entry is not None and entry.value:
            draft.taken(entry, "listen")
        elif entry is not None:
            draft.nothing(entry, "names nothing")
    if not wishes.listen and not found:
        found = [address("/tmp", port)]
        draft.note(None, Meaning.OTHER, "no address is named: pgpool-II listened on a Unix socket alone", "listen")
    draft.values["listen"] = list(wishes.listen) or found


def _mode(draft: Draft, settings: dict[str, Entry]) -> None:
    """Which replication there is."""
    mode, replicates = settings.get("backend_clustering_mode"), settings.get("replication_mode")
    follows, how = settings.get("master_slave_mode"), settings.get("master_slave_sub_mode")
    if mode is not None and is_mode(mode.value):
        draft.taken(mode, "", text="one primary and its standbys, which is what pgsplit is for")
    elif mode is not None:
        draft.wrong(mode, STREAMING)
    if replicates is not None and is_on(replicates.value):
        draft.wrong(replicates, STREAMING)
    elif replicates is not None:
        draft.nothing(replicates, "PostgreSQL replicates, here too")
    used = follows is not None and is_on(follows.value)
    if follows is not None and used:
        draft.taken(follows, "", text="one primary and its standbys")
    elif follows is not None:
        draft.nothing(follows, "is off")
    if how is not None and used and how.value != "stream":
        draft.wrong(how, STREAMING)
    elif how is not None and used:
        draft.taken(how, "", text="streaming replication")
    elif how is not None:
        draft.nothing(how, "is not used without master_slave_mode")


def _users(draft: Draft, settings: dict[str, Entry], read: Read, pool_passwd: str | None, directory: str) -> None:
    entry = settings.get("pool_passwd")
    path = pool_passwd or posixpath.join(directory, entry.value if entry is not None else "pool_passwd")
    if not pool_passwd and (entry is not None and not entry.value):
        return draft.nothing(entry, "names no file")
    try:
        found = read_pool_passwd(read(path), path)
    except OSError as error:
        why = f"{printable(path)} cannot be read here ({error.strerror or error}): give its path behind this file's"
        if pool_passwd:
            raise ConfigError([f"{path}: {error.strerror or error}"]) from None
        return draft.missing(why if entry is not None else f"users: {why}", "users", entry)
    for place, name, secret in found:
        if (known := plain(secret)) is None:
            draft.note(None, Meaning.OTHER, f"{place}: user {printable(name)!r} has a password that is encrypted by a "
                                            "key of pgpool-II's, and is left out: add its password, md5 hash or SCRAM "
                                            "verifier (pg_authid.rolpassword)",
                       "users", loud=True)
        else:
            draft.add_user(name, known, place)
    text = "secrets as they are: this file holds passwords now, so its mode is to be 0600"
    if entry is not None:
        draft.taken(entry, "users", text=text if not pool_passwd else f"{pool_passwd}: {text}")
    else:
        draft.note(None, Meaning.TAKEN, f"{path}: {text}", "users")
    return None


def _monitor(draft: Draft, settings: dict[str, Entry], wishes: Wishes) -> None:
    named = []
    for user, password in MONITORS:
        user_entry, password_entry = settings.get(user), settings.get(password)
        name = user_entry.value if user_entry is not None else ""
        if name and name not in named:
            named.append(name)
        secret = plain(password_entry.value) if password_entry is not None and password_entry.value else ""
        if name and secret and password_entry is not None:
            draft.add_user(name, secret, password_entry.place)
        if password_entry is not None and not password_entry.value:
            draft.nothing(password_entry, "names none: pool_passwd has it")
        elif password_entry is not None and (secret is None or not name):
            draft.other(password_entry, "is encrypted by a key of pgpool-II's" if name else "is nobody's: there is no "
                                                                                            "user")
        elif password_entry is not None:
            draft.taken(password_entry, "users")
    draft.choose_monitor(named, wishes)
    for user, _ in MONITORS:
        if (entry := settings.get(user)) is None:
            continue
        if draft.values.get("monitor") == entry.value:
            draft.taken(entry, "monitor", text="it needs the role pg_monitor")
        elif entry.value:
            draft.other(entry, "one user asks all servers for all: monitor", "monitor")
        else:
            draft.nothing(entry, "names nobody")


def _tls(draft: Draft, settings: dict[str, Entry], directory: str) -> None:
    """One setting for both sides: TLS for clients that ask for it, and to servers that have it."""
    found: dict[str, Entry] = {name: settings[name] for name in TLS if name in settings}
    ssl = found.pop("ssl", None)
    if ssl is None or not is_on(ssl.value):
        for entry in (ssl, *found.values()):
            if entry is not None:
                draft.nothing(entry, "there is no TLS, to clients or servers")
        draft.values["upstream_tls"] = "disable"
        return None
    block: Block = {}
    for name, field in (("ssl_cert", "certificate"), ("ssl_key", "key"), ("ssl_ca_cert", "client_ca"),
                        ("ssl_crl_file", "client_crl")):
        entry = found.pop(name, None)
        if entry is not None and entry.value:
            block[field] = posixpath.join(directory, entry.value)
            draft.taken(entry, "tls", text="clients may show a certificate of this CA, and servers must have one"
                        if field == "client_ca" else "")
        elif entry is not None:
            draft.nothing(entry, "names no file")
    for name, read in (("ssl_ciphers", ciphers), ("ssl_ecdh_curve", curve)):
        if (entry := found.pop(name, None)) is not None:
            read(draft, entry, block, "tls")
    for entry in found.values():
        if not entry.value:
            draft.nothing(entry, "names nothing")
        elif entry.name == "ssl_ca_cert_dir":
            draft.other(entry, "a directory is not read: name one file of all CAs as client_ca and ca", "tls",
                        loud=True)
        else:
            draft.other(entry, "an encrypted key is not read: give it without a passphrase, with mode 0600", "tls",
                        loud=True)
    if "certificate" not in block or "key" not in block:
        return draft.missing("tls: needs ssl_cert and ssl_key", "tls", ssl)
    draft.values["tls"] = dict(block)
    mode = "verify" if "client_ca" in block else "disable" if draft.local() else "require"
    draft.values["upstream_tls"] = mode
    if mode == "verify":
        draft.values["ca"] = block["client_ca"]
    draft.taken(ssl, "tls", text="clients may use TLS, and need not")
    draft.note(None, Meaning.OTHER, "pgpool-II had TLS to servers that have it; pgsplit has it to all, or to none: "
               + ("they are on this machine, so none" if mode == "disable" else
                  "TLS it is; upstream_tls: disable where they have none (ssl = off)"), "upstream_tls",
               loud=mode != "disable")
    return None


def _rest(draft: Draft, settings: dict[str, Entry]) -> None:
    """What a table knows, by its name or by that without the number of a server behind it."""
    for name, entry in settings.items():
        general = re.sub(r"\d+$", "", name)
        if name in RULES:
            RULES[name](draft, entry)
        elif name in TOGETHER or backend(name) is not None:
            continue
        elif general in RULES:
            RULES[general](draft, entry)
        elif general in TOGETHER and general != name and general.startswith("health_check"):
            if is_off(entry.value):
                draft.nothing(entry, "names nobody")
            else:
                draft.other(entry, "one user asks all servers: monitor", "monitor")
        else:
            near = difflib.get_close_matches(name, (*RULES, *TOGETHER), 1, 0.75)
            draft.note(entry, Meaning.UNKNOWN,
                       f"no setting of pgpool-II's: {near[0]}?" if near and near[0] != general else
                       "no setting of pgpool-II's that is known here", loud=True)
