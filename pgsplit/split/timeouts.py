"""A time as a setting's value has it (PostgreSQL manual 20.1.1)."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_TIME: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|min|h|d|)\s*")


def seconds(text: str) -> float:
    """Of *text*, whose unit is milliseconds where it names none; 0 for what is no time."""
    match = _TIME.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] if match is not None else 0.0
