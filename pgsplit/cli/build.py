"""``app.py build``: compile what has a compiled form (see `pgsplit.compiled`)."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from .. import compiled
from ..errors import PgSplitError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--if-needed", action="store_true", help="only what is missing or of other sources")
    parser.add_argument("--check", action="store_true", help="build nothing; exit code 1 when something would be")


def run(args: argparse.Namespace) -> int:
    """:raises PgSplitError: when there is no compiler, no Python headers, no Cython, or compiling fails."""
    if args.check:
        return int(not all(map(compiled.is_built, compiled.MODULES)))
    built = [name for name in compiled.MODULES if not (args.if_needed and compiled.is_built(name))]
    for name in built:
        build(name)
    if built:
        print(f"built {', '.join(compiled.target(name).name for name in built)}")
    return 0


def build(name: str) -> None:
    compiler = compiler_of()
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").exists():
        raise PgSplitError(f"no Python headers in {include} (Debian: apt-get install python3-dev)")
    with tempfile.TemporaryDirectory() as directory:
        c_file, library = Path(directory, "module.c"), Path(directory, "module.so")
        _run([sys.executable, "-m", "cython", "-3", "-o", str(c_file), "--module-name", name,
              str(compiled.source(name))], "Cython")
        _run([compiler, "-O2", "-DNDEBUG", "-fPIC", "-shared", "-fno-strict-aliasing", "-fwrapv", f"-I{include}",
              f'-DPGSPLIT_SOURCES="{compiled.hash_of(name)}"', str(c_file), "-o", str(library)], compiler)
        target = compiled.target(name)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(library, beside)
        beside.replace(target)      # whoever has the old one loaded keeps it


def compiler_of() -> str:
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    raise PgSplitError("no C compiler (Debian: apt-get install gcc)")


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PgSplitError(f"{what} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
