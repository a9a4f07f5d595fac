"""Which of several hosts the next session gets: by priority, by zone, then by the policy, as Envoy means these.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from .host import Host


def preferred(hosts: Sequence[Host], zone: str) -> list[Host]:
    """Those of the first priority that has any; of these those in *zone*, where there are some and it is known."""
    first = min((host.placement.priority for host in hosts), default=0)
    level = [host for host in hosts if host.placement.priority == first]
    return [host for host in level if zone and host.placement.zone == zone] or level


def round_robin(hosts: Sequence[Host]) -> Host:
    """In turn, one with twice the weight twice as often, and not twice running where that can be avoided."""
    for host in hosts:
        host.turn += host.placement.weight
    chosen = max(hosts, key=lambda host: host.turn)
    chosen.turn -= sum(host.placement.weight for host in hosts)
    return chosen


def least_request(hosts: Sequence[Host]) -> Host:
    """Who has the fewest open connections of this worker's sessions for its weight; in turn where that is the same."""
    loads = {host: (host.cx_active + 1) / host.placement.weight for host in hosts}
    least = min(loads.values())
    return round_robin([host for host, load in loads.items() if load == least])


def at_random(hosts: Sequence[Host]) -> Host:
    return random.choices(hosts, [host.placement.weight for host in hosts])[0]


POLICIES: Final[Mapping[str, Callable[[Sequence[Host]], Host]]] = {
    "ROUND_ROBIN": round_robin, "LEAST_REQUEST": least_request, "RANDOM": at_random}
