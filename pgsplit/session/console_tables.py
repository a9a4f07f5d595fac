"""What the SQL console shows: a table for each SHOW, with PgBouncer's columns where PgBouncer has it.

What pgsplit does not have (queues, pool sizes) or does not measure (time in transactions, waiting) is 0 or empty.
"""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .. import __version__
from ..classify.rules import RULES
from ..config.model import Config
from ..config.settings import of_scope
from ..stats import shares
from ..stats.totals import merge
from ..topology import changes
from ..topology.servers import servers as servers_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """What a SHOW is made of. *ask* gives the answers of all workers to a question."""

    config: Config
    ask: Callable[[str], list[Any]]

    def sessions(self) -> list[Row]:
        return [session for answer in self.ask("sessions") for session in answer]

    def hosts(self) -> list[Row]:
        """As all workers together see them."""
        found: dict[tuple[str, str], Row] = {}
        for answer in self.ask("hosts"):
            for host in answer:
                known = found.setdefault((host["cluster"], host["name"]), {**host, "cx_active": 0, "cx_total": 0,
                                                                           "cx_connect_fail": 0})
                for name in ("cx_active", "cx_total", "cx_connect_fail"):
                    known[name] += host[name]
        return list(found.values())

    def topology(self) -> dict[str, Any]:
        return changes.merge(self.ask("topology"))

    def totals(self) -> dict[str, int]:
        return merge(self.ask("totals"))


def version(known: Known) -> list[Row]:
    return [{"version": f"pgsplit {__version__}"}]


def pools(known: Known) -> list[Row]:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for session in known.sessions():
        servers = 1 + bool(session["replica"])
        state = "sv_idle" if session["state"] == "idle" else "sv_active"
        counts[session["database"], session["user"]].update({"cl_active": 1, state: servers})
    names = ("cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active",
             "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait",
             "maxwait_us")
    return [{"database": database, "user": user, **{name: count[name] for name in names}, "pool_mode": "session",
             "load_balance_hosts": "round-robin"} for (database, user), count in sorted(counts.items())]


