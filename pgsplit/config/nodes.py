"""YAML as nodes with line marks. Every scalar stays the text that was written: `0123` is no number, `no` no boolean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import yaml

LIMIT: Final = 200_000       # nodes, aliases followed: against texts that grow when they are read


@dataclass(eq=False)
class Node:
    """*path*: what its author calls it, where that is not its place in the tree (the short form)."""

    file: str
    line: int
    path: str = field(default="", kw_only=True)


@dataclass(eq=False)
class Scalar(Node):
    value: str


@dataclass(eq=False)
class Sequence(Node):
    items: list[Node]


@dataclass(eq=False)
class Mapping(Node):
    items: dict[str, Node]
    key_lines: dict[str, int] = field(default_factory=dict)


def compose(text: str, file: str, problems: list[str]) -> Node | None:
    """*text* as a tree; None when there is no document or it does not parse, which *problems* then says."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        problems.append(f"{file}:{mark.line + 1 if mark else 1}: {what or 'not YAML'}")
        return None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.append(f"{file}:1: not YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        return None
    if root is None:
        problems.append(f"{file}:1: the file is empty")
        return None
    return _Converter(file, problems).convert(root, ())


class _Converter:
    def __init__(self, file: str, problems: list[str]) -> None:
        self._file = file
        self._problems = problems
        self._count = 0

    def convert(self, node: yaml.Node, above: tuple[int, ...]) -> Node | None:
        line = node.start_mark.line + 1
        self._count += 1
        if id(node) in above:
            self._problems.append(f"{self._file}:{line}: an alias contains itself")
            return None
        if self._count > LIMIT:
            if self._count == LIMIT + 1:
                self._problems.append(f"{self._file}:{line}: too many nodes, aliases followed")
            return None
        if node.tag.startswith("!"):        # which is not shown: it may be a password
            self._problems.append(f"{self._file}:{line}: a text that begins with ! stands in quotes: YAML takes it "
                                  "for a tag, which has no meaning here")
            return None
        if isinstance(node, yaml.ScalarNode):
            return Scalar(self._file, line, "" if node.tag.endswith(":null") else str(node.value))
        above = (*above, id(node))
        if isinstance(node, yaml.SequenceNode):
            converted = [self.convert(item, above) for item in node.value]
            return Sequence(self._file, line, [item for item in converted if item is not None])
        return self._mapping(node, line, above)

    def _mapping(self, node: yaml.Node, line: int, above: tuple[int, ...]) -> Mapping:
        mapping = Mapping(self._file, line, {})
        for key, value in node.value:
            key_line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._problems.append(f"{self._file}:{key_line}: a key must be a plain text")
                continue
            name = str(key.value)
            converted = self.convert(value, above)
            if name in mapping.items:
                self._problems.append(f"{self._file}:{key_line}: {name}: stands twice, first in line "
                                      f"{mapping.key_lines[name]}")
            elif converted is not None:
                mapping.items[name] = converted
                mapping.key_lines[name] = key_line
        merged = mapping.items.pop("<<", None)
        for other in merged.items if isinstance(merged, Sequence) else [merged]:
            if isinstance(other, Mapping):
                for name, value in other.items.items():
                    mapping.items.setdefault(name, value)
                    mapping.key_lines.setdefault(name, other.key_lines.get(name, line))
        return mapping
