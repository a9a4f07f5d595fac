"""For pytest: who connects to PostgreSQL's default port on this host connects to PGPORT.

The examples in pg8000's README, which are one of its tests, name no port.
"""

from __future__ import annotations

import os
import socket
from typing import Any

create_connection = socket.create_connection


def redirected(address: tuple[str, int], *arguments: Any, **keywords: Any) -> socket.socket:
    if address == ("localhost", 5432):
        address = (os.environ["PGHOST"], int(os.environ["PGPORT"]))
    return create_connection(address, *arguments, **keywords)


socket.create_connection = redirected       # type: ignore[assignment]
