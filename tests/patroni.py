"""Members of a Patroni that is none: GET /cluster says what a test wants it to."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class FakeMember:
    """*leader*: its (host, port); None: there is none. *status*: of the answers. While *hang* is clear none comes."""

    def __init__(self, servers: list[tuple[str, int]], leader: tuple[str, int] | None, tls: ssl.SSLContext | None = None
                 ) -> None:
        self.leader = leader
        self.status = 200
        self.body: bytes | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.headers: list[dict[str, str]] = []
        self._servers = servers
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.headers.append(dict(self.headers.items()))
                fake.answers.wait(60)
                body = fake._cluster() if self.path == "/cluster" else b"{}"
                self.send_response(fake.status if self.path == "/cluster" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def _cluster(self) -> bytes:
        """As Patroni 4 has it."""
        if self.body is not None:
            return self.body
        return json.dumps({"scope": "test", "members": [
            {"name": f"node{number}", "role": "leader" if (host, port) == self.leader else "replica",
             "state": "running" if (host, port) == self.leader else "streaming", "host": host, "port": port,
             "api_url": f"http://{host}:{self.port}/patroni", "timeline": 1, **(
                 {} if (host, port) == self.leader else {"lag": 0})}
            for number, (host, port) in enumerate(self._servers)]}).encode()

    def stop(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> FakeMember:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()
