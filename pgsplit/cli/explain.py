"""`app.py explain`: where a statement would go, and why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from ..classify.classify import NO_LISTS, classify
from ..classify.facts import Facts
from ..classify.function_lists import FunctionLists
from ..classify.rules import RULES
from ..process import files

NO_CATALOGUE = ("Without a server no catalogue is known: a function of yours is doubt, and a view, an operator or a "
                "cast\nthat hides one cannot be seen. Transactions, pins and freshness are the session's own matter.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sql", nargs="?", help="the statement; with --jsonl -, the texts come from standard input")
    parser.add_argument("-c", "--config", metavar="FILE", help="take limits and function lists from this configuration")
    parser.add_argument("--jsonl", metavar="-", help='read {"sql": …} a line from FILE or - (standard input); '
                        'print {"upstream": …, "reason": …} a line')


def run(args: argparse.Namespace) -> int:
    limit, lists = 65536, NO_LISTS
    if args.config:
        config = files.load_config(args.config).config
        limit = min(listener.max_statement_bytes for listener in config.listeners)
        lists = FunctionLists(config.process.replica_functions, config.process.primary_functions)
    facts = partial(_facts, limit=limit, lists=lists)
    if args.jsonl:
        return _lines(args.jsonl, facts)
    if args.sql is None:
        print("explain: give a statement, or --jsonl -", file=sys.stderr)
        return 2
    sys.stdout.write(describe(facts(args.sql)))
    return 0


def _facts(sql: str, limit: int, lists: FunctionLists) -> Facts:
    return classify(sql.encode(errors="surrogateescape").decode("latin-1"), max_bytes=limit, lists=lists)


def describe(facts: Facts) -> str:
    lines = [f"upstream: {facts.verdict.value}", f"reason:   {facts.reason}" + (f" ({facts.detail})" if facts.detail
                                                                               else ""),
             f"          {RULES[facts.reason].words}", "facts:"]
    found: dict[str, Any] = {
        "commands": ", ".join(facts.commands) or "none", "may write": facts.writes,
        "known to be free of effects": facts.effect_free, "may change the session": ", ".join(facts.effects) or False,
        "transaction control": facts.tx.value if facts.tx else False, "hint": facts.hint or False}
    lines += [f"  {name}: {_word(value)}" for name, value in found.items()]
    return "\n".join(lines) + f"\n\n{NO_CATALOGUE}\n"


def _word(value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _lines(name: str, classified: Callable[[str], Facts]) -> int:
    source = sys.stdin if name == "-" else open(name, encoding="utf-8")  # noqa: SIM115
    write = sys.stdout.write
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            sql = json.loads(line)["sql"]
            if not isinstance(sql, str):
                raise TypeError("sql is not a text")
        except (ValueError, KeyError, TypeError) as error:
            write(json.dumps({"error": f"line {number}: {error!r}"}) + "\n")
            continue
        facts = classified(sql)
        write(json.dumps({"upstream": facts.verdict.value, "reason": facts.reason}) + "\n")
    return 0
