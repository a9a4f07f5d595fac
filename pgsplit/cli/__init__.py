"""The commands of ``pgsplit``, in a checkout ``python app.py``: a table, each command in a module of its own, which is
imported when it is asked for.

A command's module has ``add_arguments(parser)`` and ``run(args) -> int``, the exit code. This package imports
neither gevent nor flask: ``serve`` forks before anything does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from pgsplit import __version__
from pgsplit.errors import ConfigError, PgSplitError
from pgsplit.origin import COMMAND


@dataclass(frozen=True)
class Command:
    """``help`` is its line in ``pgsplit --help`` and the first line of its own ``--help``."""

    name: str
    help: str
    module: str


COMMANDS = (
    Command("serve", "run the proxy", "pgsplit.cli.serve"),
    Command("check", "check a configuration file: every mistake with its line", "pgsplit.cli.check"),
    Command("import", "make a configuration of PgBouncer's or pgpool-II's one of pgsplit's",
            "pgsplit.cli.import_config"),
    Command("size", "what so many clients take of servers and of this machine, with the sums", "pgsplit.cli.size"),
    Command("explain", "say where a SQL statement would go, and why", "pgsplit.cli.explain"),
    Command("observe", "report what would move to replicas: from a server's log, or pg_stat_statements",
            "pgsplit.cli.observe"),
    Command("report", "report what the running instance would move to replicas (mode: observe)", "pgsplit.cli.report"),
    Command("build", "compile the relay, which costs less CPU than the one in Python", "pgsplit.cli.build"),
    Command("hash-password", "hash a password, or make a token, for the admin page", "pgsplit.cli.hash_password"),
    Command("stats", "print the counters of the running instance", "pgsplit.cli.stats"),
)

EPILOG = f"""\
{COMMAND} COMMAND --help tells more about one. Exit codes: 0 done, 1 failed, 2 a mistake in the
command line or the configuration.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv* (default: the process's arguments) names; returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    args = _parser(words).parse_args(words)
    try:
        code: int = import_module(args.module).run(args)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except PgSplitError as error:
        print(f"pgsplit {args.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:     # the reader had enough (`… | head`); the flush at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=COMMAND, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="pgsplit: a PostgreSQL proxy that sends reads to streaming standbys and writes to the primary.")
    parser.add_argument("--version", action="version", version=f"pgsplit {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    asked_for = next((word for word in words if not word.startswith("-")), None)
    for command in COMMANDS:
        description = command.help[0].upper() + command.help[1:] + "."
        subparser = commands.add_parser(command.name, help=command.help, description=description)
        subparser.set_defaults(module=command.module)
        if command.name == asked_for:
            import_module(command.module).add_arguments(subparser)
    return parser
