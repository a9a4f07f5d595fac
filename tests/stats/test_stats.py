"""Counters: Envoy's names and meaning, sums of workers, histograms."""

from __future__ import annotations

from pgsplit.relay.counting import SessionCounter
from pgsplit.split.decision import Decision, Upstream
from pgsplit.stats.counters import ENVOY, ListenerStats
from pgsplit.stats.digests import Digests
from pgsplit.stats.histogram import BOUNDS, Histogram, quantile
from pgsplit.stats.totals import merge, of_dead, render

# Envoy's documentation of the postgres_proxy filter, in its order of names.
ENVOYS = [
    "errors", "errors_error", "errors_fatal", "errors_panic", "errors_unknown", "messages", "messages_backend",
    "messages_frontend", "messages_unknown", "sessions", "sessions_encrypted", "sessions_terminated_ssl",
    "sessions_unencrypted", "sessions_upstream_ssl_success", "sessions_upstream_ssl_failed", "statements",
    "statements_insert", "statements_delete", "statements_update", "statements_select", "statements_other",
    "statements_parsed", "statements_parse_error", "transactions", "transactions_commit", "transactions_rollback",
    "notices", "notices_notice", "notices_log", "notices_warning", "notices_debug", "notices_info",
    "notices_unknown",
]


def test_envoys_names_are_all_there():
    assert [counter.name for counter in ENVOY] == ENVOYS and len(ENVOYS) == 33
    totals = ListenerStats().to_dict("egress_pg")
    assert all(f"postgres.egress_pg.{name}" in totals for name in ENVOYS)


def counted(*tags: bytes) -> ListenerStats:
    stats = ListenerStats()
    counter = SessionCounter(stats, Digests())
    for tag in tags:
        counter.command(Upstream.ADDITIONAL, tag)
    return stats


def test_statements_are_counted_by_the_tag_of_the_answer():
    stats = counted(b"SELECT 1", b"INSERT 0 1", b"UPDATE 3", b"DELETE 0", b"CREATE TABLE", b"COPY 5")
    assert (stats.statements, stats.statements_select, stats.statements_insert) == (6, 1, 1)
    assert (stats.statements_update, stats.statements_delete, stats.statements_other) == (1, 1, 2)
    assert (stats.statements_primary, stats.statements_replica) == (6, 0)


def test_transactions_as_envoy_counts_them():
    stats = counted(b"BEGIN", b"INSERT 0 1", b"COMMIT", b"BEGIN", b"SELECT 1", b"ROLLBACK", b"SELECT 1", b"ROLLBACK")
    assert (stats.transactions, stats.transactions_commit, stats.transactions_rollback) == (3, 2, 1)


def test_errors_and_notices_by_severity():
    stats = ListenerStats()
    counter = SessionCounter(stats, Digests())
    for severity in ("ERROR", "FATAL", "PANIC", "FEHLER"):
        counter.error(severity, "XX000")
    for severity in ("NOTICE", "WARNING", "DEBUG1", "INFO", "LOG", "HINWEIS"):
        counter.notice(severity)
    assert (stats.errors, stats.errors_error, stats.errors_fatal, stats.errors_panic) == (4, 1, 1, 1)
    assert stats.errors_unknown == 1
    assert (stats.notices, stats.notices_debug, stats.notices_unknown) == (6, 1, 1)


def test_decisions_and_reasks_have_their_reasons():
    stats = ListenerStats()
    counter = SessionCounter(stats, Digests())
    counter.decided(Decision(Upstream.DEFAULT, "read"))
    counter.decided(Decision(Upstream.ADDITIONAL, "write"))
    counter.reasked("25006")
    totals = stats.to_dict("p")
    assert totals["postgres.p.decisions.replica.read"] == totals["postgres.p.decisions.primary.write"] == 1
    assert totals["postgres.p.reasks"] == totals["postgres.p.reasks.25006"] == 1


def test_totals_of_the_dead_are_kept_and_their_states_forgotten():
    one = {"postgres.p.statements": 5, "postgres.p.sessions_active": 2, "cluster.c.membership_total": 3,
           "cluster.c.upstream_cx_active": 4}
    other = {"postgres.p.statements": 7, "postgres.p.sessions_active": 1, "cluster.c.membership_total": 3,
             "cluster.c.upstream_cx_active": 1}
    assert merge([one, other]) == {"postgres.p.statements": 12, "postgres.p.sessions_active": 3,
                                   "cluster.c.membership_total": 3, "cluster.c.upstream_cx_active": 5}
    assert merge([of_dead(one), other])["postgres.p.statements"] == 12
    assert merge([of_dead(one), other])["postgres.p.sessions_active"] == 1
    assert render({"b": 2, "a": 1}) == "a: 1\nb: 2\n"


def test_a_histogram_keeps_what_it_saw():
    histogram = Histogram()
    for microseconds in (1, 90, 95, 100, 101, 10**9):
        histogram.observe(microseconds)
    found = histogram.to_dict("l")
    assert found["l.le_100"] == 3 and found["l.le_inf"] == 1 and found["l.sum_us"] == 387 + 10**9
    assert sum(count for name, count in found.items() if ".le_" in name) == 6
    assert quantile({float(bound): 1 for bound in BOUNDS[:10]}, 0.5) == BOUNDS[4]
    assert quantile({}, 0.5) == 0.0
