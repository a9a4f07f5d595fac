"""Passing a cancel on to the server that runs the statement (PostgreSQL manual 55.2.8)."""

from __future__ import annotations

from typing import Final

import gevent

from .. import log
from ..errors import ConnectionLost, PgSplitError
from ..upstream.connection import ClusterManagerLike, UpstreamConnection
from ..wire import build
from ..wire.startup import CANCEL_REQUEST

logger = log.get("pgsplit.cancel")

PATIENCE: Final = 10.0       # seconds for the server to take the request


def cancel_upstream(manager: ClusterManagerLike, running: UpstreamConnection) -> None:
    """Ask the server of *running* to cancel what that connection does, over a connection of its own."""
    request = UpstreamConnection(manager, running.cluster_name, tls=running.tls)
    try:
        with gevent.Timeout(PATIENCE, TimeoutError("the server did not take the cancel request")):
            stream = request.connect(running.host)
            stream.write(build.untyped(CANCEL_REQUEST, running.session.pid.to_bytes(4, "big") + running.session.key))
            stream.read_exact(1)      # the server closes without an answer
    except ConnectionLost:
        pass
    except (PgSplitError, TimeoutError) as error:
        logger.warning("cancel not delivered: %s", error)
    finally:
        request.close()
