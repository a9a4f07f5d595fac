"""`app.py import`: a configuration of PgBouncer's or pgpool-II's, made into one of pgsplit's."""

from __future__ import annotations

import argparse
import os
import sys

from ..config.loader import load
from ..errors import ConfigError, PgSplitError
from ..importing import writer
from ..importing.draft import Draft, Wishes
from ..importing.pgbouncer import from_pgbouncer
from ..importing.pgpool import from_pgpool
from ..importing.remarks import Meaning
from ..origin import COMMAND
from ..process import files

FORMATS = {"pgbouncer": from_pgbouncer, "pgpool": from_pgpool}
STDOUT = "(standard output)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="pgbouncer.ini or pgpool.conf")
    parser.add_argument("users", metavar="USERS", nargs="?",
                        help="userlist.txt or pool_passwd; default: the file that FILE names, if it can be read")
    parser.add_argument("--check", action="store_true",
                        help="only say what becomes of each setting; no secret is shown")
    parser.add_argument("--from", dest="format", choices=sorted(FORMATS), help="whose FILE is; default: as it looks")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there, with mode 0600; default: standard output")
    parser.add_argument("--force", action="store_true", help="even if that file is there")
    parser.add_argument("--replica", action="append", default=[], metavar="HOST:PORT",
                        help="a server that FILE does not name (again for more)")
    parser.add_argument("--listen", action="append", default=[], metavar="HOST:PORT",
                        help="in the place of FILE's addresses, to run beside it (again for more)")
    parser.add_argument("--database", action="append", default=[], metavar="NAME",
                        help="of pgbouncer.ini, where it has several servers: those of this one (again for more)")
    parser.add_argument("--monitor", default="", metavar="USER", help="as whom pgsplit asks the servers")
    parser.add_argument("--monitor-password-file", metavar="FILE", help="whose first line is that user's password")


def run(args: argparse.Namespace) -> int:
    if args.output and os.path.lexists(args.output) and not (args.force or args.check):
        raise PgSplitError(f"{args.output}: is there already; --force writes over it")
    password = _text(args.monitor_password_file).partition("\n")[0].rstrip("\r") if args.monitor_password_file else ""
    if password and not args.monitor:
        raise PgSplitError("--monitor-password-file: is the password of whom? --monitor USER")
    wishes = Wishes(tuple(args.replica), tuple(args.listen), tuple(args.database), args.monitor, password)
    text = _text(args.file)
    draft = FORMATS[args.format or looks_like(text)](text, args.file, read, args.users, wishes)
    result = writer.written(draft)
    if args.check:
        print("\n".join(writer.said(draft)))
    elif not draft.problems:
        _write(result, args.output, args.force)
        if not args.output and draft.users:
            print("warning: what was written holds passwords: chmod 600", file=sys.stderr)
    wrong = draft.problems or wrong_with(result, args.output)
    lacks = [remark for remark in draft.remarks if remark.meaning is Meaning.MISSING]
    for remark in () if args.check else draft.remarks:
        if remark.loud:
            print(f"warning: {remark}", file=sys.stderr)
    for problem in wrong:
        print(problem, file=sys.stderr)
    print(f"{args.file}: {writer.summary(draft)}{_verdict(draft, bool(wrong or lacks), args)}", file=sys.stderr)
    return 1 if wrong or lacks else 0


def _verdict(draft: Draft, wrong: bool, args: argparse.Namespace) -> str:
    if draft.problems:
        return "; nothing can be written"
    if wrong:
        return "; what would be written is not complete" if args.check else "; what was written is not complete"
    return "" if args.check or not args.output else f". Next: {COMMAND} check --connect -c {args.output}"


def looks_like(text: str) -> str:
    """Whose configuration *text* is: PgBouncer's has sections. (An include may hold them.)"""
    lines = [line.strip() for line in text.splitlines()]
    return "pgbouncer" if any(line.startswith(("[", "%include")) for line in lines) else "pgpool"


def wrong_with(result: str, output: str | None) -> list[str]:
    """What `check` would say of it, by its lines."""
    name = output or STDOUT
    try:
        loaded = load(result, name, read, defaults=files.machine_defaults())
    except ConfigError as error:
        return error.problems
    return files.check_files(loaded)


def read(name: str) -> str:
    """A byte that is not UTF-8's stays what it is: it may be a password's."""
    with open(name, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read()


def _text(name: str) -> str:
    try:
        return read(name)
    except OSError as error:
        raise PgSplitError(f"{name}: {error.strerror}") from None


def _write(result: str, output: str | None, force: bool) -> None:
    try:
        if output is None:
            sys.stdout.write(result)
            sys.stdout.flush()
        elif force and os.path.exists(output):
            os.chmod(output, 0o600)
            files.write_atomically(output, result)
        else:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(result)
    except OSError as error:
        raise PgSplitError(f"{output}: {error.strerror}") from None
