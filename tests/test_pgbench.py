"""pgbench through pgsplit: no error in any mode, and its reads are counted by the standby itself."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.waiting import eventually

ROLE = "scram_user"
DATABASE = "pgbench"
TRANSACTIONS = 400          # of a run, over all its clients
READS = 3200                # the same; some of the first may go to the primary, where the standby is behind


@pytest.fixture(scope="module")
def database(cluster):
    primary = cluster.primary
    primary.query(f"create database {DATABASE} owner {ROLE}")
    run(cluster, primary.port, "-i", "-s", "1", "-q", "-I", "dtgvp")
    cluster.catch_up()
    yield cluster
    primary.query(f"drop database {DATABASE} with (force)")


def run(cluster, port, *arguments):
    """Returns how many transactions were processed; what pgbench complains of fails the test."""
    password = cluster.roles[ROLE].password
    done = subprocess.run([cluster.installation.program("pgbench"), *arguments,
                           (f"host=127.0.0.1 port={port} user={ROLE} password={password} dbname={DATABASE} "
                           "sslmode=disable")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not re.search("error|abort", done.stderr, re.IGNORECASE), done.stderr
    failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
    assert failed is None or failed[1] == "0", done.stdout
    processed = re.search(r"transactions actually processed: (\d+)", done.stdout)
    return int(processed[1]) if processed else 0


def selects(server):
    """SELECTs on pgbench_accounts, as the server counts its index scans."""
    [(count,)] = server.query("select coalesce(sum(idx_scan), 0)::bigint from pg_stat_user_tables "
                              "where relname = 'pgbench_accounts'", dbname=DATABASE)
    return int(count)


@pytest.mark.parametrize("clients", [1, 8, 32])
@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_reads_run_on_the_standby(database, pgsplit_server, mode, clients):
    # On a busy machine a replica is fresh later than within the 5 ms of the default.
    proxy = pgsplit_server(pgsplit={"workers": 2, "fence_wait": "10s"})
    [standby] = database.standbys[:1]
    before = selects(standby)
    each = READS // clients
    expected = run(database, proxy.port, "-n", "-S", "-M", mode, "-c", str(clients), "-j", "2", "-t", str(each))
    assert expected == each * clients
    if mode == "prepared":
        expected -= clients         # the batch that makes the statement is the primary's
    eventually(lambda: selects(standby) - before >= 0.9 * expected)


@pytest.mark.parametrize("clients", [1, 8, 32])
@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_tpc_b(database, pgsplit_server, mode, clients):
    proxy = pgsplit_server(pgsplit={"workers": 2})
    each = TRANSACTIONS // clients
    before = sums(database.primary)
    assert run(database, proxy.port, "-n", "-M", mode, "-c", str(clients), "-j", "2", "-t", str(each)
               ) == each * clients
    history, *balances = sums(database.primary)
    assert history - before[0] == each * clients
    assert len(set(balances)) == 1


def sums(server):
    """Rows of the history, and the four sums that TPC-B keeps equal."""
    [row] = server.query("select (select count(*) from pgbench_history), "
                         "coalesce((select sum(delta) from pgbench_history), 0), "
                         "(select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), "
                         "(select sum(bbalance) from pgbench_branches)", dbname=DATABASE)
    return [int(value) for value in row]


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_a_connection_for_each_transaction(database, pgsplit_server, mode):
    proxy = pgsplit_server(pgsplit={"workers": 2})
    assert run(database, proxy.port, "-n", "-C", "-S", "-M", mode, "-c", "8", "-j", "2", "-t", "10") == 80
