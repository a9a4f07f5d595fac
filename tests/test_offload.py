"""./run offload: what it reports is what the servers counted, and what clients send is sorted rightly."""

from __future__ import annotations

import pytest

from bench.contenders import DIRECT, PGSPLIT
from bench.offload import table
from bench.offload.measuring import Report, Row, Wishes, measure
from bench.offload.tally import AFTER, OTHER, OWN, READ, Amount, Sorter, Statement, canonical
from bench.offload.workloads import ALL, BY_NAME, STANDS
from pgsplit.demo import installation
from tests.needs import missing

ROUNDS = 40
KNOWN = frozenset({canonical("SET LOCAL app.tenant = '7'"), "select version()"})


@pytest.mark.parametrize(("statement", "kind"), [
    (Statement("app", "select balance from account where id = $1", 1, 1.0), READ),
    (Statement("app", "with found as (select id from ticket) select json_agg(id) from found", 1, 1.0), READ),
    (Statement("app", "SELECT sum(amount) FROM entry", 1, 1.0), AFTER),
    (Statement("app", "update account set balance = $1", 1, 1.0), OWN),            # the application never sent it
    (Statement("app", "SET LOCAL app.tenant = '12'", 1, 1.0), OTHER),
    (Statement("app", "select version()", 1, 1.0), OTHER),
    (Statement("app", "begin isolation level read committed", 1, 1.0), OTHER),
    (Statement("app", "select name, setting from pg_settings", 1, 1.0), OWN),
    (Statement("monitor", "select version()", 1, 1.0), OWN),
])
def test_kinds(statement: Statement, kind: str) -> None:
    assert Sorter({"app"}, BY_NAME["psycopg"].is_after, KNOWN).kind(statement) == kind


def test_shares_and_what_is_left() -> None:
    read, after = "select balance from account", "select sum(amount) from entry"
    known = frozenset({"update account"})
    found = Sorter({"app"}, BY_NAME["psycopg"].is_after, known).tally(
        [Statement("app", read, 2, 4.0), Statement("app", after, 4, 2.0), Statement("app", "update account", 3, 1.0),
         Statement("monitor", "select 1", 5, 0.5)],
        [Statement("app", read, 6, 6.0)])
    assert (found.share, found.share_of_all, found.share_of_time) == (6 / 8, 6 / 12, 6 / 12)
    assert (found.applications, found.primary[OWN]) == (Amount(9, 7.0), Amount(5, 0.5))
    row = Row(BY_NAME["psycopg"], {DIRECT: found, PGSPLIT: found}, kept={"write": 3, "transaction_open": 4})
    text = table.markdown(Report([row], {"PostgreSQL": "15", PGSPLIT: "1"}, ["pgpool is not installed"]))
    assert "| psycopg 3, its defaults | before a write | 12 | 8 | 75 % | 50 % | 50 % |" in text
    assert "| before a write | 95 % | 75 % (6 of 8) |" in text
    assert "| psycopg 3, its defaults | 7.0 (9) | 7.0 (9) | 0.5 (5) | 7.5 | 0 |" in text
    assert "`transaction_open` 4, `write` 3" in text
    assert text.endswith("Not measured, and why:\n\n* pgpool is not installed")


def test_workloads_have_names_of_their_own() -> None:
    assert len(BY_NAME) == len(ALL)
    assert len({workload.words for workload in ALL}) == len(ALL)


@pytest.mark.pg
def test_a_patient_pgsplit_moves_what_can_move() -> None:
    try:
        installation.find()
    except installation.PostgresMissing as error:
        missing(str(error))
    names = ("psycopg", "psycopg-autocommit", "asyncpg-transactions", "rls-set-config")
    report = measure(Wishes([BY_NAME[name] for name in names], ROUNDS, pgpool=False, fence_wait="10s"))
    assert [row.workload.name for row in report.rows] == list(names)
    for row in report.rows:
        assert not row.missing and not row.failed
        direct, split = row.tallies[DIRECT], row.tallies[PGSPLIT]
        assert direct.share == 0
        assert row.workload.stands in STANDS
        for kind in (READ, AFTER):
            assert split.total(kind).calls == direct.total(kind).calls > (-1 if kind == AFTER else 0)
        assert split.replica[AFTER].calls == 0
        assert split.share is not None and split.share >= 0.9, row.kept
        assert split.primary[OWN].calls > 0             # samples, at least
    assert "psycopg 3, its defaults" in table.markdown(report)
