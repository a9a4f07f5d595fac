"""A standby that falls behind and catches up again, at random."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pgsplit.demo.replication import PrimaryAndStandbys


@contextmanager
def replay_that_stutters(cluster: PrimaryAndStandbys, seed: int, *, enabled: bool = True) -> Iterator[None]:
    over = threading.Event()
    dice = random.Random(seed)

    def stutter() -> None:
        while not over.wait(dice.uniform(0, 0.3)):
            for standby in cluster.standbys:
                standby.query("select pg_wal_replay_pause()")
            over.wait(dice.uniform(0, 0.1))
            for standby in cluster.standbys:
                standby.query("select pg_wal_replay_resume()")

    thread = threading.Thread(target=stutter)
    if enabled:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if enabled:
            thread.join()
