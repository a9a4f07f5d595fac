"""BEGIN and COMMIT: what a transaction asks for, and which of them a server answers in just one way.

PostgreSQL manual, SQL commands BEGIN, START TRANSACTION, SET TRANSACTION, COMMIT, ROLLBACK.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..sql.lexer import Kind, Token

READ_COMMITTED: Final = "read committed"
REPEATABLE_READ: Final = "repeatable read"
_LEVELS: Final = (("serializable",), ("repeatable", "read"), ("read", "committed"), ("read", "uncommitted"))
_NOISE: Final = ("work", "transaction")


class Begin(NamedTuple):
    """A BEGIN or START TRANSACTION. None: what `default_transaction_isolation` and its like say.

    *tag*: the word of its CommandComplete.
    """

    tag: bytes
    isolation: str | None = None
    read_only: bool | None = None
    deferrable: bool = False

    @property
    def sql(self) -> str:
        """A text that begins the same transaction, with no byte of the client's in it."""
        modes = []
        if self.isolation is not None:
            modes.append(f"isolation level {self.isolation}")
        if self.read_only is not None:
            modes.append("read only" if self.read_only else "read write")
        return " ".join(["begin", ", ".join(modes)]).strip()


def begin_of(words: list[Token]) -> Begin | None:
    """What the statement *words*, a BEGIN or START TRANSACTION, asks for; None when it is not understood."""
    texts = _plain(words)
    if texts is None:
        return None
    if texts[0] == "start":
        if texts[1:2] != ["transaction"]:
            return None
        begin, rest = Begin(b"START TRANSACTION"), texts[2:]
    else:
        begin, rest = Begin(b"BEGIN"), texts[2:] if texts[1:2] and texts[1] in _NOISE else texts[1:]
    return _with_modes(begin, rest)


def modes_of(words: list[Token]) -> Begin | None:
    """What the statement *words*, a SET TRANSACTION, makes of a transaction, as a BEGIN that asks for just that; None
    where it is something else, or not understood: DEFERRABLE, and READ ONLY and READ WRITE at once, are not.
    """
    texts = _plain(words)
    if texts is None or texts[:2] != ["set", "transaction"] or len(texts) < 3:
        return None
    if "deferrable" in texts or ("only" in texts and "write" in texts):
        return None
    return _with_modes(Begin(b"SET"), texts[2:])


def _with_modes(begin: Begin, rest: list[str]) -> Begin | None:
    while rest:
        if rest[0] == "isolation":
            level = next((level for level in _LEVELS if tuple(rest[2:2 + len(level)]) == level), None)
            if rest[1:2] != ["level"] or level is None:
                return None
            begin, rest = begin._replace(isolation=" ".join(level)), rest[2 + len(level):]
        elif rest[:2] in (["read", "only"], ["read", "write"]):
            begin, rest = begin._replace(read_only=rest[1] == "only"), rest[2:]
        elif rest[0] == "deferrable":
            begin, rest = begin._replace(deferrable=True), rest[1:]
        elif rest[:2] == ["not", "deferrable"]:
            begin, rest = begin._replace(deferrable=False), rest[2:]
        else:
            return None
        if rest[:1] == [","]:
            rest = rest[1:]
            if not rest:
                return None
    return begin


def end_of(words: list[Token]) -> bytes:
    """The tag of a plain COMMIT or ROLLBACK, which ends a transaction and begins no other; else nothing."""
    texts = _plain(words)
    if texts is None:
        return b""
    rest = texts[2:] if texts[1:2] and texts[1] in _NOISE else texts[1:]
    if rest not in ([], ["and", "no", "chain"]):
        return b""
    return b"COMMIT" if texts[0] in ("commit", "end") else b"ROLLBACK"


def _plain(words: list[Token]) -> list[str] | None:
    if all(token.kind is Kind.WORD or token.text == "," for token in words):
        return [token.text for token in words]
    return None
