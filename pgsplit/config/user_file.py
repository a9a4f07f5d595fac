"""Editing a list of users in its YAML text: every byte that is not an entry's own stays as it is.

The places come from the marks of `yaml.compose`. What cannot be edited so (anchors, aliases, tags, block scalars) is
refused; the result is read again and must be exactly the list that is wanted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import yaml

from ..errors import PgSplitError
from .model import User
from .nodes import compose
from .reader import Notes
from .users import read_list

BY_HAND: Final = "edit this one by hand"
Path = tuple[str | int, ...]


class CannotEdit(PgSplitError):
    """Why a list cannot be edited here."""


@dataclass(frozen=True)
class Change:
    """*secret*: what the list shall have for the user from now on; None: the user is to be deleted."""

    name: str
    secret: str | None

    def __repr__(self) -> str:
        return f"Change({self.name!r}, {'delete' if self.secret is None else '***'})"


@dataclass(frozen=True)
class _Entry:
    """Character positions of an entry, and of its secret's scalar."""

    name: str
    start: int
    end: int
    secret: tuple[int, int]
    block_scalar: bool
    upstream: tuple[int, int] | None = None


def edited(text: str, path: Path, changes: Sequence[Change]) -> str:
    """*text* with *changes* made to the list that stands at *path* of its document, one after the other.

    :raises CannotEdit: saying why, with the line.
    """
    wanted = {user.username: user.secret for user in users_at(text, path)}
    for change in changes:
        if change.secret is None and change.name not in wanted:
            raise CannotEdit(f"there is no user {change.name!r} in the list")
        if change.secret is not None and (not change.name or "\0" in change.name + change.secret or not change.secret):
            raise CannotEdit("a user needs a name and a secret, without zero bytes")
        text = _deleted(text, path, change.name) if change.secret is None else _set(text, path, change.name,
                                                                                    change.secret)
        if change.secret is None:
            del wanted[change.name]
        else:
            wanted[change.name] = change.secret
    try:
        found = {user.username: user.secret for user in users_at(text, path)}
    except CannotEdit:
        found = {}
    if found != wanted:
        raise CannotEdit(f"the list is written in a way that is not understood here: {BY_HAND}")
    return text


def users_at(text: str, path: Path) -> list[User]:
    """The list at *path*. :raises CannotEdit: when there is none, or it has mistakes."""
    notes = Notes()
    node = compose(text, "the list", notes.problems)
    for step in path:
        items = getattr(node, "items", None)
        node = items[step] if items is not None and (step in items if isinstance(items, dict)
                                                     else isinstance(step, int) and step < len(items)) else None
    if node is None and not notes.problems:
        raise CannotEdit("the list of users is not where it was")
    users = read_list(notes, node, "users")
    if notes.problems:
        raise CannotEdit(notes.problems[0])
    return users


def masked(text: str, paths: Sequence[Path], before: str) -> str:
    """*text* with no secret of the lists at *paths*; one that *before* did not have for its user is called new."""
    spans = []
    for path in paths:
        known = {user.username: user for user in users_at(before, path)}
        users = {user.username: user for user in users_at(text, path)}
        for entry in _entries(_node(text, path)):
            was, user = known.get(entry.name), users[entry.name]
            spans.append((entry.secret, was is not None and was.secret == user.secret))
            if entry.upstream is not None:
                spans.append((entry.upstream, was is not None and was.upstream_secret == user.upstream_secret))
    for (start, end), old in sorted(set(spans), reverse=True):
        text = text[:start] + ('"***"' if old else '"*** (new)"') + text[end:]
    return text


# --- finding --------------------------------------------------------------------------------------------------------

def _node(text: str, path: Path) -> yaml.CollectionNode:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise CannotEdit(f"the file is not YAML: {error}") from None
    for step in path:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == step), None)
        else:
            assert isinstance(node, yaml.SequenceNode)
            node = node.value[step]
    if not isinstance(node, yaml.CollectionNode):
        raise CannotEdit(f"the list of users is no list or mapping: {BY_HAND}")
    _refuse_what_is_shared(text, node)
    return node


def _refuse_what_is_shared(text: str, node: yaml.Node) -> None:
    """Anchors, aliases, explicit tags and merges inside the list: a change of one entry may be one of another."""
    first, last = node.start_mark.index, node.end_mark.index
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = event.start_mark
        assert mark is not None
        where = mark.index
        if not first <= where <= last or (where == last and last > first):
            continue
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or (tag and tag != "!"):
            raise CannotEdit(f"line {mark.line + 1} has an anchor, an alias or a tag: {BY_HAND}")


