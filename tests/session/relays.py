"""The relay's two forms, for tests that hold for both."""

from __future__ import annotations

from typing import Any

import pytest

from pgsplit import compiled
from pgsplit.relay.pyrelay import PyRelay
from tests.needs import missing

FORMS = ("pure Python", "compiled")


def module() -> Any:
    """The compiled one's; without it the test is skipped, in CI fails."""
    found = compiled.load(compiled.RELAY)
    if found is None:
        if compiled.is_forbidden():
            pytest.skip("PGSPLIT_PURE is set")
        missing("the compiled relay: ./run build")
    return found


def make(form: str, *arguments: Any) -> Any:
    return PyRelay() if form == "pure Python" else module().CRelay(*arguments)
