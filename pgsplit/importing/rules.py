"""What a table says of a setting: it is taken over, it means something else, or nothing. And units."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .draft import Draft
from .source import Entry

Rule = Callable[[Draft, Entry], None]
Convert = Callable[[str], str]
"""pgsplit's text from the source's. :raises ValueError: with what is expected."""

OFF: Final = ("", "0", "off", "no", "false", "none")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d|)").fullmatch
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = re.compile(r"(\d+)\s*(B|kB|MB|GB|TB|)").fullmatch
_SIZES: Final = {"": 1, "B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


def taken(target: str, convert: Convert | None = None, text: str = "", off: str = "") -> Rule:
    """*off*: what is said of a value that asks for nothing (`OFF`); else it is taken like any other."""
    def rule(draft: Draft, entry: Entry) -> None:
        if off and is_off(entry.value):
            return draft.nothing(entry, off)
        try:
            draft.taken(entry, target, convert(entry.value) if convert else entry.value, text)
        except ValueError as error:
            draft.wrong(entry, str(error))
        return None
    return rule


def other(text: str, off: str = "", *, loud: bool = False) -> Rule:
    def rule(draft: Draft, entry: Entry) -> None:
        if off and is_off(entry.value):
            return draft.nothing(entry, off)
        return draft.other(entry, text, loud=loud)
    return rule


def nothing(text: str) -> Rule:
    return lambda draft, entry: draft.nothing(entry, text)


def is_off(value: str) -> bool:
    return value.strip().lower() in OFF or re.fullmatch(r"0+\s*(?:us|ms|s|min|h|d|B|kB|MB)?", value) is not None


def is_on(value: str) -> bool:
    return value.strip().lower() in ("1", "on", "yes", "true", "t", "y")


def number(text: str) -> str:
    if not re.fullmatch(r"\d{1,18}", text):
        raise ValueError("is not a whole number")
    return str(int(text))


def port_of(draft: Draft, entry: Entry | None, default: str) -> str:
    """What *entry* says, where there is one and it is a number."""
    if entry is None:
        return default
    try:
        return number(entry.value)
    except ValueError as error:
        draft.wrong(entry, str(error))
        return default


def duration(unit: str) -> Convert:
    """Of a number that has no unit of its own, *unit* is meant."""
    def convert(text: str) -> str:
        match = _DURATION(text)
        if match is None:
            raise ValueError("is not a time")
        seconds = float(match[1]) * _UNITS[match[2] or unit]
        return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s" if seconds < 1e6 else f"{int(seconds)}s"
    return convert


def size(text: str) -> str:
    match = _SIZE(text)
    if match is None:
        raise ValueError("is not a size")
    return str(int(match[1]) * _SIZES[match[2]])


def names(text: str) -> str:
    return ", ".join(words(text))


def words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]
