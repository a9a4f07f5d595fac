"""The package: what lies in the sdist and the wheel, and that what is installed from them runs without the checkout."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pgsplit import __version__, compiled, origin
from pgsplit.demo import installation, ports
from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from tests.conftest import default_configuration
from tests.needs import missing
from tests.process.restarting import Instance
from tests.test_demo import alone

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSIDE = ("admin", "templates", "static")       # beside pgsplit/ here, inside it in a wheel
AWAY = {name: value for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in {"VIRTUAL_ENV", "PGSPLIT_PURE"}}


def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None, timeout: float = 600) -> str:
    done = subprocess.run(command, cwd=cwd, env=AWAY | (environment or {}), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- without a wheel --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words", [("app.py",), ("-m", "pgsplit")])
def test_both_ways_to_call_it_say_the_version(words: tuple[str, ...]) -> None:
    assert run(sys.executable, *words, "--version", cwd=ROOT) == f"pgsplit {__version__}\n"


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT and "version" in PROJECT["dynamic"]
    told = [file for file in tracked("*.py") if re.search(r"^__version__ =", (ROOT / file).read_text(), re.MULTILINE)]
    assert told == ["pgsplit/__init__.py"]


def test_the_command_that_is_installed_is_that_of_app_py() -> None:
    module, _, function = PROJECT["scripts"]["pgsplit"].partition(":")
    imports = [(node.module, name.name) for node in ast.walk(ast.parse((ROOT / "app.py").read_text()))
               if isinstance(node, ast.ImportFrom) for name in node.names]
    assert imports == [(module, function)] and find_spec(module) is not None


def test_a_checkout_is_none_that_was_installed() -> None:
    assert not origin.IS_INSTALLED and origin.COMMAND == "python app.py" and find_spec(origin.ADMIN) is not None


# --- with one ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an sdist and a wheel: what `./run package` has made, or makes now."""
    if made := os.environ.get("PGSPLIT_DIST"):
        return Path(made)
    directory = tmp_path_factory.mktemp("dist")
    run(ROOT / "run", "package", directory, cwd=ROOT, environment={"PGSPLIT_VENV": sys.prefix})
    return directory


def only(directory: Path, pattern: str) -> Path:
    [found] = directory.glob(pattern)
    return found


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return only(dist, "*.whl")


