"""For machines: health, readiness, Envoy's /stats and Prometheus' /metrics."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pgsplit.errors import PgSplitError
from pgsplit.stats.totals import render
from pgsplit.topology.snapshot import HostSnapshot

from .metrics import Metrics
from .security import instance

blueprint = Blueprint("machine", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Whether the process lives: nothing is asked of the others."""
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Whether every listener can serve writes, and at level ``replicas``, the default, reads on replicas; 503 and why
    if one cannot. At level ``writes`` a service stays ready whose reads have to go to the primary.
    """
    level = request.args.get("level", "replicas")
    if level not in ("replicas", "writes"):
        abort(400, "level is replicas or writes.")
    try:
        why = not_ready(replicas=level == "replicas")
    except PgSplitError as error:
        why = [str(error)]
    return Response("".join(f"{reason}\n" for reason in why) or "ok\n", 503 if why else 200, mimetype="text/plain")


def not_ready(*, replicas: bool) -> list[str]:
    about, workers, hosts = instance().about(), instance().workers(), instance().hosts()
    if not any(worker["booted"] and not worker["leaving"] for worker in workers):
        return ["no worker runs"]
    why = []
    for listener in about["listeners"]:
        writes = listener["write_cluster"]
        for cluster in dict.fromkeys((writes, listener["read_cluster"] if replicas else writes)):
            members = [host for host in hosts if host.cluster == cluster]
            if not any(can_serve(host, reads=cluster != writes) for host in members):
                said = "; ".join(f"{host.name} {host.why_not or 'lags by what is not known'}" for host in members)
                said = said or "it has no host"
                what = "writes" if cluster == writes else "reads on replicas"
                why.append(f"listener {listener['name']} cannot serve {what}: cluster {cluster}: {said}")
    return why


def can_serve(host: HostSnapshot, *, reads: bool) -> bool:
    """A standby whose lag nobody knows is fresh as of no moment that is still to come."""
    return host.serves and not (reads and host.role == "standby" and host.lag_ms is None)


@blueprint.get("/stats")
def stats() -> Response:
    """Envoy's text, or ``?format=json``; ``?filter=REGEX`` takes the names in which it is found."""
    totals = instance().totals()
    if wanted := request.args.get("filter", ""):
        try:
            pattern = re.compile(wanted[:200])
        except re.error as error:
            abort(400, f"filter is no regular expression: {error}")
        totals = {name: value for name, value in totals.items() if pattern.search(name)}
    kind = request.args.get("format", "text")
    if kind == "json":
        return jsonify(stats=[{"name": name, "value": totals[name]} for name in sorted(totals)])
    if kind != "text":
        abort(400, "format is text or json.")
    return Response(render(totals), mimetype="text/plain")


@blueprint.get("/metrics")
def metrics() -> Any:
    registry = CollectorRegistry(auto_describe=False)
    running = instance()
    registry.register(Metrics(running.totals(), running.about(), running.workers(), running.hosts(),
                              running.topology()))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
