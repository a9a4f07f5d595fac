"""What the monitor says of a server whose answers are not those of one."""

from __future__ import annotations

import gevent
import pytest
from gevent.server import StreamServer

from pgsplit.config.loader import load
from pgsplit.topology.cluster import ClusterManager
from tests.hostile import health
from tests.waiting import eventually

GOOD = health.ANSWERS
STARTED = b"pg_postmaster_start_time"


@pytest.mark.parametrize("question, answer, why", [
    (STARTED, health.rows((health.STARTED, "16777216", "8192", "f")), "4 columns instead of 8"),
    (STARTED, health.rows(), "0 rows instead of one"),
    (STARTED, GOOD[STARTED] + GOOD[STARTED], "2 rows instead of one"),
    (b"from pg_settings", health.rows(("DateStyle",)), "1 columns instead of 2"),
    (b"", health.rows(("f", "0/1000000")), "2 columns instead of 5"),
], ids=["columns", "no row", "two rows", "settings", "sample"])
def test_an_answer_that_is_none_is_named(monkeypatch, question, answer, why):
    if question:
        monkeypatch.setitem(health.ANSWERS, question, answer)
    else:
        monkeypatch.setitem(health.SAMPLES, True, answer)

    def serve(sock, _address):
        sock.recv(65536)
        health.answer_monitor(sock, primary=True)

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    text = (f"listen: 127.0.0.1:6432\nprimary: 127.0.0.1:{server.server_port}\nreplicas: [127.0.0.1:1]\n"
            "users: {app: secret}\nmonitor: app\n")
    manager = ClusterManager(load(text, "test.yaml", lambda name: "",
                                  defaults={"workers": 1, "run_dir": "/nowhere"}).config)
    try:
        expected = f"127.0.0.1:{server.server_port} answered the monitor with {why}"
        hosts = manager.cluster("primary").hosts
        eventually(lambda: [host.found for host in hosts.values()] == [expected], sleep=gevent.sleep)
    finally:
        manager.stop()
        server.stop()
