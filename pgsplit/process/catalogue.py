"""The catalogue of a database by a configuration that is not in force: for `app.py explain --database`."""

from __future__ import annotations

import logging
import time
from typing import Final

import gevent

from ..classify.catalogue import Catalogue
from ..classify.function_lists import FunctionLists
from ..config.model import Config
from ..errors import PgSplitError
from ..topology.catalogue_reader import CatalogueReader
from ..topology.cluster import ClusterManager

PATIENCE: Final = 15.0         # seconds


def catalogue_of(config: Config, database: str, lists: FunctionLists) -> Catalogue:
    """Read from the primary of the first listener that splits.

    :raises PgSplitError: with what keeps it from being read.
    """
    logging.getLogger("pgsplit").setLevel(logging.CRITICAL)      # what would be logged is told
    cluster = next((listener.write_cluster for listener in config.listeners if listener.split_rw), None)
    if cluster is None:
        raise PgSplitError("no listener splits reads and writes")
    found: list[Catalogue] = []
    manager = ClusterManager(config)
    reader = CatalogueReader(manager, cluster, database, lambda: config.monitor, lambda: 0,
                             lambda rows: found.append(Catalogue(rows, lists)))
    try:
        deadline = time.monotonic() + PATIENCE
        while cluster not in manager.primaries and time.monotonic() < deadline:
            gevent.sleep(0.05)
        failures = reader.failures
        reader.enter()
        while not found and reader.failures == failures and time.monotonic() < deadline:
            gevent.sleep(0.02)
    finally:
        reader.stop()
        manager.stop()
    if not found:
        raise PgSplitError(f"the catalogue of database {database} cannot be read: {reader.why_not}")
    return found[0]
