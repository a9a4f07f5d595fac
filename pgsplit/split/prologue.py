"""What sets the stage in a transaction (SET LOCAL, savepoints …), kept so that another server can be told it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..wire import build
from ..wire.framing import HEADER, message_end
from ..wire.messages import FRONTEND
from .batch import BIND, DESCRIBE, EXECUTE, FLUSH, PARSE, QUERY, SYNC
from .settings import OWN, Ahead

_NAME: Final = OWN.encode() + b"\0"


def again(batch: bytes, *, rows: bool, parse_of: Callable[[bytes], bytes | None]) -> Ahead | None:
    """What does the same as *batch*, which runs one statement, ahead of another batch; None where it is of another
    shape. *rows*: the statement returns one row. *parse_of*: the Parse of a statement that was made before.

    It becomes a statement of pgsplit's own: by then the client may have closed its, or made another one of that name.
    """
    if batch[0] == QUERY:
        batch = (build.message(b"P", b"\0" + batch[HEADER:] + b"\0\0") + build.bind() + build.execute())
    parts: list[bytes] = []
    answers = ""
    position = 0
    while position < len(batch):
        stop = message_end(batch, position, len(batch), FRONTEND)
        kind, body = batch[position], batch[position + HEADER:stop]
        position = stop
        if kind == PARSE:
            if body[:1] != b"\0" or parts:
                return None
            parts.append(_own(body))
            answers = "1"
        elif kind == BIND:
            portal, name, rest = body.split(b"\0", 2)
            if portal or "2" in answers or (name and parts):
                return None
            if not parts:
                parse = parse_of(name)
                if parse is None:
                    return None
                parts.append(_own(parse[HEADER:]))
                answers = "1"
            parts.append(build.message(b"B", b"\0" + _NAME + rest))
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
    parts.append(build.close(name=OWN))
    return Ahead(b"".join(parts), answers.encode() + b"3")


def _own(parse: bytes) -> bytes:
    """The Parse of the same under pgsplit's own name; *parse*: its body."""
    return build.message(b"P", _NAME + parse.partition(b"\0")[2])
