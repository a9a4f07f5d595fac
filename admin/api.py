"""/api/v1: in JSON what the pages show and do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, abort, jsonify, request

from pgsplit.errors import PgSplitError
from pgsplit.stats.shares import offload

from . import clusters, configuration, routing, sessions, topology, users
from .problems import problems
from .security import audit, changes, instance

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")


@blueprint.get("/overview")
def overview() -> Any:
    running = instance()
    return jsonify(about=running.about(), workers=running.workers(), hosts=[asdict(host) for host in running.hosts()],
                   problems=[problem._asdict() for problem in problems(running)])


@blueprint.get("/history")
def history() -> Any:
    """The samples after ``?since=`` (Unix seconds)."""
    try:
        since = float(request.args.get("since", 0))
    except ValueError:
        abort(400, "since is a number of seconds.")
    return jsonify(samples=instance().arbiter("history", since=since))


@blueprint.get("/sessions")
def all_sessions() -> Any:
    wanted = request.args.get("filter", "")[:200]
    return jsonify(sessions=[asdict(found) for found in sessions.matching(instance().sessions(), wanted)])


@blueprint.get("/sessions/<identifier>")
def one_session(identifier: str) -> Any:
    try:
        session, decisions = instance().session(identifier)
    except PgSplitError as error:
        abort(404, str(error))
    return jsonify(session=asdict(session), decisions=[asdict(decision) for decision in decisions])


@blueprint.post("/sessions/<identifier>/<action>")
@changes
def act(identifier: str, action: str) -> Any:
    try:
        if action == "cancel":
            done = instance().cancel(identifier)
        elif action == "terminate":
            instance().terminate(identifier)
            done = True
        else:
            abort(404, "cancel or terminate.")
    except PgSplitError as error:
        abort(404, str(error))
    audit(f"{sessions.ACTIONS[action]} {identifier}")
    return jsonify(done=done)


@blueprint.get("/routing")
def all_routing() -> Any:
    totals = instance().totals()
    return jsonify(offload=offload(totals).to_dict(), catalogues=instance().catalogues(),
                   reasons=routing.reasons(totals), writes=instance().write_digests(),
                   digests=[usage.to_dict() for usage in instance().usage()])


@blueprint.post("/explain")
def explain() -> Any:
    """``{"sql": …}``: where it would go, and why; ``"database": "cluster/name"``: by its definitions, too."""
    database = (request.get_json(silent=True) or {}).get("database", "") if request.is_json else ""
    if not isinstance(database, str):
        abort(400, "database is a text, cluster/name.")
    try:
        return jsonify(routing.tried(_field("sql")[:routing.LONGEST], database))
    except PgSplitError as error:
        abort(404, str(error))


@blueprint.post("/routing/forget")
@changes
def forget() -> Any:
    instance().each("forget_writes")
    audit("forget the write digests")
    return jsonify(done=True)


@blueprint.get("/clusters")
def all_clusters() -> Any:
    return jsonify(hosts=[asdict(host) for host in instance().hosts()])


@blueprint.get("/topology")
def all_topology() -> Any:
    return jsonify(topology.content())


@blueprint.post("/clusters/<cluster>/<host>/<order>")
@changes
def order(cluster: str, host: str, order: str) -> Any:
    if order not in clusters.ORDERS or (cluster, host) not in {(h.cluster, h.name) for h in instance().hosts()}:
        abort(404, "there is no such host, or no such order")
    instance().arbiter("order_host", cluster=cluster, host=host, order=order)
    instance().forget()
    audit(f"{host} of cluster {cluster}: {order}")
    return jsonify(done=True)


@blueprint.post("/clusters/<cluster>/forget-term")
@changes
def forget_term(cluster: str) -> Any:
    if cluster not in clusters.written_to():
        abort(404, "there is no such cluster that is written to")
    clusters.forget_term_of(cluster)
    return jsonify(done=True)


@blueprint.post("/listeners/<listener>/reads")
@changes
def reads(listener: str) -> Any:
    """``{"to": "primary"}`` or ``{"to": "replicas"}``."""
    to = _field("to")
    if to not in ("primary", "replicas"):
        abort(400, "to is primary or replicas.")
    try:
        orders = instance().arbiter("order_reads", listener=listener, to_primary=to == "primary")
    except PgSplitError as error:
        abort(404, str(error))
    instance().forget()
    audit(f"reads of listener {listener} to {to}")
    return jsonify(orders)


@blueprint.get("/configuration")
def all_configuration() -> Any:
    return jsonify(instance().arbiter("configuration"))


@blueprint.post("/reload")
@changes
def reload() -> Any:
    result = configuration.reloaded()
    audit("reload the configuration", "done" if result["ok"] else "refused")
    return jsonify(result), 200 if result["ok"] else 409


@blueprint.get("/users")
def all_users() -> Any:
    return jsonify(lists=users.with_asked(instance().arbiter("users")))


@blueprint.post("/users")
@changes
def change_users() -> Any:
    """``{"listener": …, "version": …, "changes": [{"name": …, "action": "set" | "delete", "password": …, "stored":
    "scram" | "md5" | "clear"}]}``; with ``"preview": true`` nothing is changed. *version* as GET gave it.
    """
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("changes"), list):
        abort(400, "a JSON object with listener, version and changes.")
    asked = {"listener": str(body.get("listener", "")), "version": str(body.get("version", "")),
             "changes": body["changes"]}
    if body.get("preview"):
        return jsonify(instance().arbiter("users_preview", **asked))
    result = users.save(asked)
    return jsonify(result), 200 if result["ok"] else 409


@blueprint.get("/log")
def all_log() -> Any:
    return jsonify(log=instance().arbiter("log"), audit=instance().arbiter("audit"))


@blueprint.errorhandler(PgSplitError)
def refused(error: PgSplitError) -> Any:
    return jsonify(error=str(error)), 409


def _field(name: str) -> str:
    body = request.get_json(silent=True)
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str):
        abort(400, f"a JSON object with {name}, a text.")
    return value
