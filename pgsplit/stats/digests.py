"""What statements cost, by their text without literals: calls by upstream, latencies, re-asks, errors; bounded."""

from __future__ import annotations

from typing import Final

from .histogram import Histogram

MOST: Final = 2000              # texts counted apart; the least used half of them becomes one when they are more
OTHER: Final = b""              # too long to be kept, or used too seldom


class Usage:
    """*calls*: on the replica, on the primary. Latencies in microseconds."""

    __slots__ = ("calls", "errors", "latency", "reasks", "reason")

    def __init__(self) -> None:
        self.calls = [0, 0]
        self.errors = 0
        self.reasks = 0
        self.reason = ""
        self.latency = Histogram()

    @property
    def total(self) -> int:
        return self.calls[0] + self.calls[1]

    def add(self, other: Usage) -> None:
        self.calls = [self.calls[0] + other.calls[0], self.calls[1] + other.calls[1]]
        self.errors += other.errors
        self.reasks += other.reasks
        self.latency.add(other.latency)


class Digests:
    """Of one worker; the keys are texts as the classifier keeps them."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.usage: dict[bytes, Usage] = {OTHER: Usage()}

    def of(self, text: bytes) -> Usage:
        usage = self.usage.get(text)
        if usage is None:
            if len(self.usage) > self._most:
                self._shrink()
            usage = self.usage[text] = Usage()
        return usage

    def top(self, count: int) -> list[tuple[bytes, Usage]]:
        """Those on which most time was spent."""
        used = ((text, usage) for text, usage in self.usage.items() if usage.total)
        return sorted(used, key=lambda item: item[1].latency.total_us, reverse=True)[:count]

    def _shrink(self) -> None:
        seldom = sorted((text for text in self.usage if text != OTHER), key=lambda text: self.usage[text].total)
        for text in seldom[:len(seldom) // 2 + 1]:
            self.usage[OTHER].add(self.usage.pop(text))
