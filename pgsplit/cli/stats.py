"""`app.py stats`: the counters of the running instance, in Envoy's text format."""

from __future__ import annotations

import argparse
import json
import re
import sys

from ..errors import PgSplitError
from ..process import files
from ..process.client import Client
from ..stats.totals import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", metavar="FILE", help="the configuration of the instance")
    where.add_argument("--run-dir", metavar="DIR", help="its run_dir")
    parser.add_argument("--filter", metavar="REGEX", default="", help="only names that match")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    try:
        pattern = re.compile(args.filter)
    except re.error as error:
        raise PgSplitError(f"--filter: {error}") from None
    totals = Client(run_dir(args.config, args.run_dir)).arbiter("totals")
    chosen = {name: value for name, value in totals.items() if pattern.search(name)}
    sys.stdout.write(json.dumps(chosen, indent=1, sort_keys=True) + "\n" if args.format == "json" else render(chosen))
    return 0


def run_dir(config: str | None, given: str | None) -> str:
    """Where the instance's sockets are: as given, or of the configuration, or the default."""
    if given is not None:
        return given
    if config is not None:
        return files.load_config(config).config.process.run_dir
    return str(files.machine_defaults()["run_dir"])
