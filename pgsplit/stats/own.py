"""What pgsplit itself asks the servers, by kind: how often, and how long the answers took."""

from __future__ import annotations

from typing import Final, NamedTuple


class Kind(NamedTuple):
    name: str
    words: str


KINDS: Final = (
    Kind("settings", "the session's settings, and what holds it on the primary"),
    Kind("functions", "the same, with the options that a function of the database may have set"),
    Kind("statement", "what prepared statements take and give: before a replica has one, or while a session idles"),
    Kind("transaction", "a transaction's BEGIN and what has set its stage, where it moves from a replica, or its end"),
    Kind("identity", "which server a connection has reached"),
    Kind("restoration", "what a session had, given to its next connection to a primary"),
    Kind("sample", "how far a server is, for reads that wait"),
    Kind("health", "health checks"),
    Kind("configuration", "a server's configuration, when it has been loaded anew"),
    Kind("catalogue", "a database's definitions, and whether they have changed"),
    Kind("users", "auth_query: a user who is in no list"),
)


class Own:
    """Counts by upstream (replica, primary) and kind."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], list[int]] = {}

    def add(self, upstream: str, kind: str, nanoseconds: int) -> None:
        """One was answered, *nanoseconds* after it was sent."""
        counts = self._counts.setdefault((upstream, kind), [0, 0])
        counts[0] += 1
        counts[1] += nanoseconds

    def to_dict(self, root: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for (upstream, kind), (count, nanoseconds) in self._counts.items():
            found[f"{root}.own.{upstream}.{kind}"] = count
            found[f"{root}.own_us.{upstream}.{kind}"] = nanoseconds // 1000
        return found
