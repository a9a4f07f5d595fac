"""What to do without something a test needs."""

import os
from typing import NoReturn

import pytest

IN_CI = bool(os.environ.get("CI"))


def missing(reason: str) -> NoReturn:
    """Skip with *reason*; in CI, where everything must have been installed, fail."""
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
