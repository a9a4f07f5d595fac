"""A statement of a transaction's prologue: what does it again on another server, and what it was answered with."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..wire.framing import HEADER, message_end
from ..wire.messages import BACKEND
from .settings import Ahead

ROW: Final = ord("D")
COMMAND: Final = ord("C")


class Kept(NamedTuple):
    """*command*: its name, such as SET. *said*: the bodies of the row and the CommandComplete with which a replica has
    answered it, in their order; none where they are not known.
    """

    ahead: Ahead
    command: str
    said: tuple[bytes, ...] = ()

    def awaited(self) -> list[tuple[int, bytes | None]]:
        """Of each message that another server must answer: its type, and its body where that is known."""
        said = iter(self.said)
        return [(kind, next(said, None) if kind in (ROW, COMMAND) else None) for kind in self.ahead.answers]


def said(answer: bytes) -> tuple[bytes, ...]:
    """The bodies of the rows and CommandCompletes in *answer*, which is whole."""
    found = []
    position = 0
    while position < len(answer):
        stop = message_end(answer, position, len(answer), BACKEND)
        if answer[position] in (ROW, COMMAND):
            found.append(answer[position + HEADER:stop])
        position = stop
    return tuple(found)
