"""Passing a cancel on to the server that runs the statement (PostgreSQL manual 55.2.8)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import gevent

from .. import log
from ..errors import ConnectionLost, PgSplitError
from ..split.batch import Batch
from ..upstream.connection import ClusterManagerLike, UpstreamConnection
from ..wire import build
from ..wire.startup import CANCEL_REQUEST
from .session import Session

logger = log.get("pgsplit.cancel")

PATIENCE: Final = 60.0       # seconds for a server to take the request; the session sends it nothing meanwhile
TRIES: Final = 4             # connections to a balancer, until the server that is meant has been reached
AGAIN: Final = 0.1           # seconds between them: what else connects is not to have its turn each time
TAKES: Final = 1.0           # seconds for a replica to take the request, and then to end what it was told to
LOOKS: Final = 0.002         # seconds between two looks at whether it has: at first,
SELDOM: Final = 0.05         # and later on


def cancel_upstream(manager: ClusterManagerLike, running: UpstreamConnection) -> None:
    """Ask the server of *running* to cancel what that connection does, over a connection of its own. Returns when the
    server has closed it, by which time it has signalled its process, or after PATIENCE.
    """
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


def cancel_read(manager: ClusterManagerLike, replica: UpstreamConnection, session: Session, batch: Batch,
                told: Callable[[], object]) -> None:
    """Cancel *batch*, which runs for *session* at its *replica*, and see to it that it ends. *told* is called once the
    server has been told.

    Nothing is lost with a read: if the replica goes on with it, or takes no request, the connection is given up (and
    the request, which then can hit nothing else, still waited for). The address may be a balancer's, and the request
    arrive at another server: then it is sent again, unless it might end what is behind it in a pipeline.
    """
    splitter = session.splitter
    balanced = replica.host is not None and replica.host.balanced
    for left in reversed(range(TRIES if balanced else 1)):
        request = gevent.spawn(cancel_upstream, manager, replica)
        request.join(TAKES)
        if not balanced:
            told()
        alone = splitter.in_flight == [batch] and request.dead
        if _ends(session, batch, AGAIN if left and alone else TAKES) or not alone:
            break
    if batch in splitter.in_flight:
        session.abandon(batch)
    else:
        request.join()      # what comes next is not to be hit by it


def _ends(session: Session, batch: Batch, seconds: float) -> bool:
    """Whether *batch* has been answered within *seconds*. A server that waits for its client to read does not look at
    cancels: that time does not count.
    """
    client = session.flow.client
    deadline, pause = time.monotonic() + seconds, LOOKS
    while batch in session.splitter.in_flight:
        if client.congested:
            deadline = time.monotonic() + seconds
        if client.closed or time.monotonic() >= deadline:
            return False
        gevent.sleep(pause)
        pause = min(2 * pause, SELDOM)
    return True
