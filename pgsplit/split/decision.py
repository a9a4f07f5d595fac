"""A decision: which upstream, and why (guarantee G7)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from ..wire import build


class Upstream(IntEnum):
    """The two upstreams of a session, and none of them; `text` is the word in everything that a user reads."""

    DEFAULT = 0
    ADDITIONAL = 1
    NEITHER = 2         # pgsplit itself has answered

    @property
    def text(self) -> str:
        return ("replica", "primary", "pgsplit")[self]


class Decision(NamedTuple):
    """*reason* is a name of the rule table, *detail* what in the statement matched it."""

    upstream: Upstream
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        """As the client is told it: ``replica: read``."""
        return f"{self.upstream.text}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


BEGIN_HELD: Final = Decision(Upstream.NEITHER, "begin_held")
READ_WRITE_ANYWAY: Final = Decision(Upstream.NEITHER, "read_write_anyway")
TRANSACTION_ENDED: Final = Decision(Upstream.NEITHER, "transaction_ended")


def traced(decision: Decision | None) -> bytes:
    """The notice that `pgsplit.trace` asks for."""
    return build.notice_response("NOTICE", "00000", f"pgsplit: {decision}") if decision is not None else b""
