"""`app.py stats`: the counters of the running instance, in Envoy's text format."""

from __future__ import annotations

import argparse
import json
import re
import sys

from ..errors import PgSplitError
from ..process import instances
from ..process.client import Client
from ..stats.totals import render


def add_instance(parser: argparse.ArgumentParser) -> None:
    """Which instance is asked."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", metavar="FILE", help="the configuration of the instance")
    where.add_argument("--run-dir", metavar="DIR", help="its run_dir")
    parser.add_argument("-b", "--bind", metavar="HOST:PORT", help="the --bind that it was started with")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_instance(parser)
    parser.add_argument("--filter", metavar="REGEX", default="", help="only names that match")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    try:
        pattern = re.compile(args.filter)
    except re.error as error:
        raise PgSplitError(f"--filter: {error}") from None
    overrides = {"bind": args.bind} if args.bind else {}
    totals = Client(instances.find(args.config, args.run_dir, overrides)).arbiter("totals")
    chosen = {name: value for name, value in totals.items() if pattern.search(name)}
    sys.stdout.write(json.dumps(chosen, indent=1, sort_keys=True) + "\n" if args.format == "json" else render(chosen))
    return 0
