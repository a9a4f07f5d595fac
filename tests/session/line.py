"""A session's relay on socket pairs, without a session: a test is its client, its servers and its session."""

from __future__ import annotations

import socket
from array import array
from collections import deque
from functools import partial
from typing import Any

import gevent
from gevent import socket as gsocket

from pgsplit.classify.classifier import Classifier
from pgsplit.relay.routes import CONSISTENCY, Context, FlowTable
from pgsplit.split.repeat import Held, repeat_of
from pgsplit.split.statements import Statement
from pgsplit.split.transaction import Place
from pgsplit.stats.counters import ListenerStats
from pgsplit.stats.digests import Digests
from pgsplit.stats.offload import ReadStats
from pgsplit.topology.host import GROUND
from tests.session.relays import make
from tests.session.talk import ROW, done

READ, WRITE = "select a from t where b = 1", "update t set a = 1"
TEXTS = (READ, WRITE, "begin", "commit", "select $1")
ROWS = ROW + done("SELECT 1")


def classified(sql: str) -> Any:
    return Classifier(100, 65536)(sql.encode())


class Line:
    """A session's relay with all three legs on socket pairs; the far ends are the client and the two servers."""

    def __init__(self, form: str, consistency: str = "session", *, replica: bool = True,
                 observed: ReadStats | None = None) -> None:
        self.writes = memoryview(bytearray(8 * 3)).cast("q")        # of two slots, and how many are in use
        self.writes[2] = 2
        self.relay = make(form, self.writes)
        self.published: list[int] = []
        self.stats = ListenerStats()
        self.table = FlowTable(self.relay.route, self.stats, Digests(), observed=observed)
        self.observed = observed
        self.statements: dict[bytes, Statement] = {}
        self.context = Context(self.table, self.statements, deque(maxlen=50), CONSISTENCY[consistency],
                               partial(self.writes.__setitem__, 0), lambda: max(self.writes[:2]),
                               array("q", [2**62, 0]), GROUND[0])
        self.far: dict[str, gsocket.socket] = {}
        legs = []
        for name in ("client", "replica", "primary"):
            if name == "replica" and not replica:
                legs.append(None)
                continue
            near, far = socket.socketpair()
            self.far[name] = gsocket.socket(fileno=far.detach())
            legs.append(self.relay.adopt(name, near))
        self.flow = self.relay.open(*legs)
        self.relay.wait(self.flow)
        self.woken = gevent.spawn(lambda: None)
        for sql in TEXTS:
            self.learn(sql)

    def close(self) -> None:
        self.woken.kill()
        self.relay.close(self.flow)
        for sock in self.far.values():
            sock.close()

    def learn(self, sql: str) -> Any:
        facts = classified(sql)
        repeat = repeat_of(facts, observes=self.observed is not None)
        assert repeat is not None, sql
        route = self.table.routes[facts.text] = self.relay.route(repeat)
        return route

    def release(self, tx: int = ord("I"), fence_ns: int = 0, tx_wrote: bool = False, place: Place = Place.PRIMARY,
                ending: int = 0, inside: int = -1) -> None:
        self.relay.release(self.flow, self.context, fence_ns, tx, tx_wrote, 0, place, ending, inside)
        self.woken = gevent.spawn(self.relay.wait, self.flow)
        gevent.sleep(0)

    def says(self, who: str, data: bytes) -> None:
        self.far[who].sendall(data)
        gevent.sleep(0.001)

    def wakes(self) -> bool:
        """The session is woken, sooner or later."""
        self.woken.get(timeout=20)
        return True

    def heard(self, who: str) -> bytes:
        """All that has come."""
        got = b""
        self.far[who].settimeout(0.05)
        try:
            while piece := self.far[who].recv(65536):
                got += piece
                self.far[who].settimeout(0.002)
        except TimeoutError:
            pass
        return got

    def hears(self, who: str, data: bytes) -> None:
        got = b""
        while len(got) < len(data):
            got += self.far[who].recv(65536)
        assert got == data

    def repeats(self, sql: bytes, server: str, answer: bytes) -> None:
        self.says("client", sql)
        self.hears(server, sql)
        self.says(server, answer)
        self.hears("client", answer)
        self.look()
        assert not self.woken.ready()

    def look(self) -> None:
        """Whether somebody has been told of a commit since the last look."""
        if self.writes[0] != max(self.published, default=0):
            self.published.append(self.writes[0])

    def whole(self, leg: Any, size: int) -> None:
        while len(leg.inbox) < size:
            gevent.sleep(0.001)

    def held(self) -> Held:
        held = self.relay.hold(self.flow)
        assert held is not None
        assert self.relay.hold(self.flow) is None
        return held
