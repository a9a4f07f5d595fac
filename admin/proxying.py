"""Behind a reverse proxy: X-Forwarded-* are believed from trusted ones only, and all may live under a prefix."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from .settings import AdminSettings

WSGI = Callable[..., Iterable[bytes]]


class BehindProxy:
    """WSGI middleware."""

    def __init__(self, app: WSGI, settings: AdminSettings) -> None:
        self._app = app
        self._fixed = ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_prefix=1)
        self._trusted = [ipaddress.ip_network(network) for network in settings.trusted_proxies]
        self._prefix = settings.prefix

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if self._prefix:
            environ["SCRIPT_NAME"] = self._prefix
            if path == self._prefix or path.startswith(self._prefix + "/"):
                environ["PATH_INFO"] = path[len(self._prefix):] or "/"
        app = self._fixed if self._is_trusted(environ.get("REMOTE_ADDR")) else self._app
        return app(environ, start_response)

    def _is_trusted(self, address: Any) -> bool:
        try:
            return any(ipaddress.ip_address(address) in network for network in self._trusted)
        except ValueError:
            return False
