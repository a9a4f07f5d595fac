"""A transaction that is not open on the primary: held, or open on a replica, until something needs the primary.

A plain BEGIN is answered at once, since its answer is known to the byte, and opened where its first statement goes.
Under READ COMMITTED each statement has a snapshot of its own (PostgreSQL manual 13.2.1), so reads ahead of the first
write may run in a transaction on a replica; what comes then opens it on the primary, and it stays there to its end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from ..classify.facts import Facts
from ..classify.transactions import READ_COMMITTED, REPEATABLE_READ, Begin
from ..wire import build
from ..wire.messages import FAILED, IDLE, IN_TRANSACTION
from .kept import Kept
from .settings import Ahead, run

UNTIL_WRITE: Final = "until_write"
READ_ONLY: Final = "read_only"
PRIMARY: Final = "primary"

# On the replica, whatever its own defaults are. Its end keeps the settings that it was given meanwhile.
ON_REPLICA: Final = run("begin isolation level read committed, read only")
REPEATABLE_ON_REPLICA: Final = run("begin isolation level repeatable read, read only")
END_ON_REPLICA: Final = build.query("commit")
PLAIN: Final = Begin(b"BEGIN")       # of all others relays leave the opening to the session
_PLAINLY: Final = PLAIN._replace(isolation=READ_COMMITTED)
OPENING: Final = run(_PLAINLY.sql)       # names what it is anyway: no client's BEGIN
OPENED: Final = b"".join((build.message(b"1"), build.message(b"2"), build.message(b"C", b"BEGIN\0"),
                          build.message(b"3")))       # the answer to either
ENDED: Final = build.message(b"C", b"COMMIT\0") + build.ready_for_query(IDLE)


class Place(IntEnum):
    """Where a transaction is that the client was told of."""

    PRIMARY = 0         # or there is none
    HELD = 1            # nowhere
    REPLICA = 2

# Settings by which the session's transactions differ from what a replica can have, or a BEGIN from its opening.
SETTINGS: Final = ("default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable",
                   "idle_in_transaction_session_timeout", "transaction_timeout", "statement_timeout")

LONGEST: Final = 65536         # bytes of a prologue
MOST: Final = 200              # statements of one

# A batch that is one BEGIN, or one COMMIT, and nothing else: as a Query, or by the extended protocol with no
# parameters, at most one format code each, the unnamed portal and no row limit but 1, which counts only where there are
# rows. A Flush between its messages changes nothing of the answer.
_EXTENDED: Final = re.compile(
    rb"(?:(?P<parse>P.{4}\0[^\0]*\0\0\0)(?:H\0\0\0\x04)?)?"
    rb"B.{4}\0[^\0]*\0(?:\0\0|\0\x01..)\0\0(?:\0\0|\0\x01..)(?:H\0\0\0\x04)?"
    rb"(?:(?P<describe>D\0\0\0\x06P\0)(?:H\0\0\0\x04)?)?"
    rb"E\0\0\0\x09\0\0\0\0[\0\x01](?:H\0\0\0\x04)?S\0\0\0\x04", re.DOTALL)


class Defaults(NamedTuple):
    """What the session's settings make of a BEGIN that says nothing."""

    isolation: str = ""                  # empty: not known
    read_only: bool = False
    deferrable: bool = False
    times_out: bool = False              # a transaction that idles, or lasts, is ended by the server
    statement_timeout: str = ""          # as the setting has it

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Defaults:
        """Of the values of SETTINGS; a server that is older than a setting has none."""
        return cls(values.get(SETTINGS[0], ""), values.get(SETTINGS[1]) == "on", values.get(SETTINGS[2]) == "on",
                   any(values.get(name) not in (None, "", "0") for name in SETTINGS[3:5]), values.get(SETTINGS[5], ""))


class Unopened(NamedTuple):
    """A transaction as it is ahead of its opening on the primary, which so can be opened on another one."""

    begin: Begin
    isolation: str
    begun_read_only: bool
    set_read_only: bool = False
    stays_read_only: bool = False
    has_read: bool = False
    prologue: tuple[Kept, ...] = ()
    touched: tuple[str, ...] = ()


UNKNOWN_DEFAULTS: Final = Defaults()
_BEST: Final = Defaults(READ_COMMITTED, read_only=True)