def stats(known: Known) -> list[Row]:
    """A row a listener: pgsplit does not count by database."""
    totals, rows = known.totals(), []
    for listener in known.config.listeners:
        root = f"postgres.{listener.stat_prefix}."
        count = {name.removeprefix(root): value for name, value in totals.items() if name.startswith(root)}
        spent = sum(value for name, value in count.items() if name.endswith(".sum_us"))
        row = {"xact_count": count.get("transactions", 0), "query_count": count.get("statements", 0),
               "server_assignment_count": count.get("sessions", 0), "received": count.get("bytes_received", 0),
               "sent": count.get("bytes_sent", 0), "xact_time": 0, "query_time": spent, "wait_time": 0,
               "client_parse_count": 0, "server_parse_count": 0, "bind_count": 0,
               "client_login_count": count.get("sessions", 0)}
        up = max(1.0, time.time() - _STARTED)
        average = {name: int(value / up) for name, value in row.items()}
        average |= {"recv": average.pop("received"), "query_time": spent // max(1, row["query_count"]), "xact_time": 0}
        rows.append({"database": listener.name, **{f"total_{name}": value for name, value in row.items()},
                     **{f"avg_{name}": average[name] for name in _AVERAGES}})
    return rows


def clients(known: Known) -> list[Row]:
    return [_peer(session, "C", *_address(session["client"]), link=session["primary"], pid=0)
            for session in known.sessions()]


def servers(known: Known) -> list[Row]:
    return [_peer(session, "S", *_address(session[upstream]), link=session["client"], pid=session[pid])
            for session in known.sessions() for upstream, pid in (("primary", "pid"), ("replica", "replica_pid"))
            if session[upstream]]


def databases(known: Known) -> list[Row]:
    """A row a host; the name is its cluster's."""
    return [{"name": host["cluster"], "host": _address(host["name"])[0], "port": _address(host["name"])[1],
             "database": "", "force_user": "", "pool_size": 0, "min_pool_size": 0, "reserve_pool_size": 0,
             "server_lifetime": 0, "pool_mode": "session", "load_balance_hosts": "round-robin", "max_connections": 0,
             "current_connections": host["cx_active"], "max_client_connections": 0,
             "current_client_connections": 0, "paused": 0, "disabled": int(bool(host["order"]))}
            for host in known.hosts()]


def users(known: Known) -> list[Row]:
    sessions = Counter(session["user"] for session in known.sessions())
    names = {user.username: None for listener in known.config.listeners for user in listener.users}
    return [{"name": name, "pool_size": 0, "reserve_pool_size": 0, "pool_mode": "session", "max_user_connections": 0,
             "current_connections": sessions[name], "max_user_client_connections": 0,
             "current_client_connections": sessions[name]} for name in names]


def lists(known: Known) -> list[Row]:
    sessions = known.sessions()
    active = sum(session["state"] != "idle" for session in sessions)
    found = {"databases": len(known.hosts()), "users": len(users(known)), "pools": len(pools(known)),
             "free_clients": 0, "used_clients": len(sessions), "login_clients": 0, "free_servers": 0,
             "used_servers": sum(1 + bool(session["replica"]) for session in sessions), "active_clients": active,
             "dns_names": 0, "dns_zones": 0, "dns_queries": 0, "dns_pending": 0}
    return [{"list": name, "items": count} for name, count in found.items()]


def config(known: Known) -> list[Row]:
    """The settings of the process; those of listeners and clusters are on the admin page."""
    return [{"key": setting.name, "value": _text(getattr(known.config.process, setting.name)),
             "default": setting.default or "", "changeable": "yes" if setting.reloadable else "no"}
            for setting in of_scope("process")]


def routes(known: Known) -> list[Row]:
    found: Counter[tuple[str, str]] = Counter()
    for name, value in known.totals().items():
        if match := re.fullmatch(r"postgres\..+\.decisions\.(replica|primary)\.(\w+)", name):
            found[match[1], match[2]] += value
    return [{"upstream": upstream, "reason": reason, "batches": count,
             "words": RULES[reason].words if reason in RULES else "a replica's error; the primary was asked"}
            for (upstream, reason), count in found.most_common()]


def offload(known: Known) -> list[Row]:
    """Times in microseconds, shares in percent: of all reads, or of that server's time with pgsplit."""
    found = shares.offload(known.totals())
    rows = [_offload("reads", "all", "primary and replicas", found.reads, found.reads_us, 1.0, 1.0),
            _offload_part("reads", found.replica)]
    rows += [_offload_part("kept", part) for part in found.kept]
    rows += [_offload_part(f"own_{upstream}", part) for upstream in ("primary", "replica")
             for part in found.own[upstream]]
    return [*rows, *(_offload("primary", name, words, 0, microseconds, 0.0, microseconds / (found.without_us or 1))
                     for name, words, microseconds in (
        ("without_pgsplit", "all that clients' statements took, on either server", found.without_us),
        ("with_pgsplit", "what they took there, and pgsplit's own questions", found.with_us)))]


def _offload_part(of: str, part: shares.Part) -> Row:
    return _offload(of, part.name, part.words, part.number, part.microseconds, part.share, part.time_share)


def _offload(of: str, name: str, words: str, count: int, microseconds: int, share: float, time_share: float) -> Row:
    return {"of": of, "name": name, "count": count, "time_us": microseconds, "share": f"{share:.1%}",
            "time_share": f"{time_share:.1%}", "words": words}


def hosts(known: Known) -> list[Row]:
    return [{**host, "healthy": _text(host["healthy"]), "writes": _text(host["writes"]),
             "lag_ms": None if host["lag_ms"] is None else int(host["lag_ms"]),
             **{name: None if host[name] is None else f"{host[name]:.3f}"
                for name in ("clock_offset_ms", "clock_bound_ms")}} for host in known.hosts()]


def topology(known: Known) -> list[Row]:
    """A row a server of each cluster that is written to. What is not known is empty."""
    primaries = {primary["cluster"]: primary for primary in known.topology()["primaries"]}
    beside: dict[str, set[str]] = {}
    for listener in known.config.listeners:
        if listener.split_rw:
            beside.setdefault(listener.write_cluster, set()).add(listener.read_cluster)
    found, rows = known.hosts(), []
    for cluster, readers in sorted(beside.items()):
        primary = primaries.get(cluster)
        for server in servers_of(found, cluster, readers):
            is_it = primary is not None and primary["server"] == server["server"]
            rows.append({"cluster": cluster, "server": server["server"], "role": server["role"],
                         "timeline": server["timeline"], "status": server["status"],
                         "lag_bytes": _text(server["lag_bytes"]), "lag_ms": _number(server["lag_ms"], 0),
                         "clock_offset_ms": _number(server["clock_offset_ms"], 3),
                         "clock_bound_ms": _number(server["clock_bound_ms"], 3),
                         "primary_since": _clock(primary["at"]) if is_it and primary else "",
                         "by": primary["by"] if is_it and primary else "",
                         "system_identifier": primary["system_identifier"] if is_it and primary else ""})
    return rows


def primary_changes(known: Known) -> list[Row]:
    """The last changes of the primary, and what they have cost; the newest first."""
    return [{"cluster": change["cluster"], "changed": _clock(change["at"]), "from_server": change["from_server"],
             "from_timeline": change["from_timeline"], "to_server": change["server"], "to_timeline": change["timeline"],
             "by": change["by"], "none_for_ms": int(1000 * change["gap_s"]), "sessions_kept": change["kept"],
             "sessions_cut": change["cut"], "longest_wait_ms": int(1000 * change["longest_wait_s"])}
            for change in known.topology()["changes"]]


SHOW: Final[Mapping[str, Callable[[Known], list[Row]]]] = {
    "clients": clients, "config": config, "databases": databases, "hosts": hosts, "lists": lists,
    "offload": offload, "pools": pools, "primary_changes": primary_changes, "routes": routes, "servers": servers,
    "stats": stats, "topology": topology, "users": users, "version": version,
}


def _peer(session: Row, kind: str, host: str, port: int, *, link: str, pid: int) -> Row:
    waits = int(max(0.0, time.time() - session["state_since"])) if session["state"] == "active" else 0
    return {"type": kind, "user": session["user"], "database": session["database"], "replication": "none",
            "state": "idle" if session["state"] == "idle" else "active", "addr": host, "port": port, "local_addr": "",
            "local_port": 0, "connect_time": _clock(session["started"]), "request_time": _clock(session["state_since"]),
            "wait": waits, "wait_us": 0, "close_needed": 0, "ptr": session["id"], "link": link,
            "remote_pid": pid, "tls": "TLS" if session["upstream_tls" if kind == "S" else "tls"] else "",
            "application_name": session["application_name"], "prepared_statements": 0,
            "id": int(session["id"].replace("-", "0"))}


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdecimal() else (text, 0)


def _number(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


_AVERAGES: Final = ("xact_count", "query_count", "server_assignment_count", "recv", "sent", "xact_time", "query_time",
                    "wait_time", "client_parse_count", "server_parse_count", "bind_count", "client_login_count")
_STARTED: Final = time.time()
