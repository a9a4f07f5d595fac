"""Repeating in pure Python: one small batch at a time, by the flow table, without the session's greenlet.

Whatever is not plain is left to the session: then nothing has been done with the bytes at hand.
"""

from __future__ import annotations

import struct
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from ..classify.folding import fold
from ..split.decision import Decision, Upstream
from ..split.repeat import Held
from ..split.transaction import END_ON_REPLICA, ENDED, ON_REPLICA, OPENED, OPENING, Place, answer_to
from ..stats.histogram import place
from ..stats.offload import AFTER_WRITE, BEFORE_WRITE
from ..topology.host import GROUND
from ..wire.messages import IDLE, IN_TRANSACTION
from .leg import Leg
from .routes import HERE, INSIDE, ORDERED, PRIMARY, REPLICA, SOLE, WITHOUT, Context, Route

if TYPE_CHECKING:
    from .pyrelay import Flow, PyRelay

MOST: Final = 16384                # bytes of a batch
# Of an answer: what says nothing that matters here. CommandComplete and ReadyForQuery are looked at.
_QUIET: Final = frozenset(b"DT12nt")
_READY: Final = b"Z\0\0\0\x05"
_header = struct.Struct(">BI").unpack_from
_QUERY, _PARSE, _BIND, _DESCRIBE, _EXECUTE, _SYNC, _COMMAND = b"QPBDESC"


