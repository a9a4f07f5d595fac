"""Process titles, as `ps` shows them. They hold nothing of the configuration but names."""

from __future__ import annotations


def set_title(role: str) -> None:
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle(f"pgsplit: {role}")
