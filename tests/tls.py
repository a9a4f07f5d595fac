"""The two forms of TLS contexts, for tests that hold for both."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from pgsplit import compiled
from tests.needs import missing

FORMS = ("ssl module", "compiled")


def make(form: str, protocol: int) -> Any:
    """A context; without the compiled module the test is skipped, in CI fails."""
    if form == "ssl module":
        return ssl.SSLContext(protocol)
    module = compiled.load(compiled.OPENSSL)
    if module is None:
        if compiled.is_forbidden():
            pytest.skip("PGSPLIT_PURE is set")
        missing("TLS in compiled form: libssl-dev, ./run build")
    return module.Context(protocol)
