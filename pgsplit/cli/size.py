"""`app.py size`: what so many clients take of servers and of this machine, with the sums."""

from __future__ import annotations

import argparse
import os
import sys

from ..errors import PgSplitError
from ..process import sizing
from ..process.descriptors import OF_A_SESSION, RESERVE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help="for this configuration; the options go over it")
    parser.add_argument("--clients", type=int, metavar="N",
                        help="clients at the same time; default: max_connections of the listeners together")
    parser.add_argument("--databases", type=int, metavar="N", default=1, help="in which they are (1)")
    parser.add_argument("--workers", type=int, metavar="N", help="default: one a core of this machine")
    parser.add_argument("--reserved", type=int, metavar="N", default=sizing.RESERVED,
                        help="the servers' superuser_reserved_connections and reserved_connections (3)")
    parser.add_argument("--others", type=int, metavar="N", default=0,
                        help="connections to a server that do not pass this pgsplit: backups, monitoring, another "
                             "one (0)")
    parser.add_argument("--no-tls", action="store_true", help="neither clients nor servers have TLS")


def run(args: argparse.Namespace) -> int:
    for name in ("clients", "databases", "workers", "reserved", "others"):
        if (value := getattr(args, name)) is not None and value < (0 if name in ("reserved", "others") else 1):
            raise PgSplitError(f"--{name} {value}: is too few")
    sys.stdout.write(described(size_of(args), args.reserved, args.others))
    return 0


def size_of(args: argparse.Namespace) -> sizing.Size:
    """:raises ConfigError: when the file cannot be used, PgSplitError when nobody says how many clients."""
    if args.config:
        from ..process import files

        overrides = {"workers": args.workers} if args.workers else {}
        config = files.load_config(args.config, overrides=overrides).config
        size = sizing.of_config(config, args.databases, args.clients or 0)
    else:
        tls = not args.no_tls
        size = sizing.Size(args.clients or 0, args.workers or len(os.sched_getaffinity(0)), args.databases, naming=2,
                           client_tls=tls, server_tls=tls)
    if not size.sessions:
        raise PgSplitError("--clients N: how many? " + (
            "max_connections limits no listener, or not all of them" if args.config else "or --config FILE"))
    return size


def described(size: sizing.Size, reserved: int, others: int) -> str:
    """The sums, line by line."""
    allowed = size.connections + reserved + others
    tls = (size.session_memory - sizing.SESSION) // sizing.TLS
    admin = f" + {sizing.ADMIN // sizing.MIB} MiB admin page" if size.admin else ""
    memory = (f"{sizing.ARBITER // sizing.MIB} MiB arbiter + {sizing.MONITOR // sizing.MIB} MiB monitor"
              f" + {size.workers} × {sizing.WORKER // sizing.MIB} MiB workers{admin}"
              f" + {size.sessions} × {size.session_memory >> 10} KiB sessions")
    own = size.monitors + size.samplers + size.catalogues + size.passing
    return f"""\
Connections that each server must allow (any may become the primary, or the one replica that is left):
  {size.sessions:>7}  sessions: one each
  {size.monitors:>7}  monitor: one a node for each of {size.naming} clusters that name a server
  {size.samplers:>7}  samples: one each of {size.workers} workers
  {size.catalogues:>7}  definitions, at the primary: {size.workers} workers × {size.databases} databases
  {size.passing:>7}  for moments: logins that ask for users, cancels, probes
  {reserved:>7}  reserved (superuser_reserved_connections, reserved_connections)
  {others:>7}  others that do not pass here (--others)
  {allowed:>7}  max_connections = {allowed} in postgresql.conf of every server; max_connections: {size.sessions} here
  While a new version takes over (USR2) both are there: {own} more.

Memory of pgsplit while sessions are idle: {size.memory / sizing.MIB:,.0f} MiB
  {memory}
  (a session: {sizing.SESSION >> 10} KiB, and {sizing.TLS >> 10} KiB for each of its {tls} connections with TLS)
  A session that is read slowly holds up to 64 KiB of its answer in each direction.

File descriptors of a process (ulimit -n, LimitNOFILE): {size.descriptors}
  {size.sessions} × {OF_A_SESSION} + {RESERVE}: one worker alone may come to have all sessions

Workers: {size.workers}, by default one a core; a worker uses one core at most.
"""
