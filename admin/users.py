"""The user lists: names and the kind of each secret, never a secret; changes are previewed, saved and seen in force."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for

from pgsplit.errors import PgSplitError

from .configuration import wait_for_reload
from .security import audit, changes, instance

blueprint = Blueprint("users", __name__)
PAGE = ("users.page", "Users")

STORED: Final = {
    "scram": ("SCRAM verifier (recommended)",
              "made here, with the salt that the primary has for the user; no password is kept"),
    "md5": ("md5 hash", "for servers that ask for md5"),
    "clear": ("password as it is", "whoever can read the file knows it; needed for the monitor user"),
    "hash": ("this is a hash", "what was given is itself an md5 hash or a SCRAM verifier, from pg_authid"),
}
KINDS: Final = {"scram": "SCRAM verifier", "md5": "md5 hash", "clear": "clear password", "cert": "certificate"}


@blueprint.get("/users")
def page() -> str:
    wanted = request.args.get("filter", "")[:100]
    lists = with_asked(instance().arbiter("users"))
    for found in lists:
        for part in ("users", "asked"):
            found[f"shown_{part}"] = [user for user in found[part] if wanted.lower() in user["name"].lower()]
    return render_template("users/page.html", lists=lists, filter=wanted, kinds=KINDS, workers=instance().workers(),
                           about=instance().about())


def with_asked(lists: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """*lists* with those users, as ``asked``, whose secrets the primary has given to a worker (`auth_query`)."""
    workers = list(instance().each("asked_users").values())
    for found in lists:
        users = (user for worker in workers for user in worker.get(found["listener"], ()))
        asked = {user["name"]: {"name": user["name"], "stored": user["kind"]} for user in users}
        found["asked"] = [asked[name] for name in sorted(asked)]
    return lists


@blueprint.get("/users/<listener>/edit")
def edit(listener: str) -> str:
    """A form for a new user, or with ``?name=`` for one that is there."""
    found = _list(listener)
    name = request.args.get("name", "")
    user = next((user for user in found["users"] if user["name"] == name), None)
    return render_template("users/edit.html", list=found, user=user, name=name, stored=STORED)


@blueprint.post("/users/<listener>/preview")
@changes
def preview(listener: str) -> Any:
    """What saving would change in the file, secrets masked: a part of the page with the form."""
    found, change = _list(listener), _change(listener)
    why, diff = "", {"diff": "", "file": found["file"]}
    try:
        diff = instance().arbiter("users_preview", listener=listener, changes=[change],
                                  version=request.form.get("version", ""))
    except PgSplitError as error:
        why = str(error)
    return render_template("users/preview.html", why=why, change=change, sessions=_sessions_of(change["name"]), **diff)


@blueprint.post("/users/<listener>/save")
@changes
def store(listener: str) -> Any:
    found, change = _list(listener), _change(listener)
    try:
        result = save({"listener": listener, "version": request.form.get("version", ""), "changes": [change]})
    except PgSplitError as error:
        return _again(found, str(error))
    if not result["ok"]:
        return _again(found, "; ".join(result["problems"]))
    ended = 0
    if change["action"] == "delete" and request.form.get("terminate"):
        ended = _end_sessions(change["name"])
    what = "deleted" if change["action"] == "delete" else "saved"
    flash(f"User {change['name']} is {what}; generation {result['generation']} is in force in every worker."
          + (f" {ended} sessions terminated." if ended else ""))
    return redirect(url_for("users.page"))


@blueprint.post("/users/<listener>/test")
@changes
def test(listener: str) -> Any:
    """By the password given, or by what the list has."""
    _list(listener)
    name = request.form.get("name", "")[:100]
    why = tested(listener, name, request.form.get("password") or None)
    flash(f"{name} cannot log in at the primary: {why}" if why else f"{name} can log in at the primary.")
    return redirect(url_for("users.edit", listener=listener, name=name))


def tested(listener: str, name: str, password: str | None) -> str:
    return str(_ask_a_worker("test_login", listener=listener, user=name, password=password))


def save(asked: dict[str, Any]) -> dict[str, Any]:
    """Save the changes and wait until all workers have them; the result of the reload."""
    asked = {**asked, "changes": [_with_salt(asked["listener"], change) for change in asked["changes"]]}
    number = instance().arbiter("users_save", **asked)["number"]
    result = wait_for_reload(number)
    for change in asked["changes"]:
        verb = "delete" if change.get("action") == "delete" else "save"
        audit(f"{verb} user {change.get('name')!r} of listener {asked['listener']}",
              "done" if result["ok"] else f"refused: {result['problems'][0]}")
    return result


def _with_salt(listener: str, change: Any) -> dict[str, Any]:
    if not isinstance(change, dict):
        abort(400, "a change is an object.")
    if change.get("action", "set") != "set" or change.get("stored", "scram") != "scram" or "salt" in change:
        return change
    return {**change, **_ask_a_worker("scram_salt", listener=listener, user=str(change.get("name", "")))}


def _ask_a_worker(what: str, **args: Any) -> Any:
    for worker in instance().workers():
        if worker["booted"] and not worker["leaving"]:
            return instance().worker(worker["worker"], what, **args)
    raise PgSplitError("no worker runs")


def _list(listener: str) -> dict[str, Any]:
    found = next((known for known in instance().arbiter("users") if known["listener"] == listener), None)
    if found is None:
        abort(404, f"There is no listener {listener[:100]!r}.")
    return dict(found)


def _change(listener: str) -> dict[str, Any]:
    form = request.form
    change = {"name": form.get("name", ""), "action": form.get("action", "set")}
    if change["action"] == "set":
        change |= {"password": form.get("password", ""), "stored": form.get("stored", "scram")}
        if change["stored"] == "scram" and change["name"]:
            try:
                change = _with_salt(listener, change)
            except PgSplitError as error:
                flash(str(error))
    return change


def _again(found: dict[str, Any], why: str) -> Any:
    name = request.form.get("name", "")
    user = next((user for user in found["users"] if user["name"] == name), None)
    return render_template("users/edit.html", list=found, user=user, name=name, stored=STORED, why=why), 409


def _sessions_of(name: str) -> int:
    return sum(session.user == name for session in instance().sessions())


def _end_sessions(name: str) -> int:
    ended = 0
    for session in instance().sessions():
        if session.user == name:
            try:
                instance().terminate(session.id)
                ended += 1
            except PgSplitError:
                continue
    return ended
