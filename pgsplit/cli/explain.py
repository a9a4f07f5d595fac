"""`app.py explain`: where a statement would go, and why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial

from ..classify.catalogue import Catalogue
from ..classify.classify import NO_LISTS, classify
from ..classify.explain import explained
from ..classify.facts import Facts
from ..classify.function_lists import FunctionLists
from ..errors import PgSplitError
from ..process import files

NO_CATALOGUE = ("Without a server no catalogue is known: a function of yours is doubt, and a view, an operator or a "
                "cast\nthat hides one cannot be seen. Transactions, pins and freshness are the session's own matter.")
CATALOGUE = "Transactions, pins and freshness are the session's own matter."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sql", nargs="?", help="the statement; with --jsonl -, the texts come from standard input")
    parser.add_argument("-c", "--config", metavar="FILE", help="take limits and function lists from this configuration")
    parser.add_argument("-d", "--database", metavar="NAME", help="with --config: also by the definitions of this "
                        "database, read from the primary as the monitor")
    parser.add_argument("--jsonl", metavar="-", help='read {"sql": …} a line from FILE or - (standard input); '
                        'print {"upstream": …, "reason": …} a line')


def run(args: argparse.Namespace) -> int:
    limit, lists, catalogue, replica_clock = 65536, NO_LISTS, None, False
    if args.database and not args.config:
        print("explain: --database needs --config, which says where the primary is", file=sys.stderr)
        return 2
    if args.config:
        config = files.load_config(args.config).config
        limit = min(listener.max_statement_bytes for listener in config.listeners)
        replica_clock = all(listener.clock == "replica" for listener in config.listeners)
        lists = FunctionLists(config.process.replica_functions, config.process.primary_functions)
        if args.database:
            from ..process.catalogue import catalogue_of  # which imports gevent

            try:
                catalogue = catalogue_of(config, args.database, lists)
            except PgSplitError as error:
                print(f"explain: {error}", file=sys.stderr)
                return 1
    facts = partial(_facts, limit=limit, lists=lists, catalogue=catalogue)
    if args.jsonl:
        return _lines(args.jsonl, facts, replica_clock=replica_clock)
    if args.sql is None:
        print("explain: give a statement, or --jsonl -", file=sys.stderr)
        return 2
    sys.stdout.write(describe(facts(args.sql), catalogue, replica_clock=replica_clock))
    return 0


def _facts(sql: str, limit: int, lists: FunctionLists, catalogue: Catalogue | None) -> Facts:
    return classify(sql.encode(errors="surrogateescape").decode("latin-1"), max_bytes=limit, lists=lists,
                    catalogue=catalogue)


def describe(facts: Facts, catalogue: Catalogue | None = None, *, replica_clock: bool = False) -> str:
    found = explained(facts, replica_clock=replica_clock)
    detail = f" ({found['detail']})" if found["detail"] else ""
    lines = [f"upstream: {found['upstream']}", f"reason:   {found['reason']}{detail}", f"          {found['rule']}",
             *([f"remedy:   {found['remedy']}"] if found["remedy"] else []),
             "facts:", *(f"  {name}: {_word(value)}" for name, value in found["facts"].items())]
    if catalogue is not None:
        lines.append("catalogue: " + ", ".join(f"{count} {what}" for what, count in catalogue.counts.items()))
    return "\n".join(lines) + f"\n\n{NO_CATALOGUE if catalogue is None else CATALOGUE}\n"


def _word(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _lines(name: str, classified: Callable[[str], Facts], *, replica_clock: bool) -> int:
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
        found = explained(classified(sql), replica_clock=replica_clock)
        write(json.dumps({"upstream": found["upstream"], "reason": found["reason"]}) + "\n")
    return 0
