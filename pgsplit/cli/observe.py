"""`pgsplit observe`: what pgsplit would take off a primary, from its log or pg_stat_statements, with no proxy."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO, Final, cast

from ..classify.catalogue import Catalogue
from ..classify.classifier import Classifier
from ..classify.classify import NO_LISTS
from ..classify.facts import Facts
from ..classify.function_lists import FunctionLists
from ..errors import PgSplitError
from ..observing.entry import LONGEST, Broken
from ..observing.formats import FORMATS, Log
from ..observing.report import Report, of_tally
from ..observing.tally import Tally
from ..observing.text import text
from ..observing.watching import Watching
from ..process import files

ENTRIES: Final = 20_000         # texts that a classifier remembers
LONGEST_STATEMENT: Final = 65536        # max_statement_bytes, where no configuration says something else
SHOWN: Final = 10               # of what could not be read
FORMS: Final = ("text", "json", "html")
NO_CATALOGUE: Final = ("no catalogue was asked: a function of yours is doubt, and what a view hides is not seen. "
                       "--catalogue DSN reads the definitions")
NOT_SEEN: Final = ("whether a replica was fresh in time, what came in a pipeline, and what an unknown function left in "
                   "its session cannot be told from a log")
UPPER_BOUND: Final = ("pg_stat_statements knows no sessions: what transactions and pins keep on the primary is not "
                      "taken off; a log (--log) tells")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--log", nargs="+", metavar="FILE", help="a server's log, in csvlog, jsonlog or stderr format, "
                      "with log_statement = all or log_min_duration_statement; .gz too; - is standard input")
    what.add_argument("--pg-stat-statements", metavar="DSN", help="a server that has the extension: key=value words or "
                      "a postgresql:// URI; the password by PGPASSWORD or ~/.pgpass")
    parser.add_argument("--log-format", choices=FORMATS, default="", help="default: by how the log begins")
    parser.add_argument("--log-line-prefix", metavar="PREFIX", help="of a stderr log; default: the usual one that fits")
    parser.add_argument("--catalogue", metavar="DSN", help="also by the definitions of this database")
    parser.add_argument("-c", "--config", metavar="FILE", help="take limits and function lists from this configuration")
    add_form(parser)


def add_form(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=FORMS, default="text", help="default: text")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")


def run(args: argparse.Namespace) -> int:
    """:raises PgSplitError: for a file, a server or a prefix that cannot be used."""
    classify, notes = _classifier(args)
    report = _of_log(args, classify, notes) if args.log else _of_server(args, classify, notes)
    write(report, args.format, args.output)
    return 0


def write(report: Report, form: str, path: str | None) -> None:
    """*path*: None for standard output."""
    if form == "json":
        written = json.dumps(report.to_dict(), indent=1) + "\n"
    elif form == "html":
        from ..observing.html import html

        written = html(report)
    else:
        written = text(report)
    if path is None:
        sys.stdout.write(written)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(written)
    except OSError as error:
        raise PgSplitError(f"{path}: {error.strerror}") from None


def _classifier(args: argparse.Namespace) -> tuple[Callable[[bytes, str], Facts], list[str]]:
    """The facts of a text in a database, and what is to be said of them."""
    lists, limit = NO_LISTS, LONGEST_STATEMENT
    if args.config:
        config = files.load_config(args.config).config
        lists = FunctionLists(config.process.replica_functions, config.process.primary_functions)
        limit = min(listener.max_statement_bytes for listener in config.listeners)
    plain = Classifier(ENTRIES, limit, lists=lists)
    if not args.catalogue:
        return (lambda sql, database: plain(sql)), [NO_CATALOGUE]
    from ..process.direct import Direct, dsn_of  # which imports gevent

    dsn = dsn_of(args.catalogue)
    with Direct(dsn) as server:
        catalogue = Catalogue(server.definitions(), lists)
    known = Classifier(ENTRIES, limit, lists=lists)
    known.learn(catalogue)
    note = f"the catalogue is that of database {dsn.database}: of others no definitions are known"
    return (lambda sql, database: known(sql) if database in ("", dsn.database) else plain(sql)), [note]


# --- from a log -----------------------------------------------------------------------------------------------------

def _of_log(args: argparse.Namespace, classify: Callable[[bytes, str], Facts], notes: list[str]) -> Report:
    tally = Tally()
    watching: Watching | None = None
    broken, first, formats = 0, list[str](), dict[str, None]()
    for path in args.log:
        with _opened(path) as file:
            log = Log(_lines(file, path), args.log_format, args.log_line_prefix)
            watching = watching or Watching(tally, classify, tells_sessions=log.tells_sessions)
            formats[log.format + (f" ({log.prefix.text!r})" if log.prefix is not None else "")] = None
            for entry in log:
                if not isinstance(entry, Broken):
                    watching.take(entry)
                    continue
                broken += 1
                if len(first) < SHOWN:
                    first.append(f"{path}:{entry.line}: {entry.why}")
    assert watching is not None
    source = {"log": ", ".join(args.log), "format": ", ".join(formats), "entries": f"{watching.entries:,}"}
    if watching.first_time is not None and watching.last_time is not None:
        source["period"] = f"{_stamp(watching.first_time)} to {_stamp(watching.last_time)}"
    if broken:
        source["not readable"] = f"{broken:,} places"
        notes += [f"not readable: {line}" for line in first]
        if broken > len(first):
            notes.append(f"{broken - len(first):,} more places are not readable")
    return of_tally(tally, source, upper_bound=not watching.tells_sessions, notes=[*_of_settings(watching), *notes])


def _of_settings(watching: Watching) -> list[str]:
    """What the server's settings have left out of its log."""
    found = [NOT_SEEN]
    if not watching.tally.all.statements:
        found.append("the log has no statement: set log_statement = all, or log_min_duration_statement = 0")
    if not watching.tells_sessions:
        found.append("log_line_prefix has neither %p nor %c: sessions, and so transactions, cannot be told apart")
    shortest = watching.shortest_ms
    if shortest is not None and shortest >= 1 and not watching.logged_when_begun:
        found.append(f"no statement took less than {shortest:g} ms: with log_min_duration_statement above 0 what is "
                     "shorter is not logged, and transactions may look as if they had only read")
    if not watching.tally.timed:
        found.append("the log has no times of statements: log_duration = on, or log_min_duration_statement = 0, gives "
                     "the shares of time")
    return found


