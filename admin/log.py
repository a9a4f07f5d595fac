"""Recent events, and the audit trail of every change made here."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, render_template, request

from .security import instance

blueprint = Blueprint("log", __name__)
PAGE = ("log.page", "Log")

LEVELS: Final = ("info", "warning", "error")


@blueprint.get("/log")
def page() -> str:
    return render_template("log/page.html", **_content())


@blueprint.get("/log/part")
def part() -> str:
    return render_template("log/part.html", **_content())


def _content() -> dict[str, Any]:
    level = request.args.get("level", "info")
    level = level if level in LEVELS else "info"
    wanted = {"info": {"info", "warning", "error", "critical"}, "warning": {"warning", "error", "critical"},
              "error": {"error", "critical"}}[level]
    lines = [line for line in instance().arbiter("log") if line["level"] in wanted]
    return {"lines": lines[::-1][:300], "audit": instance().arbiter("audit")[::-1], "level": level, "levels": LEVELS}
