"""A batch whose beginning is at the primary, and COPY data: messages leave as they come, in pieces too."""

from __future__ import annotations

from typing import Final

from ..classify.facts import DOUBT, Facts
from ..errors import ProtocolViolation
from ..wire import build
from ..wire.framing import HEADER, message_end
from ..wire.messages import FRONTEND
from .batch import COPY_TYPES, FUNCTION_CALL, PASSWORD, QUERY, SYNC, TERMINATE, Batch, Draft, Operation
from .decision import Upstream
from .observer import Observer
from .settings import Ahead
from .state import State
from .step import MORE, Action, Step

PIECE: Final = 16384        # bytes; behind an error of pgsplit's own a longer message is not waited for
_COPY_ENDS: Final = frozenset(b"cf")
_MEANT: Final = frozenset(b"PBDECQF")       # what does something, unless the server copies


def tells_route(batch: Batch) -> bool:
    return any(facts.tells_route for facts in (*batch.bound, *batch.texts))


class Stream:
    """*left*: bytes still to come of a message whose beginning has left."""

    def __init__(self, state: State, observer: Observer) -> None:
        self.left = 0
        self._state = state
        self._observer = observer

    def next(self, inbox: bytearray, full: bool) -> Step:
        """What of the client's inbox leaves for the primary. A message leaves in pieces when it is COPY data, or when
        the inbox is *full*.

        :raises ProtocolViolation: for types and lengths that a client may not send here.
        """
        state = self._state
        end = len(inbox)
        position = min(self.left, end)
        self.left -= position
        ahead = b""
        while not self.left and position < end:
            stop = message_end(inbox, position, end, FRONTEND)
            if stop < 0:
                break
            kind = inbox[position]
            if kind == PASSWORD:
                raise ProtocolViolation("unexpected PasswordMessage: the session is logged in")
            if kind == TERMINATE:
                return Step(Action.FORWARD, position) if position else Step(Action.CLOSE)
            if kind not in COPY_TYPES and (state.segment is None or (stop > end and not full)):
                break
            if kind in _MEANT and not state.copying:
                draft = _draft(kind, bytes(inbox[position + HEADER:min(stop, end)]))
                bound, parsed = self._facts(draft)
                lacking = self._lacking(draft, bound, parsed)
                if lacking and position:
                    break
                state.lsn.told()
                for operation, data in self._with_own_closed(lacking):
                    self._insert(operation)
                    ahead += data
                self._take(draft, bound, parsed)
            else:
                self._pass(kind)
            self._observer.frontend(1)
            self.left = max(0, stop - end)
            position = min(stop, end)
        return Step(Action.FORWARD, position, data=ahead) if position else MORE

    def _facts(self, draft: Draft) -> tuple[list[Facts], list[Facts]]:
        bound = self._state.bound_facts(draft)
        if draft.obstacle == "malformed_message":     # or cut off, since it leaves in pieces
            bound.insert(0, DOUBT)
        return bound, self._state.parsed_facts(draft)

    def _lacking(self, draft: Draft, bound: list[Facts], parsed: list[Facts]) -> list[tuple[Operation, bytes]]:
        """As `Requests` puts ahead of a batch; here between two messages: its answers are told by their order."""
        state, segment = self._state, self._open
        if segment.failed:
            return []       # the server skips it, too
        told = tells_route(segment)
        unnamed = state.statements.unnamed
        found = []
        parts = state.lacks(draft, bound, not told and any(each.tells_route for each in bound + parsed))
        for part in parts + state.lsn.ahead(bound, parsed, segment.bound, wrote=state.may_have_written):
            statement = unnamed if unnamed is not None and part.data == unnamed.message else None
            if statement is None or segment.statement is not statement:
                found.append((Operation(part.answers[0], None, statement, part.answers), part.data))
        return found

    def _with_own_closed(self, lacking: list[tuple[Operation, bytes]]) -> list[tuple[Operation, bytes]]:
        """*lacking* as it may be sent, whatever has failed at the primary before (see `State.put_ahead`)."""
        ahead = self._state.put_ahead(Upstream.ADDITIONAL, [Ahead(data, operation.swallowed)
                                                            for operation, data in lacking])
        closing = ahead[:len(ahead) - len(lacking)]
        return [*((Operation(part.answers[0], None, None, part.answers), part.data) for part in closing), *lacking]

    def _insert(self, operation: Operation) -> None:
        segment = self._open
        segment.operations.append(operation)
        if operation.statement is not None:
            segment.statement = operation.statement
            self._state.primary_unnamed = True

    def _take(self, draft: Draft, bound: list[Facts], parsed: list[Facts]) -> None:
        """Note what a message means that is leaving."""
        state, segment = self._state, self._open
        state.note_operations(draft, segment)
        state.note_effects(bound)
        for facts in parsed if draft.query is None else bound:
            self._observer.text(facts.parsed)
        state.note_begin(segment, bound)
        segment.bound += bound
        segment.texts += parsed
        segment.wrote |= not all(facts.wrote_nothing for facts in bound)
        if segment.bound and segment.decision is not None and not tells_route(segment):
            state.told = segment.decision
        if draft.end in (QUERY, FUNCTION_CALL):
            segment.kind = draft.end      # its ReadyForQuery is the one that ends the segment
            state.segment = None
        if draft.end == QUERY or draft.obstacle == "malformed_message":
            state.statements.unnamed = None
            state.primary_unnamed = False       # what the primary says of it counts

    def _pass(self, kind: int) -> None:
        """The server ignores all but the end of COPY while it copies."""
        state = self._state
        if kind in _COPY_ENDS:
            state.copy_ends += not state.copying
            state.copying = False
        elif kind == SYNC and not state.copying:
            self._open.kind = SYNC
            state.segment = None

    @property
    def _open(self) -> Batch:
        assert self._state.segment is not None
        return self._state.segment


def _draft(kind: int, body: bytes) -> Draft:
    draft = Draft()
    draft.gather(bytearray(build.message(bytes((kind,)), body)), 0)
    return draft
