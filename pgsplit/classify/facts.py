"""Facts: what is known of one SQL text before it runs. Everything that decides about a batch reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from .cursors import Cursor
from .set_commands import Change
from .transactions import Begin


class Verdict(Enum):
    READ = "replica"        # a replica gives the same answer, and nothing is changed anywhere
    PRIMARY = "primary"


class Tx(Enum):
    """The transaction control in a text."""

    BEGIN = "begin"
    END = "end"             # COMMIT, ROLLBACK, PREPARE TRANSACTION …
    SAVEPOINT = "savepoint"  # SAVEPOINT, RELEASE, ROLLBACK TO


class Prepares(NamedTuple):
    """PREPARE *name* AS *sql*; *text*: all of it."""

    name: bytes
    sql: bytes
    text: bytes


# Reasons why a statement is no read that a comment, or pgsplit.route, may overrule.
HINTABLE: Final = frozenset({"clock", "unknown_function", "server_local_function", "server_local_relation",
                             "sequence_row", "hidden_doubt", "unknown_relation"})

REPLICA_CLOCK: Final = "replica_clock"      # the rule for what is a read but for the clock

EVERY: Final[bytes] = b"*"       # DEALLOCATE ALL, DISCARD ALL
UNCLEAR: Final[bytes] = b"?"     # several statements, some of which prepare or deallocate


@dataclass(frozen=True, slots=True)
class Facts:
    verdict: Verdict
    reason: str                          # a name of the rule table
    detail: str = ""                     # what in the text matched the rule
    commands: tuple[str, ...] = ()       # of each statement the command's name, such as SELECT or CREATE TABLE
    effect_free: bool = False            # every fact is known to be free of effects
    writes: bool = True                  # may change what others see, as far as the text shows
    unsure: str = ""                     # a relation that it names and the catalogue does not have, or not yet
    defines: bool = False                # may change definitions, which a catalogue is then behind
    wrote_nothing: bool = False          # surely not, whatever views, operators and functions its database has
    effects: tuple[str, ...] = ()        # what it may leave behind in its session: names of pins, and session_setting
    cause: str = ""                      # what in the text has these effects
    ends: tuple[str, ...] = ()           # pins that it may end
    releases: bool = False               # DISCARD ALL: nothing of the session's state is left behind
    changes: tuple[Change, ...] = ()     # all that its session_setting is, where that is plain
    stages: bool = False                 # sets the stage in its transaction, and does nothing else
    modes: Begin | None = None           # what SET TRANSACTION, which stages, asks for
    cursor: Cursor | None = None         # what it does with a cursor that a replica may have
    declares: bytes = b""                # the name of the cursor that it opens, wherever it may
    settings: tuple[str, ...] = ()       # names of customized options that it may touch, in lower case
    prepares: Prepares | None = None
    executes: bytes = b""                # the SQL-level prepared statement that it runs, with harmless arguments
    deallocates: bytes = b""             # the name of one, EVERY or UNCLEAR
    tells_route: bool = False            # asks for pgsplit.last_route
    tells_lsn: bool = False              # asks for pgsplit.lsn
    min_lsns: tuple[str, ...] = ()       # constants to which it sets pgsplit.min_lsn
    tx: Tx | None = None
    begins: Begin | None = None          # a plain BEGIN alone
    ends_as: bytes = b""                 # the tag of a plain COMMIT or ROLLBACK alone
    hint: str = ""                       # replica or primary, from a comment
    empty: bool = False                  # no statement at all
    parsed: bool | None = None           # the statistics parser understood it; None: it was not asked
    parts: tuple[Facts, ...] = ()        # of a text that holds several statements, each one's
    timed: Facts | None = None           # the same for who may read a replica's clock, which is all that keeps it
    text: bytes = b""                    # as the classifier keeps it, for who counts by it; empty when it is too long

    @property
    def reads_clock(self) -> bool:
        """Whether it is a read for as long as the replica's clock may be read."""
        return self.reason == REPLICA_CLOCK


DOUBT: Final = Facts(Verdict.PRIMARY, "doubt", effects=("unknown_effect",), defines=True)
"""What is not understood goes to the primary, may have written, and may have changed the session."""
