"""Logging: one line an event, to stderr or a file, reopened on USR1."""

from __future__ import annotations

import logging
import logging.handlers
from collections import deque
from typing import Any

FORMAT = "%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s"

KEPT = 500        # lines that a process keeps for who asks
LONGEST = 500     # characters of such a line

get = logging.getLogger


class Recent(logging.Handler):
    """The last lines of this process, from INFO on, as dicts: ``time`` (Unix seconds), ``pid``, ``level``, ``text``."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append({"time": round(record.created, 3), "pid": record.process, "level": record.levelname.lower(),
                           "text": (record.getMessage().splitlines() or [""])[0][:LONGEST]})

    def take(self) -> list[dict[str, Any]]:
        """The lines since the last call."""
        taken, self.lines = list(self.lines), deque(maxlen=KEPT)
        return taken


def keep_recent() -> Recent:
    """Keep this process's last lines from now on."""
    root = logging.getLogger("pgsplit")
    for old in [handler for handler in root.handlers if isinstance(handler, Recent)]:
        root.removeHandler(old)
    recent = Recent()
    root.addHandler(recent)
    return recent


def setup(level: str = "info", file: str | None = None) -> None:
    """Send everything under the logger ``pgsplit`` to *file*, or to stderr when that is None.

    *level* is one of debug, info, warning, error, critical.
    """
    root = logging.getLogger("pgsplit")
    handler: logging.Handler = logging.handlers.WatchedFileHandler(file) if file else logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False


def reopen() -> None:
    """Open the log file anew after a rotation (USR1); stderr stays as it is."""
    for handler in logging.getLogger("pgsplit").handlers:
        if isinstance(handler, logging.handlers.WatchedFileHandler):
            handler.reopenIfNeeded()


def set_level(level: str) -> None:
    logging.getLogger("pgsplit").setLevel(level.upper())


def descriptors() -> list[int]:
    """The files that the log is written to: a child that closes everything else keeps them."""
    streams = [getattr(handler, "stream", None) for handler in logging.getLogger("pgsplit").handlers]
    return [stream.fileno() for stream in streams if stream is not None]
