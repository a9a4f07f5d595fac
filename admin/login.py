"""Logging in and out. Hashing is done off the event loop, at most two at once, and not for a guesser."""

from __future__ import annotations

import time
from typing import Any, Final

import gevent
from flask import Blueprint, flash, redirect, render_template, request, session, url_for
from gevent.lock import BoundedSemaphore
from werkzeug.security import check_password_hash, generate_password_hash

from .security import fingerprint, instance, settings

blueprint = Blueprint("login", __name__)

FREE: Final = 5                 # wrong passwords from an address, each of which is forgotten after FORGOTTEN seconds
FORGOTTEN: Final = 60.0
KNOWN: Final = 10_000           # addresses
LONGEST: Final = 1024           # characters of a password

_hashing = BoundedSemaphore(2)
_nobody = generate_password_hash("nobody has this password")
_failures: dict[str, list[float]] = {}


@blueprint.get("/login")
def form() -> str:
    return render_template("login/form.html", next=_local(request.args.get("next", "")))


@blueprint.post("/login")
def enter() -> Any:
    where = request.remote_addr or ""
    there = _local(request.form.get("next", ""))
    if _too_many(where):
        flash("Too many wrong passwords from your address. Wait a minute.")
        return render_template("login/form.html", next=there), 429
    name, password = request.form.get("name", ""), request.form.get("password", "")
    operator = settings().operators.get(name)
    known = operator.password if operator is not None else _nobody
    right = len(password) <= LONGEST and verified(known, password)
    if operator is None or not right:
        _failures.setdefault(where, []).append(time.monotonic())
        instance().arbiter("audit_add", who=name[:100], deed="log in", where=where, result="refused")
        flash("Wrong name or password.")
        return render_template("login/form.html", next=there), 403
    session.clear()
    session.permanent = True
    session["who"], session["password"] = name, fingerprint(operator.name)
    instance().arbiter("audit_add", who=name, deed="log in", where=where)
    return redirect(there or url_for("overview.page"))


@blueprint.post("/logout")
def leave() -> Any:
    session.clear()
    return redirect(url_for("login.form"))


def verified(known: str, password: str) -> bool:
    with _hashing:
        answer: bool = gevent.get_hub().threadpool.apply(check_password_hash, (known, password))
        return answer


def _too_many(where: str) -> bool:
    now = time.monotonic()
    if len(_failures) > KNOWN:
        _failures.clear()
    recent = [moment for moment in _failures.pop(where, []) if now - moment < FORGOTTEN]
    if recent:
        _failures[where] = recent
    return len(recent) >= FREE


def _local(target: str) -> str:
    """*target* if it is a path of ours."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) and "\n" not in target else ""
