"""Clusters and their hosts: a table, and orders to drain, maintain, make ready and check."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for

from .security import audit, changes, instance

blueprint = Blueprint("clusters", __name__)
PAGE = ("clusters.page", "Clusters")

# What each order means for new and for open sessions, said before it is given: (of a replica, of a primary).
ORDERS: Final = {
    "drain": (("New sessions do not choose this host. Open sessions leave it with their next read, for another replica "
              "or the primary; a statement that runs there now is finished. Health checks go on."),
              ("New sessions are refused unless the cluster has another primary. Open sessions keep their connection "
              "and go on. Health checks go on.")),
    "maintenance": (("New sessions do not choose this host. Open sessions give up their connections to it now, or when "
                    "the statement that runs there is finished. Health checks stop: the server may be stopped."),
                    ("New sessions are refused unless the cluster has another primary. Open sessions keep their "
                    "connection until the server ends it. Health checks stop; replicas cannot be compared with the "
                    "primary meanwhile, so that after a write reads go to the primary.")),
    "ready": (("The host is used again as soon as a health check says that it can be: by new sessions, and by open "
              "ones that have no replica."),
              "The host is used again as soon as a health check says that it can be."),
}


@blueprint.get("/clusters")
def page() -> str:
    return render_template("clusters/page.html", **_content())


@blueprint.get("/clusters/part")
def part() -> str:
    return render_template("clusters/part.html", **_content())


@blueprint.route("/clusters/<cluster>/<host>/<order>", methods=["GET", "POST"])
def give(cluster: str, host: str, order: str) -> Any:
    found = next((known for known in instance().hosts() if (known.cluster, known.name) == (cluster, host)), None)
    if found is None or order not in ORDERS:
        abort(404, f"There is no host {host[:100]!r} in cluster {cluster[:100]!r}, or no such order.")
    if request.method != "POST":
        return render_template("clusters/confirm.html", host=found, order=order, words=ORDERS[order][found.writes])
    return _order(cluster, host, order)


@blueprint.route("/clusters/<cluster>/forget-term", methods=["GET", "POST"])
def forget_term(cluster: str) -> Any:
    if request.method == "POST":
        return _forget_term(cluster)
    _look_for(cluster)
    hosts = [host for host in instance().hosts() if host.cluster == cluster]
    return render_template("clusters/forget_term.html", cluster=cluster, hosts=hosts,
                           greatest=instance().greatest_timelines().get(cluster, 0))


@changes
def _forget_term(cluster: str) -> Any:
    _look_for(cluster)
    forget_term_of(cluster)
    flash(f"The term of cluster {cluster} is forgotten. Its servers are being looked at anew.")
    return redirect(url_for("clusters.page"))


def forget_term_of(cluster: str) -> None:
    instance().arbiter("order_forget_term", cluster=cluster)
    instance().forget()
    audit(f"forget the term of cluster {cluster}")


def _look_for(cluster: str) -> None:
    if cluster not in written_to():
        abort(404, f"There is no cluster {cluster[:100]!r} that is written to.")


def written_to() -> set[str]:
    return {listener["write_cluster"] for listener in instance().about()["listeners"] if listener["split_rw"]}


@blueprint.post("/clusters/check")
@changes
def check() -> Any:
    instance().each("check_now")
    instance().forget()
    audit("check all hosts now")
    flash("All hosts are being checked.")
    return redirect(url_for("clusters.page"))


@changes
def _order(cluster: str, host: str, order: str) -> Any:
    instance().arbiter("order_host", cluster=cluster, host=host, order=order)
    instance().forget()
    audit(f"{host} of cluster {cluster}: {order}")
    flash(f"{host} of cluster {cluster}: {order}.")
    return redirect(url_for("clusters.page"))


def _content() -> dict[str, Any]:
    return {"hosts": instance().hosts(), "about": instance().about(), "written_to": written_to()}
