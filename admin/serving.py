"""The admin process: gevent's WSGI server on the arbiter's sockets, until the arbiter says stop or is gone."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import gevent
from gevent import socket as gsocket
from gevent.event import Event
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from pgsplit import log
from pgsplit.config.admin import is_loopback
from pgsplit.process.admin import AdminContext, gone
from pgsplit.process.client import Client
from pgsplit.process.title import set_title
from pgsplit.process.tls import server_context

from . import create_app
from .instance import Instance
from .settings import AdminSettings

logger = log.get("pgsplit.admin")

CONNECTIONS = 200
LAST_REQUESTS = 2.0         # seconds that requests may take to end
TIMEOUT = 60.0              # seconds that a request, or an idle connection, may take


class Handler(WSGIHandler):
    """Says nothing of each request; of a mistake in one it says so to its client only."""

    def log_request(self) -> None:
        pass

    def log_error(self, msg: str, *args: object) -> None:
        logger.debug("bad request: " + msg, *args)

    def handle(self) -> None:
        with gevent.Timeout(TIMEOUT, False):
            super().handle()


class Server(WSGIServer):
    def handle_error(self, *args: Any) -> None:
        pass        # a client that hung up

    def update_environ(self) -> None:
        super().update_environ()
        self.environ["SERVER_SOFTWARE"] = "pgsplit"


def run(context: AdminContext) -> int:
    """Until the arbiter says so, or is gone; returns the exit code."""
    set_title("admin")
    settings = AdminSettings.of(context.settings, context.key, context.password, is_loopback(context.settings.address))
    app = create_app(Instance(Client(context.run_dir, gsocket.socket)), settings)
    tls = _tls(context)
    over = Event()
    servers = [Server(_adopted(sock), app, spawn=Pool(CONNECTIONS), log=None, error_log=None, handler_class=Handler,
                      **tls) for sock in context.sockets]
    for server in servers:
        server.start()
    gevent.signal_handler(signal.SIGTERM, over.set)
    gevent.signal_handler(signal.SIGUSR1, log.reopen)
    gevent.spawn(_watch, context.channel)
    over.wait()
    for server in servers:
        server.close()
    gevent.joinall([gevent.spawn(server.stop, LAST_REQUESTS) for server in servers], timeout=LAST_REQUESTS + 1)
    return 0


def _adopted(sock: socket.socket) -> gsocket.socket:
    return gsocket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))


def _tls(context: AdminContext) -> Mapping[str, ssl.SSLContext]:
    if context.settings.tls is None:
        return {}
    made = server_context(context.settings.tls)
    made.set_alpn_protocols(["http/1.1"])
    return {"ssl_context": made}


def _watch(channel: socket.socket) -> None:
    while True:
        gsocket.wait_read(channel.fileno())
        if gone(channel):
            os._exit(0)            # the arbiter is gone: no orphan goes on
