"""``pgsplit build``: compile what has a compiled form (see `pgsplit.compiled`)."""

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
        return int(any(not compiled.is_built(name) and lacks(name) is None for name in compiled.MODULES))
    built = []
    for name in compiled.MODULES:
        if args.if_needed and compiled.is_built(name):
            continue
        if (package := lacks(name)) is not None:
            print(f"{compiled.target(name).name} is not built: no headers of OpenSSL (Debian: apt-get install "
                  f"{package}); TLS is Python's ssl module's, and its sessions are relayed in Python")
            continue
        build(name)
        built.append(name)
    if built:
        print(f"built {', '.join(compiled.target(name).name for name in built)}")
    return 0


def lacks(name: str) -> str | None:
    """Whose headers the module needs and the compiler, if there is one, does not find: a package of Debian."""
    compiler = compiled.compiler()
    if name not in compiled.NEEDS or compiler is None:
        return None
    header, _, package = compiled.NEEDS[name]
    done = subprocess.run([compiler, "-E", "-include", header, "-x", "c", os.devnull], capture_output=True,
                          check=False)
    return package if done.returncode else None


def build(name: str) -> None:
    compiler = compiled.compiler()
    if compiler is None or compiled.lacking():
        raise PgSplitError(f"install {', '.join(compiled.lacking())}")
    include = sysconfig.get_paths()["include"]
    with tempfile.TemporaryDirectory() as directory:
        c_file, library = Path(directory, "module.c"), Path(directory, "module.so")
        _run([sys.executable, "-m", "cython", "-3", "-I", str(compiled.INCLUDES), "-o", str(c_file), "--module-name",
              name, str(compiled.source(name))], "Cython")
        _, libraries, _ = compiled.NEEDS.get(name, ("", (), ""))
        _run([compiler, *compiled.FLAGS, "-fPIC", "-shared", f"-I{include}",
              f'-DPGSPLIT_SOURCES="{compiled.hash_of(name)}"', str(c_file), "-o", str(library),
              *(f"-l{one}" for one in libraries)], compiler)
        target = compiled.target(name)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(library, beside)
        beside.replace(target)      # whoever has the old one loaded keeps it


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PgSplitError(f"{what} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
