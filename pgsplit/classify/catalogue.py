"""The catalogue: what a database's own definitions add to the facts of a text (DESIGN section 5; docs/adr/0015).

Names are compared without their schemas: a name stands for every object that has it, and is as doubtful as the most
doubtful of them. So no search_path matters, and what is unknown, or only may be meant, is doubt (guarantee G5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from ..sql.lexer import LONGEST_NAME, Kind, Token
from .extensions import harmless_in
from .function_lists import HARMLESS, FunctionLists, names_before_parentheses
from .functions import SAFE
from .look import Look, folded, is_built_in, look_at, look_at_words
from .relations import relations_in

# What only the primary has, or answers otherwise: pg_class.relkind, and relpersistence.
_PRIMARY_ONLY: Final = {"f": "a foreign table", "S": "a sequence", "u": "an unlogged table"}
_LOOKED_THROUGH: Final = frozenset({"sql", "plpgsql"})


class Doubt(NamedTuple):
    """*rule* of the rule table; *detail*: what is doubtful, and why."""

    rule: str
    detail: str


NO_DOUBT: Final = Doubt("", "")


class _Object:
    """A function, relation, type or operator. *flaw*: why no use of it is a read, in words; *uses*: keys of others."""

    __slots__ = ("bodies", "flaw", "kind", "looks", "name", "opaque", "plpgsql", "relation_flaw", "timed_looks", "uses")

    def __init__(self, kind: str, name: str, bodies: Iterable[str], uses: Iterable[str], flaw: str = "") -> None:
        self.kind = kind
        self.name = name
        self.bodies = tuple(body for body in bodies if body)
        self.uses = tuple(uses)
        self.flaw = flaw
        self.relation_flaw = ""
        self.plpgsql = False
        self.opaque = False         # it has code that cannot be looked through
        self.looks: list[Look] | None = None
        self.timed_looks: list[Look] | None = None      # for which the clock is no flaw

    def __str__(self) -> str:
        return self.name if self.kind == "function" else f"{self.kind} {self.name}"


class Catalogue:
    """Of one database, made from the rows of `topology.definitions`. *lists*: functions that the operator knows.

    Bodies are looked through when they are first used. *clock*, in questions: to read the server's clock is no flaw.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], lists: FunctionLists) -> None:
        self._lists = lists
        self._objects: dict[str, _Object] = {}
        self._functions: dict[str, list[str]] = {}       # keys by folded name
        self._named: dict[str, list[str]] = {}           # relations, types, functions of one row: without parentheses
        self._operators: dict[str, list[str]] = {}
        self._relations: set[str] = set()
        self._built_in: set[str] = set()                 # names of the user's functions that built-in ones have, too
        self._always: list[str] = []
        # By whether the clock is no flaw; of the bad the key of what is doubtful itself, and why it is.
        self._good: tuple[set[str], set[str]] = set(), set()
        self._bad: tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]] = {}, {}
        self._counts: dict[str, int] = {}
        for row in rows:
            self._counts[row["k"]] = self._counts.get(row["k"], 0) + 1
            _TAKE[row["k"]](self, row)

    @property
    def counts(self) -> dict[str, int]:
        """How many functions, relations … it has."""
        return {words: self._counts.get(kind, 0) for kind, words in _KINDS.items()}

    # --- what the rows say --------------------------------------------------------------------------------

    def _take_function(self, row: Mapping[str, Any]) -> None:
        name, key = folded(row["name"]), f"f{row['oid']}"
        language, extension = row["lang"], row["ext"] or ""
        found = _Object("function", row["name"], [row["body"] if language in _LOOKED_THROUGH else "", row["defaults"]],
                        row["uses"], _function_flaw(row, language, extension))
        found.plpgsql = language == "plpgsql"
        found.opaque = bool(found.flaw) and language not in _LOOKED_THROUGH and not row["aggregate"]
        self._objects[key] = found
        self._objects[f"i{row['oid']}"] = _Object("function", row["name"], (), ()) if _serves_a_type(row) else found
        self._functions.setdefault(name, []).append(key)
        if row["attribute"]:
            self._named.setdefault(name, []).append(key)
        if row["built_in"]:
            self._built_in.add(name)

    def _take_built_in(self, row: Mapping[str, Any]) -> None:
        """A function of the server's own that an operator, a cast or a type uses, and that is not immutable."""
        flaw = "" if row["name"] in SAFE else "not known to be safe"
        self._objects[f"i{row['oid']}"] = _Object("function", row["name"], (), (), flaw)

    def _take_relation(self, row: Mapping[str, Any]) -> None:
        name, key = folded(row["name"]), f"r{row['oid']}"
        self._relations.add(name)
        kind = "view" if row["kind"] == "v" else "relation"
        found = _Object(kind, row["name"], [row["body"], *row["policies"]], row["uses"])
        found.flaw = found.relation_flaw = _PRIMARY_ONLY.get(row["kind"], "") or _PRIMARY_ONLY.get(
            row["persistence"], "")
        self._objects[key] = found
        self._named.setdefault(name, []).append(key)

    def _take_system_relation(self, row: Mapping[str, Any]) -> None:
        self._relations.add(row["name"])

    def _take_type(self, row: Mapping[str, Any]) -> None:
        key = f"t{row['oid']}"
        self._objects[key] = _Object("type", row["name"], row["checks"], row["uses"])
        self._named.setdefault(folded(row["name"]), []).append(key)

    def _take_operator(self, row: Mapping[str, Any]) -> None:
        key = f"o{row['oid']}"
        self._objects[key] = _Object("operator", row["name"], (), row["uses"])
        self._operators.setdefault(row["name"], []).append(key)

    def _take_implicit(self, row: Mapping[str, Any]) -> None:
        """What any text may use without a sign: a cast between built-in types, an operator class of one."""
        key = f"a{len(self._always)}"
        self._objects[key] = _Object(row["name"], "", (), row["uses"])
        self._always.append(key)

    # --- questions ----------------------------------------------------------------------------------------

    def masked(self, words: list[Token], *, clock: bool = False) -> list[Token]:
        """*words* with a harmless function in the place of each of the database's own that is known to be a read."""
        for start, end, name in reversed(list(names_before_parentheses(words))):
            plain = folded(name.rpartition(".")[2])
            if plain in self._functions and plain not in self._built_in and not self._flaw_of(
                    self._functions[plain], clock):
                words = [*words[:start], Token(Kind.WORD, HARMLESS, words[start].start), *words[end:]]
        return words

    def why_not(self, words: list[Token], *, clock: bool = False) -> Doubt:
        """Why the statement *words*, which looks like a read, is none that a replica may serve."""
        if any(token.kind in (Kind.WORD, Kind.QUOTED) and len(token.text) > LONGEST_NAME for token in words):
            return Doubt("doubt", "a name that the server cuts")
        look = look_at_words(words, self._lists)
        for name in sorted(look.calls):
            if flaw := self._flaw_of(self._functions.get(name, ()), clock):
                return Doubt("unknown_function", flaw)
        for name in relations_in(words):
            if folded(name) not in self._relations:
                return Doubt("unknown_relation", name)
        for name in sorted(look.names):
            for key in self._named.get(name, ()):
                if self._objects[key].relation_flaw:
                    return Doubt("relation_kind", f"{name}: {self._objects[key].relation_flaw}")
                if flaw := self._flaw_of((key,), clock):
                    return Doubt("hidden_doubt", flaw)
        operators = [key for name in sorted(look.operators) for key in self._operators.get(name, ())]
        flaw = self._flaw_of([*operators, *self._always], clock)
        return Doubt("hidden_doubt", flaw) if flaw else NO_DOUBT

    def about(self, name: str) -> str:
        """Why the function *name* is doubtful, in words."""
        keys = self._functions.get(folded(name))
        return self._flaw_of(keys) if keys else f"{name}: not known"

    def has_function(self, name: str) -> bool:
        """Whether the database has a function of its own of that name."""
        return folded(name) in self._functions

    def may_define(self, words: list[Token]) -> bool:
        """Whether the statement *words* may change definitions, by what it calls or reads."""
        return any(look is None or look.defines for own in self._own(words) for look in self._every_look(own))

    def may_leave(self, words: list[Token]) -> bool:
        """Whether the functions that the statement *words* calls may leave something behind in the session."""
        return any(look is None or look.leaves for own in self._own(words) for look in self._every_look(own))

    def _own(self, words: list[Token]) -> Iterator[Look]:
        yield replace(look_at_words(words, self._lists), leaves="")
        if words[0].text == "do":
            for token in words:
                if token.kind is Kind.STRING:
                    yield look_at(token.text, self._lists, plpgsql=True)

    # --- what a text leads to -----------------------------------------------------------------------------

    def _flaw_of(self, keys: Iterable[str], clock: bool = False) -> str:
        """Why one of the objects *keys*, or of what they lead to, is no read; in words."""
        good, bad = self._good[clock], self._bad[clock]
        for start in keys:
            if start in good:
                continue
            if start not in bad:
                self._judge(start, clock)
            if start in bad:
                root, flaw = bad[start]
                words = f"{self._objects[root]}: {flaw}"
                return words if root == start else f"{self._objects[start]}, by {words}"
        return ""

    def _judge(self, start: str, clock: bool) -> None:
        """An object is a read when all that it leads to are: what is found to lead nowhere doubtful is kept as good."""
        good, bad = self._good[clock], self._bad[clock]
        seen, queue = {start}, [start]
        while queue:
            at = queue.pop()
            found = self._objects[at]
            flaw = found.flaw or next((look.flaw for look in self._looks(found, clock) if look.flaw), "")
            if not flaw:
                unknown = sorted(name for look in self._looks(found, clock) for name in look.unknown
                                 if name not in self._functions)
                flaw = f"{unknown[0]}, which is not known" if unknown else ""
            if flaw:
                bad[start] = at, flaw
                return
            for key in self._next(found):
                if key in bad:
                    bad[start] = bad[key]
                    return
                if key not in seen and key not in good and key in self._objects:
                    seen.add(key)
                    queue.append(key)
        good |= seen

    def _looks(self, found: _Object, clock: bool = False) -> list[Look]:
        if clock:
            if found.timed_looks is None:
                found.timed_looks = [look_at(body, self._lists, plpgsql=found.plpgsql, clock=True)
                                     for body in found.bodies]
            return found.timed_looks
        if found.looks is None:
            found.looks = [look_at(body, self._lists, plpgsql=found.plpgsql) for body in found.bodies]
        return found.looks

    def _next(self, found: _Object) -> Iterator[str]:
        yield from found.uses
        for look in self._looks(found):
            yield from self._named_by(look)

    def _named_by(self, look: Look) -> Iterator[str]:
        for name in look.calls:
            yield from self._functions.get(name, ())
        for name in look.names:
            yield from self._named.get(name, ())
        for name in look.operators:
            yield from self._operators.get(name, ())

    def _every_look(self, look: Look) -> Iterator[Look | None]:
        """*look*, and all that what it names leads to; None for what cannot be looked through."""
        seen: set[str] = set()
        queue = [look]
        while queue:
            look = queue.pop()
            yield look
            if any(name not in self._functions and not is_built_in(name) for name in look.unknown):
                yield None
            keys = list(self._named_by(look))
            while keys:
                key = keys.pop()
                if key in seen or key not in self._objects:
                    continue
                seen.add(key)
                found = self._objects[key]
                if found.opaque:
                    yield None
                queue += self._looks(found)
                keys += found.uses


