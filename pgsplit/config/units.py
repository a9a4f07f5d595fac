"""Durations and sizes as texts."""

from __future__ import annotations

import re
from typing import Final

_DURATIONS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES: Final = {"": 1, "B": 1, "kB": 1 << 10, "KiB": 1 << 10, "MB": 1 << 20, "MiB": 1 << 20, "GB": 1 << 30,
                 "GiB": 1 << 30}
_BOOLEANS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def duration(text: str) -> float:
    """Seconds, from ``5s``, ``0.25s``, ``50ms`` … :raises ValueError: with what is expected."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 5s, 0.25s or 50ms")
    return float(match[1]) * _DURATIONS[match[2]]


def size(text: str) -> int:
    """Bytes, from ``64KiB``, ``64kB`` (PostgreSQL's kB is 1024 too) or a plain number."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text)
    if match is None or match[2] not in _SIZES:
        raise ValueError(f"{text!r} is not a size such as 64KiB, 64kB or 65536")
    return int(match[1]) * _SIZES[match[2]]


def integer(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def boolean(text: str) -> bool:
    """YAML 1.1's words for it, as Envoy's loader takes them."""
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"{text!r} is not true or false")
    return _BOOLEANS[text.lower()]


def names(text: str) -> tuple[str, ...]:
    """Patterns with commas between them; none from an empty text."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


AUTH_METHODS: Final = ("none", "password", "md5", "scram-sha-256")
OF_LIBPQ: Final = ("gss", "sspi", "oauth", "creds")


def auth_methods(text: str) -> tuple[str, ...]:
    """Those that are allowed, from libpq's form of require_auth (PostgreSQL manual 34.1.2): ``md5,scram-sha-256``, or
    ``!password``: all others, ``none`` among them. None from an empty text.
    """
    words = names(text)
    negated = [word.removeprefix("!").strip() for word in words if word.startswith("!")]
    plain = negated or list(words)
    for word in plain:
        if word in OF_LIBPQ:
            raise ValueError(f"{word} is nothing that pgsplit can do: it can {', '.join(AUTH_METHODS)}")
        if word.startswith("!") or word not in AUTH_METHODS:
            raise ValueError(f"{word!r} is not one of {', '.join(AUTH_METHODS)}")
        if plain.count(word) > 1:
            raise ValueError(f"{word} stands twice")
    if negated and len(negated) < len(words):
        raise ValueError(f"{text!r} names methods with ! and without: all have it, or none")
    if len(negated) == len(AUTH_METHODS):
        raise ValueError(f"{text!r} leaves no method")
    return tuple(method for method in AUTH_METHODS if (method in plain) != bool(negated)) if words else ()


def text(value: str) -> str:
    return value
