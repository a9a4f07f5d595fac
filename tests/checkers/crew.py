"""Threads that do the same thing again and again until they are told to stop; the first one that fails stops all."""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Callable


class Crew:
    """*work* is done by each of *count* threads over and over; it gets the thread's number and its own dice."""

    def __init__(self, count: int, seed: int, work: Callable[[int, random.Random], None]) -> None:
        self.over = threading.Event()
        self.failures: list[str] = []
        self._work = work
        self._threads = [threading.Thread(target=self._run, args=(number, random.Random(seed * 1000 + number)))
                         for number in range(count)]

    def __enter__(self) -> Crew:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int, dice: random.Random) -> None:
        try:
            while not self.over.is_set():
                self._work(number, dice)
        except Exception:
            self.failures.append(traceback.format_exc())
            self.over.set()
