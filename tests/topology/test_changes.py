"""The record of who was the primary, in one worker and of all together."""

from __future__ import annotations

from pgsplit.topology.changes import KEPT, PATRONI, SERVERS, Changes, merge
from pgsplit.topology.host import Identity
from pgsplit.topology.servers import servers
from tests.admin.conftest import host

A, B, C = (Identity("7001", started) for started in (11, 22, 33))


class Worker:
    """One that lives at a moment of both clocks."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.changes = Changes(lambda: 1_700_000_000 + self.now, lambda: self.now)

    def told(self) -> dict:
        return self.changes.told(["primary"])

    def fails_over(self, away: Identity = A, to: Identity = B, *, gap: float = 2.0) -> None:
        self.changes.lost("primary")
        self.now += gap
        self.changes.began("primary", f"s{to.started}", to, 1 + to.started // 11, SERVERS)


def begun() -> Worker:
    worker = Worker()
    worker.changes.began("primary", "s11", A, 1, SERVERS)
    return worker


def test_the_first_primary_that_is_found_is_no_change():
    worker = begun()
    [primary] = worker.told()["primaries"]
    assert (primary["server"], primary["at"], primary["lost_s"], primary["changes"]) == ("s11", 1_700_001_000, None, 0)
    assert worker.told()["changes"] == [] and worker.changes.count("primary") == 0
    assert worker.changes.told(["another"]) == {"primaries": [], "changes": []}


def test_a_change_has_both_sides_and_how_long_there_was_none():
    worker = begun()
    worker.now += 100
    worker.changes.lost("primary")
    worker.now += 1
    worker.changes.lost("primary")                   # again: it is the first that counts
    assert worker.told()["primaries"][0]["lost_s"] == 1
    worker.now += 2
    worker.changes.began("primary", "s22", B, 2, PATRONI)
    [change] = worker.told()["changes"]
    assert (change["from_server"], change["from_timeline"]) == ("s11", 1)
    assert (change["server"], change["timeline"], change["system_identifier"]) == ("s22", 2, "7001")
    assert (change["gap_s"], change["by"], change["at"]) == (3, PATRONI, 1_700_001_103)
    assert worker.told()["primaries"][0]["lost_s"] is None


def test_a_primary_that_is_silent_for_a_while_is_no_change():
    worker = begun()
    worker.changes.lost("primary")
    worker.now += 5
    worker.changes.back("primary")
    assert worker.told()["changes"] == [] and worker.told()["primaries"][0]["lost_s"] is None
    worker.now += 5
    worker.changes.began("primary", "s22", B, 2, SERVERS)        # while the former one was there still
    assert worker.told()["changes"][0]["gap_s"] == 0


def test_sessions_that_know_before_the_monitor_and_those_that_know_later_are_of_the_same_change():
    worker = begun()
    worker.changes.kept("primary", A.started)
    worker.changes.cut("primary", A.started)
    worker.now += 1.5
    worker.changes.lost("primary")
    worker.changes.kept("primary", A.started)
    worker.now += 60                                 # however long it takes
    worker.changes.kept("primary", A.started)
    worker.changes.began("primary", "s22", B, 2, SERVERS)
    worker.changes.waited("primary", A.started, 59.0)
    worker.changes.waited("primary", A.started, 3.0)
    worker.changes.cut("primary", A.started)         # it was fenced
    worker.changes.kept("primary", A.started)
    worker.changes.kept("primary", A.started, -1)    # and then it was not, after all
    [change] = worker.told()["changes"]
    assert (change["kept"], change["cut"], change["longest_wait_s"]) == (3, 2, 59.0)


def test_what_is_lost_from_the_present_primary_is_of_the_next_change():
    worker = begun()
    worker.fails_over(A, B)
    worker.now += 60
    worker.changes.kept("primary", B.started)
    worker.changes.waited("primary", B.started, 0.5)         # it began after the change
    worker.fails_over(B, C, gap=0.25)
    first, second = worker.told()["changes"]
    assert (first["kept"], first["longest_wait_s"], second["kept"], second["longest_wait_s"]) == (0, 0, 1, 0.5)


def test_what_was_lost_long_before_has_nothing_to_do_with_it():
    worker = begun()
    for _ in range(40):
        worker.changes.cut("primary", A.started)             # an administrator's, say
        worker.now += 1
    worker.now += 60
    worker.changes.cut("primary", A.started)
    worker.fails_over()
    assert worker.told()["changes"][0]["cut"] == 1


def test_it_is_bounded():
    worker = begun()
    for number in range(3 * KEPT):
        for _ in range(50):
            worker.changes.cut("primary", 11 + number)
            worker.now += 1
        assert len(worker.changes._clusters["primary"].bills) <= 12
        worker.changes.began("primary", f"s{number}", Identity("7001", 12 + number), 2 + number, SERVERS)
    assert len(worker.told()["changes"]) == KEPT and worker.changes.count("primary") == 3 * KEPT
    worker.changes.lost("primary")
    for _ in range(500):
        worker.now += 2
        worker.changes.cut("primary", 11 + 3 * KEPT)
    assert len(worker.changes._clusters["primary"].bills) <= 12
    worker.changes.kept("nowhere", 1)
    worker.changes.cut("nowhere", 1)
    worker.changes.waited("nowhere", 1, 1.0)


def test_the_same_server_again_is_a_change_whose_cost_does_not_mix_with_the_next_one_s():
    """Patroni's lock was lost, and had again."""
    worker = begun()
    worker.changes.cut("primary", A.started)
    worker.fails_over(A, A)
    worker.changes.cut("primary", A.started)
    worker.fails_over(A, B)
    assert [(change["server"], change["cut"]) for change in worker.told()["changes"]] == [("s11", 1), ("s22", 1)]


