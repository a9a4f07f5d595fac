"""The compiled forms of modules: which there are, how each is loaded, and when it is refused.

A compiled module carries the hash of the sources that it was made of. One made of others is not loaded: pgsplit then
runs the same module in pure Python, and says so in one line.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Final

from . import log
from .origin import BUILD

logger = log.get("pgsplit.compiled")

ROOT: Final = Path(__file__).resolve().parent
# Each compiled module, and its source below this package, before what that includes.
RELAY: Final = "pgsplit.relay._crelay"
OPENSSL: Final = "pgsplit.upstream._openssl"
LINK: Final = "upstream/_tls_link.pxi"
MODULES: Final = {RELAY: ("relay/_crelay.pyx", LINK, *(f"relay/_{part}.pxi" for part in (
                      "kernel", "folding", "flow", "loop", "bytes", "rows", "legs", "asking", "texts", "freshness",
                      "repeating"))),
                  OPENSSL: ("upstream/_openssl.pyx", LINK),
                  "pgsplit.wire._framing": ("wire/_framing.pyx",)}
# What is included of other packages' is found from here.
INCLUDES: Final = ROOT
# Of a module that needs more than Python's: its headers, the libraries, and what Debian calls them.
NEEDS: Final = {OPENSSL: ("openssl/ssl.h", ("ssl", "crypto"), "libssl-dev")}

# How all of them are compiled, whoever does it.
FLAGS: Final = ("-O2", "-DNDEBUG", "-fno-strict-aliasing", "-fwrapv")

_found: dict[str, ModuleType | None] = {}


def source(name: str) -> Path:
    return ROOT / MODULES[name][0]


def target(name: str) -> Path:
    """Where the compiled module lies, for this Python."""
    path = source(name)
    return path.with_name(path.stem + str(sysconfig.get_config_var("EXT_SUFFIX")))


def hash_of(name: str) -> str:
    return hashlib.sha256(b"".join((ROOT / path).read_bytes() for path in MODULES[name])).hexdigest()


def is_built(name: str) -> bool:
    """Whether the compiled module is there and of the sources at hand, whose hash it holds."""
    path = target(name)
    return path.exists() and hash_of(name).encode() in path.read_bytes()


def form() -> str:
    """Of the relay that a worker which starts now will have."""
    return "compiled" if not is_forbidden() and is_built(RELAY) else "pure Python"


def remedy() -> str | None:
    """What to install and to run for the compiled relay; None where it is built, or PGSPLIT_PURE forbids it."""
    if is_forbidden() or is_built(RELAY):
        return None
    return ", then: ".join([*([f"install {', '.join(missing)}"] if (missing := lacking()) else ()), BUILD])


def lacking() -> list[str]:
    """What compiling needs and is not here, each with how to get it."""
    here = {"a C compiler (Debian: apt-get install gcc libc6-dev)": compiler(),
            "Python's headers (Debian: apt-get install python3-dev)":
                Path(sysconfig.get_paths()["include"], "Python.h").exists(),
            "Cython (pip install cython)": importlib.util.find_spec("Cython")}
    return [what for what, found in here.items() if not found]


def compiler() -> str | None:
    return next((name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and shutil.which(name)), None)


def is_forbidden() -> bool:
    return os.environ.get("PGSPLIT_PURE", "") not in ("", "0")


def load(name: str) -> ModuleType | None:
    """The compiled module, or None: it is not built, not of these sources, or PGSPLIT_PURE forbids it."""
    if is_forbidden():
        return None
    if name not in _found:
        _found[name] = _load(name)
    return _found[name]


def _load(name: str) -> ModuleType | None:
    if not target(name).exists():
        return None
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        logger.warning("%s is not used: %s; build it again: %s", target(name).name, error, BUILD)
        return None
    if module.sources != hash_of(name):
        logger.warning("%s is not used: it was built of other sources; build it again: %s", target(name).name, BUILD)
        return None
    return module
