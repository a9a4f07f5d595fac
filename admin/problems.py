"""What is wrong right now, in words: the top of the overview."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from pgsplit.topology.snapshot import HostSnapshot
from pgsplit.upstream.certificate import not_after

from .formats import span
from .instance import Instance

SOON: Final = 14 * 86400        # seconds before a certificate's end
LATELY: Final = 15 * 60         # seconds for which a worker that was replaced is news


class Problem(NamedTuple):
    """*level*: bad (something does not work), warning, or note (somebody wants it so)."""

    level: str
    words: str


def problems(instance: Instance) -> list[Problem]:
    """The worst first."""
    about, workers = instance.about(), instance.workers()
    found = [*_of_reload(about), *_of_workers(about, workers), *_of_hosts(instance, about), *_of_orders(about),
             *_of_certificates(about)]
    return sorted(found, key=lambda problem: ("bad", "warning", "note").index(problem.level))


def _of_reload(about: dict[str, Any]) -> Iterator[Problem]:
    last = about["last_reload"]
    if not last["ok"]:
        first, more = last["problems"][0], len(last["problems"]) - 1
        yield Problem("bad", f"The last reload was refused; generation {last['generation']} stays in force. {first}"
                      + (f" (and {more} more: see Configuration)" if more else ""))


def _of_workers(about: dict[str, Any], workers: list[dict[str, Any]]) -> Iterator[Problem]:
    running = [worker for worker in workers if worker["booted"] and not worker["leaving"]]
    if len(running) < about["workers_wanted"]:
        yield Problem("bad", f"{len(running)} of {about['workers_wanted']} workers run. The log says why.")
    for worker in running:
        age = time.time() - worker["started"]
        if about["restarts"] and age < LATELY and worker["started"] - about["started"] > 10:
            yield Problem("warning", f"Worker {worker['worker']} was started {span(age)} ago in the place of one that "
                          "ended; its sessions were lost.")
        if worker["generation"] and worker["generation"] != about["generation"] and not about["reloading"]:
            yield Problem("warning", f"Worker {worker['worker']} runs configuration {worker['generation']}, not "
                          f"{about['generation']}.")


def _of_hosts(instance: Instance, about: dict[str, Any]) -> Iterator[Problem]:
    hosts = instance.hosts()
    yield from _of_servers([host for host in hosts if host.finds_roles])
    for host in hosts:
        if host.finds_roles and not host.order:
            continue
        if host.order:
            yield Problem("note", f"{host.name} of cluster {host.cluster} is in {host.order} by an operator's order."
                          if host.order != "drain" else
                          f"{host.name} of cluster {host.cluster} is drained by an operator's order.")
        elif host.why_not:
            part = "Primary" if host.writes else "Replica"
            yield Problem("bad" if host.writes else "warning", f"{part} {host.name} is not used: {host.why_not}.")
        elif host.note:
            yield Problem("note", f"{host.name} of cluster {host.cluster}: {host.note}.")
    for listener in about["listeners"]:
        if listener["split_rw"]:
            replicas = [host for host in hosts if host.cluster == listener["read_cluster"]]
            if not any(host.serves for host in replicas):
                yield Problem("warning", f"Listener {listener['name']} has no replica that can be used: all reads go "
                              "to the primary.")


def _of_servers(hosts: list[HostSnapshot]) -> Iterator[Problem]:
    """Of clusters that find out who is what: a server that is wrong in two of them is one problem."""
    told = set()
    for cluster in dict.fromkeys(host.cluster for host in hosts if host.writes):
        members = [host for host in hosts if host.cluster == cluster]
        if not any(host.serves for host in members):
            said = "; ".join(f"{host.name} {host.why_not}" for host in members)
            yield Problem("bad", f"Cluster {cluster} has no primary: {said}.")
            told.update((host.name, host.why_not) for host in members)
    for host in hosts:
        if host.order or (host.name, host.why_not or host.note) in told:
            continue
        told.add((host.name, host.why_not or host.note))
        if not host.healthy:
            refused = host.writes and host.role == "primary"       # a former one, say, that thinks it is one still
            yield Problem("bad" if refused else "warning", f"Server {host.name} is not used: {host.why_not}.")
        elif host.note:
            yield Problem("note", f"{host.name}: {host.note}.")


def _of_orders(about: dict[str, Any]) -> Iterator[Problem]:
    for name in about["orders"]["reads_to_primary"]:
        yield Problem("note", f"Listener {name}: all reads go to the primary, by an operator's order.")
    if about["orders"].get("apart"):
        yield Problem("note", "Sessions of another version still go on, whose shared memory has another form: until "
                      "they have ended all reads go to the primary.")


def _of_certificates(about: dict[str, Any]) -> Iterator[Problem]:
    for listener in about["listeners"]:
        end = end_of(listener["certificate"]) if listener["certificate"] else None
        if end is None:
            continue
        left = end - time.time()
        if left <= 0:
            yield Problem("bad", f"The certificate of listener {listener['name']} has ended {span(-left)} ago.")
        elif left < SOON:
            yield Problem("warning", f"The certificate of listener {listener['name']} ends in {span(left)}.")


def end_of(file: str) -> float | None:
    """When the first certificate of *file* ends, in Unix seconds; None where that cannot be read."""
    try:
        text = Path(file).read_text("ascii", "replace")
        start, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        return not_after(ssl.PEM_cert_to_DER_cert(text[text.index(start):text.index(end) + len(end)] + "\n"))
    except (OSError, ValueError):
        return None
