"""Here a process's beginning is what is tested, too."""

from __future__ import annotations

import pytest

from pgsplit.demo.proxy import Proxy


@pytest.fixture
def proxy_class() -> type[Proxy]:
    return Proxy
