"""The session's prepared statements: they live in the session, and an upstream is given one when it needs it.

Each is parsed on the primary first, so that its names, its errors and `pg_prepared_statements` are one server's. A
replica gets a late Parse with the parameter types that the primary resolved, and what it says of the result is held
against what the primary says: a Parse behind a change of definitions is not the same statement.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from ..classify.facts import EVERY, UNCLEAR, Facts
from ..wire import build
from .settings import Ahead

MOST_ASKED: Final = 100
MAX_NAMED: Final = 10_000      # named statements of a session that are known; what others do is doubt

_U16 = struct.Struct(">H")


class Statement:
    """A prepared statement. *message* is its Parse as the client sent it, or as pgsplit builds it of a PREPARE; then
    *prepare* is that text.
    """

    __slots__ = ("additional", "default", "described", "facts", "message", "name", "only_primary", "orphaned",
                 "prepare", "refusal", "route", "sql")

    def __init__(self, name: bytes, sql: bytes, facts: Facts, message: bytes, prepare: bytes = b"") -> None:
        self.name = name
        self.sql = sql
        self.facts = facts
        self.message = message
        self.prepare = prepare
        self.refusal = b""                       # the primary's error when it should have been made for who uses it
        self.additional = False                  # the primary has it
        self.default = False                     # the replica has it
        self.orphaned = False                    # a server had it, and none has
        self.only_primary = False                # a replica cannot have the same
        self.route: Any = None                   # in a relay's table, once it may be repeated
        self.described: tuple[bytes, bytes] | None = None
        """The bodies of the primary's ParameterDescription, and of its RowDescription (none for NoData)."""

    @property
    def is_lacking(self) -> bool:
        """Named: whether it has to be made on the primary before it is used (see `making`)."""
        return bool(self.name) and not self.additional

    @property
    def is_owed(self) -> bool:
        """Unnamed: whether the primary must be given it ahead of what uses it. While its Parse is under way, not."""
        return not self.additional and (self.default or self.orphaned)

    @property
    def uses_cursor(self) -> bool:
        """FETCH and its like: what it gives is its cursor's, and neither its text nor another server tells it."""
        return self.facts.cursor is not None and not self.facts.cursor.opens

    def describe(self) -> Ahead:
        """What shows its parameters and its result, which are known already."""
        assert self.described is not None
        return Ahead(build.message(b"D", b"S" + self.name + b"\0"), b"tT" if self.described[1] else b"tn")

    def late_parse(self) -> Ahead:
        """What gives it to an upstream that is not the first: the parameters have the types that the first resolved,
        and a Describe shows whether the result has too.
        """
        if self.uses_cursor:
            return Ahead(parse_message(self.name, self.sql), b"1")
        assert self.described is not None
        shown = self.describe()
        data = build.message(b"P", self.name + b"\0" + self.sql + b"\0" + self.described[0])
        return Ahead(data + shown.data, b"1" + shown.answers)


class Statements:
    """*coming*: Parses that have left for the primary and are not confirmed: until then either may be meant."""

    def __init__(self) -> None:
        self.named: dict[bytes, Statement] = {}
        self.coming: dict[bytes, Statement] = {}
        self.unnamed: Statement | None = None
        self.unseen = False                     # there may be named ones that nobody has described
        self.unclear = False                    # the primary may have others than these
        self.to_close: set[bytes] = set()       # names that the replica may have, and the session has not, or changed

    def get(self, name: bytes) -> Statement | None:
        return self.named.get(name) if name else self.unnamed

    def parse_of(self, name: bytes) -> bytes | None:
        """The Parse that made the statement *name*, as the client sent it."""
        statement = self.get(name)
        return statement.message if statement is not None else None

    def known(self, name: bytes) -> list[Statement]:
        """What *name* may mean when the primary comes to it."""
        if not name:
            return [self.unnamed] if self.unnamed is not None else []
        return [found for found in (self.coming.get(name), self.named.get(name)) if found is not None]

    def leaves(self, statement: Statement) -> None:
        """Its Parse has left for the primary."""
        if len(self.coming) + len(self.named) < MAX_NAMED or statement.name in self.named:
            self.coming[statement.name] = statement
        else:
            self.unclear = True

    def confirmed(self, statement: Statement) -> None:
        """The primary has parsed it."""
        statement.additional, statement.orphaned = True, False
        if statement.name:
            self.dropped(statement.name)
            self.named[statement.name] = statement
            self.unseen |= statement.described is None
            self.void(statement)

    def missing(self, name: bytes | None) -> bytes:
        """A server's error where it is asked for the statement *name* and has none of it, which it finds before it sees
        that the transaction has failed; nothing where it may have one, or none is asked for.
        """
        if name is None or self.unclear or self.known(name):
            return b""
        what = f'prepared statement "{name.decode(errors="replace")}"' if name else "unnamed prepared statement"
        return build.error_response("ERROR", "26000", f"{what} does not exist")

    def undescribed(self) -> list[Statement]:
        """Named ones that the primary has and nobody has described, or may; not more than are asked about at once."""
        found = (each for each in self.named.values()
                 if each.described is None and each.additional and not each.only_primary)
        first = list(islice(found, MOST_ASKED))
        self.unseen = bool(first)
        return first

    def void(self, statement: Statement) -> None:
        """Its Parse is done with, one way or the other."""
        if self.coming.get(statement.name) is statement:
            del self.coming[statement.name]

    def dropped(self, name: bytes) -> None:
        """The primary has closed it; the replica is told when it is next used."""
        statement = self.named.pop(name, None) if name else self.unnamed
        if not name:
            self.unnamed = None
        elif statement is not None and statement.default:
            self.to_close.add(name)

    def deallocated(self, name: bytes, certain: bool) -> None:
        """DEALLOCATE has run; when it is not *certain* that it has, the primary alone knows."""
        meant = list(self.named) if name in (EVERY, UNCLEAR) else [name]
        for each in meant:
            if certain and name != UNCLEAR:
                self.dropped(each)
            elif each in self.named:
                self.named[each].only_primary = self.unclear = True

    def replica_gone(self) -> None:
        for statement in (*self.named.values(), *([self.unnamed] if self.unnamed is not None else [])):
            statement.orphaned |= statement.default and not statement.additional
            statement.default = False
        self.to_close.clear()


def shared(description: bytes) -> bytes:
    """The same bytes for all sessions that have prepared the same: ten thousand may have."""
    return _usual(description) if len(description) <= 4096 else description


@lru_cache(4096)
def _usual(description: bytes) -> bytes:
    return description


def parse_message(name: bytes, sql: bytes) -> bytes:
    return build.message(b"P", name + b"\0" + sql + b"\0" + _U16.pack(0))
