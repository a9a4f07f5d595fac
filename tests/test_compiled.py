"""Compiled modules: of which sources they are, when they are refused, and that they do the same."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import types
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pgsplit import compiled
from pgsplit.cli import build
from pgsplit.demo import ports
from pgsplit.upstream import tls_context
from pgsplit.wire import framing
from tests.needs import missing
from tests.session.relays import module
from tests.waiting import eventually

ROOT = Path(__file__).parents[1]
QUIET = frozenset(b"DdTC")


def framing_module():
    found = compiled.load("pgsplit.wire._framing")
    if found is None:
        pytest.skip("PGSPLIT_PURE is set") if compiled.is_forbidden() else missing("the compiled modules: ./run build")
    return found


def test_one_that_was_built_of_other_sources_is_refused_with_a_line(monkeypatch, caplog):
    module()
    monkeypatch.setattr(compiled, "hash_of", lambda name: "another")
    with caplog.at_level(logging.WARNING):
        assert compiled._load(compiled.RELAY) is None
    assert "was built of other sources; build it again: ./run build" in caplog.text
    assert compiled.form() == "pure Python"


def test_pgsplit_pure_forbids_them(monkeypatch):
    module()
    monkeypatch.setenv("PGSPLIT_PURE", "1")
    assert compiled.load(compiled.RELAY) is None and compiled.form() == "pure Python"
    monkeypatch.setenv("PGSPLIT_PURE", "0")
    assert compiled.load(compiled.RELAY) is not None and compiled.form() == "compiled"


def test_what_is_built_is_not_built_again():
    module()
    done = subprocess.run([sys.executable, "app.py", "build", "--if-needed"], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout == ""
    subprocess.run([sys.executable, "app.py", "build", "--check"], cwd=ROOT, check=True)


def test_building_without_a_compiler_says_what_is_missing(tmp_path):
    done = subprocess.run([sys.executable, "app.py", "build"], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr == "pgsplit build: install a C compiler (Debian: apt-get install gcc libc6-dev)\n"


def test_what_is_built_needs_no_remedy():
    module()
    assert compiled.remedy() is None


@pytest.mark.parametrize("lacking, remedy", [
    ([], "./run build"),
    (["a C compiler (Debian: apt-get install gcc libc6-dev)", "Cython (pip install cython)"],
     "install a C compiler (Debian: apt-get install gcc libc6-dev), Cython (pip install cython), then: ./run build")])
def test_the_remedy_names_what_is_lacking(monkeypatch, lacking, remedy):
    monkeypatch.delenv("PGSPLIT_PURE", raising=False)
    monkeypatch.setattr(compiled, "is_built", lambda name: False)
    monkeypatch.setattr(compiled, "lacking", lambda: lacking)
    assert compiled.remedy() == remedy
    monkeypatch.setenv("PGSPLIT_PURE", "1")
    assert compiled.remedy() is None


@pytest.fixture
def not_built(tmp_path) -> Path:
    """A copy of pgsplit without its compiled modules, and a configuration."""
    for part in ("pgsplit", "admin", "templates", "static"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "app.py", tmp_path)
    settings = {"run_dir": str(tmp_path / "run"), "workers": 1}
    (tmp_path / "pgsplit.yaml").write_text(yaml.safe_dump({
        "listen": f"{ports.HOST}:{ports.choose()}", "servers": [f"{ports.HOST}:{ports.choose()}"],
        "users": {"app": "x"}, "monitor": "app", "pgsplit": settings}))
    (tmp_path / "pgsplit.yaml").chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("pure, warns", [("", True), ("1", False)])
def test_a_start_in_pure_python_is_a_warning_but_where_it_was_asked_for(not_built, pure, warns):
    log = not_built / "log"
    with log.open("wb") as file, subprocess.Popen(
            [sys.executable, "app.py", "serve", "-c", "pgsplit.yaml"], cwd=not_built, stderr=file,
            env=os.environ | {"PGSPLIT_PURE": pure}) as process:
        try:
            eventually(lambda: "worker 1 booted" in log.read_text(), timeout=60)
        finally:
            process.send_signal(signal.SIGINT)
    said = re.findall(r"WARNING pgsplit.arbiter: the relay runs in pure Python, .*; (.+)\n", log.read_text())
    assert [words.endswith("./run build") for words in said] == [True] * warns


def test_without_openssl_s_headers_all_but_tls_is_built_and_a_line_says_so(monkeypatch, capsys):
    module()
    monkeypatch.setitem(compiled.NEEDS, compiled.OPENSSL, ("no/such/header.h", (), "libssl-dev"))
    is_built = compiled.is_built
    monkeypatch.setattr(compiled, "is_built", lambda name: name != compiled.OPENSSL and is_built(name))
    assert build.run(argparse.Namespace(check=True, if_needed=False)) == 0
    assert build.run(argparse.Namespace(check=False, if_needed=True)) == 0
    assert capsys.readouterr().out == (
        f"{compiled.target(compiled.OPENSSL).name} is not built: no headers of OpenSSL (Debian: apt-get install "
        "libssl-dev); TLS is Python's ssl module's, and its sessions are relayed in Python\n")


def test_tls_is_compiled_only_beside_the_relay(monkeypatch):
    module()
    monkeypatch.setattr(compiled, "_found", {compiled.RELAY: None})
    assert not tls_context.is_compiled() and isinstance(tls_context.make(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext)


messages = st.lists(st.tuples(st.sampled_from(b"DdTCZE"), st.binary(max_size=9)).map(
    lambda pair: bytes([pair[0]]) + (len(pair[1]) + 4).to_bytes(4, "big") + pair[1]), max_size=6).map(b"".join)


@given(st.one_of(messages, st.binary(max_size=30)), st.integers(0, 12), st.integers(0, 12))
def test_skip_is_the_same(data, start, less):
    end = max(start, len(data) - less)
    if end <= len(data):
        assert framing_module().skip(data, start, end, QUIET) == reference(data, start, end) == pure(data, start, end)


def reference(data: bytes, start: int, end: int) -> tuple[int, int]:
    count = 0
    while end - start >= 5:
        length = int.from_bytes(data[start + 1:start + 5], "big")
        if data[start] not in QUIET or length < 4 or start + 1 + length > end:
            break
        start, count = start + 1 + length, count + 1
    return start, count


ROW = b"D\0\0\0\x09\0\1\0\0\0"
RUNS = [ROW * 50, ROW * 50 + b"D\0\0\0\x08\0\1\0\0" + ROW * 3, ROW * 12 + b"E" + ROW[1:] * 2, ROW * 8 + ROW[:4],
        ROW * 40 + ROW[:7], ROW * 9 + b"D\0\0\0\x03", (ROW * 9 + ROW[:1] + b"\0\0\0\x0a" + bytes(6)) * 5]


@pytest.mark.parametrize("data", RUNS)
def test_rows_of_one_length_are_gone_over_alike(data):
    for end in (len(data) - 15, len(data) - 1, len(data)):
        assert pure(data, 0, end) == reference(data, 0, end)


@lru_cache
def python_skip():
    """`framing.skip` in Python, also where the compiled one has taken its place."""
    source = (ROOT / "pgsplit" / "wire" / "framing.py").read_text().replace("compiled.load(", "(lambda name: None)(")
    module = types.ModuleType("pgsplit.wire.framing_in_python")
    module.__package__ = "pgsplit.wire"
    exec(source, module.__dict__)
    return module.skip


def pure(data: bytes, start: int, end: int) -> tuple[int, int]:
    return python_skip()(data, start, end, QUIET)


@pytest.mark.parametrize("data", [b"D\0\0\0\x04C\0\0\0\x05x", b"D\0\0\0\x03", b"D\xff\xff\xff\xff", b""])
def test_skip_in_python_is_the_same(data):
    assert pure(data, 0, len(data)) == reference(data, 0, len(data))
    assert framing.skip(data, 0, len(data), QUIET) == reference(data, 0, len(data))
