"""Routing: off-load, and what keeps the rest; decisions by reason, what statements cost, and one to try."""

from __future__ import annotations

import re
from typing import Any, Final

import sqlparse
from flask import Blueprint, flash, redirect, render_template, request, url_for

from pgsplit.classify.classify import NO_LISTS, classify
from pgsplit.classify.explain import explained
from pgsplit.classify.function_lists import FunctionLists
from pgsplit.classify.rules import RULES
from pgsplit.errors import PgSplitError
from pgsplit.stats.remedies import OF_GROUPS, remedy
from pgsplit.stats.shares import offload

from .security import audit, changes, instance

blueprint = Blueprint("routing", __name__)
PAGE = ("routing.page", "Routing")

LONGEST: Final = 65536          # characters of a statement to try
DECISION: Final = re.compile(r"postgres\..+\.decisions\.(replica|primary)\.(\w+)")
SORTS: Final = {"time": lambda u: -u.total_us, "calls": lambda u: -u.calls, "mean": lambda u: -u.mean_us,
                "p95": lambda u: -u.p95_us, "reasks": lambda u: -u.reasks, "errors": lambda u: -u.errors,
                "share": lambda u: u.share}


@blueprint.get("/routing")
def page() -> str:
    return render_template("routing/page.html", sql="", database="", **_content())


@blueprint.get("/routing/part")
def part() -> str:
    return render_template("routing/part.html", **_content())


@blueprint.get("/routing/offload")
def offload_part() -> str:
    return render_template("routing/offload.html", offload=offload(instance().totals()), remedies=OF_GROUPS)


@blueprint.post("/routing/try")
def try_statement() -> str:
    """Changes nothing; a statement may be too long for a URL, and has no business in a log of them."""
    sql, database = request.form.get("sql", "")[:LONGEST], request.form.get("database", "")
    found = None
    try:
        found = tried(sql, database) if sql.strip() else None
    except PgSplitError as error:
        flash(str(error))
    return render_template("routing/page.html", sql=sql, database=database, tried=found, **_content())


@blueprint.route("/routing/forget", methods=["POST"])
@changes
def forget() -> Any:
    instance().each("forget_writes")
    instance().forget()
    audit("forget the write digests")
    flash("The write digests are forgotten.")
    return redirect(url_for("routing.page"))


def tried(sql: str, database: str = "") -> dict[str, Any]:
    """The decision about *sql* outside a transaction, the rule and the facts, as `app.py explain` has them.

    *database*: by the definitions of this one, ``cluster/name``, too. :raises PgSplitError: they are not known now.
    """
    if database:
        cluster, _, name = database.partition("/")
        found = instance().explain(sql, cluster, name)
    else:
        lists = instance().arbiter("function_lists")
        found = explained(classify(
            sql.encode(errors="replace").decode("latin-1"), max_bytes=LONGEST,
            lists=FunctionLists(tuple(lists["replica"]), tuple(lists["primary"])) if lists else NO_LISTS))
    pretty = sqlparse.format(sql, reindent=True, keyword_case="upper") if len(sql) < 8192 else sql
    return {**found, "pretty": pretty, "database": database}


def reasons(totals: dict[str, int]) -> list[dict[str, Any]]:
    """Decisions by reason and upstream, of all listeners, the most frequent first."""
    found: dict[tuple[str, str], int] = {}
    for name, value in totals.items():
        if match := DECISION.fullmatch(name):
            found[match[1], match[2]] = found.get((match[1], match[2]), 0) + value
    total = sum(found.values()) or 1
    return [{"upstream": upstream, "reason": reason, "count": count, "share": count / total,
             "words": RULES[reason].words if reason in RULES else "a replica answered with an error; the primary was "
             "asked", "remedy": remedy(reason) if upstream == "primary" else ""}
            for (upstream, reason), count in sorted(found.items(), key=lambda item: -item[1])]


def _content() -> dict[str, Any]:
    sort = request.args.get("sort", "time")
    sort = sort if sort in SORTS else "time"
    totals = instance().totals()
    return {"offload": offload(totals), "remedies": OF_GROUPS, "catalogues": instance().catalogues(),
            "reasons": reasons(totals), "sort": sort,
            "writes": instance().write_digests(), "usage": sorted(instance().usage(), key=SORTS[sort])[:50]}
