"""What the operator has ordered: which hosts are not to be used, and which listeners send all reads to the primary.

The arbiter holds it, so that it outlives workers and reloads; every worker is told all of it at each change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..config.model import Config
from ..errors import PgSplitError

HOST_ORDERS: Final = ("ready", "drain", "maintenance")


def written_to(config: Config) -> set[str]:
    """The clusters of whose servers one is the primary."""
    return {listener.write_cluster for listener in config.listeners if listener.split_rw}


class Orders:
    """*hosts*: drain or maintenance by ``cluster/host:port``. *forgotten*: how often the timelines of a write cluster
    have been forgotten. *kept*: what another arbiter's `kept` was.

    :attr:`apart`: not the operator's: another arbiter has workers whose writes this one's do not know of, so all reads
    go to the primary (see `handover`).
    """

    def __init__(self, kept: Mapping[str, Any] | None = None) -> None:
        self.hosts: dict[str, str] = dict(kept["hosts"]) if kept else {}
        self.reads_to_primary: set[str] = set(kept["reads_to_primary"]) if kept else set()
        self.forgotten: dict[str, int] = dict(kept.get("forgotten", {})) if kept else {}
        self.apart = False

    def host(self, config: Config, cluster: str, host: str, order: str) -> None:
        """:raises PgSplitError: for a cluster that there is not, or an order that there is not."""
        if order not in HOST_ORDERS:
            raise PgSplitError(f"{order!r} is not one of {', '.join(HOST_ORDERS)}")
        if cluster not in {known.name for known in config.clusters}:
            raise PgSplitError(f"there is no cluster {cluster!r}")
        name = f"{cluster}/{host}"
        if order == "ready":
            self.hosts.pop(name, None)
        else:
            self.hosts[name] = order

    def reads(self, config: Config, listener: str, to_primary: bool) -> None:
        """:raises PgSplitError: for a listener that there is not, or that does not split."""
        if listener not in {known.name for known in config.listeners if known.split_rw}:
            raise PgSplitError(f"there is no listener {listener!r} that splits reads from writes")
        if to_primary:
            self.reads_to_primary.add(listener)
        else:
            self.reads_to_primary.discard(listener)

    def forget_term(self, config: Config, cluster: str) -> None:
        """:raises PgSplitError: for a cluster that there is not, or that is not written to."""
        if cluster not in written_to(config):
            raise PgSplitError(f"there is no cluster {cluster!r} that is written to; "
                               f"there are {', '.join(sorted(written_to(config))) or 'none'}")
        self.forgotten[cluster] = self.forgotten.get(cluster, 0) + 1

    def kept(self) -> dict[str, Any]:
        """The operator's."""
        return {"hosts": dict(self.hosts), "reads_to_primary": sorted(self.reads_to_primary),
                "forgotten": dict(self.forgotten)}

    def told(self) -> dict[str, Any]:
        """What workers go by."""
        return {**self.kept(), "apart": self.apart}
