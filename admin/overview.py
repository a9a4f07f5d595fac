"""The overview: what is wrong, the map, the charts, the workers, and the switch that sends all reads to the primary."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for

from pgsplit.stats.shares import offload

from .instance import by_name
from .observing import observes, would_move
from .problems import problems
from .security import audit, changes, instance

blueprint = Blueprint("overview", __name__)
PAGE = ("overview.page", "Overview")


@blueprint.get("/")
def page() -> str:
    return render_template("overview/page.html", **_content())


@blueprint.get("/overview/part")
def part() -> str:
    return render_template("overview/part.html", **_content())


@blueprint.route("/overview/reads/<listener>", methods=["GET", "POST"])
def reads(listener: str) -> Any:
    """Asked for, it explains; posted, it does."""
    if listener not in {known["name"] for known in instance().about()["listeners"]}:
        abort(404, f"There is no listener {listener[:100]!r}.")
    ordered = listener in instance().about()["orders"]["reads_to_primary"]
    if request.method != "POST":
        return render_template("overview/reads.html", listener=listener, ordered=ordered)
    return _order(listener, request.form.get("to", ""))


@changes
def _order(listener: str, to: str) -> Any:
    if to not in ("primary", "replicas"):
        abort(400, "to is primary or replicas.")
    instance().arbiter("order_reads", listener=listener, to_primary=to == "primary")
    instance().forget()
    audit(f"all reads of listener {listener} to the primary" if to == "primary"
          else f"reads of listener {listener} to replicas again")
    flash(f"Listener {listener}: " + ("all reads go to the primary now." if to == "primary"
                                      else "reads go to replicas again."))
    return redirect(url_for("overview.page"))


def _content() -> dict[str, Any]:
    running = instance()
    about, totals = running.about(), running.totals()
    latest = running.arbiter("history", since=0)[-5:]
    sums = by_name(totals, ("statements_replica", "statements_primary", "reasks", "errors", "sessions_active"))
    rate = {name: sum(sample[name] for sample in latest) / len(latest) if latest else 0
            for name in ("replica", "primary")}
    return {"about": about, "workers": running.workers(), "hosts": running.hosts(), "problems": problems(running),
            "sums": sums, "rate": rate, "offload": offload(totals),
            "observing": {listener["name"]: would_move(totals, listener["stat_prefix"])
                          for listener in about["listeners"] if observes(listener)},
            "read_clusters": sorted({listener["read_cluster"] for listener in about["listeners"]
                                     if listener["split_rw"]})}
