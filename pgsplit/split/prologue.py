"""What sets the stage in a transaction (SET LOCAL, savepoints …), kept so that another server can be told it again."""

from __future__ import annotations

from typing import Final

from ..wire import build
from ..wire.framing import HEADER, message_end
from ..wire.messages import FRONTEND
from .batch import BIND, DESCRIBE, EXECUTE, FLUSH, PARSE, QUERY, SYNC
from .settings import OWN, Ahead

_NAME: Final = OWN.encode() + b"\0"


def again(batch: bytes, *, rows: bool) -> Ahead | None:
    """What does the same as *batch*, which runs one statement, ahead of another batch; None where it is of another
    shape. *rows*: the statement returns one row.

    A Query becomes a statement of pgsplit's own, and so does the unnamed one; a named one is known there already.
    """
    if batch[0] == QUERY:
        batch = (build.message(b"P", b"\0" + batch[HEADER:] + b"\0\0") + build.bind() + build.execute())
    parts: list[bytes] = []
    answers = ""
    position, own = 0, False
    while position < len(batch):
        stop = message_end(batch, position, len(batch), FRONTEND)
        kind, body = batch[position], batch[position + HEADER:stop]
        position = stop
        if kind == PARSE:
            if body[:1] != b"\0" or parts:
                return None
            parts.append(build.message(b"P", _NAME + body[1:]))
            answers, own = "1", True
        elif kind == BIND:
            portal, name, rest = body.split(b"\0", 2)
            if portal or "2" in answers or bool(name) == own:
                return None
            parts.append(build.message(b"B", b"\0" + (_NAME if own else name + b"\0") + rest))
            answers += "2"
        elif kind == EXECUTE:
            if "2" not in answers or "C" in answers:
                return None
            parts.append(build.execute())
            answers += "DC" if rows else "C"
        elif kind not in (DESCRIBE, FLUSH, SYNC):
            return None
    if not answers.endswith("C"):
        return None
    if own:
        parts.append(build.close(name=OWN))
        answers += "3"
    return Ahead(b"".join(parts), answers.encode())
