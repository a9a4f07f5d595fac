"""How numbers and times are written, for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from flask import Flask


def number(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def duration(microseconds: float | None) -> str:
    if microseconds is None:
        return "–"
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds / 1e6:.1f} s"


def since(moment: float | None) -> str:
    """For how long, from a Unix time: ``12 s``, ``3 min``, ``5 h 10 min``, ``2 d``."""
    if moment is None:
        return "–"
    return span(max(0.0, time.time() - moment))


def span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"


def clock(moment: float | None) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S") if moment else "–"


def percent(part: float) -> str:
    return f"{part * 100:.0f} %"


def init_app(app: Flask) -> None:
    for function in (number, size, duration, since, span, clock, percent):
        app.jinja_env.filters[function.__name__] = function
