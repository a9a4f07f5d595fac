"""A real server's logs in its three formats, and its pg_stat_statements: the counts are of what was sent."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgsplit.stats.shares import offload
from tests.conftest import SUPERUSER_PASSWORD
from tests.integration.test_observing import runs
from tests.integration.test_off_load import counts, grown, now
from tests.observing.mix import MIX, TABLES
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
ROLE = "scram_user"
DATABASE = "observed"
TRANSACTIONS = 20
PREFIX = "%m [%p] %q%u@%d/%a "
SETTINGS = {"logging_collector": "on", "log_directory": "observed", "log_disconnections": "on", "log_duration": "on",
            "log_statement": "all", "log_line_prefix": PREFIX}
FORMATS = {"csvlog": "csv", "jsonlog": "json", "stderr": "log"}


@pytest.fixture(scope="module")
def logging(cluster):
    """The primary, which logs all to files in each format that its version has."""
    primary = cluster.primary
    version = int(primary.query("show server_version_num")[0][0])
    destinations = "stderr,csvlog" + (",jsonlog" if version >= 150000 else "")
    for name, value in {**SETTINGS, "log_destination": destinations}.items():
        primary.query(f"alter system set {name} = '{value}'")
    primary.restart()
    primary.query(f"create database {DATABASE} owner {ROLE}")
    pgbench(cluster, "-i", "-s", "1", "-q")
    yield cluster
    for name in (*SETTINGS, "log_destination"):
        primary.query(f"alter system reset {name}")
    primary.restart()
    primary.query(f"drop database {DATABASE} with (force)")
    cluster.catch_up()


def pgbench(cluster, *arguments):
    done = subprocess.run([cluster.installation.program("pgbench"), *arguments,
                           f"host=127.0.0.1 port={cluster.primary.port} user={ROLE} dbname={DATABASE}"],
                          capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "PGPASSWORD": cluster.roles[ROLE].password})
    assert done.returncode == 0, done.stderr


def observe(*arguments, **environment):
    done = subprocess.run([sys.executable, ROOT / "app.py", "observe", *arguments, "--format", "json"],
                          capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def parts(report):
    return {part["name"]: part["number"] for part in report["parts"]}


@pytest.fixture(scope="module")
def logs(logging):
    """The files, by their ends, that were written while the statements of a known number ran."""
    primary = logging.primary
    directory = primary.data / "observed"
    before = {path: path.stat().st_size for path in directory.iterdir()}
    for mode in ("simple", "extended", "prepared"):
        pgbench(logging, "-n", "-S", "-M", mode, "-t", str(TRANSACTIONS))
        pgbench(logging, "-n", "-M", mode, "-t", str(TRANSACTIONS))
    with primary.connect(ROLE, dbname=DATABASE, application_name="mine") as connection:
        connection.execute("select abalance,\n\t'a\nb' from pgbench_accounts where aid = %s", [1]).fetchall()
        connection.execute("update pgbench_accounts set abalance = 0 where aid = %s", [1])
        connection.execute("select abalance from pgbench_accounts where aid = %s", [1]).fetchall()
    with primary.connect(ROLE, dbname=DATABASE, application_name="mine", autocommit=True) as connection:
        connection.execute("listen a")
        connection.execute("select 1").fetchall()
        with pytest.raises(Exception, match="nothing_like_it"):
            connection.execute("select * from nothing_like_it")
        connection.execute("select now()").fetchall()
        [(pid,)] = connection.execute("select pg_backend_pid()").fetchall()
    found = {}
    for ending in ("csv", "json", "log"):
        for path in directory.glob(f"*.{ending}"):
            eventually(lambda path=path: str(pid) in path.read_text() and "disconnection" in
                       path.read_text()[path.read_text().rindex(str(pid)):])
            written = path.read_bytes()[before.get(path, 0):]
            found[ending] = directory.parent.parent / f"observed.{ending}"
            found[ending].write_bytes(written)
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_counted_is_what_was_sent(logs, name):
    if FORMATS[name] not in logs:
        pytest.skip("this version has no jsonlog")
    report = observe("--log", logs[FORMATS[name]])
    mine = next(row for row in report["by"]["application"] if row["name"] == "mine")
    # Of pgbench: SELECTs alone, those behind the UPDATE in the script of TPC-B, and what it asks at its start.
    modes, each = 3, TRANSACTIONS
    def rows(begin):
        return [row for row in report["by"]["digest"] if row["name"].startswith(begin)]

    assert sum(row["statements"] for begin in ("update pgbench", "insert into pgbench") for row in rows(begin)) == (
        modes * each * 4 + 1)
    accounts = rows("select abalance from pgbench_accounts")
    assert sum(row["statements"] for row in accounts) == 2 * modes * each + 1
    assert sum(row["moves"] for row in accounts) == modes * each
    assert mine["statements"] == 5 + 5
    assert mine["moves"] == 1
    kept = {reason["name"]: reason["number"] for reason in report["kept"]}
    assert kept["after_write"] == modes * each + 1
    assert kept["pinned"] == 2
    assert report["failed"] == 1
    assert parts(report)["unknown"] == 0
    assert report["timed"] and report["microseconds"] > 0
    assert report["freshness"]["reads"] == parts(report)["moves"]
    assert "not readable" not in report["source"]


def test_pg_stat_statements(logging):
    primary = logging.primary
    primary.query("create extension if not exists pg_stat_statements")
    primary.query("select pg_stat_statements_reset()")
    pgbench(logging, "-n", "-S", "-t", str(TRANSACTIONS))
    pgbench(logging, "-n", "-t", str(TRANSACTIONS))
    report = observe("--pg-stat-statements", f"host=127.0.0.1 port={primary.port} user=postgres sslmode=require",
                     "--catalogue", f"postgresql://postgres@127.0.0.1:{primary.port}/{DATABASE}",
                     PGPASSWORD=SUPERUSER_PASSWORD)
    accounts = next(row for row in report["by"]["digest"] if row["name"].startswith("select abalance from pgbench_acc"))
    assert accounts["statements"] == accounts["moves"] == 2 * TRANSACTIONS
    assert report["upper_bound"] and report["freshness"] is None
    assert sum(row["statements"] for row in report["by"]["digest"] if re.match("update|insert", row["name"])
               ) == 4 * TRANSACTIONS


def test_by_the_catalogue(logging, tmp_path):
    primary = logging.primary
    primary.query("create function reads() returns int stable language sql as 'select 1'", dbname=DATABASE)
    primary.query("create view hides as select pg_backend_pid()", dbname=DATABASE)
    log = tmp_path / "postgresql.log"
    head = f"2026-11-30 13:44:52.001 UTC [7] u@{DATABASE}/a LOG:  statement: "
    log.write_text(f"{head}select reads()\n{head}select * from hides\n")
    assert parts(observe("--log", log))["moves"] == 1
    report = observe("--log", log, "--catalogue", f"host={primary._house.sockets} port={primary.port} user=postgres "
                     f"dbname={DATABASE}")
    assert [reason["name"] for reason in report["kept"]] == ["catalogue"]
    assert parts(report)["moves"] == 1


@pytest.mark.parametrize(("dsn", "why"), [
    ("host=127.0.0.1 port={port} user=postgres password=wrong", "password authentication failed"),
    ("host=127.0.0.1 port={port} user=postgres", "PGPASSWORD"),
    ("host=127.0.0.1 port=1 user=postgres", "Connection refused"),
    ("host=/nowhere user=postgres", "No such file"),
    ("host=127.0.0.1 port={port} user=postgres sslmode=verify-full sslrootcert=/nowhere", "No such file"),
    ("host={sockets} port={port} user=postgres dbname=template1", "has no pg_stat_statements")])
def test_a_server_that_cannot_be_asked(cluster, dsn, why):
    text = dsn.format(port=cluster.primary.port, sockets=cluster.primary._house.sockets)
    done = subprocess.run([sys.executable, ROOT / "app.py", "observe", "--pg-stat-statements", text],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert why in done.stderr and "Traceback" not in done.stderr


def test_a_log_and_an_observing_pgsplit_agree(logging, pgsplit_server, tmp_path):
    """What each says of the same statements: the one by their texts, the other by their sessions."""
    primary = logging.primary
    primary.query(TABLES, dbname=DATABASE)
    proxy = pgsplit_server(pgsplit={"workers": 1, "mode": "observe"})
    with primary.connect("postgres", port=proxy.port, dbname=DATABASE, autocommit=True) as session:
        eventually(lambda: session.execute("select count(*) from mix").fetchall()
                   and session.execute("show pgsplit.last_route").fetchone() == ("primary: observed",))
    before = offload(now(proxy))
    for texts in MIX:
        with primary.connect("postgres", port=proxy.port, dbname=DATABASE, application_name="mix",
                             autocommit=True) as session:
            for text in texts:
                runs(session, text)
    eventually(lambda: not now(proxy)["postgres.postgres.sessions_active"])
    counted = grown(counts(before), counts(offload(now(proxy))))
    newest = max((primary.data / "observed").glob("*.csv"), key=lambda path: path.stat().st_mtime)
    eventually(lambda: newest.read_text().count('"mix"') >= 2 * sum(map(len, MIX)))
    mine = tmp_path / "mix.csv"
    with mine.open("w") as file:
        for lines in newest.read_text().splitlines(keepends=True):
            if '"mix"' in lines:
                file.write(lines)
    report = observe("--log", mine)
    logged = {reason["name"]: reason["number"] for reason in report["kept"]} | {"observed": parts(report)["moves"]}
    assert logged == counted
