"""The audit trail: every change that an operator made, a line of JSON each, kept in a file."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from typing import Any, Final

from .. import log

logger = log.get("pgsplit.audit")

SHOWN: Final = 200
LONGEST: Final = 1000           # characters of a value
TAIL: Final = 256 << 10         # bytes read of the file at start


class Audit:
    """*path*: the file, mode 0600, appended to. Where it cannot be written the log says so, and says the entry."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.entries: deque[dict[str, Any]] = deque(self._last(), maxlen=SHOWN)

    def add(self, who: str, what: str, where: str, result: str = "done") -> None:
        """*who* did *what*, asking from the address *where*."""
        entry = {"time": round(time.time(), 3), "who": who[:LONGEST], "what": what[:LONGEST],
                 "from": where[:LONGEST], "result": result[:LONGEST]}
        self.entries.append(entry)
        logger.info("%s (from %s): %s: %s", entry["who"], entry["from"], entry["what"], entry["result"])
        try:
            with open(self.path, "a", encoding="utf-8", opener=_private) as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            logger.error("the audit trail cannot be written: %s: %s", self.path, error.strerror)

    def _last(self) -> list[dict[str, Any]]:
        try:
            with open(self.path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        entries = []
        for line in lines[-SHOWN:]:
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        return [entry for entry in entries if isinstance(entry, dict)]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
