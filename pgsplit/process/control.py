"""The arbiter's Unix socket in run_dir: one frame asks, one frame answers. Never blocks."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from .. import log
from ..errors import PgSplitError
from .channel import Channel, ChannelError

logger = log.get("pgsplit.arbiter")

CLIENTS: Final = 32
UNPUBLISHED: Final = "arbiter.new"      # no longer than the name that it gets: a socket's path has its bounds

Query = Callable[[str, Mapping[str, Any]], Any]


class ControlSocket:
    """It is reached at *path* from `publish` on, in the place of another arbiter's if there is one: nobody who asks
    finds nobody meanwhile.
    """

    def __init__(self, selector: selectors.BaseSelector, path: str, query: Query) -> None:
        self._selector = selector
        self._path = path
        self._made = os.path.join(os.path.dirname(path), UNPUBLISHED)
        self._query = query
        self._clients: list[Channel] = []
        with suppress(FileNotFoundError):
            os.unlink(self._made)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.bind(self._made)
        os.chmod(self._made, 0o600)
        self._socket.listen(CLIENTS)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def publish(self) -> None:
        """:raises OSError:"""
        os.rename(self._made, self._path)
        self._made = self._path

    def give_way(self) -> None:
        """The name is to be another arbiter's: it is not removed when this one closes."""
        self._made = ""

    def close(self) -> None:
        for client in self._clients[:]:
            self._drop(client)
        self._socket.close()
        if self._made:
            with suppress(OSError):
                os.unlink(self._made)

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            sock, _ = self._socket.accept()
            client = Channel(sock)
            self._clients.append(client)
            self._selector.register(sock, selectors.EVENT_READ, lambda: self._serve(client))
            if len(self._clients) > CLIENTS:
                self._drop(self._clients[0])

    def _drop(self, client: Channel) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(client.sock)
        client.close()
        if client in self._clients:
            self._clients.remove(client)

    def _serve(self, client: Channel) -> None:
        try:
            requests = client.receive()
        except ChannelError:
            requests = None
        if requests is None:
            self._drop(client)
            return
        for request in requests:
            client.send(answer(self._query, request))
        if client.outbox:
            self._selector.modify(client.sock, selectors.EVENT_READ | selectors.EVENT_WRITE,
                                  lambda: self._flush(client))

    def _flush(self, client: Channel) -> None:
        client.flush()
        if not client.outbox:
            self._selector.modify(client.sock, selectors.EVENT_READ, lambda: self._serve(client))


def answer(query: Query, request: Any) -> dict[str, Any]:
    """``{"ok": …}`` or ``{"error": …}`` for ``{"what": …, "args": {…}}``."""
    try:
        return {"ok": query(str(request["what"]), request.get("args") or {})}
    except PgSplitError as error:
        return {"error": str(error)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        logger.warning("bad question on a control socket: %r", error)
        return {"error": f"bad question: {error!r}"}
