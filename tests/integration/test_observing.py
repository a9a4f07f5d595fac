"""mode: observe on real servers: the standby answers nothing, and the report says what it would have answered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from pgsplit.classify.classifier import Classifier
from pgsplit.cli import main
from pgsplit.observing.session import READ as READS
from pgsplit.observing.session import Session
from pgsplit.stats.shares import offload
from tests.integration.test_off_load import counts, grown, now, value
from tests.observing.mix import MIX, TABLES
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
READ = "select count(*) from observed_t"
CLASSIFY = Classifier(1000, 65536)


@pytest.fixture
def proxy(pgsplit_server):
    return pgsplit_server(pgsplit={"workers": 2, "mode": "observe"})


@pytest.fixture
def table(cluster):
    cluster.primary.query("create table observed_t (a int)")
    cluster.primary.query("create function observed_f() returns int volatile language plpgsql as 'begin return 1; end'")
    cluster.catch_up()
    yield
    cluster.primary.query("drop table observed_t; drop function observed_f")


def served(cluster):
    """Statements of clients that each server has counted."""
    return [sum(calls for calls, in server.query(
        "select calls from pg_stat_statements where query like '%observed_t%' and query not like '%pg_stat_s%'"))
        for server in (cluster.primary, *cluster.standbys)]


def knows_the_table(session):
    """The catalogue has been read since the table was made: without that it is doubt."""
    eventually(lambda: value(session, READ) is not None
               and value(session, "show pgsplit.last_route") == "primary: observed")


def run(*arguments):
    done = subprocess.run([sys.executable, ROOT / "app.py", *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ})
    return done.returncode, done.stdout, done.stderr


def of_instance(proxy):
    code, shown, complaint = run("report", "--run-dir", str(proxy.run_dir), "--format", "json")
    assert (code, complaint) == (0, "")
    return json.loads(shown)


def test_all_goes_to_the_primary_and_is_counted(cluster, proxy, table):
    before = served(cluster)
    with cluster.primary.connect("postgres", port=proxy.port, application_name="watched", autocommit=True) as session:
        knows_the_table(session)
        start = counts(offload(now(proxy)))
        for _ in range(10):
            assert value(session, READ) is not None
        for _ in range(3):
            with session.transaction():
                value(session, READ)
                session.execute("insert into observed_t values (1)")
                value(session, READ)
        session.execute("listen observed")
        value(session, READ)
        session.execute("unlisten *")
        eventually(lambda: value(session, "select now()") and value(session, READ) is not None and not [
            pin for row in proxy.client.worker(1, "sessions") + proxy.client.worker(2, "sessions")
            for pin in row["pins"]], timeout=30, every=1.5)
        assert value(session, READ) is not None         # nothing pins it any more
        found = offload(now(proxy))
        assert found.replica.number == 0
        kept = grown(start, counts(found))
        assert kept["observed"] >= 10 + 3 + 1
        assert kept["after_write"] == 3
        assert kept["pinned"] >= 1 and kept["clock"] >= 1
        # In its own words, where it asks.
        assert value(session, "select 1") == 1
        assert value(session, "show pgsplit.last_route").startswith("primary: observed")
    after = served(cluster)
    assert after[0] > before[0] and after[1:] == before[1:]
    assert [row for row in proxy.client.worker(1, "hosts") if not row["writes"] and row["cx_total"]] == []


def test_the_report_of_a_running_instance(cluster, proxy, table, tmp_path):
    with cluster.primary.connect("postgres", port=proxy.port, application_name="<b>first", autocommit=True) as session:
        knows_the_table(session)

    def moves(report):
        return next(part["number"] for part in report["parts"] if part["name"] == "moves")

    eventually(lambda: moves(of_instance(proxy)) > 0)       # what a session has done is told when it has ended
    before = of_instance(proxy)
    with cluster.primary.connect("postgres", port=proxy.port, application_name="<b>second",
                                 autocommit=True) as session:
        for _ in range(20):
            value(session, READ)
        for _ in range(5):
            value(session, "select now()")
        session.execute("insert into observed_t values (1)")
        eventually(lambda: proxy.client.arbiter("totals").get("postgres.postgres.reads_kept.clock") == 5)
        report = of_instance(proxy)
    assert moves(report) - moves(before) == 20
    assert {reason["name"]: reason["number"] for reason in report["kept"]}["clock"] == 5
    assert ("<b>second", 25, 20) in [(row["name"], row["reads"], row["moves"]) for row in report["by"]["application"]]
    assert any("observed_t" in row["name"] for row in report["by"]["digest"])
    code, shown, _ = run("report", "--run-dir", str(proxy.run_dir), "--format", "html")
    assert code == 0 and "<b>second" not in shown and "&lt;b&gt;second" in shown
    code, shown, _ = run("report", "--run-dir", str(proxy.run_dir))
    assert code == 0 and "statements replicas could answer" in shown


def test_statements_mean_what_the_catalogue_says(cluster, proxy, table):
    with cluster.primary.connect("postgres", port=proxy.port, autocommit=True) as session:
        eventually(lambda: [row for number in (1, 2) for row in proxy.client.worker(number, "catalogues")
                            if row["usable"]])
        value(session, "select observed_f()")
        eventually(lambda: counts(offload(now(proxy))).get("function"))


def test_where_nothing_observes(cluster, pgsplit_server, capsys):
    proxy = pgsplit_server()
    assert main(["report", "--run-dir", str(proxy.run_dir)]) == 1
    assert "mode: observe" in capsys.readouterr().err


def test_a_reload_ends_it_for_new_sessions(cluster, pgsplit_server, table):
    configuration = {"workers": 1, "fence_wait": "60s"}
    proxy = pgsplit_server(pgsplit={**configuration, "mode": "observe"})
    with cluster.primary.connect("postgres", port=proxy.port, autocommit=True) as old:
        value(old, READ)
        proxy.file.write_text(proxy.file.read_text().replace("mode: observe", "mode: split"))
        proxy.signal(signal.SIGHUP)

        def reads_on_a_replica():
            with psycopg.connect(host="127.0.0.1", port=proxy.port, user="postgres", password="postgres-secret",
                                 dbname="postgres", autocommit=True) as new:
                value(new, READ)
                return value(new, "show pgsplit.last_route") == "replica: read"

        eventually(reads_on_a_replica)
        value(old, READ)
        assert value(old, "show pgsplit.last_route") == "primary: observed"


def foretold(texts):
    """By the rules of `pgsplit observe --log`: the reads, by `replica` or what keeps them."""
    session, found = Session(), Counter()
    for text in texts:
        facts = CLASSIFY(text.encode())
        run = session.run(facts, text)
        if facts.prepares is not None:
            session.knows(facts.prepares.name, CLASSIFY(facts.prepares.sql))
        found.update(outcome.kept or "replica" for outcome in run.outcomes if outcome.kind == READS)
    return dict(found)


def runs(session, text):
    if text.startswith("copy"):
        with session.cursor().copy(text.encode()) as rows:
            assert list(rows) is not None
    else:
        session.execute(text.encode())


@pytest.mark.parametrize("mode", ["split", "observe"])
def test_what_a_log_foretells_is_what_happens(cluster, pgsplit_server, mode):
    """In a session of each: with `split` replicas answer what the log's rules say, with `observe` it is counted so."""
    cluster.primary.query(f"drop table if exists mix; {TABLES}")
    cluster.catch_up()
    proxy = pgsplit_server(pgsplit={"workers": 1, "mode": mode, "fence_wait": "60s"})
    there = "replica: read" if mode == "split" else "primary: observed"
    with cluster.primary.connect("postgres", port=proxy.port, autocommit=True) as session:
        eventually(lambda: session.execute("select a from mix").fetchall() is not None
                   and value(session, "show pgsplit.last_route") == there)
    wrong = []
    for texts in MIX:
        before = counts(offload(now(proxy)))
        with cluster.primary.connect("postgres", port=proxy.port, autocommit=True) as session:
            for text in texts:
                runs(session, text)
        found = grown(before, counts(offload(now(proxy))))
        if mode == "observe":
            found = {"replica" if name == "observed" else name: number for name, number in found.items()}
        if found != foretold(texts):
            wrong.append((texts, found, foretold(texts)))
    cluster.primary.query("drop table mix")
    assert wrong == []


def test_who_is_in_no_list_reads_on_the_primary(cluster, pgsplit_server):
    proxy = pgsplit_server(users={"postgres": "postgres-secret"}, pgsplit={
        "mode": "observe", "unlisted_users": "read_only", "read_fallback": "error", "login_without_primary": True})
    with cluster.primary.connect("scram_user", port=proxy.port, autocommit=True) as session:
        assert value(session, "select pg_is_in_recovery()") is False
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.execute("create table observed_no (a int)")
