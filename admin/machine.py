"""For machines: health, readiness, Envoy's /stats and Prometheus' /metrics."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pgsplit.errors import PgSplitError
from pgsplit.stats.totals import render

from .metrics import Metrics
from .security import instance

blueprint = Blueprint("machine", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Whether the process lives: nothing is asked of the others."""
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Whether every listener can serve writes and reads; 503 and why if one cannot."""
    try:
        why = not_ready()
    except PgSplitError as error:
        why = [str(error)]
    return Response("".join(f"{reason}\n" for reason in why) or "ok\n", 503 if why else 200, mimetype="text/plain")


def not_ready() -> list[str]:
    about, workers, hosts = instance().about(), instance().workers(), instance().hosts()
    if not any(worker["booted"] and not worker["leaving"] for worker in workers):
        return ["no worker runs"]
    why = []
    for listener in about["listeners"]:
        for cluster in dict.fromkeys((listener["write_cluster"], listener["read_cluster"])):
            members = [host for host in hosts if host.cluster == cluster]
            if not any(host.healthy for host in members):
                said = "; ".join(f"{host.name} {host.why_not}" for host in members) or "it has no host"
                what = "writes" if cluster == listener["write_cluster"] else "reads on replicas"
                why.append(f"listener {listener['name']} cannot serve {what}: cluster {cluster}: {said}")
    return why


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
    registry.register(Metrics(running.totals(), running.about(), running.workers(), running.hosts()))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
