"""./run, as far as it can be tried without making an environment; .ci/run makes one each time."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[1] / "run"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHON", "VIRTUAL_ENV", "PGSPLIT_VENV"}}
    return subprocess.run([str(RUN), *arguments], env=kept | environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=600)


@pytest.fixture
def old_python(tmp_path: Path) -> str:
    script = tmp_path / "python3.11"        # as a pyenv shim may be: the name is there, the version is not
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    return str(script)


def test_help_names_the_commands() -> None:
    done = run("help")
    assert done.returncode == 0
    assert all(f"\n  {command} " in done.stdout for command in ("demo", "test", "check", "serve", "bench", "help"))


def test_an_unknown_command_is_a_mistake() -> None:
    done = run("tset")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("usage: ./run")


def test_a_python_that_cannot_be_used_is_named(old_python: str, tmp_path: Path) -> None:
    done = run("check", PYTHON=old_python, PGSPLIT_VENV=str(tmp_path / "venv"))
    assert (done.returncode, done.stderr) == (
        3, f"run: PYTHON={old_python} does not run, or is older than Python 3.11\n")


def test_no_python_at_all(old_python: str, tmp_path: Path) -> None:
    for name in ("dirname", "cat"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = run("check", PATH=str(tmp_path), PGSPLIT_VENV=str(tmp_path / "venv"))
    assert done.returncode == 3
    assert done.stderr.startswith("run: no Python 3.11 or newer") and done.stderr.count("\n") == 1


def test_a_directory_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    done = run("check", PGSPLIT_VENV=str(tmp_path / "mine"))
    assert done.returncode == 3 and "has no bin/python that runs" in done.stderr
    assert (tmp_path / "mine" / "file").read_text() == "precious"
