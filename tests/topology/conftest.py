"""Managers of clusters in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from pgsplit.topology.cluster import ClusterManager
from tests.session.relays import FORMS, make


@pytest.fixture(params=FORMS)
def loop(request: pytest.FixtureRequest) -> Any:
    """In which samples are taken: gevent's hub, or the compiled relay's."""
    return make("compiled") if request.param == "compiled" else None


Make = Callable[..., ClusterManager]


@pytest.fixture
def manage() -> Iterator[Make]:
    made: list[ClusterManager] = []

    def manager_of(*args: Any, **keywords: Any) -> ClusterManager:
        manager = ClusterManager(*args, **keywords)
        made.append(manager)
        manager.wait_checked(20)
        return manager

    with gevent.Timeout(60):
        yield manager_of
        for manager in made:
            manager.stop()
