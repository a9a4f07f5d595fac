"""`pgsplit report`: what the running instance would take off the primary, where its listeners observe."""

from __future__ import annotations

import argparse

from ..errors import PgSplitError
from ..observing.running import of_instance
from ..process import instances
from ..process.client import Client
from .observe import add_form, write
from .stats import add_instance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_instance(parser)
    add_form(parser)


def run(args: argparse.Namespace) -> int:
    """:raises PgSplitError: when no instance runs there, or none of its listeners observes."""
    client = Client(instances.find(args.config, args.run_dir, {"bind": args.bind} if args.bind else {}))
    listeners, totals = client.arbiter("about")["listeners"], client.arbiter("totals")
    senders, digests = [], []
    for worker in client.workers():
        try:
            senders += client.worker(worker, "observed")
            digests += client.worker(worker, "digests")["top"]
        except PgSplitError:
            continue        # it has ended meanwhile
    write(of_instance(listeners, totals, senders, digests), args.format, args.output)
    return 0
