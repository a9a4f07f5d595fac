"""A step: what the splitter tells the session to do next. Tables of state × message end in one of these."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from .batch import Batch
from .decision import Decision


class Action(Enum):
    MORE = auto()       # nothing to do until more bytes come
    WAIT = auto()       # nothing to do until an upstream has answered what it was sent
    FORWARD = auto()    # client -> additional: `data`, then the first `size` bytes of the client's inbox, then `behind`
    ASK = auto()        # client -> default: `data`, then a copy of `size` bytes at `start`, which stay in the inbox
    ANSWER = auto()     # drop `size` bytes of the client's inbox and send `data` to the client
    CLOSE = auto()      # the client has said goodbye
    PASS = auto()       # upstream -> client: `data`, then the first `size` bytes; `consume` bytes of the client's
                        # inbox are done
    CUT = auto()        # drop `size` bytes at `start` of the upstream's inbox, put `data` in their place; `batch`: an
                        # inquiry of pgsplit's own that is answered by them
    RETRY = auto()      # as CUT; the replica's answer is void and its batch goes to the primary


class Step(NamedTuple):
    action: Action
    size: int = 0
    start: int = 0
    data: bytes = b""
    behind: bytes = b""
    reply: bytes = b""      # for the upstream that has spoken
    consume: int = 0
    to_replica: bytes = b""     # the end of a transaction there, which nobody waits for
    batch: Batch | None = None
    decision: Decision | None = None


MORE = Step(Action.MORE)
WAIT = Step(Action.WAIT)
