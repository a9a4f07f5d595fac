"""pgsplit in front of the pair, and connections through it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgsplit.demo import installation
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from tests.conftest import ROLES, SUPERUSER_PASSWORD, default_configuration
from tests.copied import Copied
from tests.needs import missing

Connect = Callable[..., psycopg.Connection[Any]]
Start = Callable[..., Proxy]


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


# --- servers that a test may leave in any state ----------------------------------------------------------------------

@pytest.fixture(scope="session")
def model() -> Iterator[PrimaryAndStandbys]:
    """What `Copied` servers are copied from: with an empty table ``kept``."""
    try:
        installation.find()
    except installation.PostgresMissing as error:
        missing(str(error))
    with PrimaryAndStandbys(ROLES, superuser_password=SUPERUSER_PASSWORD, standbys=0) as found:
        found.primary.query("create table kept (n int primary key, said text)")
        found.primary.stop()
        yield found


@pytest.fixture
def servers(model: PrimaryAndStandbys) -> Iterator[PrimaryAndStandbys]:
    """A primary and two standbys of the test's own, which it may leave in any state."""
    with Copied(model, standbys=2) as found:
        yield found


@pytest.fixture
def start(servers: PrimaryAndStandbys, proxy_class: type[Proxy]) -> Iterator[Start]:
    """pgsplit in front of *servers*; keywords as for `pgsplit_server`."""
    with tempfile.TemporaryDirectory(prefix="pgsplit-") as directory:
        proxies = []

        def make(**keywords: Any) -> Proxy:
            own = {"workers": 2, "health_interval": "200ms", "health_timeout": "1s", **keywords.pop("pgsplit", {})}
            configuration = default_configuration(servers) | {"pgsplit": own} | keywords
            configuration = {key: value for key, value in configuration.items() if value is not None}
            proxy = proxy_class(Path(directory), configuration, servers.guardian)
            proxies.append(proxy)
            proxy.start()
            return proxy

        yield make
        for proxy in proxies:
            print(proxy.log.read_text(errors="replace"))
            if proxy.running:
                proxy.stop()
