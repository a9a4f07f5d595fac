"""What of a session only the primary has, as far as its texts show: pgsplit itself asks the primary (split/state.py).

What an unknown function or a DO block may have left is asked for then, and hardly ever found: it is no pin here.
"""

from __future__ import annotations

import re
from typing import Final

from ..classify.facts import Facts

ALL: Final = "*"
_NAMES: Final = re.compile(r'"(?:[^"]|"")+"|[\w$]+')
_TEMPORARY: Final = re.compile(
    r'\btemp(?:orary)?\s+(?:recursive\s+)?(?:table|view|sequence)\s+(?:if\s+not\s+exists\s+)?("(?:[^"]|"")+"|[\w$]+)',
    re.IGNORECASE)
_DROPPED_AT_COMMIT: Final = re.compile(r"\bon\s+commit\s+drop\b", re.IGNORECASE)
_CURSOR: Final = re.compile(r'\s*declare\s+("(?:[^"]|"")+"|[\w$]+)', re.IGNORECASE)
_LOCKS: Final = re.compile(r"\bpg_(?:try_)?advisory_(un)?lock(?:_shared)?\s*\(([^()]*)\)", re.IGNORECASE)
_CHANNEL: Final = re.compile(r'\s*(?:un)?listen\s+("(?:[^"]|"")+"|[\w$]+|\*)', re.IGNORECASE)
_UNKNOWN: Final = "?"
# What no text ends, not even DISCARD ALL.
_FOR_GOOD: Final = frozenset({"random_seed"})
_PLAINLY_SET: Final = frozenset({"unknown_effect", "session_setting"})


class Pins:
    """By name as in the rule table, without ``pinned_``: of what it consists, in what order it came."""

    def __init__(self) -> None:
        self.held: dict[str, list[str]] = {}
        self._until_end: set[str] = set()       # temporary tables that the transaction's end drops

    def first(self) -> str:
        """The name of the pin that counts; empty without one."""
        return next(iter(self.held), "")

    def cause(self, name: str) -> str:
        return self.held[name][0] if self.held.get(name) else ""

    def copy(self) -> dict[str, list[str]]:
        return {name: [*parts] for name, parts in self.held.items()}

    def note(self, facts: Facts, sql: str) -> None:
        """One statement of these *facts* has run on the primary; *sql*: its text, or one that it is a part of."""
        if facts.releases:
            self.held = {name: parts for name, parts in self.held.items() if name in _FOR_GOOD}
            return
        if "temporary_object" in facts.ends and facts.commands == ("DISCARD",):
            self.held.pop("temporary_object", None)
        elif "temporary_object" in facts.ends:
            self._end("temporary_object", {_plain(name) for name in _NAMES.findall(sql)})
        if "hold_cursor" in facts.ends or "listen" in facts.ends:
            words = {_plain(name) for name in _NAMES.findall(sql)} | ({ALL} if "*" in sql else set())
            for pin in facts.ends:
                self._end(pin, words, every="all" in words if pin == "hold_cursor" else ALL in words)
        if "advisory_lock" in facts.ends or "advisory_lock" in facts.effects:
            self._locks(sql)
        for effect in facts.effects:
            if effect not in _PLAINLY_SET and effect != "advisory_lock":
                self.held.setdefault(effect, []).append(self._part(effect, facts, sql))

    def transaction_ended(self, before: dict[str, list[str]], *, rolled_back: bool) -> None:
        """*before*: what was held when it began. An advisory lock of the session outlives a rollback."""
        if rolled_back:
            stays = {name: parts for name, parts in self.held.items()
                     if name in ("advisory_lock", "library", "random_seed")}
            self.held = {**{name: parts for name, parts in before.items() if name not in stays}, **stays}
        elif self._until_end:
            self._end("temporary_object", self._until_end)
        self._until_end = set()

    def set_(self, name: str, held: bool, cause: str) -> None:
        """A pin by a setting."""
        if held:
            self.held[name] = [cause]
        else:
            self.held.pop(name, None)

    def _part(self, effect: str, facts: Facts, sql: str) -> str:
        if effect == "temporary_object":
            found = _TEMPORARY.search(sql)
            name = _plain(found[1]) if found is not None else _UNKNOWN
            if _DROPPED_AT_COMMIT.search(sql):
                self._until_end.add(name)
            return name
        pattern = {"hold_cursor": _CURSOR, "listen": _CHANNEL}.get(effect)
        found = pattern.match(sql) if pattern is not None else None
        return _plain(found[1]) if found is not None else facts.cause or _UNKNOWN

    def _locks(self, sql: str) -> None:
        if "advisory_unlock_all" in sql.lower():
            self.held.pop("advisory_lock", None)
        for unlocks, key in _LOCKS.findall(sql):
            key = key.strip()
            if not unlocks:
                self.held.setdefault("advisory_lock", []).append(key)
            elif key in self.held.get("advisory_lock", ()):
                self.held["advisory_lock"].remove(key)
        if not self.held.get("advisory_lock", True):
            del self.held["advisory_lock"]

    def _end(self, pin: str, names: set[str], *, every: bool = False) -> None:
        left = [] if every else [part for part in self.held.get(pin, ()) if part not in names]
        if left:
            self.held[pin] = left
        else:
            self.held.pop(pin, None)


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
