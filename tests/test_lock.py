"""The locks hold what the requirements allow, and they alone say what ./run installs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.tools.lock import APART, REQUIREMENTS, ROOT, all_below, included, lock_of, own_lines, pins

PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>\S+)( ; [^\\]+?)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n")


def locked(lock: Path) -> dict[str, Version]:
    """Its own pins by canonical name; everything in it is a pin with hashes, or a comment."""
    text = re.sub(r"^#.*\n|^\n", "", pins(lock), flags=re.MULTILINE)
    found = list(PIN.finditer(text))
    assert "".join(match[0] for match in found) == text
    return {canonicalize_name(match["name"]): Version(match["version"]) for match in found}


def files(name: str) -> Iterator[Path]:
    """All of which *name* consists."""
    yield from all_below(ROOT / name)
    yield ROOT / name


@pytest.mark.parametrize("name", [*REQUIREMENTS, *APART])
def test_a_lock_is_as_new_as_its_requirements(name: str) -> None:
    """Else: ./run lock."""
    versions = {package: version for file in files(name) for package, version in locked(lock_of(file)).items()}
    for file in files(name):
        for line in own_lines(file):
            requirement = Requirement(line)
            version = versions.get(canonicalize_name(requirement.name))
            assert version is not None, f"{lock_of(file).name} lacks {requirement.name}: ./run lock"
            assert version in requirement.specifier, f"{requirement} and not {version}: ./run lock"


@pytest.mark.parametrize("name", [*REQUIREMENTS, *APART])
def test_a_lock_includes_those_that_its_requirements_include(name: str) -> None:
    lock = lock_of(ROOT / name)
    told = [(lock.parent / other).resolve() for other in re.findall(r"^-r (\S+)$", lock.read_text(), re.MULTILINE)]
    assert told == [lock_of(file) for file in included(ROOT / name)]


def test_no_two_locks_disagree() -> None:
    versions: dict[str, Version] = {}
    for name in REQUIREMENTS:
        for package, version in locked(lock_of(ROOT / name)).items():
            assert versions.setdefault(package, version) == version, package


def test_no_lock_names_an_index() -> None:
    for name in (*REQUIREMENTS, *APART):
        assert not re.search(r"://|^--|/", re.sub(r"^-r .*$", "", lock_of(ROOT / name).read_text(), flags=re.MULTILINE))


def test_run_installs_locks_only() -> None:
    script = (ROOT / "run").read_text()
    installed = set(re.findall(r"(?:install|requirements=)\s*\"?\$here/([\w/.-]+)", script))
    assert installed - {"tests/tools/lock-requirements.txt", "bench/offload/requirements.txt"} == {
        str(lock_of(Path(name))) for name in (*REQUIREMENTS, *APART)}
