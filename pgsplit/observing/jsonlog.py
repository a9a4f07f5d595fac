"""The format jsonlog (PostgreSQL manual 20.8.5), of version 15 and later: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .entry import Broken, Clock, Entry


class JsonLog:
    """Fed with the lines of a log."""

    def __init__(self) -> None:
        self._clock = Clock()

    def feed(self, line: str, number: int) -> Iterator[Entry | Broken]:
        """What is complete with *line*, the *number*th."""
        if not line.strip():
            return
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Broken(number, f"not readable as JSON: {error}")
            return
        if not isinstance(found, dict) or not isinstance(found.get("error_severity"), str):
            yield Broken(number, "no object with error_severity")
            return

        def text(name: str) -> str:
            value = found.get(name, "")
            return value if isinstance(value, str) else str(value)

        yield Entry(number, text("session_id"), text("error_severity"), text("message"),
                    self._clock.ms(text("timestamp")), text("user"), text("dbname"), text("application_name"),
                    text("state_code"), text("detail"), text("statement"))

    def end(self) -> Iterator[Entry | Broken]:
        """Nothing: a line is whole, or broken."""
        return iter(())