# --- of all workers ---------------------------------------------------------------------------------------------------

def test_workers_saw_one_change():
    one, other, late = begun(), begun(), Worker(2000)
    one.changes.kept("primary", A.started)
    one.fails_over(gap=2)
    other.changes.cut("primary", A.started)
    other.changes.kept("primary", A.started)
    other.fails_over(gap=3)
    other.changes.waited("primary", A.started, 4.0)
    late.changes.began("primary", "s22", B, 3, SERVERS)          # a worker that was started behind it
    merged = merge([late.told(), other.told(), one.told()])
    [change] = merged["changes"]
    assert (change["kept"], change["cut"], change["gap_s"], change["longest_wait_s"]) == (2, 1, 3, 4.0)
    assert change["at"] == 1_700_001_002
    [primary] = merged["primaries"]
    assert (primary["server"], primary["at"], primary["changes"]) == ("s22", 1_700_001_002, 1)


def test_a_primary_is_away_when_it_is_for_all_of_them_and_the_newest_counts():
    one, other = begun(), begun()
    one.changes.lost("primary")
    one.now += 1
    assert merge([one.told(), other.told()])["primaries"][0]["lost_s"] is None
    other.changes.lost("primary")
    other.now += 3
    assert merge([one.told(), other.told()])["primaries"][0]["lost_s"] == 1
    one.changes.began("primary", "s22", B, 2, SERVERS)           # who the other one has not heard of yet
    [primary] = merge([other.told(), one.told()])["primaries"]
    assert (primary["server"], primary["lost_s"], primary["changes"]) == ("s22", None, 1)


def test_the_same_server_twice_is_two_changes_and_the_newest_is_first():
    one, other = begun(), begun()
    for worker in (one, other):
        worker.fails_over(A, B)
        worker.now += 100
        worker.fails_over(B, A)
        worker.now += 100
        worker.fails_over(A, B)
    assert [change["server"] for change in merge([one.told(), other.told()])["changes"]] == ["s22", "s11", "s22"]
    many = begun()
    for number in range(30):
        many.now += 100
        many.fails_over(A, Identity("7001", 12 + number))
    other.now += 5000
    other.fails_over(B, C)
    assert len(merge([many.told(), other.told()])["changes"]) == KEPT
    assert merge([]) == {"primaries": [], "changes": []}


# --- the servers ------------------------------------------------------------------------------------------------------

def test_a_server_of_two_clusters_is_one_row():
    hosts = [host(name="s1", role="primary", cluster="primary", writes=True, timeline=2, lag_ms=None, lag_bytes=None,
                  clock_offset_ms=None, clock_bound_ms=None),
             host(name="s1", role="primary", other_role=True, why_not="is the primary", lag_ms=None),
             host(name="s2", cluster="primary", writes=True, other_role=True, why_not="is a standby", lag_ms=None),
             host(name="s2", timeline=2, lag_ms=7.0, lag_bytes=9),
             host(name="s3", role="primary", cluster="primary", writes=True, healthy=False, why_not="is a former one"),
             host(name="s3", role="primary", healthy=False, why_not="is a former one"),
             host(name="s4", role="unknown", healthy=False, why_not="refused"),
             host(name="s5", cluster="elsewhere")]
    rows = servers(hosts, "primary", {"replicas"})
    assert [(row["server"], row["role"], row["uses"], row["status"]) for row in rows] == [
        ("s1", "primary", "writes", "used for writes"), ("s2", "standby", "reads", "used for reads"),
        ("s3", "out of recovery", "", "is a former one"), ("s4", "unknown", "", "refused")]
    assert (rows[1]["timeline"], rows[1]["lag_ms"], rows[1]["lag_bytes"], rows[1]["cx_active"]) == (2, 7.0, 9, 2)
    ordered = host(name="s1", role="primary", cluster="primary", writes=True, order="drain", why_not="is drained",
                   healthy=False)
    [row] = servers([ordered], "primary", set())
    assert (row["role"], row["order"], row["status"]) == ("primary", "drain", "is drained")
    [row] = servers([host(silent=True, healthy=False, why_not="the health check timed out")], "primary", {"replicas"})
    assert (row["role"], row["status"]) == ("unknown", "the health check timed out")
