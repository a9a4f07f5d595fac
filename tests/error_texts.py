"""The errors that pgsplit itself makes, read from its source: severity, SQLSTATE and text of each call that makes one.

What is put into a text is left open: ``could not connect to {host.name}: {why}`` is ``could not connect to …: …``. A
parameter of the function around the call stands for what its calls in the same module give.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Final, NamedTuple

from pgsplit.errors import ConnectionLost

ROOT: Final = Path(__file__).resolve().parents[1]
NO_CLIENTS: Final = {ROOT / "pgsplit/process/direct.py"}        # what is said there, a command says
SOURCES: Final = sorted(path for path in ROOT.glob("pgsplit/**/*.py")
                        if path.relative_to(ROOT).parts[1] not in ("demo", "cli") and path not in NO_CLIENTS)
OPEN: Final = "…"


class Error(NamedTuple):
    """*severity* and *sqlstate* are empty for what is no ErrorResponse: the reason of another error, or of a line of
    the log.
    """

    severity: str
    sqlstate: str
    text: str


@dataclass(frozen=True)
class Maker:
    """Where a call's arguments have what an error is made of; an *int* is a position, a *str* stands for itself."""

    text: int
    sqlstate: int | str
    severity: int | str
    default_sqlstate: str = ""
    default_text: str = ""


# By the name that is called. Classes that are derived from one of them are found, and make errors as it does.
MAKERS: Final[dict[str, Maker]] = {
    "ServerError": Maker(text=1, sqlstate=0, severity="ERROR"),
    "error_response": Maker(text=2, sqlstate=1, severity=0),
    "ProtocolViolation": Maker(text=0, sqlstate="08P01", severity="FATAL"),
    "ScramError": Maker(text=0, sqlstate=1, severity="FATAL", default_sqlstate="08P01"),
    "Refused": Maker(text=1, sqlstate=0, severity="ERROR"),
}
REASONS: Final[dict[str, Maker]] = {
    "ConnectionLost": Maker(text=1, sqlstate="", severity="",
                            default_text=signature(ConnectionLost).parameters["why"].default),
    "NoReplica": Maker(text=0, sqlstate="", severity=""),
    "Unanswered": Maker(text=0, sqlstate="", severity=""),
}
Binding = Mapping[str, ast.expr]


class Module:
    def __init__(self, path: Path) -> None:
        self.tree = ast.parse(path.read_text())
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        self.calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        self.classes = [node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]

    def errors(self, makers: Mapping[str, Maker]) -> Iterator[Error]:
        above = {call: base.id for each in self.classes for call in ast.walk(each) if isinstance(call, ast.Call)
                 for base in each.bases if isinstance(base, ast.Name)}
        for call in self.calls:
            is_base = ast.unparse(call.func) == "super().__init__"
            maker = makers.get(above.get(call, "") if is_base else _called(call))
            if maker is None:
                continue
            if maker.text >= len(call.args):
                if maker.default_text:
                    yield Error("", "", maker.default_text)
                continue
            if is_base and self._is_parameter(call.args[maker.text], call):
                continue                        # its own calls have the text
            given = {word.arg: word.value for word in call.keywords}
            severity = given.get("severity", call.args[maker.severity] if isinstance(maker.severity, int) else None)
            for binding in self._bindings(call):
                sqlstates = [maker.sqlstate] if isinstance(maker.sqlstate, str) else (
                    self._texts(call.args[maker.sqlstate], call, binding) if maker.sqlstate < len(call.args)
                    else [maker.default_sqlstate])
                severities = [str(maker.severity)] if severity is None else self._texts(severity, call, binding)
                for text in self._texts(call.args[maker.text], call, binding):
                    yield from (Error(level, code, text) for level in severities for code in sqlstates)

    def _bindings(self, call: ast.Call) -> list[Binding]:
        """What the parameters of the function around *call* are, for each of its calls here that gives a text."""
        function = self._function(call)
        if function is None:
            return [{}]
        names = [each.arg for each in function.args.args if each.arg != "self"]
        bindings = [dict(zip(names, other.args, strict=False)) for other in self.calls
                    if _called(other) == function.name and other.args]
        told = {name for name in names if bindings and all(_is_text(binding.get(name)) for binding in bindings)}
        return [{name: binding[name] for name in told} for binding in bindings] if told else [{}]

    def _texts(self, node: ast.expr, call: ast.Call, binding: Binding) -> list[str]:
        """The texts that *node* may be."""
        if isinstance(node, ast.Constant):
            return [str(node.value)]
        if isinstance(node, ast.JoinedStr):
            texts = [""]
            for part in node.values:
                inner = part.value if isinstance(part, ast.FormattedValue) else part
                ends = self._texts(inner, call, binding) if isinstance(inner, ast.Constant | ast.Name) else [OPEN]
                texts = [text + end for text in texts for end in ([OPEN] if OPEN in ends else ends)]
            return texts
        if isinstance(node, ast.BoolOp):        # what is no text itself is another error's
            return [text for each in node.values if _is_text(each) for text in self._texts(each, call, binding)]
        if isinstance(node, ast.IfExp):
            return [text for each in (node.body, node.orelse) for text in self._texts(each, call, binding)]
        if isinstance(node, ast.Name):
            bound = binding.get(node.id)
            if bound is not None:
                return self._texts(bound, call, {})
            values = self._assigned(node.id, call)
            return [text for value in values for text in self._texts(value, call, binding)] or [OPEN]
        if isinstance(node, ast.Attribute) and node.attr in ("message", "severity", "sqlstate"):
            return []                           # passed on, not made
        return [OPEN]

    def _assigned(self, name: str, call: ast.Call) -> list[ast.expr]:
        """The texts that *name* is given in the function around *call*, or as the module's constant."""
        for scope in (self._function(call), self.tree):
            found = [node.value for node in (ast.walk(scope) if scope is not None else ())
                     if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
                     and (isinstance(scope, ast.FunctionDef) or node in self.tree.body)
                     and any(isinstance(target, ast.Name) and target.id == name for target in
                             (node.targets if isinstance(node, ast.Assign) else [node.target]))]
            if found:
                return [value for value in found if _is_text(value)]
        return []

    def _is_parameter(self, node: ast.expr, call: ast.Call) -> bool:
        function = self._function(call)
        names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        return function is not None and bool(names & {each.arg for each in function.args.args})

    def _function(self, node: ast.AST) -> ast.FunctionDef | None:
        while (above := self.parents.get(node)) is not None:
            if isinstance(above, ast.FunctionDef):
                return above
            node = above
        return None


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_text(node: ast.AST | None) -> bool:
    if isinstance(node, ast.BoolOp | ast.IfExp):
        return any(map(_is_text, ast.iter_child_nodes(node)))
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


@cache
def _modules() -> list[Module]:
    return [Module(path) for path in SOURCES]


def makers() -> dict[str, Maker]:
    """`MAKERS`, and what is derived from them."""
    found = dict(MAKERS)
    classes = [each for module in _modules() for each in module.classes]
    while True:
        new = {node.name: found[base.id] for node in classes for base in node.bases
               if isinstance(base, ast.Name) and base.id in found and node.name not in found}
        if not new:
            return found
        found |= new


@cache
def errors() -> set[Error]:
    """All that is made as an ErrorResponse."""
    known = makers()
    return {error for module in _modules() for error in module.errors(known)}


def reasons(names: Collection[str]) -> set[str]:
    """The texts of the `REASONS` of these *names*: what is told within other errors, or in the log alone."""
    known = {name: REASONS[name] for name in names}
    return {error.text for module in _modules() for error in module.errors(known)}
