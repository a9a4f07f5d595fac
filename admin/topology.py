"""Who is the primary since when and by whose word, the servers around it, and the last changes with what they cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from flask import Blueprint, render_template

from pgsplit.topology.changes import PATRONI, SERVERS
from pgsplit.topology.servers import servers

from .security import instance

blueprint = Blueprint("topology", __name__)
PAGE = ("topology.page", "Topology")

BY: Final = {SERVERS: "the servers' own: recovery and timeline",
             PATRONI: "Patroni's, beside the servers' own: recovery and timeline"}


@blueprint.get("/topology")
def page() -> str:
    return render_template("topology/page.html", **_shown())


@blueprint.get("/topology/part")
def part() -> str:
    return render_template("topology/part.html", **_shown())


def _shown() -> dict[str, Any]:
    return {**content(), "by": BY}


def content() -> dict[str, Any]:
    """``clusters``: of each one that is written to its *primary* (None: none has been found yet; `changes.merge`), the
    greatest *timeline* that has been seen (0: none), and its *servers* (`topology.servers`). ``changes``: the last
    ones, newest first.
    """
    running = instance()
    found, greatest = running.topology(), running.greatest_timelines()
    hosts = [asdict(host) for host in running.hosts()]
    beside: dict[str, set[str]] = {}
    for listener in running.about()["listeners"]:
        if listener["split_rw"]:
            beside.setdefault(listener["write_cluster"], set()).add(listener["read_cluster"])
    primaries = {primary["cluster"]: primary for primary in found["primaries"]}
    return {"clusters": [{"cluster": cluster, "primary": primaries.get(cluster), "timeline": greatest.get(cluster, 0),
                          "servers": servers(hosts, cluster, readers)} for cluster, readers in sorted(beside.items())],
            "changes": found["changes"]}
