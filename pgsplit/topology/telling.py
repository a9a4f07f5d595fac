"""Clusters as the monitor has them: it asks the servers, and tells all workers what it has found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .cluster import Cluster, ClusterManager
from .fact import Fact, told
from .host import Host, HostKey
from .told import NAMES, WORD, Key, Told, host_key, key_of, told_names, told_of_host, told_word


class TellingManager(ClusterManager):
    """*tell* is given what is so from now on, *take_back* the key of what is not any more."""

    def __init__(self, tell: Callable[[Key, Told], None], take_back: Callable[[Key], None], *arguments: Any,
                 **keywords: Any) -> None:
        self._tell, self._take_back = tell, take_back
        super().__init__(*arguments, **keywords)

    def asked_counters(self) -> dict[str, int]:
        """How often the servers were asked, or could not be reached; what that has shown is the workers' to count."""
        counts = {name: value for cluster, own in self._own.items()
                  for name, value in own.to_dict(f"cluster.{cluster}").items()}
        for cluster in self._clusters.values():
            failed = {f"cluster.{cluster.name}.{host.name}.upstream_cx_connect_fail": host.cx_connect_fail
                      for host in cluster.hosts.values()}
            counts |= failed
            counts[f"cluster.{cluster.name}.upstream_cx_connect_fail"] = sum(failed.values())
        return counts

    # --- what is told -------------------------------------------------------------------------------------

    def found_out(self, host: Host, fact: Fact | None) -> None:
        if fact is None:
            self._take_back(host_key(host.cluster_name, host))
        else:
            self._say_so(told_of_host(host.cluster_name, host, told(fact)))

    def _resolve_all(self, cluster: Cluster) -> bool:
        complete = super()._resolve_all(cluster)
        if self._clusters.get(cluster.name) is cluster:
            self._say_so(told_names(cluster))
        return complete

    def _asked_source(self, name: str) -> None:
        if name in self._sources:
            self._say_so(told_word(name, self._sources[name]))

    def _say_so(self, what: Told) -> None:
        self._tell(key_of(what), what)

    def _have_sources(self) -> None:
        before = dict(self._sources)
        super()._have_sources()
        for name, source in before.items():
            if self._sources.get(name) is not source:
                self._take_back((WORD, name))

    def _remove(self, cluster: Cluster, key: HostKey, why: str) -> None:
        host = cluster.hosts[key]
        super()._remove(cluster, key, why)
        self._take_back(host_key(cluster.name, host))

    def _drop(self, cluster: Cluster) -> None:
        super()._drop(cluster)
        self._take_back((NAMES, cluster.name))
