"""The proxy as a worker's service: listeners, sessions, clusters, and what a reload does to them."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import gevent

from .. import compiled, log
from ..classify.classify import classify
from ..classify.explain import explained
from ..classify.function_lists import FunctionLists
from ..config.model import Config, Listener
from ..errors import PgSplitError, ServerError
from ..relay.pyrelay import PyRelay
from ..session.active import ActiveSession
from ..session.databases import Databases
from ..session.limits import Limits
from ..session.registry import Key, Registry
from ..session.server import Server
from ..session.shared import Shared
from ..session.snapshot import decisions, readable, shown, snapshot, usage_rows
from ..session.trial import Found, scram_salt, test_login
from ..stats.counters import ListenerStats
from ..stats.totals import merge
from ..topology.host import MAINTENANCE, Host, ground_moved
from ..topology.patroni import tls_context
from ..topology.sampler import Sampler, nobody_waits
from ..topology.snapshot import host_snapshot
from ..topology.told import ToldManager
from ..upstream.tls import client_context
from . import findings
from .acceptor import Acceptor
from .board import Slot
from .monitored import Monitored
from .orders import Orders
from .tls import for_listener
from .worker import WorkerContext

logger = log.get("pgsplit.worker")

FIRST_CHECKS: Final = 2.0      # seconds that a worker waits for the first health checks before it accepts
DRAIN_STEP: Final = 0.02       # seconds between two looks at whether all sessions have gone,
CALM_STEP: Final = 0.2         # and while they are left alone

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
        self._accepts = False                               # yet
        fast = fast_relay(context.slot)
        monitored = Monitored(*context.monitor)
        self._manager = ToldManager(monitored, config, timelines=context.slot, demoted=self._look_at_primaries,
                                    promoted=self._leave, loop=fast)
        self._shared = Shared(ask_all=self._ask_all, reload=context.ask_reload,
                              forget_term=self._forget_term, config=lambda: context.config,
                              relay=PyRelay(), fast=fast, registry=Registry(),
                              manager=self._manager, board=context.slot, limits=Limits(context.slot),
                              cancel_elsewhere=self._cancel_elsewhere)
        self._shared.databases = Databases(
            self._shared.manager, lambda: context.config.monitor, context.slot.latest_definition_ns,
            self._shared.digests, _classification(config), reads=config.process.catalogue)
        self._install(config, {listener.name: for_listener(listener) for listener in config.listeners})
        self.order(context.orders)
        monitored.follow(self._manager)

    def _look_at_primaries(self) -> None:
        for active in self._active():
            active.look_at_primary()

    def _leave(self, promoted: Host) -> None:
        """A server that was a replica is the primary: no session keeps it as its replica."""
        for active in self._active():
            replica = active.logged_in.default
            if replica is not None and replica is not active.logged_in.main and replica.host is promoted:
                active.session.leave_replica(promoted.why_not)

    # --- what the worker asks for ---------------------------------------------------------------------------

    def start(self) -> None:
        """Look at the hosts: before that every read would go to the primary."""
        self._shared.manager.wait_checked(FIRST_CHECKS)
        if self._context.first:
            gevent.spawn(self._say_what_is_wrong, self._context.config)

    def accept(self) -> None:
        """Accept clients, from now on."""
        self._accepts = True
        self._accept()

    def _say_what_is_wrong(self, config: Config) -> None:
        for finding in findings.look(self._shared.manager, config):
            logger.warning("cluster %s: %s", finding.cluster, finding.text)

    def prepare(self, config: Config) -> None:
        """Load all that can fail; change nothing.

        :raises OSError: for certificates and keys that cannot be loaded.
        """
        tls = {listener.name: for_listener(listener) for listener in config.listeners}
        for cluster in config.clusters:
            client_context(cluster.tls)
            tls_context(cluster.topology)
        self._prepared = config, tls

    def commit(self) -> None:
        if self._prepared is None:
            return
        config, tls = self._prepared
        self._prepared = None
        self._shared.manager.update(config)
        self._shared.databases.configure(_classification(config), reads=config.process.catalogue)
        self._install(config, tls)
        self._accept()

    def abort(self) -> None:
        self._prepared = None

    def pause_accept(self) -> None:
        self._draining = True
        acceptors, self._acceptors = self._acceptors, {}
        for acceptor in acceptors.values():
            acceptor.close()

    def drain(self, seconds: float, undisturbed: float = 0.0) -> None:
        """Let sessions go on for *undisturbed* seconds, then end each when it is idle, at most *seconds* long. Returns
        when all have ended.
        """
        begin = time.monotonic() + undisturbed
        while self._context.connections.count and time.monotonic() < begin:
            gevent.sleep(min(CALM_STEP, undisturbed))
        while self._context.connections.count and time.monotonic() < begin + seconds:
            for active in self._active():
                if not active.session.draining:
                    active.session.drain()
            gevent.sleep(DRAIN_STEP)

    def totals(self) -> dict[str, int]:
        self._shared.databases.drain()
        return merge([*(stats.to_dict(prefix) for prefix, stats in self._stats.items()),
                      self._shared.manager.counters()])

    def order(self, orders: Mapping[str, Any]) -> None:
        """What the operator has ordered for hosts and listeners, all of it anew (see `process.orders`)."""
        ground_moved()
        self._shared.manager.order(orders["hosts"])
        self._shared.manager.forget_terms(orders["forgotten"])
        self._shared.reads_to_primary = set(orders["reads_to_primary"])
        self._shared.apart = orders["apart"]
        for active in self._active():
            replica = active.logged_in.default
            if replica is not None and isinstance(replica.host, Host) and replica.host.order == MAINTENANCE:
                active.session.leave_replica(replica.host.why_not)

    def query(self, what: str, args: Mapping[str, Any]) -> Any:
        question = _QUESTIONS.get(what)
        if question is None:
            raise PgSplitError(f"unknown question {what!r}; known are {', '.join(sorted(_QUESTIONS))}")
        return question(self, args)

    # --- questions ------------------------------------------------------------------------------------------

    def _sessions(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [asdict(snapshot(active, self._context.index + 1)) for active in self._active()]

    def _session(self, args: Mapping[str, Any]) -> dict[str, Any]:
        active = self._find(args)
        return {"session": asdict(snapshot(active, self._context.index + 1)),
                "decisions": [asdict(decision) for decision in decisions(active)]}

    def _find(self, args: Mapping[str, Any]) -> ActiveSession:
        for active in self._active():
            if active.number == args["number"]:
                return active
        raise PgSplitError("there is no such session any more")

    def _cancel(self, args: Mapping[str, Any]) -> bool:
        return self._shared.registry.cancel((int(args["pid"]), bytes.fromhex(args["key"])))

    def _cancel_session(self, args: Mapping[str, Any]) -> bool:
        """Whether something ran."""
        return self._find(args).cancel()

    def _terminate(self, args: Mapping[str, Any]) -> bool:
        active = self._find(args)
        logger.info("%s: terminated by the operator", active.session.label)
        active.session.terminate("terminating connection due to administrator command")
        active.cancel()
        return True

    def _hosts(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [asdict(host_snapshot(cluster, host)) for cluster in self._shared.manager.clusters()
                for host in cluster.hosts.values()]

    def _digests(self, args: Mapping[str, Any]) -> dict[str, Any]:
        self._shared.databases.drain()
        return {"top": usage_rows(self._shared.digests.top(int(args.get("count", 100)))),
                "writes": sorted(map(readable, self._shared.databases.writes()))}

    def _observed(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Of listeners that observe: the reads of each sender, and those of them that a replica would have had."""
        self._shared.databases.drain()
        return [{"stat_prefix": prefix, "application": shown(sender.application), "user": shown(sender.user),
                 "database": shown(sender.database), **reads.sums()}
                for prefix, stats in self._stats.items() for sender, reads in stats.observed]

    def _forget_writes(self, args: Mapping[str, Any]) -> bool:
        self._shared.databases.forget_writes()
        return True

    def _forget_term(self, cluster: str, user: str) -> None:
        """For the console. :raises PgSplitError: for a cluster that has no term."""
        Orders().forget_term(self._context.config, cluster)
        self._context.ask_forget_term(cluster, user)

    def _terms(self, args: Mapping[str, Any]) -> dict[str, int]:
        """The greatest timeline seen, by write cluster; 0: none."""
        manager = self._shared.manager
        return {cluster.name: manager.judge.greatest(cluster) for cluster in manager.clusters() if cluster.writes}

    def _topology(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Who is the primary since when, and the last changes (see `Changes.told`)."""
        manager = self._shared.manager
        return manager.changes.told([cluster.name for cluster in manager.clusters() if cluster.writes])

    def _check_now(self, args: Mapping[str, Any]) -> bool:
        self._shared.manager.check_now()
        return True

    def _asked_users(self, args: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """By listener."""
        return {name: [{"name": shown(user), "kind": kind} for user, kind in server.asked_users.kinds()]
                for name, server in self._servers.items() if server.asked_users is not None}

    def _catalogues(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Of the databases that sessions of this worker use."""
        return [{"cluster": cluster, "database": shown(name), "usable": database.reader.usable,
                 "why_not": database.reader.why_not, "read_s": database.reader.read_s,
                 "took_s": database.reader.took_s, "counts": database.catalogue.counts}
                for (cluster, name), database in self._shared.databases
                if database.reader is not None and database.catalogue is not None and database.reader.in_use]

    def _explain(self, args: Mapping[str, Any]) -> dict[str, Any]:
        database = self._shared.databases.find(args["cluster"], args["database"])
        if database is None or database.reader is None or not database.reader.usable:
            raise PgSplitError("the definitions of this database are not known now")
        facts = classify(str(args["sql"]).encode(errors="replace").decode("latin-1"),
                         max_bytes=_classification(self._context.config)["max_bytes"], lists=database.lists,
                         catalogue=database.catalogue)
        listeners = [one for one in self._context.config.listeners if one.write_cluster == args["cluster"]]
        return explained(facts, replica_clock=all(listener.clock == "replica" for listener in listeners))

    def _test_login(self, args: Mapping[str, Any]) -> str:
        return test_login(self._shared.manager, self._listener(args), args["user"], args.get("password"),
                          self._context.config.monitor.database)

    def _scram_salt(self, args: Mapping[str, Any]) -> Found:
        try:
            return scram_salt(self._shared.manager, self._listener(args), args["user"],
                              self._context.config.monitor.database)
        except ServerError as error:
            raise PgSplitError(error.message) from None

    def _listener(self, args: Mapping[str, Any]) -> Listener:
        for listener in self._context.config.listeners:
            if listener.name == args["listener"]:
                return listener
        raise PgSplitError(f"there is no listener {args['listener']!r}")

    def _about(self, args: Mapping[str, Any]) -> dict[str, Any]:
        relay = self._shared.relay_for(tls=False)
        return {"generation": self._context.config.generation, "relay": relay.form, "pid": os.getpid()}

    # --- the configuration in force ---------------------------------------------------------------------------

    def _install(self, config: Config, tls: Mapping[str, Tls]) -> None:
        """New sessions are served by it from now on; open ones keep what they began with."""
        self._retired = [server for server in (*self._retired, *self._servers.values()) if server.sessions]
        pairs = {(listener.write_cluster, listener.read_cluster) for listener in config.listeners if listener.split_rw}
        for pair in pairs - self._samplers.keys():
            fast = self._shared.fast
            self._samplers[pair] = Sampler(self._shared.manager, *pair, hurry=self._shared.hurry,
                                           fresher=fast.fresher if fast is not None else nobody_waits)
        self._shared.limits.configure(config.listeners)
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
        if self._draining or not self._accepts:
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

    def _ask_all(self, what: str) -> list[Any]:
        answers = [self.query(what, {}), *self._context.ask_siblings(what, {})]
        return [*answers, dict(self._manager.monitor_counters())] if what == "totals" else answers

    def _cancel_elsewhere(self, key: Key) -> None:
        self._context.ask_siblings("cancel", {"pid": key[0], "key": key[1].hex()})


def fast_relay(slot: Slot) -> Any:
    """The compiled relay, where it is built."""
    module = compiled.load(compiled.RELAY)
    return module.CRelay(slot.writes, slot.index, slot.definitions) if module is not None else None


def _classification(config: Config) -> dict[str, Any]:
    process = config.process
    return {"entries": process.statement_cache,
            "max_bytes": min(listener.max_statement_bytes for listener in config.listeners),
            "parse": any(listener.enable_sql_parsing for listener in config.listeners),
            "lists": FunctionLists(process.replica_functions, process.primary_functions)}


_QUESTIONS: Final[dict[str, Callable[[ProxyService, Mapping[str, Any]], Any]]] = {
    "about": ProxyService._about,
    "asked_users": ProxyService._asked_users,
    "cancel": ProxyService._cancel,
    "cancel_session": ProxyService._cancel_session,
    "catalogues": ProxyService._catalogues,
    "check_now": ProxyService._check_now,
    "digests": ProxyService._digests,
    "explain": ProxyService._explain,
    "forget_writes": ProxyService._forget_writes,
    "hosts": ProxyService._hosts,
    "observed": ProxyService._observed,
    "scram_salt": ProxyService._scram_salt,
    "session": ProxyService._session,
    "sessions": ProxyService._sessions,
    "terminate": ProxyService._terminate,
    "terms": ProxyService._terms,
    "test_login": ProxyService._test_login,
    "topology": ProxyService._topology,
    "totals": lambda service, args: service.totals(),
}

SERVICE: Final = ProxyService
