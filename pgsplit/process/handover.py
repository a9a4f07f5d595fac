"""An arbiter that gives its place to another one, which USR2 has started, and one that takes it (docs/restart.md).

In order: the new one reads its configuration, takes the listening sockets that it names, forks workers, which look at
their hosts and wait: "ready". The old one stops accepting and says so: "take over". The new one's workers accept, its
pid stands in the files, its control socket has the name: "taken". The old one's sessions go on; it ends with the last
of them. Up to "take over" nobody but the old one has served anyone, and it goes on if the new one ends or is late.

Two arbiters never fork at the same time: the old one does not from USR2 on, and the new one has no more to start with
than what it takes over (see `Board.slot`).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import log
from ..auth import mock
from ..errors import PgSplitError
from ..stats.totals import of_dead
from .board import LAYOUT
from .control import UNPUBLISHED
from .listeners import Listening
from .monitor import socket_of
from .predecessor import Predecessor
from .successor import PATIENCE, Successor

if TYPE_CHECKING:
    from .arbiter import Arbiter

logger = log.get("pgsplit.arbiter")

LAST_WORDS = 1.0        # seconds that the successor may take to hear the last totals
SILENT = 10.0           # seconds after which who has given no sign of life, and has no arbiter any more, is gone


class Handover:
    """Of one *arbiter*, both ways: *predecessor* is the one before it, which goes on until its sessions have ended."""

    def __init__(self, arbiter: Arbiter, predecessor: Predecessor | None) -> None:
        self._arbiter = arbiter
        self._before = predecessor          # while it lives
        self._after: Successor | None = None
        self.pending = predecessor is not None      # its place is not ours yet
        self._ready = False
        self._asked = False                 # by the successor, which is ready: not yet told to take over
        self._unordered: set[int] = set()   # pids of workers that have not said that all reads go to the primary
        self._gives_way = False
        self._handed: list[int] = []        # descriptors of listening sockets that go from the old one to the new one
        self._apart_until = 0.0             # monotonic seconds: when it matters no more that the boards are two
        self._said_goodbye = False          # the predecessor, whose workers have ended then
        self._totals: dict[str, int] = dict(predecessor.totals) if predecessor is not None else {}
        self.done = False                   # our place is another's

    # --- for the arbiter ----------------------------------------------------------------------------------

    @property
    def under_way(self) -> bool:
        """Whether a new arbiter has been started and has not taken over: no worker is forked, nothing reloaded."""
        return self._after is not None and not self.done

    @property
    def others(self) -> bool:
        """Whether workers of another arbiter may live."""
        return self._before is not None or self._after is not None

    @property
    def taken(self) -> set[int]:
        """Slots of the board, and numbers of workers, that those before us have."""
        return self._before.taken if self._before is not None else set()

    @property
    def totals(self) -> dict[str, int]:
        """Of the predecessor, and of those before it."""
        return self._totals

    def holds(self, now: float, until: float) -> bool:
        """Whether the arbiter, which has no workers any more, is to wait: for those before it, or for who takes over;
        at most *until*.
        """
        return (self._before is not None or (self._gives_way and not self.done)) and now < until

    def tick(self, now: float) -> None:
        """Once a second."""
        if self._arbiter.orders.apart and not self.others and now >= self._apart_until:
            self._together()
        if self._after is None:
            return
        if not self._gives_way and now > self._after.deadline:
            self._after.problems.append(f"it was neither ready to serve nor gone within {PATIENCE:g} s")
            self._after.kill(signal.SIGKILL)
        self._after.channel.flush()
        if not self._after.channel.outbox:
            self._after.channel.send({"totals": self._arbiter.totals()})

    # --- the old one's part -------------------------------------------------------------------------------

    def begin(self) -> None:
        """USR2: start the new one."""
        if why_not := self._why_not():
            logger.warning("USR2 is ignored: %s", why_not)
            return
        sockets = [sock for group in self._arbiter.sockets.values() for sock in group] + self._arbiter.admin.sockets
        lock = self._arbiter.run_dir.descriptor
        try:
            self._after = Successor(self._state(sockets, lock),
                                    {lock, self._arbiter.board.descriptor, *(sock.fileno() for sock in sockets)})
        except OSError as error:
            logger.error("USR2: a new pgsplit cannot be started: %s", error.strerror)
            return
        logger.info("USR2: a new pgsplit is being started, pid %d", self._after.pid)
        self._arbiter.selector.register(self._after.channel.sock, selectors.EVENT_READ, self._hear_successor)

    def _why_not(self) -> str:
        if self._after is not None:
            return f"pid {self._after.pid} " + ("has taken over" if self.done else "is about to take over")
        if self._arbiter.stopping:
            return "pgsplit is stopping"
        if self.pending:
            return "this one has not taken over yet"
        if self._before is not None and self._before.apart:
            return f"sessions of pid {self._before.pid}, whose shared memory has another form, still go on"
        return "a reload is under way: try again" if self._arbiter.reloading else ""

    def _state(self, sockets: list[Any], lock: int) -> dict[str, Any]:
        arbiter = self._arbiter
        return {
            "pid": os.getpid(), "generation": arbiter.config.generation,
            "run_dir": arbiter.config.process.run_dir, "lock": lock,
            "sockets": [[sock.fileno(), not isinstance(sock, Listening) or sock.owns_file] for sock in sockets],
            "board": {"descriptor": arbiter.board.descriptor, "layout": LAYOUT},
            "taken": sorted({child.index for child in arbiter.children.values()} | self.taken),
            "orders": arbiter.orders.kept(), "totals": arbiter.totals(), "nonce": mock.NONCE.hex(),
            "admin_key": arbiter.admin.key.hex(), "admin_password": arbiter.admin.password,
            "history": list(arbiter.history.samples)}

    def _hear_successor(self) -> None:
        successor = self._after
        if successor is None:
            return
        messages = successor.receive()
        if messages is None:
            self._unregister(successor.channel.sock)
            return      # what has become of it is told when it is reaped, or when the time is over
        for message in messages:
            if "ready" in message:
                self._prepare_to_give_way(successor, message)
            elif "taken" in message:
                self.done = True
                logger.info("pid %d has taken over; %d sessions go on here", successor.pid,
                            sum(child.sessions for child in self._arbiter.children.values()))
            elif "leave" in message:
                self._arbiter.stop(message["leave"])

    def _prepare_to_give_way(self, successor: Successor, message: Mapping[str, Any]) -> None:
        if self._arbiter.stopping:
            return
        if message["apart"] and self._before is not None:
            successor.problems.append("its shared memory has another form, and sessions of an older pgsplit, pid "
                                      f"{self._before.pid}, still go on here: try again when that has ended")
            successor.kill(signal.SIGKILL)
            return
        self._asked, self._handed = True, message["ready"]
        if message["apart"]:        # neither will know of the other's writes
            logger.warning("the new version's shared memory has another form: until the last session here has ended, "
                           "all reads go to the primary")
            self._arbiter.orders.apart = True
            self._unordered = set(self._arbiter.children)
            self._arbiter.tell_orders()
        self._give_way()

    def ordered(self, pid: int) -> None:
        """A worker goes by the orders that it was told last, or is gone."""
        self._unordered.discard(pid)
        self._give_way()

    def _give_way(self) -> None:
        if not self._asked or self._unordered or self._gives_way or self._after is None:
            return
        self._gives_way = True
        for sock in [*(sock for group in self._arbiter.sockets.values() for sock in group),
                     *self._arbiter.admin.sockets]:
            if sock.fileno() in self._handed:
                sock.close()        # and its file stays
        self._arbiter.give_way(self._after.pid)
        self._after.channel.send({"order": "take over"})

    def buried(self, pid: int, code: int) -> bool:
        """Whether *pid*, which has ended with *code*, was the successor."""
        successor = self._after
        if successor is None or pid != successor.pid:
            return False
        while successor.receive():
            pass
        self._unregister(successor.channel.sock)
        successor.channel.close()
        self._after = None
        if self._gives_way:
            self.done = True
            logger.error("pid %d, which has taken over, has ended: %d", pid, code)
            return True
        run_dir = self._arbiter.config.process.run_dir
        for path in (os.path.join(run_dir, UNPUBLISHED), socket_of(run_dir, pid),
                     f"{self._arbiter.config.process.pidfile}.{pid}"):
            with contextlib.suppress(OSError):
                os.unlink(path)
        if self._arbiter.stopping:
            return True
        for problem in successor.problems:
            logger.error("pid %d: %s", pid, problem)
        logger.error("USR2: the new pgsplit (pid %d) has ended before it served: %d; this one goes on", pid, code)
        self._asked = False
        self._unordered.clear()
        self._apart_until = time.monotonic()        # it has served nobody
        self._arbiter.notifier.status("the new version did not start (see the log); this one goes on")
        return True

    # --- the new one's part -------------------------------------------------------------------------------

    def listen(self) -> None:
        """To the predecessor."""
        if self._before is not None:
            self._arbiter.selector.register(self._before.channel.sock, selectors.EVENT_READ, self._hear_predecessor)

    def booted(self) -> None:
        """A worker has: when all have, our place can be taken."""
        waiting = self._arbiter.wanted - sum(child.booted for child in self._arbiter.children.values())
        if not self.pending or self._ready or waiting > 0 or self._arbiter.stopping:
            return
        self._ready = True
        if self._before is None:            # it has been killed meanwhile
            self._arbiter.take_over()
            return
        self._before.channel.send({"ready": self._handed, "apart": self._before.apart})

    def settled(self) -> None:
        """All sockets that are wanted have been taken or bound."""
        if self._before is not None:
            self._handed = self._before.settled()

    def took_over(self) -> None:
        self.pending = False
        if self._before is not None:
            self._before.own_files()
            self._before.channel.send({"taken": True})

    def refuse(self, error: PgSplitError) -> None:
        """Tell the predecessor why this one ends."""
        if self.pending and self._before is not None:
            self._before.refuse([str(error)])

    def stop(self, grace: float) -> None:
        """All of the instance is to end, within *grace*: also who was before us, and who has not taken over yet."""
        if self._before is not None and not self.pending:
            self._before.channel.send({"leave": grace})
        if self._after is not None and not self._gives_way:
            logger.info("the new pgsplit, pid %d, is not to take over", self._after.pid)
            self._after.kill(signal.SIGKILL)
        elif self._after is not None and not self.done:
            self._after.kill(signal.SIGTERM if grace > 0 else signal.SIGINT)

    def _hear_predecessor(self) -> None:
        before = self._before
        if before is None:
            return
        messages = before.receive()
        if messages is None:
            self._predecessor_gone(before)
            return
        for message in messages:
            if "totals" in message:
                self._totals = message["totals"]
            elif "goodbye" in message:
                self._said_goodbye = True
            elif message.get("order") == "take over" and self.pending:
                self._arbiter.take_over()

    def _predecessor_gone(self, before: Predecessor) -> None:
        """Its workers too, or they are about to be: they end with it."""
        self._unregister(before.channel.sock)
        before.channel.close()
        before.own_files()
        self._before = None
        self._totals = of_dead(self._totals)
        self._apart_until = time.monotonic() + (0.0 if self._said_goodbye else SILENT)
        if not self.pending:
            logger.info("the old pgsplit, pid %d, has ended", before.pid)
            return
        logger.warning("the old pgsplit, pid %d, has ended before this one has taken over", before.pid)
        if self._ready:
            self._arbiter.take_over()

    def _together(self) -> None:
        """There is one board again."""
        self._arbiter.orders.apart = False
        self._arbiter.tell_orders()
        logger.info("no session of another version goes on: reads go to replicas again")

    def say_goodbye(self) -> None:
        """Before the arbiter ends, whose sessions have ended."""
        if self._after is not None:
            self._after.channel.sock.settimeout(LAST_WORDS)
            self._after.channel.send({"totals": self._arbiter.totals()})
            self._after.channel.send({"goodbye": True})

    def _unregister(self, sock: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._arbiter.selector.unregister(sock)


def forget_strangers(arbiter: Arbiter) -> None:
    """What another arbiter's workers have left behind: those before us that are gone, or those of a new one that never
    took over. Those who still give signs of life (their arbiter's successor was killed, and they go on) keep their
    slots.
    """
    oldest = time.monotonic_ns() - int(SILENT * 1e9)
    for index in arbiter.board.strangers(child.index for child in arbiter.children.values()):
        if arbiter.board.alive_ns(index) >= oldest:
            continue
        arbiter.board.forget(index)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(arbiter.config.process.run_dir, f"worker-{index + 1}.sock"))