def environment_with(directory: Path, *packages: str, variables: dict[str, str] | None = None) -> Path:
    """A new virtual environment with *packages*; its ``bin``."""
    try:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        missing(f"a virtual environment with pip: {error.stdout.decode()[-300:]}")
    run(directory / "bin/python", "-m", "pip", "install", "-q", *packages, cwd=directory, environment=variables)
    return directory / "bin"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of an environment that has the wheel, what it requires and what the demo does, and nothing else."""
    return environment_with(tmp_path_factory.mktemp("installed"), f"{wheel}[demo]")


def tracked(*folders: str) -> set[str]:
    """Files of the repository; locks are for it alone."""
    files = run("git", "ls-files", "-z", *folders, cwd=ROOT)
    return {file for file in files.split("\0") if file and not file.endswith(".lock")}


@pytest.mark.slow
def test_the_wheel_has_all_that_runs_and_nothing_else(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    expected = {f"pgsplit/{file}" if file.startswith(INSIDE) else file for file in tracked("pgsplit", *INSIDE)}
    assert expected <= held
    more = {file for file in held - expected if ".dist-info/" not in file}
    assert more == {str(compiled.target(name).relative_to(ROOT)) for name in compiled.MODULES}
    assert any(file.endswith(".dist-info/licenses/LICENSE") for file in held)


@pytest.mark.slow
def test_the_wheel_runs_on_other_distributions(wheel: Path) -> None:
    assert "manylinux" in wheel.name


@pytest.mark.slow
def test_the_sdist_has_all_that_the_wheel_is_made_of(dist: Path) -> None:
    with tarfile.open(only(dist, "*.tar.gz")) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked("pgsplit", *INSIDE, "contrib", "app.py", "setup.py", "pyproject.toml", "requirements.txt") <= held
    assert not any(name.startswith("tests") for name in held)


@pytest.mark.slow
def test_what_is_installed_is_whole(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "pgsplit", "--version", cwd=tmp_path) == f"pgsplit {__version__}\n"
    assert "No broken requirements" in run(installed / "python", "-m", "pip", "check", cwd=tmp_path)
    run(installed / "pgsplit", "build", "--check", cwd=tmp_path)
    assert "upstream: replica" in run(installed / "pgsplit", "explain", "select 1", cwd=tmp_path)
    assert run(installed / "pgsplit", "stats", "--help", cwd=tmp_path).startswith("usage: pgsplit stats ")


@pytest.mark.slow
def test_the_demo_runs_from_it(installed: Path, tmp_path: Path) -> None:
    try:
        installation.find()
    except installation.PostgresMissing as error:
        missing(str(error))
    with alone():
        output = run(installed / "python", "-m", "pgsplit.demo", "--seconds", "15", cwd=tmp_path)
    assert "they agree" in output and "; 0 reads missed" in output
    assert re.search(r"^clients ran [1-9]", output, re.MULTILINE)


class Installed(Proxy):
    """pgsplit from the environment whose ``bin`` is *bin*."""

    def __init__(self, bin: Path, *arguments: Any) -> None:
        self.PYTHON, self.PROGRAM = str(bin / "python"), ("-m", "pgsplit")
        super().__init__(*arguments)


@pytest.fixture
def instance(installed: Path, cluster: PrimaryAndStandbys, tmp_path: Path) -> Iterator[Instance]:
    configuration = default_configuration(cluster) | {"admin": f"{ports.HOST}:{ports.choose()}"}
    proxy = Installed(installed, tmp_path, configuration, cluster.guardian)
    proxy.start(environment={"PYTHONPATH": ""})
    started = Instance(proxy, cluster.guardian)
    yield started
    print(started.log)
    started.stop()


@pytest.mark.slow
def test_what_is_installed_serves_with_its_page_and_gives_way_to_the_next(instance: Instance) -> None:
    about = instance.proxy.client.arbiter("about")
    assert about["version"] == __version__ and "relay: compiled" in instance.log
    assert "WARNING" not in instance.log
    base = f"http://{instance.proxy.admin}"
    for path, held in (("/healthz", b""), ("/login", b"<form"), ("/static/app.css", b"{"),
                       ("/static/vendor/uplot/LICENSE", b"MIT")):
        with urllib.request.urlopen(base + path, timeout=30) as answer:
            assert answer.status == 200 and held in answer.read(), path
    with instance.connect() as session:
        instance.restart()
        assert session.execute("select 1").fetchone() == (1,)
    with instance.connect() as session:
        assert session.execute("select 2").fetchone() == (2,)


@pytest.mark.slow
def test_without_a_compiler_it_is_installed_all_the_same_and_says_what_to_install(
        dist: Path, cluster: PrimaryAndStandbys, tmp_path: Path) -> None:
    bin = environment_with(tmp_path / "venv", str(only(dist, "*.tar.gz")), variables={"CC": "false"})
    proxy = Installed(bin, tmp_path, default_configuration(cluster), cluster.guardian)
    try:
        proxy.start()
        [warning] = [line for line in proxy.log.read_text().splitlines() if "WARNING" in line]
    finally:
        proxy.stop(signal.SIGINT)
    assert warning.endswith("the relay runs in pure Python, at about twice the CPU a transaction; "
                            "install Cython (pip install cython), then: pgsplit build")
    run(bin / "python", "-m", "pip", "install", "-q", "cython", cwd=tmp_path)
    assert "built " in run(bin / "pgsplit", "build", cwd=tmp_path)
    run(bin / "pgsplit", "build", "--check", cwd=tmp_path)
