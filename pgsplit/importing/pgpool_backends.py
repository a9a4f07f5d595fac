"""pgpool-II's backend_hostname0, backend_weight0 … made into servers."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

from .draft import Draft, Wishes, address
from .pgpool_rules import BACK
from .remarks import Meaning
from .rules import number
from .source import Entry

FIELDS: Final = ("hostname", "port", "weight", "flag", "data_directory", "application_name")
_NAME: Final = re.compile(rf"backend_({'|'.join(FIELDS)})(\d+)").fullmatch
ALWAYS: Final = ("ALWAYS_PRIMARY", "ALWAYS_MASTER")
UNNEEDED: Final = {"data_directory": "pgsplit does not touch the servers' files",
                   "application_name": "who follows whom is found out from the servers"}
LOCAL: Final = "localhost"      # in a Unix socket's place
LAST: Final = "1"           # priority of a server that gets reads only when no other may


def backend(name: str) -> tuple[str, int] | None:
    """(field, number) of a backend's setting."""
    match = _NAME(name)
    return (match[1], int(match[2])) if match else None


def read_backends(draft: Draft, entries: list[Entry], wishes: Wishes) -> None:
    """Sets the draft's servers: as one list, or with the primary named where one is ALWAYS_PRIMARY."""
    nodes: dict[int, dict[str, Entry]] = {}
    for entry in entries:
        if (known := backend(entry.name)) is not None:
            nodes.setdefault(known[1], {})[known[0]] = entry
    servers: list[tuple[str, dict[str, Entry]]] = []
    for _, fields in sorted(nodes.items()):
        host, port = fields.get("hostname"), fields.get("port")
        for field, text in UNNEEDED.items():
            if field in fields:
                draft.nothing(fields[field], text)
        if host is None or not host.value:
            for field, entry in fields.items():
                if field not in UNNEEDED:
                    draft.nothing(entry, "there is no host name to it")
            continue
        try:
            name = LOCAL if host.value.startswith("/") else host.value
            servers.append((address(name, number(port.value) if port is not None else "5432"), fields))
        except ValueError as error:
            assert port is not None
            draft.wrong(port, str(error))
            continue
        if name == host.value:
            draft.taken(host, "servers")
        else:
            draft.other(host, "pgsplit reaches its servers by TCP: localhost, where the server must listen", "servers",
                        loud=True)
        if port is not None:
            draft.taken(port, "servers")
    primary = _flags(draft, servers)
    items = _weighed(draft, servers)
    items += [server for server in wishes.replicas if server not in [found for found, _ in servers]]
    if primary is not None:
        draft.values["primary"] = servers[primary][0]
        draft.values["replicas"] = [item for index, item in enumerate(items) if index != primary]
        draft.remarks = [remark if remark.target != "servers" else
                         type(remark)(remark.meaning, remark.entry, remark.text,
                                      "primary" if _is_of(remark.entry, servers[primary][1]) else "replicas",
                                      remark.loud)
                         for remark in draft.remarks]
        if not draft.values["replicas"]:
            draft.missing("replicas: there is the primary alone: --replica HOST:PORT", "replicas")
        return
    draft.values["servers"] = items
    if not items:
        draft.missing("servers: there is no backend_hostname: --replica HOST:PORT adds one, whatever it is", "servers")
    elif len(items) == 1:
        draft.note(None, Meaning.OTHER, "there is one server: add the standbys here, or by --replica HOST:PORT. Until "
                                        "then it has the reads, too", "servers", loud=True)


def _is_of(entry: Entry | None, fields: dict[str, Entry]) -> bool:
    return any(entry is field for field in fields.values())


def _flags(draft: Draft, servers: list[tuple[str, dict[str, Entry]]]) -> int | None:
    """Which server is said to be the primary for ever."""
    always = [index for index, (_, fields) in enumerate(servers)
              if "flag" in fields and any(word in fields["flag"].value.upper() for word in ALWAYS)]
    for index, (_, fields) in enumerate(servers):
        flag = fields.get("flag")
        if flag is None:
            continue
        if index in always[:1]:
            draft.taken(flag, "servers", text="this is the primary, and the others are replicas: nobody else is asked "
                                              "for")
        elif index in always:
            draft.other(flag, "there is one primary: the first of them")
        else:
            draft.nothing(flag, BACK)
    return always[0] if always else None


def _weighed(draft: Draft, servers: list[tuple[str, dict[str, Entry]]]) -> list[str | dict[str, str]]:
    weights: list[Fraction] = []
    for _, fields in servers:
        entry = fields.get("weight")
        try:
            weights.append(Fraction(entry.value).limit_denominator(1000) if entry is not None else Fraction(1))
        except (ValueError, ZeroDivisionError):
            assert entry is not None
            draft.wrong(entry, "is not a number")
            weights.append(Fraction(1))
    positive = [weight for weight in weights if weight > 0]
    alike = len(set(positive)) <= 1
    scale = Fraction(math.lcm(*(weight.denominator for weight in positive)) if positive else 1)
    common = math.gcd(*(int(weight * scale) for weight in positive)) if positive else 1
    found: list[str | dict[str, str]] = []
    for (server, fields), weight in zip(servers, weights, strict=True):
        item = {"address": server}
        if weight <= 0 and positive:
            item["priority"] = LAST
        elif not alike:
            item["weight"] = str(int(weight * scale) // common)
        found.append(item if len(item) > 1 else server)
        if "weight" in fields:
            _say_weight(draft, fields["weight"], item)
    return found


def _say_weight(draft: Draft, entry: Entry, item: dict[str, str]) -> None:
    if "priority" in item:
        draft.other(entry, "gets reads only when no other server may serve them (priority: 1); the primary's reads are "
                           "those that no replica may serve, in any case", "servers")
    elif "weight" in item:
        draft.other(entry, "is for replicas, which share out the sessions that read: the primary gets no share",
                    "servers")
    else:
        draft.nothing(entry, "all replicas get the same share of sessions; the primary gets none")


