"""Waiting for an effect instead of for an amount of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(effect: Callable[[], T], timeout: float = 30.0, every: float = 0.05,
               sleep: Callable[[float], object] = time.sleep) -> T:
    """Call *effect* until it returns something true, and return that.

    An exception counts as "not yet". After *timeout* seconds the last exception is raised, or TimeoutError with
    the last value. An ``assert`` in *effect* therefore works, if the function then returns something true.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        try:
            value = effect()
        except Exception:
            if late:
                raise
        else:
            if value:
                return value
            if late:
                raise TimeoutError(f"still {value!r} after {timeout:g} s")
        sleep(every)
