"""Reading mappings field by field: what is wrong is noted with file, line and path, and reading goes on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import TypeVar

from .fields import Kind
from .nodes import Mapping, Node, Scalar, Sequence

T = TypeVar("T")


class Notes:
    """What has been found wrong, or worth a warning, so far."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def wrong(self, node: Node, path: str, what: str) -> None:
        self.problems.append(f"{node.file}:{node.line}: {path}: {what}")

    def warn(self, node: Node, path: str, what: str) -> None:
        self.warnings.append(f"{node.file}:{node.line}: {path}: {what}")


class Fields:
    """One mapping of a known kind. Fields that *kind* does not read are noted at once.

    One that is nearly the name of a field that is not there is then read as that: a slip is one mistake, not several.
    """

    def __init__(self, notes: Notes, node: Node | None, path: str, kind: Kind) -> None:
        self.notes = notes
        self.path = (node.path if node is not None else "") or path
        self.items: dict[str, Node] = {}
        self._kind = kind
        self._lines: dict[str, int] = {}
        self._unreadable = node is not None and not isinstance(node, Mapping)
        self.node = node if node is not None else Mapping("", 0, {})
        if isinstance(node, Mapping):
            self.items = dict(node.items)
            self._lines = dict(node.key_lines)
            self._check()
        elif node is not None:
            notes.wrong(node, self.path or "(top)", f"{kind} is a mapping of fields")

    def at(self, name: str) -> str:
        item = self.items.get(name)
        return (item.path if item is not None else "") or (f"{self.path}.{name}" if self.path else name)

    def where(self, name: str) -> Node:
        """A node to report a mistake at: the field's, or the mapping's when it is absent."""
        return Node(self.node.file, self._lines.get(name, self.node.line))

    def mark(self, name: str) -> str:
        """Where a field stands, for a mistake that shows later."""
        where = self.where(name)
        return f"{where.file}:{where.line}: {self.at(name)}"

    def _check(self) -> None:
        kind = self._kind
        for name in list(self.items):
            if name in kind.read:
                continue
            where, path = self.where(name), self.at(name)
            if name in kind.refused:
                self.notes.wrong(where, path, f"is not supported, and cannot be ignored: {kind.refused[name]}")
            elif name in kind.ignored:
                self.notes.warn(where, path, "is ignored")
            else:
                known = (*kind.read, *kind.ignored)
                near = difflib.get_close_matches(name, [field for field in known if field not in self.items], 1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(kind.read)}"
                self.notes.wrong(where, path, f"unknown field of {kind}{hint}")
                for right in near:
                    self.items[right], self._lines[right] = self.items[name], where.line

    # --- values ---------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        return name in self.items

    def names(self, name: str) -> list[str]:
        """The keys of a mapping that the configuration's author chooses."""
        node = self.items.get(name)
        return list(node.items) if isinstance(node, Mapping) else []

    def scalar(self, name: str, parse: Callable[[str], T], default: T) -> T:
        node = self.items.get(name)
        if node is None:
            return default
        if not isinstance(node, Scalar):
            self.notes.wrong(node, self.at(name), "is one value, not a mapping or a list")
            return default
        try:
            return parse(node.value)
        except ValueError as error:
            self.notes.wrong(self.where(name), self.at(name), str(error))
            return default

    def text(self, name: str, default: str = "") -> str:
        return self.scalar(name, str, default)

    def required(self, name: str) -> str:
        """A text that must be there and not empty."""
        value = self.text(name)
        if name not in self.items and not self._unreadable:
            self.notes.wrong(self.where(name), self.at(name), "is missing")
        elif not value and isinstance(self.items.get(name), Scalar):
            self.notes.wrong(self.where(name), self.at(name), "is empty")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        def parse(value: str) -> str:
            if value not in choices:
                raise ValueError(f"{value!r} is not one of {', '.join(choices)}")
            return value

        return self.scalar(name, parse, default)

    def words(self, name: str) -> list[str]:
        """A list of words, or one text with colons or commas between them, as OpenSSL takes lists."""
        node = self.items.get(name)
        texts = [self.text(name)] if isinstance(node, Scalar) else []
        for item, path in self.sequence(name) if not isinstance(node, Scalar) else []:
            if isinstance(item, Scalar):
                texts.append(item.value)
            else:
                self.notes.wrong(item, path, "is one value, not a mapping or a list")
        found = [word for text in texts for word in re.split(r"[:,\s]+", text) if word]
        if node is not None and not found and isinstance(node, (Scalar, Sequence)):
            self.notes.wrong(self.where(name), self.at(name), "is empty")
        return found

    def mapping(self, name: str, kind: Kind) -> Fields:
        return Fields(self.notes, self.items.get(name), self.at(name), kind)

    def sequence(self, name: str) -> list[tuple[Node, str]]:
        """The items with their paths."""
        node = self.items.get(name)
        if node is None:
            return []
        if not isinstance(node, Sequence):
            self.notes.wrong(node, self.at(name), "is a list")
            return []
        return [(item, item.path or f"{self.at(name)}[{index}]") for index, item in enumerate(node.items)]

    def mappings(self, name: str, kind: Kind) -> list[Fields]:
        return [Fields(self.notes, node, path, kind) for node, path in self.sequence(name)]
