"""The facts of a text as a reader sees them: for `app.py explain`, the page and the API."""

from __future__ import annotations

from typing import Any

from .facts import Facts, Verdict
from .rules import RULES


def explained(facts: Facts) -> dict[str, Any]:
    """Where a text of these *facts* goes outside a transaction, by which rule, and what is known of it."""
    upstream, reason, detail = facts.verdict, facts.reason, facts.detail
    if facts.unsure:
        upstream, reason, detail = Verdict.PRIMARY, "unknown_relation", facts.unsure
    return {"upstream": upstream.value, "reason": reason, "detail": detail, "rule": RULES[reason].words,
            "facts": {"commands": ", ".join(facts.commands) or "none", "may write": facts.writes,
                      "known to be free of effects": facts.effect_free,
                      "may change the session": ", ".join(facts.effects) or False,
                      "may change definitions": facts.defines,
                      "transaction control": facts.tx.value if facts.tx else False, "hint": facts.hint or False}}