class Transaction:
    """*mode*: the listener's `transactions`; *holds*: its `hold_begin`; *repeatable*: its `repeatable_read_only` says
    that such transactions run on a replica. *status* is what the client has been told of a transaction that *begin*
    began here; without one the primary's status counts.
    """

    def __init__(self, mode: str = PRIMARY, defaults: Defaults | None = None, *, holds: bool = True,
                 repeatable: bool = False) -> None:
        self.mode = mode
        self.holds = holds
        self.may_be_repeatable = repeatable
        self.isolation = READ_COMMITTED
        self.defaults = self.login_defaults = defaults or UNKNOWN_DEFAULTS
        self.begin: Begin | None = None
        self.status = IDLE
        self.begun_in_flight = False     # by a batch that the replica has not answered yet
        self.on_replica = IDLE           # the replica's own status: one may be open there that is nobody's any more
        self.ending = 0                  # of its ends that were sent there so many are not answered yet
        self.settings_given = False      # the replica was given settings in it
        self.has_read = False            # it has had a snapshot there
        self.tells_time = False          # its time there is one that may be told
        self.prologue: list[Kept] = []   # what has set its stage there
        self.touched: list[str] = []     # customized options that it has set there: a server knows of them ever after
        self.begun_read_only = False
        self.set_read_only = False       # by SET TRANSACTION; ROLLBACK TO may have undone it
        self.stays_read_only = False     # it cannot
        self.cursors: set[bytes] = set() # cursors and portals that may be open there (see `cursors`)
        self.to_close: set[bytes] = set()    # portals that the client has closed, and the replica has not
        self.split = False               # something has needed the primary while there were any: what is new runs there
        self.asked_within = False        # the primary was asked in it for the session's settings, its own among them
        self.opened = False              # the primary has it open, too
        self.opens_with: list[Ahead] = []    # ahead of the prologue
        self.told = 0                    # statements of the prologue that it has been told there
        self.shown = False               # and it has had a snapshot there
        self.lost = b""                  # it was open on a primary that is gone: the error that comes next
        self.void = b""                  # the error that is told where it should go on on the primary, and cannot

    def may_hold(self, begin: Begin, *, unsettled: bool = False) -> bool:
        """Whether the transaction of *begin* may run on a replica for as long as it reads. *unsettled*: it may turn out
        so, since the session's settings are not known now.
        """
        defaults = self.defaults if not unsettled else _BEST
        isolation = begin.isolation or defaults.isolation
        read_only = defaults.read_only if begin.read_only is None else begin.read_only
        may_be = isolation == READ_COMMITTED or (isolation == REPEATABLE_READ and read_only and self.may_be_repeatable)
        return (may_be and not (begin.deferrable or defaults.deferrable or defaults.times_out)
                and (self.mode == UNTIL_WRITE or (self.mode == READ_ONLY and read_only)))

    def reads_anew(self, begin: Begin) -> bool:
        """Whether each statement in the transaction of *begin* has a snapshot of its own."""
        return (begin.isolation or self.defaults.isolation) == READ_COMMITTED

    @property
    def plain_is_repeatable(self) -> bool:
        """Whether a BEGIN that says nothing is not READ COMMITTED."""
        return self.defaults.isolation == REPEATABLE_READ

    def hold(self, begin: Begin) -> None:
        self.isolation = begin.isolation or self.defaults.isolation or READ_COMMITTED
        self.begun_read_only = self.defaults.read_only if begin.read_only is None else begin.read_only
        self.begin, self.status = begin._replace(isolation=self.isolation), IN_TRANSACTION

    @property
    def on_replica_begin(self) -> Ahead:
        """What opens it on a replica, whatever the replica's own defaults are."""
        assert self.begin is not None
        return REPEATABLE_ON_REPLICA if self.begin.isolation == REPEATABLE_READ else ON_REPLICA

    @property
    def has_snapshot(self) -> bool:
        """Whether all that it reads is as of what it has read on the replica."""
        return self.begin is not None and self.isolation == REPEATABLE_READ and self.has_read

    @property
    def may_read_clock(self) -> bool:
        """Whether a replica's clock may be read outside a transaction, or in it: there it begins by that clock, or has,
        and does not move.
        """
        return self.begin is None or (self.isolation == REPEATABLE_READ and self.surely_read_only
                                      and self.may_be_repeatable and (self.tells_time or self.on_replica == IDLE))

    @property
    def stuck(self) -> bool:
        """Whether it cannot move: the primary has not got what it has on the replica."""
        return self.begin is not None and (self.has_snapshot or bool(self.cursors))

    def begun_there(self, begin: Begin, *, read: bool) -> None:
        """The primary has it open, and what comes may read on a replica yet. *read*: the BEGIN came with reads, which
        ran there.
        """
        self.hold(begin)
        self.opened, self.has_read, self.shown = True, read, read

    def unopened(self) -> Unopened | None:
        """What it is, where the primary has at most been told to open it, so that another one can be; None where it
        cannot be opened twice: something has run there, or a BEGIN that the primary has answered has its time.
        """
        if self.begin is None or not self.holds or self.cursors or self.split:
            return None
        return Unopened(self.begin, self.isolation, self.begun_read_only, self.set_read_only, self.stays_read_only,
                        self.has_read, tuple(self.prologue), tuple(self.touched))

    def plainly_unopened(self) -> Unopened:
        """What one was that a relay has opened on the primary: no other than a plain BEGIN (see `may_repeat`)."""
        return Unopened(_PLAINLY, READ_COMMITTED, self.defaults.read_only)

    def hold_again(self, unopened: Unopened) -> None:
        """The primary that was opening it is gone, and nothing of an answer has been passed on."""
        self.hold(unopened.begin)
        self.isolation, self.begun_read_only = unopened.isolation, unopened.begun_read_only
        self.set_read_only, self.stays_read_only = unopened.set_read_only, unopened.stays_read_only
        self.has_read = unopened.has_read
        self.prologue, self.touched = [*unopened.prologue], [*unopened.touched]

    def fail(self) -> None:
        """An error was told that no server knows of: nothing runs any more until the client ends it."""
        self.status = FAILED

    def end(self) -> None:
        """The client's transaction has ended, or the primary has it now."""
        self.begin, self.status, self.begun_in_flight, self.has_read = None, IDLE, False, False
        self.tells_time = False
        self.prologue, self.touched, self.opens_with = [], [], []
        self.set_read_only = self.stays_read_only = self.split = False
        self.cursors, self.to_close = set(), set()
        self.rolled_back_there()
        self.void = self.lost = b""

    def opening(self) -> list[Ahead]:
        """What opens it on the primary, ahead of the statement that needs it there. Where it has read already, what may
        not come behind a query may not here.
        """
        return [part.ahead for part in self._lacking()]

    def untold(self) -> list[Kept]:
        """The same where a prologue belongs to it that the primary has not been told: its answers are compared first
        (see `opening`); and where it stays open on the replica, too.
        """
        compared = self.told < len(self.prologue) or (self.cursors and not self.opened)
        return self._lacking() if compared else []

    def _lacking(self) -> list[Kept]:
        assert self.begin is not None
        begin = [] if self.opened else [Kept(run(self.begin.sql), "BEGIN"), *(
            Kept(option, "SET") for option in self.opens_with)]
        snapshot = [Kept(run("select", row=True), "SELECT")] if self.has_read and not self.shown else []
        return [*begin, *self.prologue[self.told:], *snapshot]

    def splits(self) -> bool:
        """Something of it runs on the primary: whether it stays open on the replica, too; else the primary has it."""
        if not self.cursors:
            self.end()
            return False
        self.split, self.shown = True, self.has_read
        return True

    def primary_said(self, status: int) -> None:
        """The status byte behind what has run in it on the primary, while it is open on the replica, too."""
        if self.begin is None:
            return
        if status == IDLE:
            self.end()
        else:
            self.status = status

    def opened_there(self, told: int, void: bytes = b"") -> None:
        """The primary has opened it, and answered *told* statements of the prologue as the replica has, or else it is
        *void*.
        """
        self.opened, self.told, self.shown, self.void = True, told, self.has_read, void
        self.opens_with = []

    def rolled_back_there(self) -> None:
        """The primary has nothing of it any more."""
        self.opened, self.told, self.shown = False, 0, False

    @property
    def lives_on_replica(self) -> bool:
        """Whether it cannot move, and goes on there, failed or not: that server's own savepoints end a failure."""
        return self.stuck and self.on_replica != IDLE

    def may_set(self, modes: Begin) -> bool:
        """Whether SET TRANSACTION with *modes* is a replica's, too. READ WRITE is not: a standby always refuses it."""
        if modes.read_only is False:
            return False
        if modes.isolation == REPEATABLE_READ:
            return self.may_be_repeatable and not self.has_read and (modes.read_only or self.surely_read_only)
        return modes.isolation in (None, self.isolation)

    def would_be_repeatable(self, modes: Begin | None) -> bool:
        """Whether all that it reads has one snapshot, once it is set to *modes*."""
        return ((modes.isolation if modes is not None else None) or self.isolation) == REPEATABLE_READ

    def is_read_write(self, modes: Begin) -> bool:
        """Whether SET TRANSACTION with *modes* asks for what it is anyway: that may write, whatever it has done yet."""
        return (self.begin is not None and modes.read_only is False and modes.isolation in (None, self.isolation)
                and not (self.begun_read_only or self.set_read_only))

    @property
    def surely_read_only(self) -> bool:
        """Whether it is READ ONLY up to its end, whatever a ROLLBACK TO may undo."""
        return self.begin is not None and (self.begun_read_only or self.stays_read_only)

    def keep(self, kept: Kept, facts: Facts) -> None:
        """*kept*, of these *facts*, has set its stage on the replica."""
        self.prologue.append(kept)
        self.touched += facts.settings
        if facts.modes is not None:
            self.set_read_only |= facts.modes.read_only is True
            self.stays_read_only |= facts.modes.read_only is True and not any(
                part.command == "SAVEPOINT" for part in self.prologue)
            self.isolation = facts.modes.isolation or self.isolation

    @property
    def prologue_is_long(self) -> bool:
        return len(self.prologue) >= MOST or sum(len(part.ahead.data) for part in self.prologue) > LONGEST

    @property
    def place(self) -> Place:
        return Place.PRIMARY if self.begin is None else Place.HELD if self.on_replica == IDLE else Place.REPLICA

    @property
    def may_repeat(self) -> bool:
        """Whether a relay may go on with it."""
        if self.begin is None:
            return self.on_replica == IDLE
        return (self.begin == _PLAINLY and not (self.prologue or self.opened or self.begun_in_flight)
                and self.status == IN_TRANSACTION and not (self.has_read and self.place is Place.HELD))

    def repeated(self, place: Place, ending: int) -> None:
        """A relay has gone on with it, to *place*."""
        self.ending = ending
        if place is Place.PRIMARY:
            self.end()
            self.on_replica, self.settings_given = IDLE, False
        else:
            self.hold(self.begin or PLAIN)
            self.on_replica = IN_TRANSACTION if place is Place.REPLICA else IDLE
            self.has_read = place is Place.REPLICA

    def replica_said(self, status: int, *, told: bool, snapshot: bool = True) -> None:
        """The status byte of a ReadyForQuery of the replica. *told*: it is the client's, too. *snapshot*: what has run
        there has taken one, behind which SET TRANSACTION may not come.
        """
        self.on_replica = status
        if told and self.begin is not None and status != IDLE:
            self.status = status
            self.has_read |= snapshot

    @property
    def has_nothing_on_replica(self) -> bool:
        return self.on_replica == IDLE and not (self.ending or self.cursors or self.begun_in_flight)

    def replica_gone(self) -> None:
        self.on_replica, self.ending, self.settings_given = IDLE, 0, False


def answer_to(data: bytes, tag: bytes, status: int) -> bytes | None:
    """What a server answers to the batch *data*, of which nothing is run but one statement that ends with *tag*;
    None where that is not known to the byte.
    """
    done = build.message(b"C", tag + b"\0") + build.ready_for_query(status)
    if data[:1] == b"Q":
        return done
    match = _EXTENDED.fullmatch(data)
    if match is None:
        return None
    return ((b"1\0\0\0\x04" if match["parse"] else b"") + b"2\0\0\0\x04"
            + (b"n\0\0\0\x04" if match["describe"] else b"") + done)
