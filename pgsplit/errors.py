"""The errors of pgsplit: what may go wrong, in the words and codes a PostgreSQL user knows.

SQLSTATEs are those of the PostgreSQL manual, appendix A.
"""

from __future__ import annotations


class PgSplitError(Exception):
    """Anything pgsplit itself raises on purpose."""


class ConfigError(PgSplitError):
    """A configuration that cannot be used.

    ``problems`` holds one ``FILE:LINE: path.to.field: what is wrong`` line for each mistake.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ServerError(PgSplitError):
    """What a client is told in an ErrorResponse.

    ``severity`` is ``ERROR`` or ``FATAL``; after ``FATAL`` the session ends. ``raw`` holds the body of
    an upstream's own ErrorResponse when that is to reach the client untouched. ``for_log`` is what the
    log says besides, and the client must not learn.
    """

    def __init__(self, sqlstate: str, message: str, *, severity: str = "ERROR", detail: str | None = None,
                 hint: str | None = None, raw: bytes | None = None, for_log: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.severity = severity
        self.detail = detail
        self.hint = hint
        self.raw = raw
        self.for_log = for_log


class ProtocolViolation(ServerError):
    """Bytes that the PostgreSQL protocol does not allow: SQLSTATE 08P01, and the connection ends."""

    def __init__(self, message: str) -> None:
        super().__init__("08P01", message, severity="FATAL")


class Unanswered(PgSplitError):
    """Bytes for which PostgreSQL closes the connection without a word: who sent them may not speak its protocol."""


class ConnectionLost(PgSplitError):
    """A peer went away; ``where`` says which (``client``, or an upstream's host)."""

    def __init__(self, where: str, why: str = "closed the connection") -> None:
        super().__init__(f"{where}: {why}")
        self.where = where
        self.why = why
