"""sd_notify(3)'s protocol on a real datagram socket, by itself and of a whole instance."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pgsplit.demo.proxy import Proxy
from pgsplit.process.notify import NEVER, Notifier
from tests.conftest import default_configuration
from tests.process.restarting import Instance, alive
from tests.waiting import eventually


class Manager:
    """systemd's end. *address*: as in NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)
        self._messages: list[tuple[int, dict[str, str]]] = []

    @property
    def messages(self) -> list[tuple[int, dict[str, str]]]:
        """All so far: the sender's pid, and what was assigned."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, 64)
            except BlockingIOError:
                return self._messages
            pid = int.from_bytes(ancillary[0][2][:4], "little")
            self._messages.append((pid, dict(line.split("=", 1) for line in data.decode().split("\n"))))

    def said(self, name: str, value: str = "1") -> list[int]:
        """The indexes of the messages that say so."""
        return [index for index, (_, message) in enumerate(self.messages) if message.get(name) == value]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@pgsplit-test-{os.getpid()}")
    yield made
    made.close()


def test_what_is_said(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    notifier.ready("serving:\n2 workers")
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.stopping("draining")
    notifier.give_way(4711)
    notifier.status("nobody hears it")
    notifier.close()
    [ready, reloading, stopping, main] = [message for _, message in manager.messages]
    assert ready == {"READY": "1", "STATUS": "serving: 2 workers"}
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert stopping == {"STOPPING": "1", "STATUS": "draining"}
    assert main["MAINPID"] == "4711"


def test_what_there_is_no_room_for_is_said_later(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "2000000"})
    most = 2000                         # more than net.unix.max_dgram_qlen
    for number in range(most):
        notifier.status(str(number))
    assert 0 < len(manager.messages) < most, "the queue has been full"
    start = notifier.next_beat
    for moment in range(most):          # the arbiter's loop
        notifier.beat(start + moment)
        if len(manager.said("WATCHDOG")) > 1:
            break
    told = [message["STATUS"] for _, message in manager.messages if "STATUS" in message]
    assert told == list(map(str, range(most)))


@pytest.mark.parametrize("environment", [
    {}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_where_nobody_listens_nothing_is_said(environment, caplog):
    notifier = Notifier({"WATCHDOG_USEC": "1000000", **environment})
    for _ in range(3):
        notifier.ready("serving")
        notifier.beat(time.monotonic())
    assert len([line for line in caplog.messages if "NOTIFY_SOCKET" in line]) == (
        1 if environment.get("NOTIFY_SOCKET", "").startswith("/") else 0)


def test_the_watchdog_is_told_at_half_of_its_time(manager):
    notifier = Notifier({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "10000000",
                         "WATCHDOG_PID": str(os.getpid())})
    start = notifier.next_beat
    for now in (0.0, 1.0, 4.9, 5.0, 5.1, 9.9, 10.5, 15.4, 15.5):
        notifier.beat(start + now)
    assert len(manager.said("WATCHDOG")) == 4 == len(manager.messages)       # at 0, 5, 10.5 and 15.5
    assert notifier.next_beat == pytest.approx(start + 20.5)


@pytest.mark.parametrize("environment", [{"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {},
                                         {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}])
def test_who_is_not_watched_gives_no_sign(manager, environment):
    notifier = Notifier({"NOTIFY_SOCKET": manager.address, **environment})
    assert notifier.next_beat == NEVER
    notifier.beat(time.monotonic() + 1e6)
    assert manager.messages == []


def test_an_instance_tells_its_life(cluster):
    directory = Path(tempfile.mkdtemp(prefix="pgsplit-"))       # a socket's path must be short
    manager = Manager(str(directory / "notify"))
    proxy = Proxy(directory, default_configuration(cluster) | {"pgsplit": {"workers": 2, "watch": "false"}},
                  cluster.guardian)
    cluster.guardian.watch_directory(directory)
    try:
        proxy.start(environment={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "600000"})
        instance = Instance(proxy, cluster.guardian)
        [ready] = eventually(lambda: manager.said("READY"))
        assert manager.messages[ready] == (proxy.pid, {
            "READY": "1", "STATUS": "serving: 2 workers, generation 1"})
        assert manager.said("WATCHDOG")[0] < ready          # while workers boot
        beats = len(manager.said("WATCHDOG"))
        eventually(lambda: len(manager.said("WATCHDOG")) >= beats + 4)

        good = proxy.file.read_text()
        proxy.file.write_text(yaml.safe_dump({**yaml.safe_load(good), "nonsense": 1}))
        proxy.signal(signal.SIGHUP)
        [_, again] = eventually(lambda: manager.said("READY")[1:] and manager.said("READY"))
        [reloading] = manager.said("RELOADING")
        assert reloading < again and "refused" in manager.messages[again][1]["STATUS"]
        proxy.file.write_text(good)
        proxy.signal(signal.SIGHUP)
        assert eventually(lambda: [message for _, message in manager.messages
                                   if message.get("STATUS") == "generation 2 is in force"])

        session = instance.connect("scram_user", cluster.roles["scram_user"].password, sslmode="require")
        old, new = instance.pid, instance.restart()
        [main] = eventually(lambda: manager.said("MAINPID", str(new)))
        assert manager.messages[main][0] == old
        eventually(lambda: any(pid == new and "READY" in message for pid, message in manager.messages))
        count = len(manager.messages)
        eventually(lambda: len(manager.messages) > count + 3)
        assert {pid for pid, _ in manager.messages[main + 1:]} == {new}, "the old one is not listened to any more"
        eventually(lambda: manager.said("STATUS", "serving: 2 workers, generation 3"))
        session.close()
        instance.signal(signal.SIGTERM)
        eventually(lambda: manager.said("STOPPING"))
        eventually(lambda: not alive(new))
        instance.stop()
    finally:
        print(proxy.log.read_text())
        if proxy.running:
            proxy.stop()
        manager.close()
