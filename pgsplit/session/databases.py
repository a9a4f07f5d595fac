"""What a worker knows of each database that its sessions use: what texts mean there, and what relays repeat."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ..classify.catalogue import Catalogue
from ..classify.classifier import Classifier
from ..classify.function_lists import FunctionLists
from ..config.model import Monitor
from ..relay.routes import ALWAYS, FlowTable
from ..stats.counters import ListenerStats
from ..stats.digests import Digests
from ..stats.offload import ReadStats
from ..topology.catalogue_reader import CatalogueReader, Rows
from ..topology.cluster import ClusterManager

NOTHING_KNOWN: Final[Rows] = ()

Key = tuple[str, str]
"""Of a write cluster, the database's name."""


class Database:
    """*reader*: who reads its catalogue; None where nobody does."""

    def __init__(self, classifier: Classifier, digests: Digests, lists: FunctionLists) -> None:
        self.classifier = classifier
        self.reader: CatalogueReader | None = None
        self.catalogue: Catalogue | None = None
        self.lists = lists
        self._digests = digests
        self._tables: dict[tuple[int, str, int], FlowTable] = {}     # by the listener's counters and relay

    @property
    def known(self) -> array[int]:
        """As of when its definitions are known, for relays."""
        return self.reader.known if self.reader is not None else ALWAYS

    def learn(self, rows: Rows) -> None:
        self.catalogue = Catalogue(rows, self.lists)
        self.classifier.learn(self.catalogue)
        self.forget()

    def table(self, stats: ListenerStats, relay: Any, observed: ReadStats | None = None) -> FlowTable:
        """The flow table of those sessions of *relay* that count into *stats*, and their reads into *observed* where
        their listener observes.
        """
        key = id(stats), relay.form, id(observed)
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = FlowTable(relay.route, stats, self._digests, observed=observed)
        return table

    def drain(self) -> None:
        for table in self._tables.values():
            table.drain()

    def remember_write(self, sql: bytes) -> None:
        self.classifier.remember_write(sql)
        self.forget()

    def forget(self) -> None:
        """What texts mean has changed."""
        for table in self._tables.values():
            table.forget()


class Databases:
    """*classification*: how texts are classified, as `Classifier.configure` takes it. *reads*: whether catalogues are
    read.
    """

    def __init__(self, manager: ClusterManager, monitor: Callable[[], Monitor],
                 latest_definition_ns: Callable[[], int], digests: Digests, classification: Mapping[str, Any], *,
                 reads: bool) -> None:
        self._manager = manager
        self._monitor = monitor
        self._latest_definition_ns = latest_definition_ns
        self._digests = digests
        self._classification = classification
        self._reads = reads
        self._known: dict[Key, Database] = {}

    def __iter__(self) -> Iterator[tuple[Key, Database]]:
        return iter(self._known.items())

    def of(self, cluster_name: str, name: str, *, split: bool) -> Database:
        """Of *name* in *cluster_name*; *split*: reads of the session may go to replicas."""
        key = (cluster_name if split and self._reads else "", name)
        database = self._known.get(key)
        if database is None:
            database = self._known[key] = Database(Classifier(**self._classification), self._digests,
                                                   self._classification["lists"])
            if key[0]:
                database.reader = CatalogueReader(self._manager, cluster_name, name, self._monitor,
                                                  self._latest_definition_ns, database.learn)
                database.learn(NOTHING_KNOWN)
        return database

    def find(self, cluster_name: str, name: str) -> Database | None:
        return self._known.get((cluster_name, name))

    def configure(self, classification: Mapping[str, Any], *, reads: bool) -> None:
        self._classification, self._reads = classification, reads
        for database in self._known.values():
            database.lists = classification["lists"]
            database.classifier.configure(**classification)
            database.forget()
            if database.reader is not None:
                database.reader.read_again()

    def drain(self) -> None:
        """Put what relays have counted where it is looked for."""
        for database in self._known.values():
            database.drain()

    def writes(self) -> list[bytes]:
        """The texts that a replica has answered with 25006."""
        return sorted({sql for database in self._known.values() for sql in database.classifier.writes()})

    def forget_writes(self) -> None:
        for database in self._known.values():
            database.classifier.forget_writes()
            database.forget()
