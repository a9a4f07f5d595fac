"""Managers of clusters in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from pgsplit.topology.cluster import ClusterManager

Make = Callable[..., ClusterManager]


@pytest.fixture
def manage() -> Iterator[Make]:
    made: list[ClusterManager] = []

    def make(*args: Any, **keywords: Any) -> ClusterManager:
        manager = ClusterManager(*args, **keywords)
        made.append(manager)
        manager.wait_checked(20)
        return manager

    with gevent.Timeout(60):
        yield make
        for manager in made:
            manager.stop()
