"""Imports only go down, and the lower floors do no input or output (CONTRIBUTING.md has the map)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the top; packages on one floor do not import each other.
FLOORS = (
    {"app", "__main__"},
    {"cli", "demo", "admin"},
    {"process"},
    {"session"},
    {"relay"},
    {"topology"},
    {"upstream"},
    {"observing"},
    {"split", "importing"},
    {"classify"},
    {"sql", "auth", "wire", "config", "stats"},
    {"compiled"},
    {"errors", "log", "origin", "pgsplit"},
)
SANS_IO = FLOORS[-6] | FLOORS[-5] | FLOORS[-4] | FLOORS[-3]
INPUT_AND_OUTPUT = {
    "asyncio", "fcntl", "flask", "gevent", "http", "mmap", "multiprocessing", "os", "pathlib", "select", "selectors",
    "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib",
}
RUN_TIME = {"gevent", "greenlet", "flask", "yaml", "sqlparse", "pydantic", "setproctitle"}
PACKAGES = {"observing": {"jinja2"}, "cli": RUN_TIME | {"werkzeug"}, "demo": RUN_TIME | {"psycopg", "cryptography"},
            "admin": RUN_TIME | {"flask_wtf", "werkzeug", "prometheus_client"}}


@dataclass(frozen=True)
class Import:
    """``file`` on floor-package ``importer`` imports ``module`` (absolute, dotted)."""

    file: Path
    line: int
    importer: str
    module: str

    @property
    def imported(self) -> str | None:
        """The floor-package of ours that is imported, or None."""
        top, _, rest = self.module.partition(".")
        if top == "pgsplit":
            return rest.partition(".")[0] or "pgsplit"
        return top if top in {"app", "admin"} else None

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.importer} imports {self.module}"


def sources() -> list[Path]:
    return sorted([ROOT / "app.py", *(ROOT / "pgsplit").rglob("*.py"), *(ROOT / "admin").rglob("*.py")])


def package_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "pgsplit":
        return "pgsplit" if parts[1] == "__init__" else parts[1]
    return parts[0]


def absolute(file: Path, node: ast.ImportFrom) -> str:
    """What ``from … import`` names, with the dots of a relative import worked out."""
    if node.level == 0:
        return str(node.module)
    return ".".join([*file.relative_to(ROOT).parts[:-node.level], *([node.module] if node.module else [])])


def imports(file: Path) -> Iterator[Import]:
    importer = package_of(file)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(file, node)
            # `from pgsplit import demo` imports pgsplit.demo
            names = [f"{base}.{alias.name}" if base == "pgsplit" else base for alias in node.names]
            names = [name for name in names if name != "pgsplit.__version__"]
        else:
            continue
        for name in names:
            yield Import(file, node.lineno, importer, name)


def all_imports() -> list[Import]:
    return [found for file in sources() for found in imports(file)]


def floor(package: str) -> int:
    return next(number for number, packages in enumerate(FLOORS) if package in packages)


def test_every_package_has_a_floor() -> None:
    assert {package_of(file) for file in sources()} <= set().union(*FLOORS)


def test_imports_only_go_down() -> None:
    up = [str(found) for found in all_imports() if found.imported and found.imported != found.importer
          and floor(found.imported) <= floor(found.importer)]
    assert up == []


def test_only_packages_we_require() -> None:
    foreign = [str(found) for found in all_imports() if not found.imported
               and (top := found.module.partition(".")[0]) not in sys.stdlib_module_names
               and top not in PACKAGES.get(found.importer, RUN_TIME)]
    assert foreign == []


def test_lower_floors_do_no_input_or_output() -> None:
    modules = [str(found) for found in all_imports() if found.importer in SANS_IO
               and found.module.partition(".")[0] in INPUT_AND_OUTPUT]
    calls = [f"{file.relative_to(ROOT)}:{node.lineno}: {node.func.id}()" for file in sources()
             if package_of(file) in SANS_IO for node in ast.walk(ast.parse(file.read_text()))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
             and node.func.id in {"open", "input", "print"}]
    assert modules + calls == []


@pytest.mark.parametrize("file", [ROOT / "app.py", ROOT / "pgsplit/__main__.py",
                                  *sorted((ROOT / "pgsplit/cli").glob("*.py")),
                                  *(ROOT / "pgsplit/process").glob("arbiter*.py")],
                         ids=lambda file: str(file.relative_to(ROOT)))
def test_what_forks_imports_neither_gevent_nor_flask(file: Path) -> None:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    code = f"import sys, {module}; print(*sorted({{'gevent', 'greenlet', 'flask'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")
