"""Where this pgsplit is from, a checkout or an installed package, and by which words it is called there."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent

# The repository has the admin application beside this package; a wheel, which owns one name in site-packages, inside.
IS_INSTALLED: Final = (_PACKAGE / "admin").is_dir()
ADMIN: Final = "pgsplit.admin" if IS_INSTALLED else "admin"
COMMAND: Final = "pgsplit" if IS_INSTALLED else "python app.py"
BUILD: Final = "pgsplit build" if IS_INSTALLED else "./run build"
DEMO: Final = "python -m pgsplit.demo" if IS_INSTALLED else "./run demo"
# What the interpreter is given to run the commands, from whichever directory.
PROGRAM: Final = ("-m", "pgsplit") if IS_INSTALLED else (str(_PACKAGE.parent / "app.py"),)