class Repeater:
    """A flow's part. It is *on* between `release` and the first bytes that are not plain."""

    __slots__ = (
        "_answered_ns",
        "_batch",
        "_context",
        "_ending",
        "_inside",
        "_last",
        "_opening",
        "_parse",
        "_place",
        "_primary",
        "_primary_unnamed",
        "_replica",
        "_requests",
        "_route",
        "_started",
        "_texts",
        "_transaction_ns",
        "_tx",
        "_tx_wrote",
        "_unnamed",
        "_unnamed_on",
        "_way",
        "fence_ns",
        "leg",
        "let",
        "on",
    )

    def __init__(self, context: Context) -> None:
        self._context = context
        self.on = False
        self.let = False
        self.fence_ns = 0
        self.leg: Leg | None = None         # the upstream that has a batch
        self._route: Route | None = None    # of that batch
        self._batch = b""
        self._begin(IDLE, False, Place.PRIMARY, 0, BEFORE_WRITE)

    def _begin(self, tx: int, tx_wrote: bool, place: Place, ending: int, inside: int) -> None:
        self._tx = tx
        self._place = place
        self._ending = ending
        self._inside = max(inside, BEFORE_WRITE)
        self._opening = False           # the batch was sent behind the opening of its transaction
        self._tx_wrote = tx_wrote
        self._replica = self._primary = 0
        self._last: Decision | None = None
        self._answered_ns = self._transaction_ns = 0
        self._unnamed: bytes | None = None
        self._unnamed_on = Upstream.DEFAULT
        self._primary_unnamed: bool | None = None
        self._parse = b""
        self._requests = self._texts = 0
        self._started = 0
        self._way = REPLICA

    def release(self, fence_ns: int, tx: int, tx_wrote: bool, transaction_ns: int, place: Place, ending: int,
                inside: int) -> None:
        self._begin(tx, tx_wrote, place, ending, inside)
        self._transaction_ns = transaction_ns
        self.fence_ns = fence_ns
        self.on = self.let = True

    def hold(self, flow: Flow) -> Held | None:
        """What has been done since `release`; None when the session has been told already."""
        if not self.let:
            return None
        self.on = self.let = False
        running, sent = None, b""
        if self.leg is not None:
            assert self._route is not None
            running = self._route.decisions[self._way]
            sent = self._batch
            if self.leg is flow.default:
                flow.client.inbox[0:0] = sent
        self.leg = self._route = None
        return Held(self._replica, self._primary, self._last, self._tx, self._tx_wrote, self.fence_ns,
                    self._answered_ns, self._transaction_ns, self._unnamed, self._unnamed_on, self._primary_unnamed,
                    self._place, self._ending, self._opening and running is not None, running, self._started, sent,
                    self._inside)

    # --- client -> upstream -------------------------------------------------------------------------------

    def client(self, relay: PyRelay, flow: Flow, data: bytes) -> bool:
        """Whether *data*, all that the client has sent, has left."""
        if self.leg is not None or len(data) > MOST:
            return False
        route = self._route_of(data)
        if route is None or not route.valid:
            return False
        if (route.commits if self._tx == IDLE else route.begins) or flow.client.outbox:
            return False
        if route.commits and self._place:
            return self._end(relay, flow, route, data)
        if route.begins and self._context.leaves_begin:
            return False
        if route.begins and self._context.holds_begin:
            return self._hold(relay, flow, route, data)
        way = self._way_of(route)
        if way < 0:
            return False
        self._way = way
        leg = flow.default if way == REPLICA else flow.additional
        if leg is None or leg.outbox or leg.eof is not None:
            return False
        self._started = monotonic_ns()
        self.leg = leg
        self._route = route
        self._batch = data
        self._opening = self._place is Place.HELD
        if self._opening:
            data = (ON_REPLICA if way == REPLICA else OPENING).data + data
            self._place = Place.HELD if way == REPLICA else Place.PRIMARY
        relay.send(leg, data)
        return True

    # --- transactions that the primary does not know of (see split/transaction.py) --------------------------

    def _hold(self, relay: PyRelay, flow: Flow, route: Route, data: bytes) -> bool:
        answer = answer_to(data, route.tag, IN_TRANSACTION)
        if answer is None:
            return False
        relay.send(flow.client, answer)
        self._place = Place.HELD
        self._answered_here(route, IN_TRANSACTION)
        return True

    def _end(self, relay: PyRelay, flow: Flow, route: Route, data: bytes) -> bool:
        answer = answer_to(data, route.tag, IDLE)
        if answer is None or (self._place is Place.REPLICA and (flow.default is None or flow.default.eof is not None)):
            return False
        relay.send(flow.client, answer)
        if self._place is Place.REPLICA:
            assert flow.default is not None
            relay.send(flow.default, END_ON_REPLICA)
            self._ending += 1
        self._place = Place.PRIMARY
        self._answered_here(route, IDLE)
        return True

    def _answered_here(self, route: Route, status: int) -> None:
        counted = route.counted
        counted.calls[HERE] += 1
        counted.frontend += self._requests
        counted.texts += self._texts
        self._tx = status
        self._last = route.decisions[HERE]
        self._answered_ns = monotonic_ns()
        self._transaction_ns = self._answered_ns if status != IDLE else 0
        if self._texts:
            self._unnamed = self._parse
            self._unnamed_on = Upstream.DEFAULT         # whoever needs it is given it

    def _way_of(self, route: Route) -> int:
        """How a batch of *route* goes now; -1 when the session has to say."""
        context = self._context
        if context.sole:
            return SOLE
        if self._place:
            if route.read:
                return REPLICA if context.fresh(self.fence_ns) else -1
            return PRIMARY if self._place is Place.HELD else -1
        if self._tx != IDLE:
            return INSIDE
        if not route.read:
            return PRIMARY
        if context.fresh(self.fence_ns):
            return REPLICA
        if context.without:
            return WITHOUT
        return ORDERED if context.ordered == GROUND[0] else -1

    def _route_of(self, data: bytes) -> Any:
        """The route of a batch that is whole and of the plainest kind; None for all others."""
        routes = self._context.table.routes
        kind = data[0]
        size = len(data)
        if kind == _QUERY:
            if size < 6 or _header(data)[1] != size - 1 or data[-1]:
                return None
            self._requests = self._texts = 1
            self._parse = b""
            sql = data[5:-1]
            return routes.get(fold(sql) or sql) or routes.get(sql)
        if size < 10 or data[-5:] != b"S\0\0\0\x04":
            return None
        position, route = 0, None
        self._parse = b""
        self._texts = 0
        requests = 1
        if kind == _PARSE:
            if data[5]:
                return None
            position = 1 + int(_header(data)[1])
            end = data.find(b"\0", 6, position)
            if end < 0 or position + 5 > size:
                return None
            sql = data[6:end]
            route = routes.get(sql) or routes.get(fold(sql) or sql)
            self._parse = data[:position]
            self._texts = 1
            requests = 2
        if data[position] != _BIND or data[position + 5]:
            return None
        end = data.find(b"\0", position + 6)
        name = data[position + 6:end]
        if not self._parse:
            statement = self._context.statements.get(name)
            if statement is None or statement.only_primary:
                return None
            route = statement.route
            if route is None or (route.read and not (
                    statement.default or (self._tx != IDLE and not self._place)
                    or self._context.sole or self._context.without)):
                return None
        elif name:
            return None
        position += 1 + int(_header(data, position)[1])
        if data[position:position + 7] == b"D\0\0\0\x06P\0":
            position += 7
            requests += 1
        if data[position:] != b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04":
            return None
        self._requests = requests + 2
        return route

    # --- upstream -> client -------------------------------------------------------------------------------

    def upstream(self, relay: PyRelay, flow: Flow, leg: Leg, data: bytes) -> bool:
        """Whether *data*, which *leg* has sent, has been passed on."""
        route = self._route
        position = commands = messages = 0
        ending = self._ending
        if ending and leg is flow.default:
            while ending and data.startswith(ENDED, position):
                ending -= 1
                position += len(ENDED)
            if position == len(data):
                self._ending = ending
                return True
            if ending:
                return False
        if leg is not self.leg or route is None or data[-6:-1] != _READY:
            return False
        if self._opening:
            if not data.startswith(OPENED, position):
                return False
            position += len(OPENED)
        start, size = position, len(data) - 6
        tag = route.tag
        while position < size:
            if size - position < 5:
                return False
            kind, length = _header(data, position)
            if kind not in _QUIET:
                if kind != _COMMAND or not data.startswith(tag, position + 5) or (
                        data[position + 5 + len(tag)] not in b" \0"):
                    return False
                commands += 1
            position += 1 + length
            messages += 1
        if position != size or commands != 1 or length < 4:
            return False
        status = data[-1]
        if status not in (IDLE, IN_TRANSACTION) or (self._place and status == IDLE):
            return False
        now = monotonic_ns()
        on_replica = leg is flow.default
        if on_replica and flow.additional is not None and relay.says_more(flow.additional):
            return False        # who was ended on the primary gets no replica's answer
        if not on_replica:
            self.fence_ns = now
            ends = route.commits
            if (self._tx == IDLE or ends) and (route.wrote or (ends and self._tx_wrote)):
                self._context.publish(now)
            self._tx_wrote = status != IDLE and (self._tx_wrote or route.wrote)
            if route.begins:
                self._inside = self._context.begins_as
            elif self._opening:
                self._inside = route.moves
            elif route.writes:
                self._inside = AFTER_WRITE
        if self._place is Place.HELD and on_replica:
            self._place = Place.REPLICA
        self._ending = ending if on_replica else self._ending
        self._opening = False
        relay.send(flow.client, data[start:] if start else data)
        self.leg = self._route = None
        self._done(route, on_replica, now, status, messages + 1)
        return True

    def _done(self, route: Route, on_replica: bool, now: int, status: int, messages: int) -> None:
        counted = route.counted
        bucket, microseconds = place(now - self._started)
        way = self._way
        upstream = Upstream.DEFAULT if on_replica else Upstream.ADDITIONAL
        decision = route.decisions[way]
        if way in (REPLICA, SOLE):
            self._replica += 1
        else:
            self._primary += 1
        counted.calls[way] += 1
        counted.autocommits += self._tx == IDLE
        counted.frontend += self._requests
        counted.backend += messages
        counted.texts += self._texts
        counted.buckets[upstream][bucket] += 1
        counted.total_us[way] += microseconds
        if way == INSIDE and route.reads:
            group = 2 * (self._inside if route.kept < 0 or self._inside == AFTER_WRITE else route.kept)
            self._context.table.kept[group] += 1
            self._context.table.kept[group + 1] += microseconds
        if status != IDLE:
            if not self._transaction_ns:
                self._transaction_ns = self._started
        else:
            self._transaction_ns = 0
        self._tx = status
        self._last = decision
        self._answered_ns = now
        if self._texts:
            self._unnamed = self._parse         # a Query leaves no unnamed statement behind (manual 55.2.3)
            self._unnamed_on = upstream
            if not on_replica:
                self._primary_unnamed = bool(self._parse)
        self._context.recent.append((now, microseconds, upstream, decision, route.repeat.facts.text))
