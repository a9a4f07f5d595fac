"""Three servers that change their roles: what happens to the primary, and the way back of the one that was it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pgsplit.demo.proxy import Proxy
from pgsplit.demo.replication import PrimaryAndStandbys
from pgsplit.demo.server import Server
from pgsplit.errors import PgSplitError
from tests.balancer import Balancer
from tests.freezing import frozen
from tests.waiting import eventually

# A commit is acknowledged once a standby has flushed it, and the standby that has most is promoted: PostgreSQL itself
# then loses nothing. pg_rewind needs the hints; a standby looks for its primary again soon.
SETTINGS = {"synchronous_standby_names": "ANY 1 (*)", "wal_log_hints": "on", "wal_retrieve_retry_interval": "100ms"}
RECEIVED = "select greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"
PROBE = "failover_probe"


class Stage:
    """*links* lead pgsplit to the servers. *look* is called with a former primary that runs beside the one that is.

    *lag*: seconds for which standbys are sent nothing before the primary is killed: more than none loses writes.
    *ready*: when, by time.monotonic(), the primary had taken a write since the last fault, as PostgreSQL's own
    part of the gap.
    """

    def __init__(self, cluster: PrimaryAndStandbys, links: dict[Server, Balancer],
                 look: Callable[[Server, Server], None]) -> None:
        self.primary, *self.standbys = cluster.servers
        self.ready = 0.0
        self.lag = 0.0
        self.proxy: Proxy | None = None
        self.ways_back: list[str] = []
        self._links = links
        self._look = look

    def prepare(self) -> None:
        """Give the servers SETTINGS; the primary first, which waits for nobody yet."""
        for server in (self.primary, *self.standbys):
            for name, value in SETTINGS.items():
                server.query(f"alter system set {name} = '{value}'")
            server.restart()
        self.primary.query(f"create table {PROBE} (n int)")
        self._await_standbys()

    def suffer(self, fault: str, dice: random.Random) -> None:
        """One fault, and the way back; all three servers are as they were, in whichever roles."""
        FAULTS[fault](self, dice)
        self._await_standbys()

    # --- faults -----------------------------------------------------------------------------------------------------

    def switch_over(self, dice: random.Random) -> None:
        former = self.primary
        former.stop()               # fast: returns when the standbys that stream have all, its last checkpoint too
        self._promote()
        self._rejoin(former, dice, as_it_is=True)

    def kill(self, dice: random.Random) -> None:
        self.primary.kill()
        time.sleep(dice.choice((0, dice.uniform(0, 2))))
        self.primary.start()
        self._await_primary()

    def kill_and_promote(self, dice: random.Random) -> None:
        former = self.primary
        if self.lag:
            for standby in self.standbys:
                self._follow(standby, None)
            time.sleep(self.lag)
        former.kill()
        self._promote()
        self._await_known()
        if dice.random() < 0.5:     # and comes back as what it was, with nobody to wait for
            with open(former.data / "postgresql.auto.conf", "a") as file:
                file.write("synchronous_standby_names = ''\n")
            former.start()
            self._be_alone(former, dice)
        self._rejoin(former, dice)

    def freeze_and_promote(self, dice: random.Random) -> None:
        former = self.primary
        with frozen(former):
            time.sleep(dice.choice((0, dice.uniform(0, 2))))
            self._promote()
            self._await_known()
            time.sleep(dice.uniform(0, 2))
        former.query("alter system set synchronous_standby_names = ''")
        former.query("select pg_reload_conf()")
        self._be_alone(former, dice)
        self._rejoin(former, dice)

    def restart(self, dice: random.Random) -> None:
        self.primary.restart()
        self._await_primary()

    def cut(self, dice: random.Random) -> None:
        self._links[self.primary].cut()
        self._await_primary()

    # --- what they are made of --------------------------------------------------------------------------------------

    def _promote(self) -> None:
        """The standby that is furthest, when neither is sent anything any more; the other one follows it."""
        for standby in self.standbys:
            self._follow(standby, None)
        promoted = self._choose()
        [other] = [standby for standby in self.standbys if standby is not promoted]
        promoted.promote()
        self._follow(other, promoted)
        self.primary, self.standbys = promoted, [self.primary, other]
        self._await_primary()

    def _choose(self) -> Server:
        return max(self.standbys, key=lambda standby: int(
            standby.query(f"select pg_wal_lsn_diff(({RECEIVED}), '0/0')::bigint")[0][0]))

    def _follow(self, standby: Server, primary: Server | None) -> None:
        conninfo = self._conninfo(primary) if primary else ""
        standby.query(f"alter system set primary_conninfo = '{conninfo}'")
        standby.query("select pg_reload_conf()")
        if not primary:
            eventually(lambda: not standby.query("select from pg_stat_wal_receiver"), every=0.01)

    @staticmethod
    def _conninfo(primary: Server) -> str:
        return f"host={primary._house.sockets} port={primary.port} user=postgres"

    def _await_primary(self) -> None:
        """A write of its own, beside pgsplit, is there and on a standby."""
        eventually(lambda: self.primary.query(f"insert into {PROBE} values (1) returning n"), timeout=60, every=0.01)
        self.ready = time.monotonic()

    def _await_known(self) -> None:
        """All workers take the primary for the one that it is, and no other."""
        eventually(self._is_known, timeout=60)

    def _is_known(self) -> bool:
        assert self.proxy is not None
        address = self._links[self.primary].address if self._links else self.primary.address
        for worker in self.proxy.client.workers():
            hosts = [host for host in self.proxy.client.worker(worker, "hosts") if host["writes"]]
            if [host["name"] for host in hosts if host["healthy"] and not host.get("other_role")] != [address]:
                return False
        return True

    def _await_standbys(self) -> None:
        eventually(lambda: self.primary.query(
            "select count(*) from pg_stat_replication where state = 'streaming'") == [(2,)], timeout=60)

    def _be_alone(self, former: Server, dice: random.Random) -> None:
        """A former primary that works, and would acknowledge what it is sent."""
        time.sleep(dice.uniform(0.5, 2))
        self._look(former, self.primary)

    def _rejoin(self, former: Server, dice: random.Random, *, as_it_is: bool = False) -> None:
        """It is a standby of the one that is the primary now."""
        if former.running:
            former.stop()
        way = "as it was" if as_it_is else dice.choice(("pg_rewind", "pg_basebackup"))
        if way == "as it was":
            (former.data / "standby.signal").touch()
            former._house.account.own(former.data / "standby.signal")
            with open(former.data / "postgresql.auto.conf", "a") as file:
                file.write(f"primary_conninfo = '{self._conninfo(self.primary)}'\n")
        elif way == "pg_rewind":
            self.primary.query("checkpoint")        # the timeline that pg_rewind reads is the last checkpoint's
            try:
                former._house.run("pg_rewind", "-D", former.data, "-R", "--no-sync",
                                  f"--source-server={self._conninfo(self.primary)} dbname=postgres")
            except PgSplitError:
                way = "pg_basebackup, pg_rewind having failed"
        if way.startswith("pg_basebackup"):
            former.copy_from(self.primary)
        former.start()
        with suppress(TimeoutError):
            eventually(lambda: former.query("select status from pg_stat_wal_receiver") == [("streaming",)], timeout=15)
            self.ways_back.append(way)
            return
        former.stop()
        former.copy_from(self.primary)
        former.start()
        self.ways_back.append(f"pg_basebackup, {way} having failed")


FAULTS: Final[dict[str, Callable[[Stage, random.Random], None]]] = {
    "switchover": Stage.switch_over,
    "killed": Stage.kill,
    "killed, promoted": Stage.kill_and_promote,
    "frozen, promoted": Stage.freeze_and_promote,
    "restarted": Stage.restart,
    "cut": Stage.cut,
}
