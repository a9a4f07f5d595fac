"""`app.py check`: every mistake of a configuration, each with its line; with --connect, what its servers say to it."""

from __future__ import annotations

import argparse
import sys

from ..config.describe import described
from ..config.loader import Loaded
from ..errors import ConfigError
from ..process import files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="the configuration (YAML)")
    parser.add_argument("--connect", action="store_true",
                        help="log in to every server as the monitor, and say what is wrong: exit code 1")
    parser.add_argument("--print", action="store_true", dest="show",
                        help="print the configuration in full, secrets masked, with where each setting comes from")


def run(args: argparse.Namespace) -> int:
    try:
        loaded = files.load_config(args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if args.connect:
        from ..process.findings import of_configuration  # which imports gevent

        found = of_configuration(loaded)
        for finding in found:
            print(finding, file=sys.stderr)
        if found:
            return 1
    if args.show:
        sys.stdout.write(describe(loaded))
    else:
        print(f"{args.config}: ok")
    return 0


def describe(loaded: Loaded) -> str:
    """The whole configuration as YAML, then the source of each of pgsplit's own settings."""
    sources = "".join(f"# {name}: {source}\n" for name, source in loaded.sources.items())
    return f"{described(loaded)}\n# Where the settings come from:\n{sources}"
