"""A reload may remove a cluster that open sessions still name."""

from __future__ import annotations

import pytest

from pgsplit.config.loader import load
from pgsplit.config.model import Config
from pgsplit.errors import ServerError
from pgsplit.topology.cluster import ClusterManager


def configuration(**changes: object) -> Config:
    text = "listen: 127.0.0.1:6432\nprimary: 127.0.0.1:1\nreplicas: [127.0.0.1:2]\nusers: {app: secret}\n"
    defaults = {"workers": 1, "run_dir": "/nowhere"}
    return load(text, "test.yaml", lambda name: "", defaults=defaults).config.model_copy(update=changes)


@pytest.mark.parametrize("ask", [ClusterManager.cluster, ClusterManager.pick])
def test_a_removed_cluster_is_an_error_that_says_so(ask) -> None:
    config = configuration()
    manager = ClusterManager(config)
    manager.update(configuration(clusters=config.clusters[:1], listeners=()))
    with pytest.raises(ServerError, match=f"cluster {config.clusters[1].name} is in the configuration no more"):
        ask(manager, config.clusters[1].name)
    manager.stop()
