"""Who may do what: log-in, roles, CSRF, Host and Origin, tokens, and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, jsonify, redirect, render_template, request, session, url_for
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import HTTPException, InternalServerError

from pgsplit import log

from .instance import Instance
from .settings import AdminSettings

LIFETIME: Final = timedelta(hours=12)
OPEN: Final = frozenset({"machine.healthz", "machine.readyz", "login.form", "login.enter", "static"})
CHANGES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                               "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
}

logger = log.get("pgsplit.admin")

P = ParamSpec("P")
R = TypeVar("R")
csrf = CSRFProtect()


def init_app(app: Flask) -> None:
    csrf.init_app(app)
    app.before_request(_check)
    app.after_request(_headers)
    app.register_error_handler(HTTPException, _said)
    app.register_error_handler(Exception, _failed)
    app.context_processor(lambda: {"who": getattr(g, "who", None), "may_change": may_change()})


def settings() -> AdminSettings:
    found: AdminSettings = current_app.extensions["pgsplit_settings"]
    return found


def instance() -> Instance:
    found: Instance = current_app.extensions["pgsplit"]
    return found


def may_change() -> bool:
    return getattr(g, "role", "") == "admin" and not settings().read_only


def changes(view: Callable[P, R]) -> Callable[P, R]:
    """A view that changes something: for the role admin only, and not where `read_only` is set."""
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if request.method not in CHANGES:
            abort(405)
        if g.role != "admin":
            abort(403, "Your role is viewer: it may look, and change nothing.")
        if settings().read_only:
            abort(403, "This page is read-only: its configuration says read_only.")
        return view(*args, **kwargs)

    return guarded


def audit(what: str, result: str = "done") -> None:
    """Write *what* the operator has done, and with which *result*, into the audit trail."""
    instance().arbiter("audit_add", who=g.who, deed=what, where=request.remote_addr or "", result=result)


# --- every request -------------------------------------------------------------------------------------------------

def _check() -> Any:
    g.who, g.role, g.token = "", "", False
    if not _host_is_ours(request.host):
        abort(421, f"This is not the page of {request.host[:100]!r}: name it in admin.hosts.")
    _identify()
    changing = request.method in CHANGES
    if changing and not g.token:
        _check_origin()
    if request.endpoint in OPEN or request.endpoint is None:
        if changing and request.endpoint == "login.enter":
            csrf.protect()
        return None
    if not g.role:
        return _log_in()
    if changing and not g.token:
        csrf.protect()
    return None


def _identify() -> None:
    header = request.headers.get("Authorization", "")
    if header.startswith("Bearer "):
        given = hashlib.sha256(header[7:].strip().encode()).hexdigest()
        for known, (name, role) in settings().tokens.items():
            if hmac.compare_digest(given, known):
                g.who, g.role, g.token = f"token {name}", role, True
        return
    operator = settings().operators.get(session.get("who", ""))
    if operator is not None and session.get("password") == fingerprint(operator.name):
        g.who, g.role = operator.name, operator.role


def fingerprint(name: str) -> str:
    """Ties an operator's log-in to the password with which it was made: another one ends it."""
    return hmac.new(settings().key, settings().secrets[name].encode(), hashlib.sha256).hexdigest()[:16]


def _log_in() -> Any:
    if wants_json() or request.headers.get("Authorization"):
        answer = jsonify(error="log in, or send a bearer token")
        answer.headers["WWW-Authenticate"] = 'Bearer realm="pgsplit"'
        return answer, 401
    there = url_for("login.form", next=request.full_path.rstrip("?") if request.method == "GET" else None)
    if request.headers.get("HX-Request"):
        return Response(status=401, headers={"HX-Redirect": url_for("login.form")})
    return redirect(there)


def wants_json() -> bool:
    return request.path.startswith("/api/") or request.endpoint in ("machine.stats", "machine.metrics")


def _host_is_ours(host: str) -> bool:
    """A name that an attacker's DNS makes mean us is none of ours; an address is no name."""
    name = urlsplit(f"//{host}").hostname or ""
    if name in settings().hosts or host.lower() in settings().hosts:
        return True
    if name == "localhost":
        return settings().loopback
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin() -> None:
    origin = request.headers.get("Origin")
    if origin is None:
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            abort(403, "The request comes from another site.")
        return
    if urlsplit(origin).netloc != request.host:
        abort(403, "The request comes from another site.")


def _headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def _failed(error: Exception) -> Any:
    """A mistake of ours: the log has all of it, the page nothing that it must not say."""
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return _said(InternalServerError("The page failed; the log says how."))


def _said(error: HTTPException) -> Any:
    code = error.code or 500
    if 300 <= code < 400:
        return error
    why = error.description or error.name
    if isinstance(error, CSRFError):
        why = f"{why} Load the page again."
    if wants_json():
        return jsonify(error=why), code
    if request.headers.get("HX-Request") or not getattr(g, "role", ""):
        return Response(f"{code}: {why}\n", code, mimetype="text/plain")
    return render_template("refused.html", why=why), code
