"""A suite's source distribution, unpacked, and a virtual environment that can run it. Both are made once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from pgsplit.errors import PgSplitError
from tests.conformance.suites import Suite

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "conformance"
TIMEOUT_PLUGIN = "pytest-timeout"       # a test that hangs must not end the run


class Checkout:
    """``directory`` is the unpacked distribution, ``python`` an interpreter with what its tests need.

    It lies in CACHE; :meth:`make` fills it by pip, from PyPI, and does nothing when that has been done.
    """

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self.home = CACHE / f"{suite.name}-{suite.version}"
        self.directory = self.home / "source"
        self.python = self.home / "venv" / "bin" / "python"
        self._stamp = self.home / "made"

    def make(self) -> None:
        """PgSplitError with pip's words where that fails."""
        needs = [need.format(version=self._suite.version) for need in (*self._suite.needs, TIMEOUT_PLUGIN)]
        wanted = f"{sys.version}\n" + "\n".join(needs)
        if self._stamp.exists() and self._stamp.read_text() == wanted:
            return
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self._fetch()
        venv.create(self.home / "venv", with_pip=False)
        _pip("--python", str(self.python), "install", *needs)
        self._stamp.write_text(wanted)

    def _fetch(self) -> None:
        name, version = self._suite.name, self._suite.version
        _pip("download", "--no-deps", "--no-binary", name, "--dest", str(self.home), f"{name}=={version}")
        [archive] = self.home.glob("*.tar.gz")
        shutil.unpack_archive(archive, self.home)
        (self.home / archive.name.removesuffix(".tar.gz")).rename(self.directory)


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600)
    if done.returncode:
        raise PgSplitError(f"pip {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}")
