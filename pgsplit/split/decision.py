"""A decision: which upstream, and why (guarantee G7)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Upstream(IntEnum):
    """The two upstreams of a session; `text` is the word in everything that a user reads."""

    DEFAULT = 0
    ADDITIONAL = 1

    @property
    def text(self) -> str:
        return ("replica", "primary")[self]


class Decision(NamedTuple):
    """*reason* is a name of the rule table, *detail* what in the statement matched it."""

    upstream: Upstream
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        """As the client is told it: ``replica: read``."""
        return f"{self.upstream.text}: {self.reason}" + (f" ({self.detail})" if self.detail else "")
