"""Sockets that systemd has bound: by themselves, and of a whole instance."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pgsplit.config.model import Address
from pgsplit.demo import ports
from pgsplit.demo.proxy import Proxy
from pgsplit.errors import PgSplitError
from pgsplit.process.activation import Activation
from pgsplit.process.listeners import BindError, Inherited, Listening, bind, close
from tests.conftest import default_configuration
from tests.process.restarting import Instance
from tests.waiting import eventually

# What systemd does: the sockets from 3 on, LISTEN_PID the process's own.
ACTIVATE = """
import os, sys
given = [int(word) for word in sys.argv[1].split(",")]
for target, source in enumerate([os.dup2(fd, 100 + at) for at, fd in enumerate(given)], 3):
    os.dup2(source, target)
    os.close(source)
os.environ.update(LISTEN_FDS=str(len(given)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


def activated(sockets: list[socket.socket], names: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with *words* as systemd would a service."""
    fds = [sock.fileno() for sock in sockets]
    return subprocess.run([sys.executable, "-c", ACTIVATE, ",".join(map(str, fds)), names, *words],
                          pass_fds=fds, capture_output=True, text=True, timeout=60, check=False,
                          cwd=Path(__file__).parents[2])


def listening(kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind((ports.HOST, 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def name(sock: socket.socket) -> str:
    return ":".join(map(str, sock.getsockname()))


USE = """
from pgsplit.config.model import Address
from pgsplit.process.activation import Activation
from pgsplit.process.listeners import bind
import os, sys
given = Activation()
addresses = [Address(host="127.0.0.1", port=int(port)) for port in sys.argv[1:]]
bound = [sock for address in addresses for sock in bind(address, 16, given)]
print(*(sock.fileno() for sock in bound))
print(os.get_inheritable(3), "LISTEN_PID" in os.environ)
given.all_taken(addresses)
"""


def test_a_socket_is_matched_by_its_address_whatever_its_place():
    one, other = listening(), listening()
    with one, other:
        done = activated([one, other], "a:b", "-c", USE, *(str(sock.getsockname()[1]) for sock in (other, one)))
    assert (done.stdout, done.returncode) == ("4 3\nFalse False\n", 0), done.stderr


@pytest.mark.parametrize(("kind", "words"), [
    ("left", "the socket b (descriptor 4 of LISTEN_FDS) listens on 127.0.0.1:{other}, which is the address of nobody"),
    ("datagram", "the socket b (descriptor 4 of LISTEN_FDS) is no listening stream socket"),
    ("connected", "the socket b (descriptor 4 of LISTEN_FDS) is no listening stream socket")])
def test_one_that_cannot_be_used_is_named(kind, words):
    one, other = listening(), listening(socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    if kind == "connected":
        other = socket.create_connection(other.getsockname())
    with one, other:
        done = activated([one, other], "a:b", "-c", USE, str(one.getsockname()[1]))
        expected = words.format(other=other.getsockname()[1])
    assert done.returncode == 1 and expected in done.stderr, done.stderr


@pytest.mark.parametrize("environment", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_FDS": "1"}])
def test_what_is_another_process_s_is_left_alone(environment):
    given: dict[str, str] = dict(environment)
    activation = Activation(given)
    assert activation.left == [] and given == {}
    activation.all_taken([])


def test_nonsense_is_refused():
    with pytest.raises(BindError, match="LISTEN_FDS is 'three'"):
        Activation({"LISTEN_FDS": "three", "LISTEN_PID": str(os.getpid())})


def test_the_file_of_a_unix_socket_stays_who_made_it(tmp_path):
    path = tmp_path / "socket"
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    address = Address(host="", port=0, path=str(path))
    [taken] = bind(address, 16, Inherited([Listening(os.dup(made.fileno()), owns_file=False)]))
    close(taken)
    assert path.exists()
    close(taken)                            # once more does nothing
    made.close()
    [own] = bind(address, 16)
    close(own)
    assert not path.exists()


# --- a whole instance -------------------------------------------------------------------------------------------------

class Activated(Proxy):
    """Started with *sockets*."""

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        fds = [sock.fileno() for sock in self.sockets]
        command = [sys.executable, "-c", ACTIVATE, ",".join(map(str, fds)), "pgsplit.socket:admin.socket",
                   *self.PROGRAM, "serve", "--config", str(self.file)]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             cwd=self.file.parent, start_new_session=True, pass_fds=fds)
        self._guardian.watch_process(self.pid)
        eventually(lambda: not self.running or self._serves(), timeout=60)
        if not self.running:
            raise PgSplitError(f"pgsplit did not start:\n{self.log_end()}")

    sockets: list[socket.socket]


@pytest.fixture
def activate(cluster) -> Iterator[Callable[..., Activated]]:
    made: list[Activated] = []

    def make(sockets: list[socket.socket], **keywords: Any) -> Activated:
        directory = Path(tempfile.mkdtemp(prefix="pgsplit-"))       # a socket's path must be short
        cluster.guardian.watch_directory(directory)
        proxy = Activated(directory, default_configuration(cluster) | {"pgsplit": {"workers": 2}, **keywords},
                          cluster.guardian)
        proxy.sockets = sockets
        made.append(proxy)
        return proxy

    yield make
    for proxy in made:
        print(proxy.log.read_text())
        if proxy.running:
            proxy.stop()


def test_an_instance_listens_on_what_it_is_given(activate, cluster):
    """The sockets are held outside while pgsplit is away: who connects then waits, and is served by the next one."""
    clients, admin = listening(), listening()
    port = clients.getsockname()[1]
    proxy = activate([clients, admin], admin=name(admin))
    configuration = yaml.safe_load(proxy.file.read_text())
    proxy.port = port
    proxy.file.write_text(yaml.safe_dump(configuration | {"listen": f"127.0.0.1:{port}"}))
    proxy.start()
    for address in (clients, admin):
        assert f"{name(address)} is listened on already" in proxy.log.read_text()
    password = cluster.roles["scram_user"].password

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(host="127.0.0.1", port=port, user="scram_user", password=password, dbname="postgres",
                               connect_timeout=60)

    connect().close()
    eventually(lambda: urllib.request.urlopen(f"http://{proxy.admin}/readyz", timeout=30).close() is None)
    assert proxy.stop(signal.SIGTERM) == 0
    waiting = socket.create_connection((ports.HOST, port))      # nobody is there, and it is not refused
    proxy.start()
    waiting.sendall(bytes.fromhex("0000000804d2162f"))          # SSLRequest
    waiting.settimeout(60)
    assert waiting.recv(1) == b"S"
    waiting.close()
    instance = Instance(proxy, cluster.guardian)
    instance.restart()
    connect().close()
    instance.stop()
    socket.create_connection((ports.HOST, port)).close()        # it is listened on still
    clients.close()
    admin.close()


def test_a_socket_of_nobody_ends_the_start(activate):
    stray = listening()
    proxy = activate([stray])
    with pytest.raises(PgSplitError, match=r"the socket pgsplit.socket .*listens on 127.0.0.1:.*the address of nobody"):
        proxy.start()
    assert proxy._process.wait(10) == 3
    stray.close()
