"""TLS contexts for connections that are relayed: Python's, or compiled where that is asked for (docs/adr/0022).

The compiled form has of ssl.SSLContext and ssl.SSLObject what is used here, with the same names, defaults and errors.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any, Final

from .. import compiled

if TYPE_CHECKING:
    TlsContext = ssl.SSLContext
else:
    TlsContext = Any

ASKED_FOR: Final = "PGSPLIT_COMPILED_TLS"        # 1: a cancel of a read at a server that stands still is lost there yet


def make(protocol: int) -> TlsContext:
    """*protocol*: ssl.PROTOCOL_TLS_CLIENT or ssl.PROTOCOL_TLS_SERVER."""
    module = _module()
    return module.Context(protocol) if module is not None else ssl.SSLContext(protocol)


def is_compiled() -> bool:
    """Whether those that are made are, and so sessions in TLS the compiled relay's."""
    return _module() is not None


def _module() -> Any:
    """Where it is asked for. The relay has to be compiled, too: in Python the ssl module is as quick."""
    if os.environ.get(ASKED_FOR) != "1":
        return None
    return compiled.load(compiled.OPENSSL) if compiled.load(compiled.RELAY) is not None else None
