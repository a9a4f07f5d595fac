"""The servers of a write cluster and of the read clusters beside it: a row a server, whichever of them it stands in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

Row = dict[str, Any]

OUT_OF_RECOVERY: Final = "out of recovery"        # and yet not the primary: a former one, say


def servers(hosts: Iterable[Mapping[str, Any]], write_cluster: str, read_clusters: Collection[str]) -> list[Row]:
    """*hosts* as `HostSnapshot` has them. *role*: primary, standby, unknown (while it does not answer, too), or out of
    recovery, where it is refused as the primary; *uses*: writes, reads, or both; *status*: what is wrong with it in
    words, or what it is used for. Of what is not known the value is None; a timeline then is 0.
    """
    named: dict[str, list[Mapping[str, Any]]] = {}
    for host in hosts:
        if host["cluster"] == write_cluster or host["cluster"] in read_clusters:
            named.setdefault(host["name"], []).append(host)
    rows = [_row(name, found) for name, found in named.items()]
    return sorted(rows, key=lambda row: (row["role"] != "primary", row["server"]))


def _row(name: str, found: list[Mapping[str, Any]]) -> Row:
    uses = [what for what, writes in (("writes", True), ("reads", False))
            if any(host["writes"] == writes and _serves(host) for host in found)]
    wrong = list(dict.fromkeys(host["why_not"] for host in found if host["why_not"] and not host.get("other_role")))
    standby = next((host for host in found if not host["writes"] and host["lag_ms"] is not None), found[-1])
    clock = next((host for host in found if host["clock_offset_ms"] is not None), standby)
    return {"server": name, "role": _role(found, uses), "timeline": max(host["timeline"] for host in found),
            "uses": " and ".join(uses),
            "status": "; ".join(wrong) or (f"used for {' and '.join(uses)}" if uses else ""),
            "note": next((host["note"] for host in found if host["note"]), ""),
            "order": next((host["order"] for host in found if host["order"]), ""),
            "lag_bytes": standby["lag_bytes"], "lag_ms": standby["lag_ms"],
            "clock_offset_ms": clock["clock_offset_ms"], "clock_bound_ms": clock["clock_bound_ms"],
            "started": next((host["started"] for host in found if host["started"]), ""),
            "cx_active": sum(host["cx_active"] for host in found)}


def _serves(host: Mapping[str, Any]) -> bool:
    return bool(host["healthy"] and not host.get("other_role"))


def _role(found: list[Mapping[str, Any]], uses: list[str]) -> str:
    if all(host.get("silent") for host in found):
        return "unknown"
    roles = {host["role"] for host in found}
    if "primary" in roles:
        return "primary" if uses or any(host["order"] for host in found) else OUT_OF_RECOVERY
    return "standby" if "standby" in roles else "unknown"
