"""What runs in the monitor: health checks of all hosts, names, Patroni's word. Imported after the fork only."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, Final

import gevent
from gevent import socket as gsocket
from gevent.event import Event

from .. import log
from ..config.model import Config
from ..topology.host import Identity
from ..topology.telling import TellingManager
from ..topology.terms import OwnTimelines
from ..topology.told import Key, Told, key_of, told_asked
from .board import Board
from .channel import Channel, ChannelError
from .facts import Facts, TooMuch
from .title import set_title

logger = log.get("pgsplit.monitor")

BEAT: Final = 0.2              # seconds
REPORT: Final = 1.0            # seconds between two times that the arbiter is told totals
LINES: Final = 100             # of the log that go with them


class SeenTimelines(OwnTimelines):
    """Those of this process, and what workers have seen. It has no slot on the board to write to: they go by what they
    are told here, and write it themselves.
    """

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board

    def timeline(self, cluster: int) -> int:
        return max(super().timeline(cluster), self._board.timeline(cluster))


class Observer:
    """*listening*: on which workers come. *channel*: the arbiter's; closed when that is gone."""

    def __init__(self, config: Config, facts: Facts, board: Board, listening: Any, channel: Channel,
                 orders: Mapping[str, Any]) -> None:
        self._facts = facts
        self._board = board
        self._listening = gsocket.socket(fileno=listening.detach())
        self._channel = channel
        self._config, self._orders = config, orders
        self._records: dict[Key, int] = {}
        self._texts: dict[Key, bytes] = {}
        self._workers: list[Channel] = []
        self._news = Event()
        self._recent = log.keep_recent()

    def run(self) -> int:
        """Until the arbiter is gone, or ends it."""
        set_title("monitor")
        self._facts.begin(os.getpid())
        self._facts.beat(time.monotonic_ns())
        self._manager = TellingManager(self._tell, self._take_back, self._config,
                                       timelines=SeenTimelines(self._board))
        self._ordered(self._orders)
        for task in (self._beat, self._report, self._ring, self._accept):
            gevent.spawn(task)
        self._obey()
        return 0

    # --- telling ------------------------------------------------------------------------------------------

    def _tell(self, key: Key, told: Told) -> None:
        text = json.dumps(told, separators=(",", ":")).encode()
        if self._texts.get(key) == text:
            return
        try:
            self._facts.write(self._record(key), text)
        except TooMuch as error:
            logger.error("workers cannot be told of %s: %s", " ".join(map(str, key)), error)
            self._take_back(key)
            return
        self._texts[key] = text
        self._news.set()

    def _record(self, key: Key) -> int:
        """Its own, or the first that is nobody's."""
        record = self._records.get(key)
        if record is None:
            used = set(self._records.values())
            record = next(number for number in range(len(used) + 1) if number not in used)
            self._records[key] = record
        return record

    def _take_back(self, key: Key) -> None:
        if self._texts.pop(key, None) is not None:
            self._facts.write(self._records[key], b"")
            self._news.set()
        self._records.pop(key, None)

    def _ring(self) -> None:
        """Have all workers look. Who has not taken the last bell yet will look anyway."""
        while True:
            self._news.wait()
            self._news.clear()
            for worker in self._workers:
                if not worker.outbox:
                    worker.send({"look": True})

    def _beat(self) -> None:
        while True:
            self._facts.beat(time.monotonic_ns())
            gevent.sleep(BEAT)

    # --- workers --------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError as error:
                logger.error("a worker cannot be heard: %s", error.strerror)
                gevent.sleep(REPORT)
                continue
            gevent.spawn(self._hear, sock)

    def _hear(self, sock: Any) -> None:
        worker = Channel(sock)
        self._workers.append(worker)
        worker.send({"look": True})
        try:
            while True:
                gsocket.wait_read(worker.fileno())
                messages = worker.receive()
                if messages is None:
                    return
                worker.flush()
                for message in messages:
                    self._hinted(message)
        except (ChannelError, KeyError, TypeError) as error:
            logger.error("a worker says what cannot be understood: %r", error)
        finally:
            self._workers.remove(worker)
            worker.close()

    def _hinted(self, message: Mapping[str, Any]) -> None:
        name = message["cluster"]
        cluster = next((cluster for cluster in self._manager.clusters() if cluster.name == name), None)
        if cluster is None:
            return          # a reload is under way
        if "address" in message:
            host, port = message["address"]
            self._manager.found_behind(cluster, (host, port), Identity(*message["identity"]))
        else:
            self._manager.hint(name)

    # --- the arbiter ------------------------------------------------------------------------------------------

    def _report(self) -> None:
        while True:
            counts = self._manager.asked_counters()
            told = told_asked(counts)
            self._tell(key_of(told), told)
            if not self._channel.outbox:
                self._channel.send({"totals": counts, "log": self._recent.take()[-LINES:]})
            else:
                self._channel.flush()
            gevent.sleep(REPORT)

    def _obey(self) -> None:
        while True:
            gsocket.wait_read(self._channel.fileno())
            orders = self._channel.receive()
            if orders is None:
                return
            for order in orders:
                if order["order"] == "configure":
                    config = Config.model_validate_json(order["config"])
                    log.set_level(config.process.log_level)
                    self._manager.update(config)
                elif order["order"] == "orders":
                    self._ordered(order["orders"])
                elif order["order"] == "reopen":
                    log.reopen()

    def _ordered(self, orders: Mapping[str, Any]) -> None:
        self._manager.order(orders["hosts"])
        self._manager.forget_terms(orders["forgotten"])
