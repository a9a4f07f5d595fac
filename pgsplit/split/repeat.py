"""What a relay may repeat without asking the splitter again, and what the splitter is told of it (DESIGN section 8).

A statement is repeated when its text alone decides where it goes and nothing of it outlasts it in the session but
the transaction's status. The rules are here; relays look up, compare and count.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..classify.facts import Facts, Tx, Verdict
from ..stats.offload import AFTER_WRITE
from .decision import BEGIN_HELD, TRANSACTION_ENDED, Decision, Upstream
from .reads import kept_by_text, writes
from .transaction import Place

# The word of the CommandComplete that a statement ends with, by its first word.
_TAGS: Final = {"SELECT": b"SELECT", "WITH": b"SELECT", "VALUES": b"SELECT", "TABLE": b"SELECT", "INSERT": b"INSERT",
                "UPDATE": b"UPDATE", "DELETE": b"DELETE"}
_BEGINS: Final = frozenset({b"begin", b"begin work", b"begin transaction"})
_COMMITS: Final = frozenset({b"commit", b"commit work", b"commit transaction", b"end", b"end work", b"end transaction"})
IN_TRANSACTION: Final = Decision(Upstream.ADDITIONAL, "transaction_open")
NO_REPLICA: Final = Decision(Upstream.ADDITIONAL, "no_replica")
READS_TO_PRIMARY: Final = Decision(Upstream.ADDITIONAL, "reads_to_primary")
NOT_FRESH: Final = Decision(Upstream.ADDITIONAL, "no_fresh_replica")
OBSERVED: Final = Decision(Upstream.ADDITIONAL, "observed")
SOLE_UPSTREAM: Final = Decision(Upstream.ADDITIONAL, "sole_upstream")


class Repeat(NamedTuple):
    """How a text is repeated. *tag*: the word that its CommandComplete must begin with."""

    facts: Facts
    tag: bytes
    outside: Decision          # where it goes outside a transaction
    inside: Decision           # and in one
    without: Decision = NO_REPLICA      # where a read goes outside one when there is no replica

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """By how it came to be repeated: see `relay.routes`."""
        here = TRANSACTION_ENDED if self.commits else BEGIN_HELD
        return (self.outside, self.outside, self.inside, self.without, READS_TO_PRIMARY, SOLE_UPSTREAM, here,
                NOT_FRESH)

    @property
    def kept(self) -> int:
        """How it counts among the reads (see `reads.kept_by_text`)."""
        return kept_by_text(self.facts)

    @property
    def writes(self) -> bool:
        return writes(self.facts)

    @property
    def moves(self) -> int:
        """As what a transaction keeps a read that this one has opened on the primary."""
        return AFTER_WRITE if self.kept < 0 else self.kept

    @property
    def read(self) -> bool:
        return self.outside.upstream is Upstream.DEFAULT

    @property
    def begins(self) -> bool:
        return self.tag == b"BEGIN"

    @property
    def commits(self) -> bool:
        return self.tag == b"COMMIT"


class Held(NamedTuple):
    """What a relay has done since it was let. Times are monotonic nanoseconds.

    *unnamed*: what became of the unnamed statement: None (nothing), no bytes (it is gone), or the Parse of the new
    one, which *unnamed_on* has. *primary_unnamed*: whether the primary has one now, None when that did not change.
    """

    replica: int                          # statements
    primary: int
    last: Decision | None
    tx: int
    tx_wrote: bool
    fence_ns: int
    answered_ns: int
    transaction_ns: int
    unnamed: bytes | None
    unnamed_on: Upstream
    primary_unnamed: bool | None
    place: Place                          # of the transaction, where *tx* says that there is one
    ending: int                           # ends of transactions that the replica has not answered
    opening: bool                         # what is running was sent behind the opening of its transaction
    running: Decision | None              # of the batch that is not answered yet
    started_ns: int
    sent: bytes                           # that batch, where it is no more in the client's inbox
    inside: int                           # as what the open transaction keeps the next read (see `reads.Reads`)


def repeat_of(facts: Facts, *, observes: bool = False) -> Repeat | None:
    """How a text of these *facts* is repeated; None when it is not. *observes*: for sessions that get no replica, and
    count what one would have had; then the session sees what in a transaction would have moved it.
    """
    if len(facts.commands) != 1 or not facts.text or facts.empty or facts.reads_clock:
        return None
    if facts.effects or facts.ends or facts.settings or facts.releases or facts.tells_route or facts.tells_lsn:
        return None
    if facts.prepares or facts.executes or facts.deallocates or facts.defines or facts.unsure:
        return None
    tag = _tag(facts)
    if not tag or (observes and kept_by_text(facts) >= 0):
        return None
    read = facts.verdict is Verdict.READ
    outside = Decision(Upstream.DEFAULT if read else Upstream.ADDITIONAL, facts.reason, facts.detail)
    return Repeat(facts, tag, outside, IN_TRANSACTION if read else outside, OBSERVED if observes else NO_REPLICA)


def _tag(facts: Facts) -> bytes:
    if facts.tx is None:
        word = facts.commands[0]
        return _TAGS.get(word, b"") if word != "WITH" or facts.verdict is Verdict.READ else b""
    text = b" ".join(facts.text.lower().split()).rstrip(b"; ")
    if facts.tx is Tx.BEGIN and text in _BEGINS:
        return b"BEGIN"
    return b"COMMIT" if facts.tx is Tx.END and text in _COMMITS else b""
