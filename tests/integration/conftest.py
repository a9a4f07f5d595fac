"""pgsplit in front of the pair, and connections through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgsplit.demo.proxy import Proxy

Connect = Callable[..., psycopg.Connection[Any]]


# For a test that says where a read goes: it waits for a fresh replica for as long as that takes.
PATIENT = pytest.mark.parametrize("fence_wait", ["60s"])


@pytest.fixture
def fence_wait() -> str:
    """How long reads wait for a fresh replica: as short as by default."""
    return "5ms"


@pytest.fixture
def catalogue() -> bool:
    """Whether definitions are read."""
    return True


@pytest.fixture
def proxy(pgsplit_server: Callable[..., Proxy], fence_wait: str, catalogue: bool) -> Proxy:
    return pgsplit_server(pgsplit={"workers": 2, "fence_wait": fence_wait, "catalogue": catalogue})


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Connect]:
    """A connection through pgsplit, as the superuser unless told otherwise, in autocommit."""
    opened = []

    def make(user: str = "postgres", password: str = "postgres-secret", **arguments: Any) -> psycopg.Connection[Any]:
        defaults = {"autocommit": True, "dbname": "postgres", "sslmode": "disable", "prepare_threshold": None}
        connection = psycopg.connect(host="127.0.0.1", port=proxy.port, user=user, password=password,
                                     **defaults | arguments)
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        connection.close()


def value(connection: psycopg.Connection[Any], sql: str) -> Any:
    row = connection.execute(sql).fetchone()
    return row[0] if row else None


def counters(proxy: Proxy, word: str) -> dict[str, int]:
    return {name: count for name, count in proxy.client.arbiter("totals").items() if word in name}
