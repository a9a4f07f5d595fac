"""What all sessions of a worker use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from ..config.model import Config
from ..relay.pyrelay import PyRelay
from ..stats.digests import Digests
from ..topology.cluster import ClusterManager
from ..upstream import tls_context
from .databases import Databases
from .failover import Queue
from .limits import Limits
from .registry import Key, Registry


class Board(Protocol):
    """What the workers of this node tell each other."""

    def publish_write(self, now_ns: int) -> None: ...

    def latest_write_ns(self) -> int: ...

    def publish_definition(self, now_ns: int) -> None: ...

    def latest_definition_ns(self) -> int: ...


class Hurry:
    """Around what counts on the timers of gevent's hub: *relay*, the compiled one, sees to them often."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def __enter__(self) -> None:
        if self._relay is not None:
            self._relay.hurried += 1

    def __exit__(self, *raised: object) -> None:
        if self._relay is not None:
            self._relay.hurried -= 1


@dataclass
class Shared:
    """What all sessions of a worker use."""

    relay: PyRelay
    registry: Registry
    manager: ClusterManager
    board: Board
    limits: Limits
    cancel_elsewhere: Callable[[Key], None]      # ask the sibling workers
    digests: Digests = field(default_factory=Digests)
    reads_to_primary: set[str] = field(default_factory=set)      # listeners whose reads the operator has sent there
    apart: bool = False         # workers that this one's board does not know serve sessions of this node: so have all
    ask_all: Callable[[str], list[Any]] = lambda what: []        # a question to this worker and its siblings
    reload: Callable[[], None] = lambda: None                    # tell the arbiter
    forget_term: Callable[[str, str], None] = lambda cluster, user: None      # likewise; PgSplitError: no such cluster
    config: Callable[[], Config | None] = lambda: None
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    fast: Any = None             # the compiled relay; for flows in TLS, too, where that is compiled
    databases: Databases = field(init=False)
    hurry: Hurry = field(init=False)
    failovers: Queue = field(default_factory=Queue)

    def __post_init__(self) -> None:
        self.hurry = Hurry(self.fast)

    def relay_for(self, *, tls: bool) -> Any:
        """TLS of Python's ssl module is PyRelay's."""
        return self.relay if self.fast is None or (tls and not tls_context.is_compiled()) else self.fast
