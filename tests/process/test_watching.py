"""What the arbiter keeps for who watches: samples, orders, the audit trail, the last lines of the log."""

from __future__ import annotations

import json
import logging
import stat

import pytest

from pgsplit import log
from pgsplit.config.loader import load
from pgsplit.errors import PgSplitError
from pgsplit.process.audit import Audit
from pgsplit.process.files import seen, write_atomically
from pgsplit.process.history import SECONDS, History
from pgsplit.process.orders import Orders

CONFIG = load("listen: 127.0.0.1:6432\nprimary: a:1\nreplicas: [b:2]\nusers: {u: p}\n", "t.yaml", open,
              defaults={"workers": 1, "run_dir": "/nowhere"}).config


def totals(statements, le_100, le_5000):
    return {"postgres.p.statements_replica": statements, "postgres.p.statements_primary": 2 * statements,
            "postgres.p.sessions_active": 7, "postgres.p.latency_replica_us.le_100": le_100,
            "postgres.p.latency_primary_us.le_5000": le_5000, "cluster.replicas.b:2.lag_bytes": 42}


def test_a_sample_is_what_has_happened_since_the_one_before():
    history = History()
    history.add(100.0, totals(10, 5, 0))
    assert list(history.samples) == []
    history.add(101.0, totals(15, 95, 0))
    history.add(102.0, totals(15, 95, 10))
    history.add(103.0, totals(3, 95, 10))         # a worker's counts were lost: never less than nothing
    first, second, third = history.samples
    assert (first["replica"], first["primary"], first["sessions_active"]) == (5, 10, 7)
    assert (first["p50"], first["p99"], second["p50"], third["p50"]) == (100, 100, 5000, None)
    assert first["lag"] == {"replicas.b:2": 42}
    assert third["replica"] == 0
    assert history.since(101.5) == [second, third]
    json.dumps(list(history.samples), allow_nan=False)


def test_fifteen_minutes_are_kept():
    history = History()
    for second in range(SECONDS + 50):
        history.add(float(second), totals(second, 0, 0))
    assert len(history.samples) == SECONDS and history.samples[-1]["time"] == SECONDS + 49


def test_orders():
    orders = Orders()
    orders.host(CONFIG, "replicas", "10.0.0.1:5432", "drain")
    orders.reads(CONFIG, "postgres", True)
    assert orders.told() == {"hosts": {"replicas/10.0.0.1:5432": "drain"}, "reads_to_primary": ["postgres"],
                             "forgotten": {}, "apart": False}
    assert Orders(orders.kept()).told() == orders.told()
    orders.host(CONFIG, "replicas", "10.0.0.1:5432", "ready")
    orders.reads(CONFIG, "postgres", False)
    assert orders.kept() == {"hosts": {}, "reads_to_primary": [], "forgotten": {}}
    orders.forget_term(CONFIG, "primary")
    orders.forget_term(CONFIG, "primary")
    assert orders.told()["forgotten"] == {"primary": 2}
    for name in ("replicas", "nowhere"):
        with pytest.raises(PgSplitError, match=f"there is no cluster '{name}' that is written to; there are primary"):
            orders.forget_term(CONFIG, name)
    for wrong in (lambda: orders.host(CONFIG, "nowhere", "h:1", "drain"),
                  lambda: orders.host(CONFIG, "replicas", "h:1", "explode"),
                  lambda: orders.reads(CONFIG, "nowhere", True)):
        with pytest.raises(PgSplitError):
            wrong()


def test_the_audit_trail_is_kept_in_a_file(tmp_path):
    path = tmp_path / "audit.log"
    audit = Audit(str(path))
    audit.add("eve\n{}", "drain" * 1000, "::1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [line] = path.read_text().splitlines()
    assert json.loads(line)["who"] == "eve\n{}"
    path.write_text(path.read_text() + "not JSON\n[]\n")
    again = Audit(str(path))
    assert [entry["who"] for entry in again.entries] == ["eve\n{}"]
    Audit(str(tmp_path / "nowhere" / "audit.log")).add("eve", "drain", "::1")      # the log says it; nothing fails


def test_the_last_lines_of_the_log():
    recent = log.keep_recent()
    try:
        logger = log.get("pgsplit.test")
        logger.setLevel(logging.INFO)
        logger.info("one %d\nsecond line", 1)
        logger.error("x" * 10_000)
        first, second = recent.take()
        assert (first["text"], first["level"], second["level"]) == ("one 1", "info", "error")
        assert len(second["text"]) == log.LONGEST
        assert recent.take() == []
    finally:
        log.get("pgsplit").removeHandler(recent)


def test_a_file_is_replaced_in_one_step(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    before = seen([str(link), str(tmp_path / "nothing")])
    write_atomically(str(link), "new\r\n")
    assert link.is_symlink() and real.read_bytes() == b"new\r\n" and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert seen([str(link), str(tmp_path / "nothing")]) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    with pytest.raises(OSError):
        write_atomically(str(tmp_path / "nothing"), "x")
