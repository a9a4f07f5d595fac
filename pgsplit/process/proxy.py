"""The proxy as a worker's service: listeners, sessions, clusters, and what a reload does to them."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import gevent

from ..config.model import Config, Listener
from ..errors import PgSplitError
from ..session.pyrelay import PyRelay
from ..session.registry import Key, Registry
from ..session.server import ActiveSession, Server, Shared
from ..split.classifier import Classifier
from ..split.function_lists import FunctionLists
from ..stats.counters import ListenerStats
from ..stats.totals import merge
from ..upstream.cluster import ClusterManager, client_context
from ..upstream.sampler import Sampler
from .acceptor import Acceptor
from .tls import for_listener
from .worker import WorkerContext

FIRST_CHECKS: Final = 2.0      # seconds that a worker waits for the first health checks before it accepts
DRAIN_STEP: Final = 0.02       # seconds between two looks at whether all sessions have gone

Tls = tuple[ssl.SSLContext | None, bytes | None]


class ProxyService:
    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        config = context.config
        self._stats: dict[str, ListenerStats] = {}          # by stat_prefix
        self._samplers: dict[tuple[str, str], Sampler] = {}
        self._servers: dict[str, Server] = {}
        self._retired: list[Server] = []                    # of earlier configurations, with sessions left
        self._acceptors: dict[int, Acceptor] = {}           # by descriptor of the listening socket
        self._prepared: tuple[Config, dict[str, Tls]] | None = None
        self._draining = False
        self._classifier = classifier = Classifier(**_classification(config))
        self._shared = Shared(relay=PyRelay(), registry=Registry(),
                              manager=ClusterManager(config, context.board.async_commit), classifier=classifier,
                              board=context.slot, cancel_elsewhere=self._cancel_elsewhere)
        self._install(config, {listener.name: for_listener(listener) for listener in config.listeners})

    # --- what the worker asks for ---------------------------------------------------------------------------

    def start(self) -> None:
        """Accept clients, once the hosts have been looked at: before that every read would go to the primary."""
        self._shared.manager.wait_checked(FIRST_CHECKS)
        self._accept()

    def prepare(self, config: Config) -> None:
        """Load all that can fail; change nothing.

        :raises OSError: for certificates and keys that cannot be loaded.
        """
        tls = {listener.name: for_listener(listener) for listener in config.listeners}
        for cluster in config.clusters:
            client_context(cluster)
        self._prepared = config, tls

    def commit(self) -> None:
        if self._prepared is None:
            return
        config, tls = self._prepared
        self._prepared = None
        self._shared.manager.update(config)
        self._classifier.configure(**_classification(config))
        self._install(config, tls)
        self._accept()

    def abort(self) -> None:
        self._prepared = None

    def pause_accept(self) -> None:
        self._draining = True
        acceptors, self._acceptors = self._acceptors, {}
        for acceptor in acceptors.values():
            acceptor.close()

    def drain(self, seconds: float) -> None:
        """End each session when it is idle, at most *seconds* long."""
        deadline = time.monotonic() + seconds
        while self._context.connections.count and time.monotonic() < deadline:
            for active in self._active():
                if not active.session.draining:
                    active.session.drain()
            gevent.sleep(DRAIN_STEP)

    def totals(self) -> dict[str, int]:
        parts = [stats.to_dict(prefix) for prefix, stats in self._stats.items()]
        return merge([*parts, self._shared.manager.counters()])

    def query(self, what: str, args: Mapping[str, Any]) -> Any:
        if what == "totals":
            return self.totals()
        if what == "sessions":
            return [_describe(active) for active in self._active()]
        if what == "cancel":
            return self._shared.registry.cancel((int(args["pid"]), bytes.fromhex(args["key"])))
        raise PgSplitError(f"unknown question {what!r}; known are cancel, sessions, totals")

    # --- the configuration in force ---------------------------------------------------------------------------

    def _install(self, config: Config, tls: Mapping[str, Tls]) -> None:
        """New sessions are served by it from now on; open ones keep what they began with."""
        self._retired = [server for server in (*self._retired, *self._servers.values()) if server.sessions]
        pairs = {(listener.write_cluster, listener.read_cluster) for listener in config.listeners if listener.split_rw}
        for pair in pairs - self._samplers.keys():
            self._samplers[pair] = Sampler(self._shared.manager, *pair)
        self._servers = {listener.name: self._serve(listener, *tls[listener.name]) for listener in config.listeners}

    def _serve(self, listener: Listener, context: ssl.SSLContext | None, binding: bytes | None) -> Server:
        stats = self._stats.setdefault(listener.stat_prefix, ListenerStats())
        sampler = self._samplers[listener.write_cluster, listener.read_cluster] if listener.split_rw else None
        return Server(listener, self._shared, stats, sampler, context, binding)

    def _accept(self) -> None:
        """Accept on every listening socket of the configuration, and on no other."""
        config, wanted = self._context.config, {}
        for listener in config.listeners:
            for address in listener.addresses:
                for sock in self._context.sockets[address]:
                    wanted[sock.fileno()] = listener.name, sock
        for descriptor in self._acceptors.keys() - wanted.keys():
            self._acceptors.pop(descriptor).close()
        if self._draining:
            return
        for descriptor, (name, sock) in wanted.items():
            if descriptor not in self._acceptors:
                acceptor = Acceptor(sock, self._context.slot, partial(self._handle, name), self._context.connections)
                self._acceptors[descriptor] = acceptor
                acceptor.resume()

    def _handle(self, name: str, sock: Any, peer: str) -> None:
        self._servers[name].handle(sock, peer)

    # --- sessions -----------------------------------------------------------------------------------------------

    def _active(self) -> list[ActiveSession]:
        return [active for server in (*self._servers.values(), *self._retired) for active in server.sessions]

    def _cancel_elsewhere(self, key: Key) -> None:
        self._context.ask_siblings("cancel", {"pid": key[0], "key": key[1].hex()})


def _classification(config: Config) -> dict[str, Any]:
    process = config.process
    return {"entries": process.statement_cache,
            "max_bytes": min(listener.max_statement_bytes for listener in config.listeners),
            "parse": any(listener.enable_sql_parsing for listener in config.listeners),
            "lists": FunctionLists(process.replica_functions, process.primary_functions)}


def _describe(active: ActiveSession) -> dict[str, Any]:
    session = active.session
    credentials = active.logged_in.credentials
    return {
        "client": active.peer,
        "user": credentials.user,
        "database": active.logged_in.parameters.get("database", credentials.user),
        "application_name": active.logged_in.parameters.get("application_name", ""),
        "since": active.started,
        "transaction_status": chr(session.splitter.tx),
        "upstream": session.splitter.last.upstream.text,
        "reason": session.splitter.last.reason,
        "pins": dict(session.splitter.pins),
        "pid": active.key[0],
    }


SERVICE: Final = ProxyService
