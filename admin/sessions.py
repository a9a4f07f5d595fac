"""Sessions of all workers: a live table, one session's decisions, cancel and terminate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for

from pgsplit.errors import PgSplitError
from pgsplit.session.snapshot import SessionSnapshot

from .security import audit, changes, instance

blueprint = Blueprint("sessions", __name__)
PAGE = ("sessions.page", "Sessions")

SHOWN: Final = 500
LONG: Final = 60.0              # seconds after which an open transaction, or a pin, is marked
SORTS: Final = {
    "client": lambda s: s.client, "user": lambda s: (s.user, s.database), "application": lambda s: s.application_name,
    "state": lambda s: (s.state != "active", s.state, s.state_since), "since": lambda s: s.state_since,
    "upstream": lambda s: s.upstream, "pins": lambda s: -len(s.pins),
    "statements": lambda s: -(s.statements_replica + s.statements_primary),
    "bytes": lambda s: -(s.bytes_received + s.bytes_sent), "started": lambda s: s.started, "worker": lambda s: s.id,
}
ACTIONS: Final = {"cancel": "cancel the statement of", "terminate": "terminate"}


@blueprint.get("/sessions")
def page() -> str:
    return render_template("sessions/page.html", **_content(request.args))


@blueprint.get("/sessions/part")
def part() -> str:
    return render_template("sessions/part.html", **_content(request.args))


@blueprint.route("/sessions/all/<action>", methods=["GET", "POST"])
def act_on_all(action: str) -> Any:
    """On every session that the filter finds; asked for, it says which those are."""
    if action not in ACTIONS:
        abort(404)
    wanted = request.values.get("filter", "")
    found = matching(instance().sessions(), wanted)
    if request.method != "POST":
        return render_template("sessions/confirm.html", action=action, words=ACTIONS[action], sessions=found,
                               filter=wanted)
    return _act(action, request.form.getlist("session"), f" (filter {wanted!r})" if wanted else "")


@blueprint.get("/sessions/<identifier>")
def detail(identifier: str) -> Any:
    return _detail(identifier, "sessions/detail.html")


@blueprint.get("/sessions/<identifier>/part")
def detail_part(identifier: str) -> Any:
    return _detail(identifier, "sessions/detail_part.html")


@blueprint.route("/sessions/<identifier>/<action>", methods=["GET", "POST"])
def act(identifier: str, action: str) -> Any:
    if action not in ACTIONS:
        abort(404)
    if request.method != "POST":
        session, _ = instance().session(identifier)
        return render_template("sessions/confirm.html", action=action, words=ACTIONS[action], sessions=[session],
                               filter="")
    return _act(action, [identifier], "")


@changes
def _act(action: str, identifiers: list[str], how: str) -> Any:
    done = 0
    for identifier in identifiers[:10_000]:
        try:
            if action == "cancel":
                done += instance().cancel(identifier)
            else:
                instance().terminate(identifier)
                done += 1
        except PgSplitError as error:
            if len(identifiers) == 1:
                abort(404, str(error).capitalize())
    instance().forget()
    what = f"{ACTIONS[action]} {', '.join(identifiers[:20])}" + (" …" if len(identifiers) > 20 else "") + how
    audit(what, f"{done} of {len(identifiers)}")
    verb = "cancelled" if action == "cancel" else "terminated"
    flash(f"{done} session{'s' if done != 1 else ''} {verb}." if done else "Nothing ran there.")
    return redirect(url_for("sessions.page"))


def _detail(identifier: str, template: str) -> Any:
    try:
        session, decisions = instance().session(identifier)
    except PgSplitError as error:
        return render_template("sessions/over.html", why=str(error), part=template.endswith("part.html"),
                               identifier=identifier), 404 if template.endswith("detail.html") else 200
    return render_template(template, session=session, decisions=decisions, long=is_long(session))


def _content(args: Mapping[str, str]) -> dict[str, Any]:
    every = instance().sessions()
    wanted, sort = args.get("filter", "")[:200], args.get("sort", "state")
    sort = sort if sort in SORTS else "state"
    found = sorted(matching(every, wanted), key=SORTS[sort], reverse=args.get("order") == "desc")  # type: ignore
    return {"sessions": found[:SHOWN], "found": len(found), "every": len(every), "filter": wanted, "sort": sort,
            "order": args.get("order", "asc"), "shown": SHOWN, "is_long": is_long}


def matching(sessions: list[SessionSnapshot], wanted: str) -> list[SessionSnapshot]:
    """Those in which every word of *wanted* occurs somewhere: ``user=app`` in that field, ``app`` in any."""
    words = wanted.lower().split()
    return [session for session in sessions if all(_has(session, word) for word in words)]


def _has(session: SessionSnapshot, word: str) -> bool:
    name, found, value = word.partition("=")
    if found and name in FIELDS:
        return value in str(getattr(session, FIELDS[name])).lower()
    return any(word in str(getattr(session, field)).lower() for field in FIELDS.values())


FIELDS: Final = {"client": "client", "user": "user", "database": "database", "application": "application_name",
                 "state": "state", "upstream": "upstream", "reason": "reason", "pin": "pins", "replica": "replica",
                 "listener": "listener", "digest": "digest", "session": "id"}


def is_long(session: SessionSnapshot) -> bool:
    """A transaction that has been open for long, or a pin while nothing was done for long."""
    now = time.time()
    if session.transaction_since is not None and now - session.transaction_since > LONG:
        return True
    return bool(session.pins) and session.state == "idle" and now - session.state_since > LONG
