"""`app.py serve`: launch as one launches gunicorn."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from .. import log, origin
from ..config.loader import Loaded
from ..errors import ConfigError, PgSplitError
from ..process import descriptors, files, predecessor
from ..process.arbiter import Arbiter

SERVICE = "pgsplit.process.proxy"
ADMIN = f"{origin.ADMIN}.serving"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="the configuration (YAML)")
    parser.add_argument("-w", "--workers", type=int, metavar="N", help="number of worker processes")
    parser.add_argument("-b", "--bind", metavar="HOST:PORT", help="listen here instead (one listener only)")
    parser.add_argument("--pid", metavar="FILE", help="write the arbiter's process id to FILE")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error", "critical"))
    parser.add_argument("--log-file", metavar="FILE", help="log to FILE instead of standard error")
    parser.add_argument("--graceful-timeout", type=float, metavar="SECONDS",
                        help="how long transactions may take to finish after TERM")
    parser.add_argument("--check-config", action="store_true", help="check the configuration and exit")


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line sets over the file."""
    given = {"workers": args.workers, "bind": args.bind, "pidfile": args.pid, "log_level": args.log_level,
             "log_file": args.log_file, "graceful_timeout": args.graceful_timeout}
    return {name: value for name, value in given.items() if value is not None}


def run(args: argparse.Namespace) -> int:
    over = overrides(args)

    def load(generation: int, replaced: Mapping[str, str] | None = None) -> Loaded:
        loaded = files.load_config(args.config, generation, over, replaced)
        descriptors.check(loaded.config)
        for warning in loaded.warnings:
            logger.warning("%s", warning)
        return loaded

    logger = log.get("pgsplit.arbiter")
    log.setup(args.log_level or "info", args.log_file)
    try:
        before = predecessor.from_environment()
    except PgSplitError as error:
        logger.critical("%s", error)
        return 3
    try:
        loaded = load(before.generation + 1 if before is not None else 1)
    except ConfigError as error:
        print(error, file=sys.stderr)
        if before is not None:
            before.refuse(error.problems)
        return 2
    if args.check_config:
        return 0
    log.setup(loaded.config.process.log_level, loaded.config.process.log_file)
    try:
        return Arbiter(loaded, load, SERVICE, ADMIN, predecessor=before).run()
    except PgSplitError as error:
        logger.critical("%s", error)
        return 3
