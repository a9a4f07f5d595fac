"""The statements of a log, each run through its session's rules and counted."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ..classify.facts import Facts
from ..sql.digest import of_text, tidy
from . import messages
from .entry import Entry
from .messages import UNNAMED, Said
from .session import OTHER, WRITE, Outcome, Run, Session
from .tally import UNKNOWN, Counted, Tally

MOST_SESSIONS: Final = 20_000   # known at a time; who said nothing for longest is forgotten
MOST_DIGESTS: Final = 4000      # digests by text that are remembered
MOST_COMMITS: Final = 256       # that are remembered, newest last
NO_TEXT: Final = frozenset({"", "<insufficient privilege>", "<backend information not available>"})
_ERRORS: Final = frozenset({"ERROR", "FATAL", "PANIC"})

Classify = Callable[[bytes, str], Facts]


class _Watched:
    """A session of the log. *pending*: statements that were logged when they began, and whose time is not told yet."""

    __slots__ = ("commits", "pending", "rules", "wrote_at")

    def __init__(self) -> None:
        self.rules = Session()
        self.pending: list[Counted] | None = None
        self.commits = False
        self.wrote_at: int | None = None


class Watching:
    """*classify*: gives the facts of a text, and the database that it is sent to. *tells_sessions*: without, nothing is
    known of transactions.
    """

    def __init__(self, tally: Tally, classify: Classify, *, tells_sessions: bool = True) -> None:
        self.tally = tally
        self.entries = 0
        self.first_time: int | None = None
        self.last_time: int | None = None
        self.shortest_ms: float | None = None       # of those that are logged only with their time
        self.logged_when_begun = False
        self._classify = classify
        self.tells_sessions = tells_sessions
        self._sessions: OrderedDict[str, _Watched] = OrderedDict()
        self._commits: list[int] = []
        self._digests: dict[bytes, str] = {}

    def take(self, entry: Entry) -> None:
        self.entries += 1
        if entry.time is not None:
            self.first_time = entry.time if self.first_time is None else min(self.first_time, entry.time)
            self.last_time = entry.time if self.last_time is None else max(self.last_time, entry.time)
        if entry.severity in _ERRORS:
            self._error(entry)
        elif entry.severity == "LOG":
            found = messages.said(entry.message)
            if found is not None:
                self._statement(entry, found)
            elif entry.message.startswith(messages.OTHER_SESSION):
                self._sessions.pop(entry.session, None)

    # --- entries --------------------------------------------------------------------------------------------

    def _statement(self, entry: Entry, said: Said) -> None:
        session = self._session(entry)
        if not said.what:
            self._time_of_pending(entry, session, said)
            return
        if said.what in ("parse", "bind", "execute fetch from"):
            self._beside(entry, session, said)
            return
        session.pending, session.commits = None, False
        if said.ms is None:
            self.logged_when_begun = True
        elif self.shortest_ms is None or said.ms < self.shortest_ms:
            self.shortest_ms = said.ms
        us = None if said.ms is None else round(said.ms * 1000)
        began = entry.time if us is None or entry.time is None else entry.time - us / 1000
        counted, commits = self._run(entry, session, said, began)
        if us is not None:
            _spread(counted, us)
            if not counted:
                self.tally.kinds[UNKNOWN][1] += us
                self.tally.all.us += us
        else:
            session.pending, session.commits = counted, commits
        if commits:
            self._committed(session, entry.time)

    def _run(self, entry: Entry, session: _Watched, said: Said, began: float | None) -> tuple[list[Counted], bool]:
        sql = said.sql.encode(errors="surrogateescape")
        labels = _labels(entry)
        if said.what == messages.CALL:
            call = Outcome(WRITE, "function_call_message")
            return [self.tally.add(call, labels)], not session.rules.in_transaction
        facts = self._classify(sql, entry.database) if said.sql.strip() not in NO_TEXT else None
        if facts is None or facts.reason == "not_lexed":
            self.tally.unknown()
            return [], False
        executed = None
        if facts.executes and (text := messages.prepared(entry.detail)):
            prepares = self._classify(text.encode(errors="surrogateescape"), entry.database).prepares
            executed = self._classify(prepares.sql, entry.database) if prepares is not None else None
        run = session.rules.run(facts, said.sql, executed)
        if facts.prepares is not None:
            session.rules.knows(facts.prepares.name, self._classify(facts.prepares.sql, entry.database))
        labels["digest"] = self._digest(facts, said.sql)
        self._fresh(session, run, began)
        return [self.tally.add(outcome, labels) for outcome in run.outcomes], run.commits

    def _time_of_pending(self, entry: Entry, session: _Watched, said: Said) -> None:
        """A time alone: of the statement that was logged when it began, or else of a Parse or Bind."""
        if session.pending is None or said.ms is None:
            return
        _spread(session.pending, round(said.ms * 1000))
        if session.commits:
            self._committed(session, entry.time)
        session.pending, session.commits = None, False

    def _beside(self, entry: Entry, session: _Watched, said: Said) -> None:
        """Parse, Bind, and what goes on with a portal: time of a statement that is counted when it is executed."""
        if said.ms is None or said.sql.strip() in NO_TEXT:
            return
        facts = self._classify(said.sql.encode(errors="surrogateescape"), entry.database)
        if facts.reason == "not_lexed":
            return
        outcome = session.rules.beside(facts)
        if said.what == "parse" and said.name != UNNAMED:
            outcome = Outcome(OTHER, "named_statement")
        labels = _labels(entry)
        labels["digest"] = self._digest(facts, said.sql)
        self.tally.add(outcome, labels, count=0).time(round(said.ms * 1000))

    def _error(self, entry: Entry) -> None:
        session = self._sessions.get(entry.session)
        if session is None:
            return
        session.rules.failed(last=session.pending is not None)
        if session.pending is not None or entry.query:
            self.tally.failed += 1
        session.pending, session.commits = None, False
        if entry.severity != "ERROR":
            del self._sessions[entry.session]

    # --- sessions and freshness -----------------------------------------------------------------------------

    def _session(self, entry: Entry) -> _Watched:
        if not entry.session or not self.tells_sessions:
            return _Watched()
        found = self._sessions.get(entry.session)
        if found is None:
            found = self._sessions[entry.session] = _Watched()
            if len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(entry.session)
        return found

    def _fresh(self, session: _Watched, run: Run, began: float | None) -> None:
        if began is None:
            return
        moves = sum(outcome.moves for outcome in run.outcomes)
        if not moves:
            return
        place = bisect_right(self._commits, began)
        anyone = began - self._commits[place - 1] if place else None
        own = max(0, began - session.wrote_at) if session.wrote_at is not None else None
        for _ in range(moves):
            self.tally.freshness.add(own, anyone)

    def _committed(self, session: _Watched, time: int | None) -> None:
        if time is None:
            return
        session.wrote_at = time
        if not self._commits or time >= self._commits[-1]:
            self._commits.append(time)
        if len(self._commits) > 2 * MOST_COMMITS:
            del self._commits[:MOST_COMMITS]

    def _digest(self, facts: Facts, sql: str) -> str:
        found = self._digests.get(facts.text) if facts.text else None
        if found is None:
            found = tidy(of_text(sql)).rstrip(" ;")
            if facts.text:
                if len(self._digests) >= MOST_DIGESTS:
                    self._digests.clear()
                self._digests[facts.text] = found
        return found


def _labels(entry: Entry) -> dict[str, str]:
    return {"application": entry.application or "(none)", "user": entry.user or "(none)",
            "database": entry.database or "(none)"}


def _spread(counted: list[Counted], us: int) -> None:
    """The time of a text over its statements."""
    for place, each in enumerate(counted):
        each.time(us // len(counted) + (us % len(counted) if not place else 0))
