"""FunctionCall messages: libpq's large-object functions use them (PostgreSQL manual 55.2.6 and 35.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .facts import DOUBT, Facts, Verdict

# pg_proc's OIDs of the functions on large objects, whose descriptors end with the transaction.
LARGE_OBJECT: Final = frozenset({715, 764, 765, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172})


def facts_of_call(body: bytes) -> Facts:
    """The facts of a FunctionCall message, by its function's OID."""
    if int.from_bytes(body[:4], "big") in LARGE_OBJECT:
        return Facts(Verdict.PRIMARY, "function_call_message")
    return replace(DOUBT, reason="function_call_message", cause="a FunctionCall message")
