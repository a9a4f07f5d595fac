"""A few lines at the foot of a terminal that are kept up to date; elsewhere a line each time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

UP_AND_CLEAR = "\x1b[{}F\x1b[J"     # ECMA-48 CPL and ED: to the start of the line that far above, and clear from there


class Screen:
    """``say`` adds a line for good; ``show`` replaces the lines that it showed before."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._shown = 0

    def say(self, line: str = "") -> None:
        self._clear()
        print(line, flush=True)

    def show(self, lines: Sequence[str]) -> None:
        self._clear()
        if not self._terminal:
            print(" | ".join(" ".join(line.split()) for line in lines), flush=True)
            return
        width = shutil.get_terminal_size().columns      # a line that wrapped would be two to clear
        print(*(line[:width - 1] for line in lines), sep="\n", flush=True)
        self._shown = len(lines)

    def keep(self) -> None:
        """Leave what is shown where it is."""
        self._shown = 0

    def _clear(self) -> None:
        if self._shown:
            print(UP_AND_CLEAR.format(self._shown), end="")
            self._shown = 0