def _entries(node: yaml.CollectionNode) -> list[_Entry]:
    found = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found.append(_entry(str(key.value), key.start_mark.index, value.end_mark.index, value))
    else:
        for item in node.value:
            fields = {str(key.value): value for key, value in item.value}
            ends = [value.end_mark.index for _, value in item.value]
            end = item.end_mark.index if item.flow_style else max(ends)
            found.append(_entry(str(fields["username"].value), item.start_mark.index, end, fields["password"],
                                fields.get("upstream_password")))
    return found


def _entry(name: str, start: int, end: int, secret: yaml.Node, upstream: yaml.Node | None = None) -> _Entry:
    return _Entry(name, start, end, (secret.start_mark.index, secret.end_mark.index),
                  getattr(secret, "style", None) in ("|", ">"),
                  (upstream.start_mark.index, upstream.end_mark.index) if upstream is not None else None)


# --- changing -------------------------------------------------------------------------------------------------------

def _set(text: str, path: Path, name: str, secret: str) -> str:
    node = _node(text, path)
    entries = _entries(node)
    entry = next((entry for entry in entries if entry.name == name), None)
    if entry is None:
        return _added(text, node, entries, name, secret)
    if entry.block_scalar:
        raise CannotEdit(f"the secret of {name!r} is a block scalar: {BY_HAND}")
    start, end = entry.secret
    if start == end:
        raise CannotEdit(f"the secret of {name!r} is empty: {BY_HAND}")
    return text[:start] + _quoted(secret) + text[end:]


def _added(text: str, node: yaml.CollectionNode, entries: list[_Entry], name: str, secret: str) -> str:
    mapping = isinstance(node, yaml.MappingNode)
    short = f"{_quoted(name)}: {_quoted(secret)}"
    long = f"{{username: {_quoted(name)}, password: {_quoted(secret)}}}"
    if node.flow_style:
        closing = node.end_mark.index - 1
        last = entries[-1].end if entries else node.start_mark.index + 1
        if entries and "," in _code(text[last:closing]):
            raise CannotEdit(f"the list ends with a comma: {BY_HAND}")
        return text[:last] + (", " if entries else "") + (short if mapping else long) + text[last:]
    last = entries[-1]
    if last.block_scalar:
        raise CannotEdit(f"the last entry is a block scalar: {BY_HAND}")
    newline = "\r\n" if "\r\n" in text else "\n"
    start = last.start if mapping else _dash(text, last.start)
    indent = " " * (start - _line_start(text, start))
    line_end = text.find("\n", last.end)
    at = len(text) if line_end < 0 else line_end + 1
    before = newline if line_end < 0 else ""
    return text[:at] + before + indent + ("" if mapping else "- ") + (short if mapping else long) + newline + text[at:]


def _deleted(text: str, path: Path, name: str) -> str:
    node = _node(text, path)
    entries = _entries(node)
    number, entry = next((number, entry) for number, entry in enumerate(entries) if entry.name == name)
    if entry.block_scalar:
        raise CannotEdit(f"the secret of {name!r} is a block scalar: {BY_HAND}")
    if len(entries) == 1:
        raise CannotEdit("the last user of a list cannot be deleted here")
    if node.flow_style:
        if number + 1 < len(entries):
            between = text[entry.end:entries[number + 1].start]
            end = entries[number + 1].start
            if "#" in between or between.strip() != ",":
                raise CannotEdit(f"a comment stands between two users of a flow list: {BY_HAND}")
            return text[:entry.start] + text[end:]
        start = entries[number - 1].end
        return text[:start] + text[entry.end:]
    start = _line_start(text, entry.start if isinstance(node, yaml.MappingNode) else _dash(text, entry.start))
    if text[start:entry.start].strip(" -"):
        raise CannotEdit(f"{name!r} does not stand on a line of its own: {BY_HAND}")
    line_end = text.find("\n", entry.end)
    return text[:start] + (text[line_end + 1:] if line_end >= 0 else "")


def _dash(text: str, position: int) -> int:
    """Where the dash of the block entry at *position* is."""
    dash = text.rfind("-", 0, position)
    if dash < 0 or text[dash + 1:position].strip():
        raise CannotEdit(f"an entry does not stand behind its dash: {BY_HAND}")
    return dash


def _line_start(text: str, position: int) -> int:
    return text.rfind("\n", 0, position) + 1


def _code(text: str) -> str:
    """*text* without comments."""
    return "".join(line.partition("#")[0] for line in text.splitlines())


def _quoted(value: str) -> str:
    """In double quotes, as YAML reads it: JSON's escapes are a part of YAML's (YAML 1.2, 5.7)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\x7f")
