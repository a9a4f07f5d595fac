"""pgjdbc, by a small class that is compiled here: autocommit off, and read only connections."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from bench.offload.clients import WRITE_EVERY, NotHere, Sent, Target, writes

SOURCE = Path(__file__).with_name("Reads.java")
USUAL = Path("/usr/share/java/postgresql.jar")


def transactions(target: Target, rounds: int) -> Sent:
    _run(target, rounds, read_only=False)
    return Sent(3 * rounds, writes(rounds))


def read_only(target: Target, rounds: int) -> Sent:
    _run(target, rounds, read_only=True)
    return Sent(3 * rounds)


def version(jar: Path) -> str:
    """As the driver's manifest has it."""
    with zipfile.ZipFile(jar) as file:
        found = re.search(r"Implementation-Version: (\S+)", file.read("META-INF/MANIFEST.MF").decode())
    return found[1] if found else "unknown"


def _run(target: Target, rounds: int, *, read_only: bool) -> None:
    java, javac, jar = shutil.which("java"), shutil.which("javac"), target.jdbc or USUAL
    if not java or not javac:
        raise NotHere("no java and javac in PATH")
    if not jar.exists():
        raise NotHere(f"no {jar.name} (Debian: libpostgresql-jdbc-java; --jdbc FILE)")
    if not (target.scratch / "Reads.class").exists():
        _call([javac, "-d", str(target.scratch), str(SOURCE)], target)
    url = f"jdbc:postgresql://{target.host}:{target.port}/{target.dbname}?sslmode=disable&gssEncMode=disable"
    _call([java, "-cp", f"{jar}:{target.scratch}", "Reads", url, target.user, str(rounds), str(read_only).lower(),
           str(WRITE_EVERY)], target)


def _call(command: list[str], target: Target) -> None:
    done = subprocess.run(command, env=os.environ | {"PGPASSWORD": target.password}, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.strip()}")
