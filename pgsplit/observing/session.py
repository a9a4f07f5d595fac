"""A session as pgsplit would have split it, by the facts of its texts in their order (docs/routing.md).

The rules are those of `split`: which transactions may be held, what sets the stage, what keeps a read on the primary.
What only a running pgsplit knows is left out: whether a replica was fresh, pipelines, portals, a replica's errors.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..classify.facts import EVERY, UNCLEAR, Facts, Tx, Verdict
from ..classify.transactions import READ_COMMITTED, Begin
from ..split.kept import Kept
from ..split.reads import FREE, NO_READ, NOWHERE, kept_by, kept_by_text, moved_by, statements, writes
from ..split.settings import Ahead
from ..split.transaction import UNTIL_WRITE, Defaults, Transaction
from ..stats.offload import AFTER_WRITE, BEFORE_WRITE, BY_NAME, KEPT
from .defaults import PLAIN, changed
from .pins import Pins

READ: Final = "read"
WRITE: Final = "write"
OTHER: Final = "other"          # BEGIN, COMMIT, SET and their like
MOST_PREPARED: Final = 1000     # statements of a session by PREPARE that are known
_NOTHING: Final = Ahead(b"", b"")
_ISOLATION: Final = "default_transaction_isolation"


class Outcome(NamedTuple):
    """Of one statement. *kept*: of a read that stays the name of its group (stats/offload.py); empty when it would
    move. *rule*: of the rule table; *detail*: what has matched it.
    """

    kind: str
    rule: str
    kept: str = ""
    detail: str = ""

    @property
    def moves(self) -> bool:
        return self.kind == READ and not self.kept


class Run(NamedTuple):
    """What a text comes to. *commits*: others may see something of it, or of its transaction, when it has ended."""

    outcomes: tuple[Outcome, ...]
    commits: bool = False


class Session:
    """*transactions*: the listener's setting of this name."""

    def __init__(self, transactions: str = UNTIL_WRITE) -> None:
        self._settings = dict(PLAIN)
        self._transaction = Transaction(transactions, Defaults.of(PLAIN))
        self._pins = Pins()
        self._open = False              # a transaction is open on the primary
        self._failed = False
        self._wrote = False
        self._inside = NOWHERE          # see split.reads.Reads
        self._opener = ""               # what has opened it there, or its first write
        self._before: tuple[dict[str, list[str]], dict[str, str]] = {}, self._settings
        self._prepared: dict[bytes, Facts] = {}
        self._undo: tuple[dict[str, list[str]], dict[str, str]] | None = None      # ahead of the last statement

    @property
    def in_transaction(self) -> bool:
        return self._open or self._transaction.begin is not None

    def run(self, facts: Facts, sql: str, executed: Facts | None = None) -> Run:
        """A text of these *facts* runs. *executed*: of the statement that an EXECUTE runs, where the log shows it."""
        if facts.executes:
            known = executed or self._prepared.get(facts.executes)
            facts = known if known is not None else facts
        self._undo = None
        if self._failed:
            return self._in_failed(facts)
        run = None
        if self._transaction.begin is not None:
            run = self._in_held(facts)
        elif not self._open:
            run = self._outside(facts)
        return run if run is not None else self._on_primary(facts, sql)

    def failed(self, *, last: bool) -> None:
        """A statement has ended with an error: the *last* one that has run here, or another."""
        self._failed = self.in_transaction
        if last and self._undo is not None:
            self._pins.held = self._undo[0]
            self._set(self._undo[1])

    def beside(self, facts: Facts) -> Outcome:
        """What a Parse or Bind of a text of these *facts* is for, which runs nothing."""
        by_text = kept_by_text(facts)
        if by_text == NO_READ:
            return Outcome(WRITE if facts.writes and facts.tx is None else OTHER, facts.reason)
        held = self._transaction.begin is not None
        if not self._open and (held or not self._pins.first()) and facts.verdict is Verdict.READ and not facts.unsure:
            return Outcome(READ, facts.reason)
        rule, why = self._rule(facts)
        group = kept_by(by_text, self._inside if self._open else NOWHERE, rule)
        return Outcome(READ, rule, KEPT[group].name, self._detail(facts, by_text, group, why))

    # --- where a transaction, or none, is on the primary ----------------------------------------------------

    def _outside(self, facts: Facts) -> Run | None:
        """None for what the primary gets."""
        if facts.begins is not None and not self._pins.first() and self._transaction.may_hold(facts.begins):
            self._transaction.hold(facts.begins)
            self._begins()
            return Run((Outcome(OTHER, "begin_held"),))
        return self._moved(facts) if not self._pins.first() else None

    def _in_held(self, facts: Facts) -> Run | None:
        transaction = self._transaction
        if facts.ends_as:
            transaction.end()
            return Run((Outcome(OTHER, "transaction_ended"),))
        if facts.modes is not None and transaction.is_read_write(facts.modes):
            return Run((Outcome(OTHER, "read_write_anyway"),))
        if facts.stages and not transaction.prologue_is_long and (
                facts.modes is None or transaction.may_set(facts.modes)):
            transaction.keep(Kept(_NOTHING, facts.commands[0]), facts)
            return Run((Outcome(OTHER, "sets_the_stage"),))
        if facts.cursor is not None and transaction.surely_read_only:
            kind = OTHER if facts.cursor.verb != "fetch" else READ
            return Run((Outcome(kind, "cursor"),))
        run = self._moved(facts)
        if run is not None:
            transaction.has_read = True
            return run
        assert transaction.begin is not None
        self._opens(transaction.begin, facts)
        transaction.end()
        return None

    def _moved(self, facts: Facts) -> Run | None:
        """Reads that a replica may have; None for all else."""
        if facts.verdict is not Verdict.READ or facts.unsure:
            return None
        kind = OTHER if facts.empty else READ
        return Run(tuple(Outcome(kind, each.reason, detail=each.detail) for each in statements([facts])))

    def _in_failed(self, facts: Facts) -> Run:
        found = tuple(Outcome(OTHER, "transaction_failed") for _ in statements([facts]))
        if facts.tx is Tx.END:
            self._transaction.end()
            self._end(rolled_back=True)
        elif facts.tx is Tx.SAVEPOINT and facts.commands == ("ROLLBACK",):
            self._failed = False
        return Run(found)

    def _on_primary(self, facts: Facts, sql: str) -> Run:
        if facts.effects or facts.ends or facts.changes:
            self._undo = self._pins.copy(), self._settings
        rule, why = self._rule(facts)
        found: list[Outcome] = []
        commits = False
        for each in statements([facts]):
            by_text = kept_by_text(each)
            if each.tx is Tx.BEGIN and not self._open:
                self._open, self._inside = True, self._begins_as(each.begins)
                self._opener = each.begins.isolation or "" if each.begins is not None else ""
                self._begins()
            if each.tx is Tx.END:
                commits |= (self._wrote and each.commands[0] not in ("ROLLBACK", "ABORT")) or each.writes
                self._end(rolled_back=each.commands[0] in ("ROLLBACK", "ABORT"))
            elif by_text != NO_READ:
                group = kept_by(by_text, self._inside if self._open else NOWHERE, rule)
                found.append(Outcome(READ, each.reason if by_text != FREE else rule, KEPT[group].name,
                                     self._detail(each, by_text, group, why)))
                if each.writes:
                    self._wrote |= self._open
                    commits |= not self._open
                self._pins.note(each, sql)
                continue
            elif self._open and writes(each):
                if self._inside != AFTER_WRITE:
                    self._opener = f"{each.reason}: {each.detail}" if each.detail else each.reason
                self._inside = AFTER_WRITE
            wrote = each.writes and each.tx is None
            self._wrote |= wrote and self._open
            commits |= wrote and not self._open
            found.append(Outcome(WRITE if wrote else OTHER, each.reason, detail=each.detail))
            self._note(each, sql)
        return Run(tuple(found), commits)

    def _rule(self, facts: Facts) -> tuple[str, str]:
        """Why the primary has a text, as `Requests` has it, and what matched the rule."""
        if facts.verdict is Verdict.PRIMARY:
            return facts.reason, facts.detail
        if self._open:
            return "transaction_open", self._opener
        if pin := self._pins.first():
            return f"pinned_{pin}", self._pins.cause(pin)
        return "unknown_relation", facts.unsure

    def _detail(self, facts: Facts, by_text: int, group: int, why: str) -> str:
        if by_text != FREE and group == by_text:
            return f"{facts.reason}: {facts.detail}" if facts.detail else facts.reason
        if KEPT[group].name == "pinned":
            pin = self._pins.first()
            return f"pinned_{pin}: {self._pins.cause(pin)}" if pin else why
        return self._opener if self._open else why

    # --- transactions ---------------------------------------------------------------------------------------

    def _begins(self) -> None:
        self._before = self._pins.copy(), dict(self._settings)
        self._wrote = False

    def _opens(self, begin: Begin, facts: Facts) -> None:
        """A transaction that was held, or has read, goes on on the primary for what *facts* are."""
        first = next(statements([facts]))
        rule, detail = (facts.reason, facts.detail) if facts.verdict is Verdict.PRIMARY else (
            "unknown_relation", facts.unsure)
        self._open, self._wrote = True, False
        self._inside = moved_by(first, rule, self._begins_as(begin))
        self._opener = f"{rule}: {detail}" if detail else rule

    def _begins_as(self, begin: Begin | None) -> int:
        """As what a read is kept that comes first in a transaction which *begin* opens (see `State.begins_as`)."""
        defaults = self._transaction.defaults
        isolation = (begin and begin.isolation) or defaults.isolation
        read_only = defaults.read_only if begin is None or begin.read_only is None else begin.read_only
        if isolation not in ("", READ_COMMITTED):
            return BY_NAME["read_only" if read_only else "isolation"]
        if self._pins.first():
            return BY_NAME["pinned"]
        return BY_NAME["read_only"] if read_only else BEFORE_WRITE

    def _end(self, *, rolled_back: bool) -> None:
        if self.in_transaction or self._failed:
            self._pins.transaction_ended(self._before[0], rolled_back=rolled_back)
            if rolled_back:
                self._set(self._before[1])
        self._open, self._failed, self._wrote, self._inside, self._opener = False, False, False, NOWHERE, ""

    # --- what is left behind --------------------------------------------------------------------------------

    def _note(self, facts: Facts, sql: str) -> None:
        self._pins.note(facts, sql)
        if "session_setting" in facts.effects or facts.releases:
            settings = changed(self._settings, sql)
            if settings is not self._settings:
                self._set(settings)
        if facts.deallocates in (EVERY, UNCLEAR):
            self._prepared.clear()
        elif facts.deallocates:
            self._prepared.pop(facts.deallocates, None)

    def knows(self, name: bytes, facts: Facts) -> None:
        """The session has prepared a statement of these *facts* as *name*, by PREPARE."""
        if len(self._prepared) < MOST_PREPARED:
            self._prepared[name] = facts

    def _set(self, settings: dict[str, str]) -> None:
        self._settings = settings
        self._transaction.defaults = Defaults.of(settings)
        self._pins.set_("serializable", settings.get(_ISOLATION) == "serializable", "default_transaction_isolation")
