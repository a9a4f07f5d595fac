"""Facts: what is known of one SQL text before it runs. Everything that decides about a batch reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    READ = "replica"        # a replica gives the same answer, and nothing is changed anywhere
    PRIMARY = "primary"


class Tx(Enum):
    """The transaction control in a text."""

    BEGIN = "begin"
    END = "end"             # COMMIT, ROLLBACK, PREPARE TRANSACTION …
    SAVEPOINT = "savepoint"  # SAVEPOINT, RELEASE, ROLLBACK TO


@dataclass(frozen=True, slots=True)
class Facts:
    verdict: Verdict
    reason: str                          # a name of the rule table
    detail: str = ""                     # what in the text matched the rule
    commands: tuple[str, ...] = ()       # of each statement the command's name, such as SELECT or CREATE TABLE
    effect_free: bool = False            # every fact is known to be free of effects
    writes: bool = True                  # may change what others see
    session_effect: str = ""             # the pin it causes
    releases: bool = False               # DISCARD ALL: nothing of the session's state is left behind
    tx: Tx | None = None
    hint: str = ""                       # replica or primary, from a comment
    async_commit: bool = False           # the text names synchronous_commit
    empty: bool = False                  # no statement at all
    parsed: bool | None = None           # the statistics parser understood it; None: it was not asked


DOUBT = Facts(Verdict.PRIMARY, "doubt", session_effect="unknown_effect")
"""What is not understood goes to the primary, may have written, and may have changed the session."""