def _opened(path: str) -> IO[bytes]:
    try:
        if path == "-":
            return sys.stdin.buffer
        return cast(IO[bytes], gzip.open(path)) if path.endswith(".gz") else open(path, "rb")
    except OSError as error:
        raise PgSplitError(f"{path}: {error.strerror}") from None


def _lines(file: IO[bytes], path: str) -> Iterator[str]:
    """In pieces of LONGEST at most, so that a file without line ends is not read into memory."""
    try:
        while line := file.readline(LONGEST):
            yield line.decode(errors="surrogateescape")
    except (OSError, EOFError, zlib.error) as error:
        raise PgSplitError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _stamp(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


# --- from pg_stat_statements ----------------------------------------------------------------------------------------

def _of_server(args: argparse.Namespace, classify: Callable[[bytes, str], Facts], notes: list[str]) -> Report:
    from ..observing import counted
    from ..process.direct import Direct, dsn_of  # which imports gevent

    dsn = dsn_of(args.pg_stat_statements)
    with Direct(dsn) as server:
        found = server.ask(counted.INSTALLED)
        if not found:
            raise PgSplitError(f"{dsn}: database {dsn.database} has no pg_stat_statements: CREATE EXTENSION "
                               "pg_stat_statements there (shared_preload_libraries must name it)")
        [(schema, version)] = found
        rows = server.ask(counted.question((schema or b"").decode(), int(version or 0)))
    tally = Tally()
    counted.count(rows, tally, classify)
    source = {"pg_stat_statements": str(dsn), "texts": f"{len(rows):,}"}
    if tally.kinds["unknown"][0]:
        notes.append("texts that are missing: GRANT pg_read_all_stats shows those of other users")
    return of_tally(tally, source, upper_bound=True, notes=[UPPER_BOUND, *notes])
