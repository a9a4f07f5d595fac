"""Fixtures for all tests: real PostgreSQL servers, and pgsplit in front of them."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgsplit.demo import installation
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Role
from tests.forked import ForkedProxy
from tests.needs import IN_CI, missing

ROLES = (
    Role("trust_user", None, "trust"),
    Role("password_user", "password-secret", "password"),
    Role("md5_user", "md5-secret", "md5"),
    Role("scram_user", "scram-secret", "scram-sha-256"),
)
ROOT = Path(__file__).parent
PARTS = ("1", "2", "3")     # see __main__.py
TOGETHER = ("admin/test_browser",)      # are in one part: they share a browser
# Tests whose sessions show what the relay does: they run on both of its forms.
RELAYED = ("integration/", "session/", "drivers/", "differential/", "checkers/", "hostile/", "test_guarantees",
           "test_pgbench")
# Tests that need a server, and any version of it is as good.
UNVERSIONED = ("admin/", "hostile/", "process/test_activation", "process/test_notify", "process/test_restart",
               "process/test_run_dir", "process/test_signals", "test_pgbench")
SUPERUSER_PASSWORD = "postgres-secret"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", choices=PARTS, help="every third test only (see tests/__main__.py)")


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PGSPLIT_")]:
        del os.environ[name]        # PGHOST and the like would reach every client of every test
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        # A shell starts a background job with some ignored, and so is what the job starts (POSIX 2.11): a handler that
        # does nothing stays with us, what is started has the default and ends when a test signals it.
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)


def pytest_report_header() -> str:
    try:
        return str(installation.find())
    except installation.PostgresMissing as error:
        return f"PostgreSQL: {error}"


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    for item in items:
        path = item.path.relative_to(ROOT).as_posix()
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.pg)
        if item.get_closest_marker("pg") and not path.startswith(UNVERSIONED):
            item.add_marker(pytest.mark.version)
        if path.startswith(RELAYED):
            item.add_marker(pytest.mark.relay)
        if item.get_closest_marker("slow") and not IN_CI:
            item.add_marker(pytest.mark.skip(reason="slow: runs in CI (or with CI=true)"))
    yield       # -m and -k have their choice
    if part := config.getoption("part"):
        places: dict[object, int] = {}
        own: dict[bool, list[pytest.Item]] = {True: [], False: []}
        for item in items:
            together = item.path.relative_to(ROOT).as_posix().startswith(TOGETHER)
            place = places.setdefault(item.path if together else item, len(places))
            own[PARTS[place % len(PARTS)] == part].append(item)
        config.hook.pytest_deselected(items=own[False])
        items[:] = own[True]


@pytest.fixture(scope="session")
def cluster() -> Iterator[PrimaryAndStandbys]:
    """A primary and ``$PGSPLIT_TEST_REPLICAS`` (1) streaming standbys for the whole session, with ROLES.

    A test leaves it as it found it: what it creates has a name of its own, what it stops it starts again. Nor does it
    rely on a standby that is quick: with ``$PGSPLIT_TEST_APPLY_DELAY`` they replay each commit so many ms late (0).
    """
    try:
        installation.find()
    except installation.PostgresMissing as error:
        missing(str(error))
    standbys = int(os.environ.get("PGSPLIT_TEST_REPLICAS", "1"))
    with PrimaryAndStandbys(ROLES, superuser_password=SUPERUSER_PASSWORD, standbys=standbys) as servers:
        for standby in servers.standbys:
            standby.delay_replay(int(os.environ.get("PGSPLIT_TEST_APPLY_DELAY", "0")))
        yield servers


@pytest.fixture
def proxy_class() -> type[Proxy]:
    """How pgsplit is started where it is not its beginning that is tested."""
    return ForkedProxy


@pytest.fixture
def pgsplit_server(cluster: PrimaryAndStandbys, proxy_class: type[Proxy]) -> Iterator[Callable[..., Proxy]]:
    """Starts pgsplit in front of *cluster*: ``pgsplit_server(upstream_tls="disable", pgsplit={"workers": 2})``.

    Keywords are keys of the short form that go over the defaults below; None takes one out. A client is
    ``cluster.primary.connect("scram_user", port=proxy.port)``. The log is printed at the end, so that pytest shows it
    for a test that failed.
    """
    started: list[Proxy] = []
    with tempfile.TemporaryDirectory(prefix="pgsplit-") as directory:     # not tmp_path: a socket's path must be short

        def start(**keywords: Any) -> Proxy:
            configuration = {key: value for key, value in (default_configuration(cluster) | keywords).items()
                             if value is not None}
            files = Path(directory, str(len(started)))
            files.mkdir()
            proxy = proxy_class(files, configuration, cluster.guardian)
            started.append(proxy)
            proxy.start()
            return proxy

        yield start
        for proxy in started:
            print(proxy.log.read_text(errors="replace"))
            if proxy.running:
                proxy.stop()


def default_configuration(cluster: PrimaryAndStandbys) -> dict[str, Any]:
    """The short form for *cluster*: all its roles, TLS for clients and to the upstreams, one worker.

    The roles log in by every method, and nothing verifies the servers: by default they would get SCRAM alone.
    """
    return {
        "primary": cluster.primary.address,
        "replicas": [standby.address for standby in cluster.standbys],
        "users": {role.name: role.password or "unused" for role in cluster.roles.values()},
        "monitor": "postgres",
        "tls": {"certificate": str(cluster.key_pair.certificate), "key": str(cluster.key_pair.key)},
        "upstream_tls": "require",
        "upstream_auth": "none,password,md5,scram-sha-256",
        "pgsplit": {"workers": 1},
    }
