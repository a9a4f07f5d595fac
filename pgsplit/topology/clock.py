"""A server's clock, as samples have shown it: by how much it may differ from another's. Sans-I/O.

What a server answers to clock_timestamp() it has read between the sending of the question and the arrival of the
answer, both by this machine's CLOCK_MONOTONIC, which no step of this machine's own clock moves. So the middle of the
two is wrong by half the round trip at most, and two servers' clocks compare over it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

DRIFT: Final = 200             # parts in a million by which a clock runs faster or slower than ours, at most
TOO_OLD: Final = 10_000_000_000    # ns after which a sample says nothing any more
READING: Final = 1_000         # ns: a server tells microseconds
CLOSE: Final = 500_000         # ns: what is known so well takes the place of whatever was known before


class Skew(NamedTuple):
    """Of a replica's clock against its primary's, in nanoseconds: *offset*, positive where it is ahead, is wrong by
    *bound* at most.
    """

    offset_ns: int
    bound_ns: int

    def within(self, limit_ns: int) -> bool:
        """Whether the two surely differ by no more than *limit_ns*."""
        return abs(self.offset_ns) + self.bound_ns <= limit_ns

    def passed_ns(self, moment_ns: int) -> int:
        """From when on (CLOCK_MONOTONIC) the replica's clock surely shows no less than the primary's did at
        *moment_ns*.
        """
        return moment_ns - self.offset_ns + self.bound_ns

    def __str__(self) -> str:
        side = "ahead of" if self.offset_ns >= 0 else "behind"
        return f"{abs(self.offset_ns) / 1e6:.3f} ms {side} the primary's, ± {self.bound_ns / 1e6:.3f} ms"


SAME: Final = Skew(0, 0)


class Clock:
    """Of one server. *offset_ns*: its Unix time less our CLOCK_MONOTONIC, at *at_ns*, wrong by *bound_ns* at most."""

    __slots__ = ("at_ns", "bound_ns", "offset_ns")

    def __init__(self) -> None:
        self.offset_ns = self.bound_ns = self.at_ns = 0

    @property
    def known(self) -> bool:
        return self.at_ns > 0

    def forget(self) -> None:
        """The server has not answered, or is another one."""
        self.at_ns = 0

    def seen(self, sent_ns: int, heard_ns: int, microseconds: int) -> None:
        """It was asked at *sent_ns* and has answered, by *heard_ns*, that it is *microseconds* of Unix time.

        A sample that took long does not take the place of one that knew better, unless it contradicts it: then the
        clock has been set.
        """
        bound = (heard_ns - sent_ns) // 2 + READING
        offset = microseconds * 1_000 - (sent_ns + heard_ns) // 2
        known = self.bound_at(heard_ns)
        if known is None or bound <= max(known, CLOSE) or abs(offset - self.offset_ns) > known + bound:
            self.offset_ns, self.bound_ns, self.at_ns = offset, bound, heard_ns

    def bound_at(self, now_ns: int) -> int | None:
        """By how much the offset may be wrong by now; None where it is not known."""
        age = now_ns - self.at_ns
        if not self.at_ns or age > TOO_OLD:
            return None
        return self.bound_ns + max(age, 0) * DRIFT // 1_000_000


def skew(replica: Clock, primary: Clock, now_ns: int) -> Skew | None:
    """Of *replica* against *primary* at *now_ns*; None where one of them is not known."""
    ours, theirs = replica.bound_at(now_ns), primary.bound_at(now_ns)
    if ours is None or theirs is None:
        return None
    return Skew(replica.offset_ns - primary.offset_ns, ours + theirs)
