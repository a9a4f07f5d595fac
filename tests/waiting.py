"""No test asserts a time: it waits for the effect, with a generous deadline."""

from pgsplit.demo.waiting import eventually

__all__ = ["eventually"]
