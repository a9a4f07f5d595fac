"""The classifier of a worker: facts of SQL texts, each found out once, in bounded memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..sql.digest import of_text
from ..sql.operations import operations
from .catalogue import Catalogue
from .classify import NO_LISTS, classify
from .facts import Facts, Verdict
from .folding import fold, independent_of_literals
from .function_lists import FunctionLists

CACHED_BYTES: Final = 32 << 20      # of texts; half of the entries go when they are more


class Classifier:
    """*entries*: texts kept at most (`statement_cache`). *max_bytes*: longer texts are not lexed.

    *lists*: functions that the operator knows. *parse*: also ask the statistics parser, once for each digest
    (`enable_sql_parsing`).
    """

    def __init__(self, entries: int, max_bytes: int, *, parse: bool = False, lists: FunctionLists = NO_LISTS) -> None:
        self._facts: dict[bytes, Facts] = {}
        self._parsed: dict[str, bool] = {}       # by digest
        self._catalogue: Catalogue | None = None
        self.configure(entries, max_bytes, parse=parse, lists=lists)

    def configure(self, entries: int, max_bytes: int, *, parse: bool, lists: FunctionLists) -> None:
        """Take over other settings: what was learnt by the old ones is forgotten, but for who wrote."""
        self._entries = entries
        self._max_bytes = max_bytes
        self._parse = parse
        self._lists = lists
        self._parsed = {}
        self._forget()

    def _forget(self) -> None:
        self._facts = {sql: facts for sql, facts in self._facts.items() if facts.reason == "write_digest"}
        self._bytes = sum(map(len, self._facts))

    def learn(self, catalogue: Catalogue | None) -> None:
        """What the database's definitions are from now on."""
        self._catalogue = catalogue
        self._forget()

    def __len__(self) -> int:
        return len(self._facts)

    def __call__(self, sql: bytes) -> Facts:
        facts = self._facts.get(sql)
        if facts is None and len(sql) <= self._max_bytes and (folded := fold(sql)) is not None:
            facts = self._facts.get(folded)
        return facts if facts is not None else self._learn(sql)

    def _learn(self, sql: bytes) -> Facts:
        # In every encoding that is lexed here, the bytes above 127 are parts of letters: so are Latin-1's.
        text = sql.decode("latin-1")
        facts = classify(text, max_bytes=self._max_bytes, lists=self._lists, catalogue=self._catalogue)
        if self._parse and not facts.empty:
            facts = replace(facts, parsed=self._understood(of_text(text)) if len(sql) <= self._max_bytes else None)
        if len(sql) <= self._max_bytes:
            folded = fold(sql) if independent_of_literals(facts) else None
            key = sql if folded is None else folded
            facts = replace(facts, text=key)
            if facts.timed is not None:
                facts = replace(facts, timed=replace(facts.timed, text=key, parsed=facts.parsed))
            self._keep(key, facts)
        return facts

    def _understood(self, digest: str) -> bool:
        known = self._parsed.get(digest)
        if known is None:
            known = operations(digest) is not None
            if len(self._parsed) >= self._entries:
                self._parsed.clear()
            self._parsed[digest] = known
        return known

    def _keep(self, sql: bytes, facts: Facts) -> None:
        self._facts[sql] = facts
        self._bytes += len(sql)
        if len(self._facts) > self._entries or self._bytes > CACHED_BYTES:
            for oldest in list(self._facts)[:len(self._facts) // 2 + 1]:
                del self._facts[oldest]
                self._bytes -= len(oldest)

    def writes(self) -> list[bytes]:
        """The texts that a replica has answered with 25006."""
        return [sql for sql, facts in self._facts.items() if facts.reason == "write_digest"]

    def forget_writes(self) -> None:
        for sql in self.writes():
            self._bytes -= len(sql)
            del self._facts[sql]

    def remember_write(self, sql: bytes) -> None:
        """A replica has said 25006 to this text: it writes, whatever its literals, in a way that it does not show."""
        known = self(sql)
        if known.verdict is not Verdict.READ and known.timed is None:
            return
        for key in {sql, fold(sql) or sql} & self._facts.keys():
            self._facts[key] = replace(known, verdict=Verdict.PRIMARY, reason="write_digest", writes=True,
                                       effect_free=False, parts=(), timed=None)
