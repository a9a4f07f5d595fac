"""The facts of a text as a reader sees them: for `app.py explain`, the page and the API."""

from __future__ import annotations

from typing import Any

from ..stats.remedies import remedy
from .facts import Facts, Verdict
from .rules import RULES


def explained(facts: Facts, *, replica_clock: bool = False) -> dict[str, Any]:
    """Where a text of these *facts* goes outside a transaction, by which rule, what would move it from the primary, and
    what is known of it.

    *replica_clock*: a replica's clock may be read.
    """
    but_for_clock = facts.timed is not None
    if replica_clock and facts.timed is not None:
        facts = facts.timed
    upstream, reason, detail = facts.verdict, facts.reason, facts.detail
    if facts.unsure:
        upstream, reason, detail = Verdict.PRIMARY, "unknown_relation", facts.unsure
    return {"upstream": upstream.value, "reason": reason, "detail": detail, "rule": RULES[reason].words,
            "remedy": remedy(reason) if upstream is Verdict.PRIMARY else "",
            "facts": {"commands": ", ".join(facts.commands) or "none", "may write": facts.writes,
                      "known to be free of effects": facts.effect_free,
                      "a read but for the clock": but_for_clock,
                      "may change the session": ", ".join(facts.effects) or False,
                      "may change definitions": facts.defines,
                      "transaction control": facts.tx.value if facts.tx else False, "hint": facts.hint or False}}
