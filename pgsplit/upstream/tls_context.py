"""TLS contexts for connections that are relayed: compiled, or Python's where that is not built (docs/adr/0022).

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

SWITCH: Final = "PGSPLIT_COMPILED_TLS"        # 0: Python's all the same


def make(protocol: int) -> TlsContext:
    """*protocol*: ssl.PROTOCOL_TLS_CLIENT or ssl.PROTOCOL_TLS_SERVER."""
    module = _module()
    return module.Context(protocol) if module is not None else ssl.SSLContext(protocol)


def is_compiled() -> bool:
    """Whether those that are made are, and so sessions in TLS the compiled relay's."""
    return _module() is not None


def _module() -> Any:
    """The relay has to be compiled, too: in Python the ssl module is as quick."""
    if os.environ.get(SWITCH) == "0":
        return None
    return compiled.load(compiled.OPENSSL) if compiled.load(compiled.RELAY) is not None else None
