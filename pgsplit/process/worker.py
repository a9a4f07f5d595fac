"""A worker: gevent, a service, and the arbiter's orders. Imported after the fork only."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import gevent
from gevent import socket as gsocket
from gevent.event import Event

from .. import log
from ..config.model import Address, Config
from ..errors import PgSplitError
from .acceptor import Connections
from .board import LEAVING, Board, Slot
from .channel import Channel, ChannelError, Frames, encode
from .client import Client
from .control import answer
from .facts import Facts
from .title import set_title

logger = log.get("pgsplit.worker")

BEAT: Final = 1.0              # seconds
LINES: Final = 100             # of the log that go to the arbiter with a beat

Sockets = Mapping[Address, list[socket.socket]]


@dataclass
class WorkerContext:
    """What a service is given. *sockets*: the listening ones by address; a reload may change them. *first*: of the
    arbiter's workers, it says what all would say. *monitor*: its facts, and the path of its socket.
    """

    index: int
    config: Config
    sockets: dict[Address, list[socket.socket]]
    board: Board
    slot: Slot
    connections: Connections
    ask_siblings: Callable[[str, dict[str, Any]], list[Any]]
    orders: Mapping[str, Any]
    ask_reload: Callable[[], None]
    ask_forget_term: Callable[[str, str], None]
    first: bool
    monitor: tuple[Facts, str]


class Service(Protocol):
    """What a worker runs. Made after the fork; a module names its class as SERVICE."""

    def __init__(self, context: WorkerContext) -> None: ...
    def start(self) -> None: ...
    def accept(self) -> None: ...
    def prepare(self, config: Config) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...
    def pause_accept(self) -> None: ...
    def drain(self, seconds: float, undisturbed: float = 0.0) -> None: ...
    def order(self, orders: Mapping[str, Any]) -> None: ...
    def totals(self) -> dict[str, int]: ...
    def query(self, what: str, args: Mapping[str, Any]) -> Any: ...


class Worker:
    def __init__(self, index: int, service: str, config: Config, sockets: Sockets, board: Board,
                 monitor: tuple[Facts, str], channel: Channel, orders: Mapping[str, Any], *, first: bool) -> None:
        self._index = index
        self._channel = channel
        self._config = config
        self._board = board
        self._slot = board.slot(index)
        self._slot.beat(time.monotonic_ns())
        self._over = Event()
        self._leaving = False
        self._prepared: tuple[Config, dict[Address, list[socket.socket]]] | None = None
        self._connections = Connections(self._slot)
        self.context = WorkerContext(index, config, dict(sockets), board, self._slot, self._connections,
                                     self._ask_siblings, orders, lambda: self._send({"reload": True}),
                                     lambda cluster, user: self._send({"forget_term": cluster, "user": user}), first,
                                     monitor)
        self._recent = log.keep_recent()
        self._service_name = service
        self.service: Service

    def run(self, accepts: bool) -> int:
        """Until the arbiter says so, or is gone; returns the exit code. *accepts*: clients, at once, not only when the
        arbiter says so.
        """
        set_title(f"worker {self._index + 1}")
        self.service = importlib.import_module(self._service_name).SERVICE(self.context)
        control = self._listen()
        self.service.start()
        if accepts:
            self.service.accept()
        gevent.signal_handler(signal.SIGTERM, lambda: gevent.spawn(self._leave, self._config.process.graceful_timeout))
        gevent.signal_handler(signal.SIGUSR1, log.reopen)
        self._send({"booted": os.getpid()})
        gevent.spawn(self._beat)
        gevent.spawn(self._obey)
        self._over.wait()
        control.close()
        with suppress(OSError):
            os.unlink(self._path(self._index))
        self._send({"totals": self.service.totals(), "sessions": 0})
        return 0

    # --- the arbiter --------------------------------------------------------------------------------------

    def _send(self, message: Any) -> None:
        self._channel.send(message)
        while self._channel.outbox:
            gsocket.wait_write(self._channel.fileno())
            self._channel.flush()

    def _beat(self) -> None:
        self._slot.set_load(0)
        while True:
            now, worked = time.monotonic_ns(), time.process_time_ns()
            self._slot.beat(now)
            self._send({"totals": self.service.totals(), "sessions": self._connections.count,
                        "generation": self._config.generation, "log": self._recent.take()[-LINES:]})
            gevent.sleep(BEAT)
            worked, now = time.process_time_ns() - worked, time.monotonic_ns() - now
            self._slot.set_load(LEAVING if self._leaving else 1000 * worked // now)

    def _obey(self) -> None:
        while True:
            gsocket.wait_read(self._channel.fileno())
            orders = self._channel.receive()
            if orders is None:
                os._exit(0)            # the arbiter is gone: no orphan goes on
            for order in orders:
                self._ordered(order)

    def _ordered(self, order: Mapping[str, Any]) -> None:
        name = order["order"]
        if name == "prepare":
            self._prepare(order)
        elif name == "commit":
            self._commit()
        elif name == "abort":
            self._abort()
        elif name == "leave":
            gevent.spawn(self._leave, order["grace"], order["undisturbed"])
        elif name == "accept":
            self.service.accept()
        elif name == "orders":
            self.service.order(order["orders"])
            self._send({"ordered": True})
        elif name == "reopen":
            log.reopen()

    def _leave(self, grace: float, undisturbed: float = 0.0) -> None:
        """Whoever is told to again, and is to be gone earlier, is."""
        if not self._leaving:
            self._leaving = True
            self._slot.set_load(LEAVING)
            self.service.pause_accept()
        if grace > 0:
            self.service.drain(grace, undisturbed)
        self._over.set()

    # --- reload -------------------------------------------------------------------------------------------

    def _prepare(self, order: Mapping[str, Any]) -> None:
        descriptors, self._channel.descriptors = self._channel.descriptors, []
        sockets: dict[Address, list[socket.socket]] = {}
        for named, descriptor in zip(order["sockets"], descriptors, strict=True):
            sock = socket.socket(fileno=descriptor)
            sock.setblocking(False)
            sockets.setdefault(Address.model_validate(named), []).append(sock)
        try:
            config = Config.model_validate_json(order["config"])
            self.service.prepare(config)
        except Exception as error:
            logger.error("cannot prepare the new configuration: %s", error)
            self._send({"refused": str(error)})
            return
        self._prepared = config, sockets
        self._send({"prepared": config.generation})

    def _commit(self) -> None:
        if self._prepared is None:
            return
        config, new = self._prepared
        self._prepared = None
        wanted = {address for listener in config.listeners for address in listener.addresses}
        self.context.sockets = {address: sockets for address, sockets in {**self.context.sockets, **new}.items()
                                if address in wanted}
        self.context.config = self._config = config
        self.service.commit()
        log.set_level(config.process.log_level)

    def _abort(self) -> None:
        if self._prepared is not None:
            for sock in (sock for sockets in self._prepared[1].values() for sock in sockets):
                sock.close()
            self._prepared = None
        self.service.abort()

    # --- questions, from the admin process, app.py and siblings --------------------------------------------

    def _path(self, index: int) -> str:
        return os.path.join(self._config.process.run_dir, f"worker-{index + 1}.sock")

    def _listen(self) -> gsocket.socket:
        path = self._path(self._index)
        with suppress(FileNotFoundError):
            os.unlink(path)
        listening = gsocket.socket(gsocket.AF_UNIX, gsocket.SOCK_STREAM)
        listening.bind(path)
        os.chmod(path, 0o600)
        listening.listen(32)
        gevent.spawn(self._accept_questions, listening)
        return listening

    def _accept_questions(self, listening: gsocket.socket) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            gevent.spawn(self._answer_questions, sock)

    def _answer_questions(self, sock: gsocket.socket) -> None:
        frames = Frames()
        try:
            while data := sock.recv(65536):
                for request in frames.feed(data):
                    sock.sendall(encode(answer(self.service.query, request)))
        except (OSError, ChannelError) as error:
            logger.debug("control connection: %s", error)
        finally:
            sock.close()

    def _ask_siblings(self, what: str, args: dict[str, Any]) -> list[Any]:
        """The answers of the other workers that give one, also of an arbiter's before this one."""
        numbers = Client(self._config.process.run_dir).workers()
        asked = [gevent.spawn(self._ask, number - 1, what, args) for number in numbers if number != self._index + 1]
        return [job.value for job in gevent.joinall(asked, timeout=5) if job.value is not None]

    def _ask(self, index: int, what: str, args: dict[str, Any]) -> Any:
        try:
            with gevent.Timeout(5, PgSplitError("no answer")), \
                    gsocket.socket(gsocket.AF_UNIX, gsocket.SOCK_STREAM) as sock:
                sock.connect(self._path(index))
                sock.sendall(encode({"what": what, "args": args}))
                frames = Frames()
                while data := sock.recv(65536):
                    for reply in frames.feed(data):
                        return reply.get("ok")
        except (OSError, PgSplitError) as error:
            logger.debug("worker %d: %s", index + 1, error)
        return None
