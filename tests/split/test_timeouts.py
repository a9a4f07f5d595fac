"""Times as settings have them."""

from __future__ import annotations

import pytest

from pgsplit.split.timeouts import seconds


@pytest.mark.parametrize("text, expected", [
    ("0", 0), ("1500", 1.5), ("5s", 5), ("2min", 120), ("1h", 3600), ("1d", 86400), ("250ms", 0.25), ("500us", 0.0005),
    ("0.5h", 1800), (" 3 s ", 3), ("", 0), ("-1", 0), ("soon", 0), ("5 weeks", 0),
])
def test_times(text, expected):
    assert seconds(text) == pytest.approx(expected)
