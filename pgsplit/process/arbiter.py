"""The arbiter: binds, forks, reaps, reloads, gives its place to the next one. One thread, no gevent; it never waits for
a child (DESIGN section 7).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from .. import compiled, log
from ..auth import mock
from ..config.loader import Loaded
from ..config.model import Address, Config
from ..errors import ConfigError, PgSplitError
from ..stats.totals import merge, of_dead
from . import children, descriptors, files, listeners
from .activation import Activation
from .admin import AdminProcess
from .audit import Audit
from .backoff import BackOff
from .board import SLOTS, Board
from .channel import ChannelError
from .children import Child
from .control import ControlSocket
from .handover import Handover, forget_strangers
from .history import History
from .monitor import MonitorProcess
from .notify import Notifier
from .orders import Orders
from .pidfile import Pidfile
from .predecessor import Predecessor
from .questions import Questions
from .reload import Reload
from .rundir import RunDir
from .title import set_title

logger = log.get("pgsplit.arbiter")

TICK: Final = 1.0                 # seconds
FIRST_BOOTS: Final = 3            # failed boots at first start that end the arbiter
QUIT_PATIENCE: Final = 3.0        # seconds that a worker may take to end at once

SIGNALS: Final = ("HUP", "TTIN", "TTOU", "TERM", "INT", "QUIT", "USR1", "USR2", "CHLD")


class Load(Protocol):
    """Reads the configuration anew, as *generation*; *replaced* holds texts to be taken for those of files."""

    def __call__(self, generation: int, replaced: Mapping[str, str] | None = None) -> Loaded:
        """:raises ConfigError: with all that is wrong."""



class BootFailed(PgSplitError):
    """No worker could start."""


class Arbiter:
    """*loaded* is what *load* has given already; *service* is what each worker runs (see `worker.Service`), *admin*
    what the admin process runs (see `process.admin`). *predecessor*: the arbiter whose place this one is to take.
    """

    def __init__(self, loaded: Loaded, load: Load, service: str, admin: str = "", *,
                 predecessor: Predecessor | None = None) -> None:
        if predecessor is not None:
            loaded = _stay(loaded, predecessor.run_dir)
        self.loaded = loaded
        self.config = config = loaded.config
        self.load = load
        self.service = service
        self.board = predecessor.board() if predecessor is not None else Board()
        self.children: dict[int, Child] = {}           # by pid
        self.sockets: dict[Address, list[socket.socket]] = {}
        self.history = History(predecessor.history if predecessor is not None else ())
        self.orders = Orders(predecessor.orders if predecessor is not None else None)
        self.admin = AdminProcess(admin, self._close_for_child)
        self.monitor = MonitorProcess(self.board, lambda: self.config, lambda: self.orders.told(),
                                      lambda lines: self._log.extend(map(dict, lines)), self._close_for_child)
        if predecessor is not None:
            self.orders.apart = predecessor.apart
            self.admin.key, self.admin.password = predecessor.admin_key, predecessor.admin_password
            mock.NONCE[:] = predecessor.nonce
        self.admin.held = predecessor is not None
        self.run_dir = RunDir(config.process.run_dir, predecessor.lock if predecessor is not None else None)
        self.handover = Handover(self, predecessor)
        self.notifier = Notifier()
        self._predecessor = predecessor
        self._pidfile: Pidfile | None = None
        self.audit = Audit(_audit_file(config))
        self._log: deque[dict[str, Any]] = deque(maxlen=log.KEPT)
        self.wanted = config.process.workers
        self.started = time.time()
        self.file = os.path.abspath(loaded.files[0])
        self.last_reload: dict[str, Any] = {"number": 0, "generation": config.generation, "ok": True, "problems": []}
        self._seen = files.seen(loaded.files)
        self.selector = selectors.DefaultSelector()
        self._reload: Reload | None = None
        self._loading = loaded                         # what it is about
        self._save: tuple[str, str] | None = None      # and what is to be written before it takes effect
        self._dead: dict[str, int] = {}                # totals of workers that are gone
        self._back_off: dict[int, BackOff] = {}        # by slot
        self._failed_boots = 0                         # before the first that did not fail
        self._ever_booted = False
        self.restarts = 0                              # of workers that ended by themselves
        self._stopping: float | None = None            # until when children may take
        self._exit_code = 0
        self._control: ControlSocket | None = None

    # --- life -------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until a signal ends it; returns the exit code.

        :raises PgSplitError: when it cannot start: an address, the pidfile, run_dir, or no worker boots.
        """
        process = self.config.process
        self._recent = log.keep_recent()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.run_dir)
            if process.pidfile:
                self._pidfile = stack.enter_context(
                    Pidfile(process.pidfile, self._predecessor.pid if self._predecessor is not None else 0))
            descriptors.raise_limit()
            stack.callback(self.notifier.close)
            stack.callback(self._close_sockets)
            stack.callback(self.admin.stop)
            stack.callback(self.monitor.stop)
            try:
                self._listen()
                self._control = ControlSocket(self.selector, os.path.join(process.run_dir, "arbiter.sock"),
                                              Questions(self).ask)
                stack.callback(self._control.close)
                self.monitor.listen(self.selector, process.run_dir)
                self._catch_signals()
                set_title("arbiter")
                logger.info("pgsplit started, pid %d, %d workers, relay: %s", os.getpid(), self.wanted, compiled.form())
                if (remedy := compiled.remedy()) is not None:
                    logger.warning("the relay runs in pure Python, at about twice the CPU a transaction; %s", remedy)
                stack.callback(self._kill_all)
                if self.handover.pending:
                    self.handover.listen()
                else:
                    self._control.publish()
                self._loop()
            except PgSplitError as error:
                self.handover.refuse(error)
                raise
            self.handover.say_goodbye()
        logger.info("pgsplit stopped")
        return self._exit_code

    def _listen(self) -> None:
        """On all addresses, the admin page's too; where a socket has been handed to us, on that."""
        given = Activation()
        inherited = self._predecessor.sockets if self._predecessor is not None else given
        for listener in self.config.listeners:
            for address in listener.addresses:
                self.sockets[address] = listeners.bind(address, self.config.process.backlog, inherited)
                logger.info("listener %s on %s", listener.name, address)
        self.admin.configure(self.config, inherited)
        given.all_taken([*self.sockets, *([self.config.admin.address] if self.config.admin is not None else [])])
        self.handover.settled()

    def _loop(self) -> None:
        next_tick = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK
                self._tick()
            self._manage(now)
            self.notifier.beat(now)
            if self._stopping is not None and not self.children and not self.handover.holds(now, self._stopping):
                return
            starts = [moment for moment in (*self._starts(), *self.admin.next_start, *self.monitor.next_start,
                                            self.notifier.next_beat) if moment > now]
            timeout = min([next_tick, *starts]) - time.monotonic()       # what was due at *now* has been seen to
            for key, _ in self.selector.select(max(0.0, min(timeout, TICK))):
                key.data()

    def _starts(self) -> list[float]:
        return [back_off.not_before for back_off in self._back_off.values()]

    def _tick(self) -> None:
        self.history.add(time.time(), self.totals())
        now_ns = time.monotonic_ns()
        limit = int(self.config.process.worker_timeout * 1e9)
        for child in list(self.children.values()):
            alive = max(self.board.alive_ns(child.index), child.forked_ns)
            if now_ns - alive > limit:
                logger.error("worker %d (pid %d) is hung: no sign of life for %.0f s; killing it", child.index + 1,
                             child.pid, self.config.process.worker_timeout)
                child.kill(signal.SIGKILL)
        self.handover.tick(time.monotonic())
        if not self.handover.others:
            forget_strangers(self)
        if self._reload is not None:
            self._reload_step()
        elif self.config.process.watch and self._may_reload and (seen := files.seen(self.loaded.files)) != self._seen:
            self._seen = seen
            logger.info("a file of the configuration has changed: reloading")
            self.reload()

    def _manage(self, now: float) -> None:
        """Have as many workers as wanted, or none when stopping, and a monitor as long as there are any."""
        self.monitor.manage(now)
        if self._stopping is not None:
            if now >= self._stopping:
                for child in self.children.values():
                    child.kill(signal.SIGKILL)
            return
        self.admin.manage(now)
        if self._reload is not None or self.handover.under_way:
            return
        staying = [child for child in self.children.values() if not child.leaving]
        for child in sorted(staying, key=lambda c: c.index)[self.wanted:]:
            child.leave(self.config.process.graceful_timeout)
        missing = self.wanted - len(staying)
        if missing <= 0:
            return
        own = {child.index for child in self.children.values()}
        used = own | self.handover.taken | set(self.board.strangers(own))
        for index in (i for i in range(SLOTS) if i not in used):
            if missing <= 0:
                break
            missing -= 1
            if index not in self._back_off or self._back_off[index].not_before <= now:
                self._fork(index)

    # --- children ---------------------------------------------------------------------------------------

    def _fork(self, index: int) -> None:
        self.board.slot(index)
        child = children.fork(index, self.service, self.config, self.sockets, self.board,
                              (self.monitor.facts, self.monitor.path), close=self._close_for_child,
                              orders=self.orders.told(), first=not self.children, accepts=not self.handover.pending)
        self.children[child.pid] = child
        self.selector.register(child.channel.sock, selectors.EVENT_READ, lambda: self._hear(child))

    def _close_for_child(self) -> None:
        """In the child, right after the fork: nothing of the arbiter's is left but what it inherits on purpose."""
        signal.set_wakeup_fd(-1)
        self.selector.close()

    def _hear(self, child: Child) -> None:
        try:
            messages = child.channel.receive()
        except ChannelError as error:
            logger.error("worker %d: %s", child.index + 1, error)
            child.kill(signal.SIGKILL)
            messages = None
        if messages is None:
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(child.channel.sock)
            return
        child.channel.flush()
        for message in messages:
            self._said(child, message)

    def _said(self, child: Child, message: Mapping[str, Any]) -> None:
        if "totals" in message:
            child.totals = message["totals"]
            child.sessions = message.get("sessions", 0)
            child.generation = message.get("generation", child.generation)
            self._log.extend(message.get("log", ()))
        elif "booted" in message:
            child.booted = self._ever_booted = True
            child.booted_at = time.monotonic()
            logger.info("worker %d booted, pid %d", child.index + 1, child.pid)
            self.handover.booted()
            if not self.handover.pending:
                self._say_serving()
        elif "ordered" in message:
            self.handover.ordered(child.pid)
        elif "prepared" in message or "refused" in message:
            if self._reload is not None:
                self._reload.answered(child, message)
                self._reload_step()
        elif "reload" in message:
            self.reload()
        elif "forget_term" in message:
            self._forget_term(message["forget_term"], message["user"])

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self.children.pop(pid, None)
            if child is not None:
                self._buried(child, os.waitstatus_to_exitcode(status))
            elif not (self.handover.buried(pid, os.waitstatus_to_exitcode(status))
                      or self.monitor.buried(pid, os.waitstatus_to_exitcode(status))):
                self.admin.buried(pid, os.waitstatus_to_exitcode(status))

    def _buried(self, child: Child, code: int) -> None:
        self._hear_last(child)
        self._dead = merge([self._dead, of_dead(child.totals)])
        self.board.forget(child.index)
        self.handover.ordered(child.pid)
        if self._reload is not None:
            self._reload.gone(child)
            self._reload_step()
        if self._stopping is not None or child.leaving:
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.restarts += 1
        self._failed_boots += not self._ever_booted
        if self._failed_boots >= FIRST_BOOTS:
            raise BootFailed(f"workers do not boot: {FIRST_BOOTS} failed, the last with {how}; their errors are above")
        if code == 0 and child.booted:
            logger.info("worker %d (pid %d) has left: its successor starts at once", child.index + 1, child.pid)
            return
        back_off = self._back_off.setdefault(child.index, BackOff())
        now = time.monotonic()
        delay = back_off.died(now, now - child.booted_at if child.booted else 0.0)
        logger.error("worker %d (pid %d) ended: %s; %s", child.index + 1, child.pid, how, back_off.words(delay))

    def _hear_last(self, child: Child) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(child.channel.sock)
        with contextlib.suppress(ChannelError):
            for message in child.channel.receive() or []:
                if "totals" in message:
                    child.totals = message["totals"]
        child.channel.close()

    def _kill_all(self) -> None:
        self.admin.kill()
        for child in self.children.values():
            child.kill(signal.SIGKILL)
        for child in self.children.values():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)
        self.children.clear()

    def _close_sockets(self) -> None:
        for sock in (sock for sockets in self.sockets.values() for sock in sockets):
            listeners.close(sock)
        self.sockets.clear()

    # --- signals ----------------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for name in SIGNALS:
            signal.signal(signal.Signals[f"SIG{name}"], lambda *_: None)
        self.selector.register(reader, selectors.EVENT_READ, lambda: self._signalled(reader))

    def _signalled(self, reader: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in dict.fromkeys(os.read(reader, 4096)):
                name = signal.Signals(number).name[3:]
                getattr(self, f"_on_{name.lower()}")()

    def _on_chld(self) -> None:
        self._reap()

    def _on_hup(self) -> None:
        logger.info("HUP: reloading")
        self.reload()

    def _on_ttin(self) -> None:
        self.wanted = min(self.wanted + 1, SLOTS)
        logger.info("TTIN: %d workers", self.wanted)

    def _on_ttou(self) -> None:
        self.wanted = max(1, self.wanted - 1)
        logger.info("TTOU: %d workers", self.wanted)

    def _on_term(self) -> None:
        grace = self.config.process.graceful_timeout
        logger.info("TERM: draining for at most %g s", grace)
        self.stop(grace)

    def _on_int(self) -> None:
        self.stop(0)

    _on_quit = _on_int

    def _on_usr1(self) -> None:
        log.reopen()
        for child in self.children.values():
            child.channel.send({"order": "reopen"})
        self.monitor.send({"order": "reopen"})
        logger.info("USR1: logs reopened")

    def _on_usr2(self) -> None:
        self.handover.begin()

    def stop(self, grace: float) -> None:
        self.notifier.stopping(f"draining for at most {grace:g} s")
        self._leave(grace)
        self.admin.stop()
        self.handover.stop(grace)

    def _leave(self, grace: float, undisturbed: float = 0.0) -> None:
        self._close_sockets()
        for child in self.children.values():
            child.leave(grace, undisturbed)
        self._stopping = time.monotonic() + undisturbed + grace + QUIT_PATIENCE

    @property
    def stopping(self) -> bool:
        return self._stopping is not None

    # --- from one arbiter to the next (see `handover`) ----------------------------------------------------

    def give_way(self, pid: int) -> None:
        """To the arbiter *pid*, which has the listening sockets: sessions go on here, and no new ones are accepted."""
        process = self.config.process
        self._leave(process.graceful_timeout, process.drain_time)
        self.admin.give_way()
        if self._control is not None:
            self._control.give_way()
        self.notifier.give_way(pid)
        logger.info("pid %d takes over: no new connections here; sessions may go on for %g s, and are then drained",
                    pid, process.drain_time)

    def take_over(self) -> None:
        """From the predecessor, whose workers do not accept any more."""
        self.handover.took_over()
        for child in self.children.values():
            child.channel.send({"order": "accept"})
        try:
            self.run_dir.take()
            if self._pidfile is not None:
                self._pidfile.take()
            if self._control is not None:
                self._control.publish()
        except OSError as error:
            logger.error("what says where pgsplit is cannot be written: %s", error)
        self.admin.held = False
        self._say_serving()
        logger.info("taken over: generation %d is in force", self.config.generation)

    def _say_serving(self) -> None:
        """To systemd, once all workers serve."""
        serving = sum(child.booted and not child.leaving for child in self.children.values())
        if serving >= self.wanted and not self.stopping and self._reload is None:
            self.notifier.ready(f"serving: {serving} workers, generation {self.config.generation}")

    # --- reload -----------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the configuration anew; all workers take it or none does. The old one stays in force when it is bad."""
        if self.handover.under_way or self.handover.pending:
            logger.warning("not reloaded: a new pgsplit is about to take over, which reads the configuration itself")
        elif self._may_reload:
            self._begin_reload(None)

    @property
    def _may_reload(self) -> bool:
        return self._reload is None and self._stopping is None and not (
            self.handover.under_way or self.handover.pending)

    def _begin_reload(self, save: tuple[str, str] | None) -> None:
        """*save*: a file and its new text, which is taken for the file's, and written once all are prepared."""
        self._seen = files.seen(self.loaded.files)
        self.notifier.reloading()
        try:
            loaded = _stay(self.load(self.config.generation + 1, dict([save]) if save is not None else None),
                           self.config.process.run_dir)
            self.admin.check(loaded.config)
            self._reload = Reload(self.config, loaded.config, self.sockets)
        except (ConfigError, listeners.BindError) as error:
            self._refused(getattr(error, "problems", [str(error)]))
            return
        self._loading, self._save = loaded, save
        self._reload.begin(child for child in self.children.values() if not child.leaving)
        self._reload_step()

    def _reload_step(self) -> None:
        """Commit when all are prepared, abort when one refuses or time is over."""
        reload = self._reload
        if reload is None or not reload.decided:
            return
        self._reload = None
        if self._save is not None and not reload.problems:
            try:
                files.write_atomically(*self._save)
            except OSError as error:
                reload.problems.append(f"{self._save[0]}: {error.strerror}")
        if reload.problems:
            reload.abort()
            self._refused(reload.problems)
            return
        for old in reload.commit(self.sockets):
            listeners.close(old)
        if reload.config.process.workers != self.config.process.workers:
            self.wanted = reload.config.process.workers
        self.config, self.loaded = reload.config, self._loading
        self.monitor.send({"order": "configure", "config": self.config.model_dump_json()})
        self._back_off.clear()          # what workers died of may be mended
        self.monitor.mended()
        self._seen = files.seen(self.loaded.files)
        try:
            self.admin.configure(self.config)
        except PgSplitError as error:       # its address was free a moment ago
            logger.error("the admin page stays as it was: %s", error)
        log.set_level(self.config.process.log_level)
        self._note_reload([])
        logger.info("reloaded: generation %d is in force", self.config.generation)

    def _refused(self, problems: list[str]) -> None:
        for problem in problems:
            logger.error("%s", problem)
        logger.error("reload refused: generation %d stays in force", self.config.generation)
        self._note_reload(problems)

    def _note_reload(self, problems: list[str]) -> None:
        self.last_reload = {"number": self.last_reload["number"] + 1, "generation": self.config.generation,
                            "ok": not problems, "problems": problems, "time": time.time()}
        self.notifier.ready(f"generation {self.config.generation} is in force" + (
            ": what was read anew is refused (see the log)" if problems else ""))

    # --- for who asks (see `Questions`) -------------------------------------------------------------------

    def totals(self) -> dict[str, int]:
        """The sum over all workers, living and dead; it never falls, gauges aside."""
        return merge([self.handover.totals, self._dead, self.monitor.counts(),
                      *(child.totals for child in self.children.values())])

    @property
    def reloading(self) -> bool:
        return self._reload is not None

    def save(self, file: str, text: str) -> None:
        """Reload with *text* for what *file* holds; it is written once all workers are prepared, or not at all.

        What comes of it `last_reload` tells.

        :raises PgSplitError: while a reload is under way.
        """
        if not self._may_reload:
            raise PgSplitError("a reload is under way: try again")
        self._begin_reload((file, text))

    def tell_orders(self) -> dict[str, Any]:
        """All workers, what is ordered now."""
        told = self.orders.told()
        for child in self.children.values():
            child.channel.send({"order": "orders", "orders": told})
        self.monitor.send({"order": "orders", "orders": told})
        return told

    def _forget_term(self, cluster: str, user: str) -> None:
        """Ordered on the console, whose worker has looked whether there is such a cluster."""
        with contextlib.suppress(PgSplitError):         # a reload has taken it out since
            self.orders.forget_term(self.config, cluster)
            self.tell_orders()
            self.audit.add(user, f"forget the term of cluster {cluster}", "the console")

    def log_lines(self) -> list[dict[str, Any]]:
        """The last ones of all processes, by time."""
        self._log.extend(self._recent.take())
        return sorted(self._log, key=lambda line: line["time"])


def _stay(loaded: Loaded, run_dir: str) -> Loaded:
    """Where the instance can be found stays as it was at the start: its sockets lie there, and its lock."""
    process = loaded.config.process.model_copy(update={"run_dir": run_dir})
    return replace(loaded, config=loaded.config.model_copy(update={"process": process}))


def _audit_file(config: Config) -> str:
    named = config.admin.audit_log if config.admin is not None else None
    return named or os.path.join(config.process.run_dir, "audit.log")
