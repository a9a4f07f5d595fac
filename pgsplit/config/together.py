"""What is wrong with objects that are right one by one: addresses that meet, clusters that would have two roles."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from .model import Address, Listener
from .nodes import Node
from .reader import Notes


@dataclass(frozen=True)
class Place:
    """An address, and where it stands. *what* it is of: ``listener postgres``, ``the admin page``."""

    what: str
    address: Address
    node: Node
    path: str


def check_addresses(notes: Notes, listening: Sequence[Place], endpoints: Sequence[Place]) -> None:
    """Nobody listens where another does, and no endpoint of a cluster is where pgsplit itself listens."""
    for number, place in enumerate(listening):
        for before in listening[:number]:
            if _meet(place.address, before.address):
                notes.wrong(place.node, place.path, f"{place.address} is taken: {before.what} listens on "
                            f"{before.address} (line {before.node.line})")
    for place in endpoints:
        for listens in listening:
            if _is_that(place.address, listens.address):
                notes.wrong(place.node, place.path, f"{place.address} is pgsplit itself: {listens.what} listens on "
                            f"{listens.address} (line {listens.node.line})")


def check_roles(notes: Notes, listeners: Sequence[Listener], places: Sequence[tuple[Node, str]]) -> None:
    """A replica's freshness is what it lacks of one primary: a read cluster belongs to one write cluster.

    *places*: where each of *listeners* names its write cluster.
    """
    split = [(listener, *place) for listener, place in zip(listeners, places, strict=True) if listener.split_rw]
    for number, (listener, node, path) in enumerate(split):
        for other, where, _ in split[:number]:
            if other.read_cluster == listener.read_cluster and other.write_cluster != listener.write_cluster:
                notes.wrong(node, path, f"listener {listener.name} has the cluster {listener.write_cluster} for the "
                            f"replicas of {listener.read_cluster}, but listener {other.name} (line {where.line}) has "
                            f"{other.write_cluster}: replicas follow one primary")
        for other, where, _ in split:
            if other.read_cluster == listener.write_cluster != other.write_cluster:
                notes.wrong(node, path, f"listener {listener.name} writes to the cluster {listener.write_cluster}, "
                            f"whose hosts are replicas for listener {other.name} (line {where.line})")


def _meet(one: Address, other: Address) -> bool:
    """Whether one could not listen on both. What a name resolves to is not asked."""
    if one.path is not None or other.path is not None:
        return one.path == other.path
    if one.port != other.port:
        return False
    return one.host == other.host or any(
        mine.version == theirs.version and (mine == theirs or mine.is_unspecified or theirs.is_unspecified)
        for mine in _numbers(one) for theirs in _numbers(other))


def _is_that(endpoint: Address, listens: Address) -> bool:
    """Whether a connection to *endpoint* surely ends at who *listens*: a wildcard takes what is for this machine."""
    if listens.path is not None or endpoint.port != listens.port:
        return False
    return endpoint.host == listens.host or any(
        mine.version == theirs.version and (mine == theirs or (mine.is_loopback and theirs.is_unspecified))
        for mine in _numbers(endpoint) for theirs in _numbers(listens))


def _numbers(address: Address) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    if address.host == "localhost":
        return [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    try:
        return [ipaddress.ip_address(address.host)]
    except ValueError:
        return []
