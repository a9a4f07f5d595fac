"""A database for the drivers' scripts, and one pgsplit for all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgsplit.demo.replication import PrimaryAndStandbys
from tests.conftest import default_configuration
from tests.forked import ForkedProxy

USERS = ("md5_user", "scram_user")


@pytest.fixture(scope="package")
def database(cluster: PrimaryAndStandbys) -> Iterator[PrimaryAndStandbys]:
    """The cluster, with the database ``drivers`` and the role ``driver_tenant`` that USERS may become."""
    primary = cluster.primary
    primary.query("create role driver_tenant")
    primary.query(f"grant driver_tenant to {', '.join(USERS)}")
    primary.query("create database drivers")
    yield cluster
    primary.query("drop database drivers with (force)")
    primary.query("drop role driver_tenant")


@pytest.fixture(scope="package")
def pgsplit_port(database: PrimaryAndStandbys) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="pgsplit-") as directory:
        proxy = ForkedProxy(Path(directory), default_configuration(database), database.guardian)
        proxy.start()
        yield proxy.port
        print(proxy.log.read_text(errors="replace"))
        proxy.stop()
