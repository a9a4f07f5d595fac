"""What an ErrorResponse of a replica means (guarantee G2; SQLSTATEs: PostgreSQL manual, appendix A)."""

from __future__ import annotations

from typing import Final

# The session's own time-outs, or somebody's cancel, explain these: another try would break them.
# A recovery conflict carries a DETAIL, which a time-out or a cancel never does.
OWN_TIMEOUT: Final = frozenset({"57014", "55P03"})

# The classes of error that a statement's own data or text causes, on whichever server it runs.
STATEMENTS_OWN: Final = frozenset({"21", "22", "23", "2B", "38", "39", "44", "P0"})

# What arises before a statement has run: of a batch that is not known to be free of effects only these are re-asked.
BEFORE_EXECUTION: Final = frozenset({"25006", "42P01", "42703", "42883", "3F000", "42704", "0A000"})

# What a server says of its own state, whatever it was asked.
SERVERS_OWN: Final = frozenset({"40", "53", "57", "58", "XX"})


def explained_by_session(sqlstate: str, has_detail: bool) -> bool:
    return sqlstate in OWN_TIMEOUT and not has_detail


def may_be_reasked(sqlstate: str, rows: bool) -> bool:
    """Of a batch that a hint sent to the replica: whether the error shows that nothing has run."""
    return not rows and sqlstate in BEFORE_EXECUTION


def statements_own(sqlstate: str) -> bool:
    return sqlstate[:2] in STATEMENTS_OWN


def servers_own(sqlstate: str) -> bool:
    return sqlstate[:2] in SERVERS_OWN
