"""A sample that is taken in the loop that moves the sessions' bytes: what is plain costs no greenlet and no turn of the
hub. What is not is left to a greenlet, with all that has come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import gevent

from ..errors import PgSplitError
from .loop import Loop

if TYPE_CHECKING:
    from .check import Check
    from .cluster import ClusterManager
    from .fact import Position

LOOK: Final = 0.5               # seconds between two looks for a server that is silent


@dataclass(eq=False, slots=True)
class Question:
    """To one server. *position*: None where the answer is not plain, or has not come in time."""

    check: Check
    asked: bool = False
    answered: bool = False
    late: bool = False
    position: Position | None = None


class QuickSample:
    """One after the other. *done* is called behind each, in the loop or in a greenlet: whether it was plain, that is
    whether all have answered and of none anything but its position was new.
    """

    def __init__(self, manager: ClusterManager, loop: Loop, done: Callable[[bool], None]) -> None:
        self._manager = manager
        self._loop = loop
        self._done = done
        self._questions: list[Question] = []
        self._left = 0                  # that have not been answered
        self._t_ns = 0
        self._timer = gevent.get_hub().loop.timer(LOOK, LOOK)
        self._timer.start(self._look)

    def stop(self) -> None:
        self._timer.stop()
        self._timer.close()

    @property
    def is_on_its_way(self) -> bool:
        return bool(self._questions)

    def begin(self, checks: Sequence[Check]) -> bool:
        """Ask all of them, the primary first where it is one. False: that cannot be done now, and nothing has been."""
        if self._questions or not checks or not all(check.connection.can_ask_in_loop for check in checks):
            return False
        self._t_ns = time.monotonic_ns()
        self._questions = [Question(check) for check in checks]
        self._left = len(checks)
        for question in self._questions:
            question.check.connection.lock().acquire(blocking=False)
        for question in self._questions:
            question.asked = question.check.connection.ask_in_loop(partial(self._answered, question))
            if not question.asked:
                self._answered(question, None)
        return True

    def _answered(self, question: Question, position: Position | None) -> None:
        """In the loop."""
        question.position, question.answered = position, True
        self._left -= 1
        if self._left:
            return
        now = time.monotonic_ns()
        for number, each in enumerate(self._questions):
            if each.position is None or not self._manager.moves(each.check.host, each.position, self._t_ns, now):
                gevent.spawn(self._finish, self._questions[number:])
                self._loop.give_turn()
                return
        self._end(plain=True)

    def _finish(self, questions: Sequence[Question]) -> None:
        """In a greenlet: what was not plain."""
        for question in questions:
            check = question.check
            try:
                if question.late:
                    raise TimeoutError("the sample timed out")
                position = question.position or self._read(question)
                if position is not None:
                    self._manager.seen(check.host, position, self._t_ns)
            except (PgSplitError, OSError, TimeoutError, ValueError, IndexError) as error:
                check.fail(error)
        self._end(plain=False)

    def _read(self, question: Question) -> Position | None:
        """None: the connection has been closed meanwhile."""
        connection = question.check.connection
        timeout = self._manager.cluster(question.check.host.cluster_name).health_timeout
        with gevent.Timeout(timeout, TimeoutError("the sample timed out")):
            if connection.open and not question.asked:
                connection.ask()
            return connection.answer("sample") if connection.open else None

    def _end(self, *, plain: bool) -> None:
        questions, self._questions = self._questions, []
        for question in questions:
            question.check.connection.lock().release()
        self._done(plain)

    def _look(self) -> None:
        now = time.monotonic_ns()
        for question in self._questions:
            timeout = self._manager.cluster(question.check.host.cluster_name).health_timeout
            if not question.answered and now - self._t_ns > 1e9 * timeout:
                question.late = True
                question.check.connection.ask_no_more()
                self._answered(question, None)