def _function_flaw(row: Mapping[str, Any], language: str, extension: str) -> str:
    if harmless_in(extension, row["name"], row["volatility"], in_c=language == "c"):
        return ""
    if row["volatility"] == "v":
        return "volatile"
    if row["cursor"]:
        return "gives a cursor"
    if row["aggregate"]:
        return ""
    if language == "internal":
        same = row["same_as"]
        return "" if same and all(name in SAFE for name in same) else "a built-in one by another name"
    return "" if language in _LOOKED_THROUGH else "in C" if language == "c" else f"in {language}"


def _serves_a_type(row: Mapping[str, Any]) -> bool:
    """Whether a function that is not called by its name, such as a type's or an operator's, is taken for a read: C code
    that says of itself that it reads nothing, and a built-in type's input and output under another name.
    """
    if row["lang"] == "c":
        return bool(row["volatility"] == "i")
    return row["lang"] == "internal" and row["volatility"] != "v" and all(
        name.endswith(_INPUT_AND_OUTPUT) for name in row["same_as"] or ("",))


_INPUT_AND_OUTPUT: Final = ("in", "out", "recv", "send")
_KINDS: Final = {"f": "functions", "r": "relations", "t": "types", "o": "operators"}
_TAKE: Final = {"f": Catalogue._take_function, "b": Catalogue._take_built_in, "r": Catalogue._take_relation,
                "s": Catalogue._take_system_relation, "t": Catalogue._take_type, "o": Catalogue._take_operator,
                "a": Catalogue._take_implicit}
