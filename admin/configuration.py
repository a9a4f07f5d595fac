"""The configuration in force, secrets masked, with where each value comes from; and reload."""

from __future__ import annotations

from typing import Any, Final

import gevent
from flask import Blueprint, flash, redirect, render_template, url_for

from .security import audit, changes, instance

blueprint = Blueprint("configuration", __name__)
PAGE = ("configuration.page", "Configuration")

PATIENCE: Final = 10.0          # seconds for a reload to end
STEP: Final = 0.05


@blueprint.get("/configuration")
def page() -> str:
    return render_template("configuration/page.html", about=instance().about(), **instance().arbiter("configuration"))


@blueprint.post("/configuration/reload")
@changes
def reload() -> Any:
    result = reloaded()
    audit("reload the configuration", "done" if result["ok"] else f"refused: {result['problems'][0]}")
    flash(f"Reloaded: generation {result['generation']} is in force." if result["ok"]
          else "The reload was refused; nothing has changed.")
    return redirect(url_for("configuration.page"))


def reloaded() -> dict[str, Any]:
    """Reload, and wait for what comes of it."""
    number = instance().arbiter("last_reload")["number"]
    instance().arbiter("reload")
    return wait_for_reload(number)


def wait_for_reload(number: int) -> dict[str, Any]:
    """The result of the first reload that ends after the one of *number*."""
    with gevent.Timeout(PATIENCE, False):
        while (last := instance().arbiter("last_reload"))["number"] <= number:
            gevent.sleep(STEP)
    instance().forget()
    if last["number"] <= number:
        last = {**last, "ok": False, "problems": [f"the reload did not end within {PATIENCE:g} s"]}
    return dict(last)
