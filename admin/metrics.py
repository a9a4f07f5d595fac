"""The totals as Prometheus' metric families. Envoy's names where they mean what Envoy means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pgsplit import __version__
from pgsplit.stats.counters import ALL
from pgsplit.stats.histogram import BOUNDS
from pgsplit.topology.snapshot import HostSnapshot

from . import descriptors
from .problems import end_of

NAMES: Final = "|".join(re.escape(counter.name) for counter in ALL)
COUNTER: Final = re.compile(rf"postgres\.(.+)\.({NAMES})")
DECISION: Final = re.compile(r"postgres\.(.+)\.decisions\.(replica|primary)\.(\w+)")
REASK: Final = re.compile(r"postgres\.(.+)\.reasks\.(\w+)")
READS: Final = re.compile(r"postgres\.(.+)\.(reads|reads_us|reads_kept|reads_kept_us)\.(\w+)")
OWN: Final = re.compile(r"(postgres|cluster)\.(.+)\.(own|own_us)\.(replica|primary)\.(\w+)")
LATENCY: Final = re.compile(r"postgres\.(.+)\.latency_(replica|primary)_us\.(?:le_(\d+|inf)|(sum_us))")


class Metrics:
    """A collector of one scrape."""

    def __init__(self, totals: Mapping[str, int], about: Mapping[str, Any], workers: list[dict[str, Any]],
                 hosts: list[HostSnapshot], topology: Mapping[str, Any]) -> None:
        self._totals, self._about, self._workers, self._hosts = totals, about, workers, hosts
        self._topology = topology

    def collect(self) -> Iterator[Metric]:
        yield from self._process()
        yield from self._workers_each()
        yield from self._limits()
        yield from self._listeners()
        yield from self._reads()
        yield from self._own()
        yield from self._latencies()
        yield from self._upstreams()
        yield from self._primaries()

    def _process(self) -> Iterator[Metric]:
        about, workers = self._about, self._workers
        info = GaugeMetricFamily("pgsplit_version_info", "The version of pgsplit", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        for name, words, value in (
                ("start_time_seconds", "When the instance was started, in Unix seconds", about["started"]),
                ("workers", "Workers that run", sum(worker["booted"] for worker in workers)),
                ("workers_wanted", "Workers that should run", about["workers_wanted"]),
                ("config_generation", "The configuration in force", about["generation"]),
                ("last_reload_successful", "Whether the last reload took effect", int(about["last_reload"]["ok"]))):
            yield GaugeMetricFamily(f"pgsplit_{name}", words, value=value)
        yield CounterMetricFamily("pgsplit_worker_restarts", "Workers that ended by themselves",
                                  value=about["restarts"])

    def _workers_each(self) -> Iterator[Metric]:
        """A worker that ends meanwhile, or whose descriptors may not be counted, has no sample."""
        generation, opened, most = (GaugeMetricFamily(f"pgsplit_worker_{name}", words, labels=["worker"])
                                    for name, words in (
            ("config_generation", "The configuration that the worker runs"),
            ("open_fds", "File descriptors that the worker has open"),
            ("max_fds", "File descriptors that it may have")))
        for worker in self._workers:
            label = [str(worker["worker"])]
            if worker["booted"] and worker["generation"] and not worker["leaving"]:
                generation.add_metric(label, worker["generation"])
            if (found := descriptors.of_process(worker["pid"])) is not None:
                opened.add_metric(label, found.opened)
                most.add_metric(label, found.most)
        yield from (generation, opened, most)

    def _limits(self) -> Iterator[Metric]:
        """Of listeners that have one."""
        most = GaugeMetricFamily("pgsplit_max_connections", "max_connections of the listener, where it is set",
                                 labels=["listener"])
        end = GaugeMetricFamily("pgsplit_certificate_end_seconds",
                                "When the listener's certificate ends, in Unix seconds", labels=["listener"])
        for listener in self._about["listeners"]:
            if listener["max_connections"]:
                most.add_metric([listener["stat_prefix"]], listener["max_connections"])
            if listener["certificate"] and (at := end_of(listener["certificate"])) is not None:
                end.add_metric([listener["stat_prefix"]], at)
        yield from (most, end)

    def _listeners(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for counter in ALL:
            kind = GaugeMetricFamily if counter.gauge else CounterMetricFamily
            families[counter.name] = kind(f"pgsplit_{counter.name}", counter.help.capitalize(), labels=["listener"])
        decisions = CounterMetricFamily("pgsplit_decisions", "Batches by upstream and reason",
                                        labels=["listener", "upstream", "reason"])
        reasks = CounterMetricFamily("pgsplit_reasks_by_sqlstate", "Re-asks by what the replica had said",
                                     labels=["listener", "sqlstate"])
        for name, value in self._totals.items():
            if match := COUNTER.fullmatch(name):
                families[match[2]].add_metric([match[1]], value)  # type: ignore[attr-defined]
            elif match := DECISION.fullmatch(name):
                decisions.add_metric(match.groups(), value)
            elif match := REASK.fullmatch(name):
                reasks.add_metric(match.groups(), value)
        yield from (*families.values(), decisions, reasks)

    def _reads(self) -> Iterator[Metric]:
        families = {}
        for name, label, words in (("reads", "upstream", "Statements that are reads, by who has answered them"),
                                   ("reads_kept", "reason", "Reads that the primary has answered, by what kept them")):
            families[name] = CounterMetricFamily(f"pgsplit_{name}", words, labels=["listener", label])
            families[f"{name}_us"] = CounterMetricFamily(
                f"pgsplit_{name}_seconds", f"{words}: from sending to the end of the answer",
                labels=["listener", label])
        for name, value in self._totals.items():
            if match := READS.fullmatch(name):
                families[match[2]].add_metric([match[1], match[3]], value / 1e6 if match[2].endswith("_us") else value)
        yield from families.values()

    def _own(self) -> Iterator[Metric]:
        """Those of sessions have a listener, the others a cluster."""
        labels = ["listener", "cluster", "upstream", "kind"]
        families = {
            "own": CounterMetricFamily("pgsplit_own_questions", "What pgsplit itself has asked servers", labels=labels),
            "own_us": CounterMetricFamily("pgsplit_own_questions_seconds",
                                          "What pgsplit itself has asked servers: from sending to the answer",
                                          labels=labels)}
        for name, value in self._totals.items():
            if match := OWN.fullmatch(name):
                whose = (match[2], "") if match[1] == "postgres" else ("", match[2])
                families[match[3]].add_metric([*whose, match[4], match[5]],
                                              value / 1e6 if match[3].endswith("_us") else value)
        yield from families.values()

    def _latencies(self) -> Iterator[Metric]:
        counts: dict[tuple[str, str], dict[str, int]] = {}
        sums: dict[tuple[str, str], int] = {}
        for name, value in self._totals.items():
            if match := LATENCY.fullmatch(name):
                if match[4]:
                    sums[match[1], match[2]] = value
                else:
                    counts.setdefault((match[1], match[2]), {})[match[3]] = value
        family = HistogramMetricFamily("pgsplit_statement_duration_seconds",
                                       "From the last byte of a batch to the last of its answer",
                                       labels=["listener", "upstream"])
        for labels, buckets in counts.items():
            total, cumulated = 0, []
            for bound in (*BOUNDS, "inf"):
                total += buckets.get(str(bound), 0)
                cumulated.append(("+Inf" if bound == "inf" else repr(int(bound) / 1e6), total))
            family.add_metric(labels, cumulated, sum_value=sums.get(labels, 0) / 1e6)
        yield family

    def _upstreams(self) -> Iterator[Metric]:
        labels = ["cluster", "host"]
        rows: tuple[tuple[type[Any], str, str, Any], ...] = (
            (GaugeMetricFamily, "upstream_cx_active", "Connections open now", lambda host: host.cx_active),
            (CounterMetricFamily, "upstream_cx", "Connections made", lambda host: host.cx_total),
            (CounterMetricFamily, "upstream_cx_connect_fail", "Connections that failed",
             lambda host: host.cx_connect_fail),
            (GaugeMetricFamily, "host_healthy", "Whether the host is used, or has the role of another cluster",
             lambda host: int(host.healthy)),
            (GaugeMetricFamily, "host_lag_bytes", "Write-ahead log that it has still to replay",
             lambda host: host.lag_bytes),
            (GaugeMetricFamily, "host_lag_seconds", "For how long not all of it has been replayed",
             lambda host: None if host.lag_ms is None else host.lag_ms / 1000),
            (GaugeMetricFamily, "host_clock_offset_seconds", "By how much its clock is ahead of the primary's",
             lambda host: None if host.clock_offset_ms is None else host.clock_offset_ms / 1000),
            (GaugeMetricFamily, "host_clock_offset_error_seconds", "By how much that may be wrong",
             lambda host: None if host.clock_bound_ms is None else host.clock_bound_ms / 1000),
            (GaugeMetricFamily, "host_timeline", "The timeline it is on; 0 while that is not known",
             lambda host: host.timeline))
        for kind, name, words, value in rows:
            family = kind(f"pgsplit_cluster_{name}", words, labels=labels)
            for host in self._hosts:
                if (number := value(host)) is not None:         # a lag that is not known has no sample
                    family.add_metric([host.cluster, host.name], number)
            yield family

    def _primaries(self) -> Iterator[Metric]:
        """Who is the primary of each cluster, and the last change of it."""
        changes = CounterMetricFamily("pgsplit_primary_changes", "Changes of the primary", labels=["cluster"])
        since = GaugeMetricFamily("pgsplit_primary_since_seconds",
                                  "When the primary was first seen to be it, in Unix seconds",
                                  labels=["cluster", "server", "by"])
        away = GaugeMetricFamily("pgsplit_primary_away", "Whether that one is away now", labels=["cluster"])
        for primary in self._topology["primaries"]:
            changes.add_metric([primary["cluster"]], primary["changes"])
            since.add_metric([primary["cluster"], primary["server"], primary["by"]], primary["at"])
            away.add_metric([primary["cluster"]], int(primary["lost_s"] is not None))
        rows: tuple[tuple[str, str, str], ...] = (
            ("gap_seconds", "for how long there was no primary", "gap_s"),
            ("sessions_kept", "sessions that have lost their connection to the primary, and went on", "kept"),
            ("sessions_cut", "sessions that have ended with their connection to the primary", "cut"),
            ("longest_wait_seconds", "for how long one of them has waited for a primary", "longest_wait_s"))
        families = [GaugeMetricFamily(f"pgsplit_primary_last_change_{name}", f"At the last change: {words}",
                                      labels=["cluster"]) for name, words, _ in rows]
        told = set()
        for change in self._topology["changes"]:            # the newest first
            if change["cluster"] not in told:
                told.add(change["cluster"])
                for family, (_, _, key) in zip(families, rows, strict=True):
                    family.add_metric([change["cluster"]], change[key])
        yield from (changes, since, away, *families)
