"""How soon a process that ended by itself has a successor. Sans-I/O."""

from __future__ import annotations

from typing import Final

DELAYS: Final = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0)        # seconds
SERVED_WELL: Final = 60.0        # seconds of service after which the deaths before are forgotten; more than any delay


class BackOff:
    """Of one process's place: the first successor comes at once, each further one later, up to the last of DELAYS.

    Having booted is not enough to begin anew: a worker that each time dies some seconds later would be restarted for
    ever without a pause. The deaths are forgotten behind one that had served for SERVED_WELL.
    """

    def __init__(self) -> None:
        self.deaths = 0
        self.not_before = 0.0

    def died(self, now: float, served: float) -> float:
        """At *now* (monotonic), after *served* seconds of service, 0 for one that never came so far.

        Returns the seconds until `not_before`.
        """
        if served >= SERVED_WELL:
            self.deaths = 0
        delay = DELAYS[min(self.deaths, len(DELAYS) - 1)]
        self.deaths += 1
        self.not_before = now + delay
        return delay

    def words(self, delay: float) -> str:
        """For the log, after `died`."""
        when = f"after {delay:g} s" if delay else "at once"
        again = f": death {self.deaths} without {SERVED_WELL:g} s of service between" if self.deaths > 1 else ""
        return f"its successor starts {when}{again}"
