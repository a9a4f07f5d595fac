"""Logging: one line an event, to stderr or a file, reopened on USR1."""

from __future__ import annotations

import logging
import logging.handlers

FORMAT = "%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s"

get = logging.getLogger


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
