"""PostgreSQL's own regression and isolation suites, by hand: its source, unpacked, has the tests, pg_regress runs them.

``regress.so``, which they load, is compiled: that takes a C compiler and the server's headers (Debian:
postgresql-server-dev-NN), of the same major version as the server and the source.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from pgsplit.demo import installation
from pgsplit.demo.installation import Installation
from pgsplit.demo.server import SUPERUSER, environment
from pgsplit.errors import PgSplitError
from tests.conformance import servers
from tests.conformance.checkout import CACHE
from tests.conformance.outcome import FAILED, PASSED
from tests.conformance.servers import Servers
from tests.conformance.suites import PASSWORD, Suite
from tests.conformance.trial import Trial

_LOCK: Final = ("a read takes its lock on the replica: it does not wait for an ACCESS EXCLUSIVE lock on the primary, "
                "nor does who wants one there wait for it")
POSTGRESQL: Final = Suite(
    "postgresql", "of --source", needs=(), arguments=(),
    explained={"regress::stats": "what a replica reads is counted there",
               "isolation::stats": "the functions that a replica runs are counted there",
               **{f"isolation::{test}": _LOCK for test in (
                   "alter-table-4", "detach-partition-concurrently-1", "detach-partition-concurrently-3",
                   "detach-partition-concurrently-4", "timeouts", "truncate-conflict")}},
    # pg_stat_statements, which the servers have loaded, would add a line to each EXPLAIN VERBOSE.
    sql=("alter role all set compute_query_id = regress",),
    seconds=1800,
)
PROGRAMS: Final = {     # folder of src/test -> what runs it, its schedule, and what the tests are spared
    "regress": ("pg_regress", "parallel_schedule", ("--max-concurrent-tests=20",)),
    "isolation": ("pg_isolation_regress", "isolation_schedule", ()),
}
# PostgreSQL 15 "test boolean ... ok 20 ms", in a group "     boolean ... FAILED"; from 16 on "not ok 2 + boolean 20 ms"
_LINE: Final = re.compile(r"(?:test|    ) +(?P<name>\S+) +\.\.\. (?P<ended>ok|FAILED|failed)"
                          r"|(?P<tap>ok|not ok) +\d+ +[-+] (?P<tapped>\S+)")


def run(source: Path, way: str) -> Trial:
    """Run both. PgSplitError if something they need is not there, or pg_regress did not come to its end."""
    found = installation.find()
    home = CACHE / POSTGRESQL.name / way.replace(", ", "-").replace(" ", "-")
    shutil.rmtree(home, ignore_errors=True)
    outcomes: dict[str, str] = {}
    with servers.running(POSTGRESQL, way) as reached, tempfile.TemporaryDirectory(prefix="pgsplit-") as name:
        directory = Path(name)
        for folder in PROGRAMS:
            shutil.copytree(source / "src" / "test" / folder, directory / folder)
        libraries = _libraries(found, source, directory)
        for folder in PROGRAMS:
            text = _regress(found, reached, directory / folder, libraries)
            results = home / folder
            results.mkdir(parents=True)
            for file in (directory / folder).glob("regression.*"):
                shutil.copy(file, results)
            (results / "log").write_text(text)
            outcomes |= {f"{folder}::{test}": ended for test, ended in read(text).items()}
        if reached.proxy:
            shutil.copy(reached.proxy.log, home)
        return Trial(outcomes, reached.counts(), reached.version, home)


def read(text: str) -> dict[str, str]:
    """Test -> outcome, from what pg_regress prints."""
    return {line["name"] or line["tapped"]: PASSED if "ok" in (line["ended"], line["tap"]) else FAILED
            for line in map(_LINE.match, text.splitlines()) if line}


def _libraries(found: Installation, source: Path, directory: Path) -> Path:
    for name in ("autoinc.so", "refint.so"):
        shutil.copy(Path(_run(found.program("pg_config"), "--pkglibdir").strip()) / name, directory)
    includes = ["-I" + _run(found.program("pg_config"), option).strip()
                for option in ("--includedir-server", "--includedir")]
    _run("cc", "-O1", "-fPIC", "-shared", "-w", *includes, "-o", str(directory / "regress.so"),
         str(source / "src" / "test" / "regress" / "regress.c"))
    return directory


def _regress(found: Installation, reached: Servers, folder: Path, libraries: Path) -> str:
    program, schedule, more = PROGRAMS[folder.name]
    libraries.chmod(0o755)
    (folder / "results").mkdir(exist_ok=True)
    for path in (folder, *folder.rglob("*/")):      # the servers read the tests' data, and write results
        path.chmod(0o777)
    built = Path(_run(found.program("pg_config"), "--pgxs").strip()).parents[1] / "test" / folder.name / program
    done = subprocess.run(
        [built, f"--bindir={found.bin_dir}", f"--inputdir={folder}", f"--outputdir={folder}", f"--dlpath={libraries}",
         f"--host={reached.host}", f"--port={reached.port}", f"--user={SUPERUSER}", f"--schedule={folder / schedule}",
         "--no-locale", *more],
        cwd=folder, env=environment() | {"PGPASSWORD": PASSWORD, "PGSSLMODE": "disable"},  # libpq says "SSL" in errors
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        timeout=POSTGRESQL.seconds)
    if not read(done.stdout):
        raise PgSplitError(f"{program} told no results:\n{done.stdout}")
    return done.stdout


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode:
        raise PgSplitError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
