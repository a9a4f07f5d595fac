"""A server of which ten thousand idle sessions cost little: it answers a login and ``SELECT 1``.

One user is served here, without a password; everybody else's connection is passed through to a real server, so that
health checks and real sessions find what they look for.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pgsplit.wire import build
from pgsplit.wire.build import message

PARAMETERS = {"server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8", "DateStyle": "ISO, MDY",
              "TimeZone": "UTC", "integer_datetimes": "on", "standard_conforming_strings": "on"}
READY = build.ready_for_query(ord("I"))
WELCOME = (build.authentication(0) + b"".join(build.parameter_status(*pair) for pair in PARAMETERS.items())
           + build.backend_key_data(1, b"stub") + READY)
ONE = (message(b"T", b"\0\1?column?\0" + bytes(6) + b"\0\0\0\x17\0\4\xff\xff\xff\xff\0\0")
       + message(b"D", b"\0\1\0\0\0\1" + b"1") + message(b"C", b"SELECT 1\0") + READY)


def answer(columns: list[str]) -> bytes:
    cells = b"".join(len(cell).to_bytes(4, "big") + cell.encode() for cell in columns)
    return message(b"D", len(columns).to_bytes(2, "big") + cells) + message(b"C", b"SELECT 1\0") + READY


class Pipe(asyncio.Protocol):
    """The far side of a connection that is passed through."""

    def __init__(self, near: Session) -> None:
        self.near = near

    def data_received(self, data: bytes) -> None:
        self.near.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.near.transport.close()


class Session(asyncio.Protocol):
    """One connection: its login, then whose it is."""

    transport: asyncio.Transport
    user = ""
    real: tuple[str, int] = ("", 0)
    reached = b""

    def __init__(self) -> None:
        self.waiting = b""
        self.greeted = False
        self.far: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.far is not None:
            self.far.write(data)
            return
        self.waiting += data
        if not self.greeted:
            self._greet()
        while self.greeted and len(self.waiting) >= 5:
            size = 1 + int.from_bytes(self.waiting[1:5], "big")
            if len(self.waiting) < size:
                break
            waiting = self.waiting
            kind, self.waiting = waiting[:1], waiting[size:]
            if kind == b"X":
                self.transport.close()
            elif kind == b"Q":
                self.transport.write(self.reached if b"pg_postmaster_start_time" in waiting[:size] else ONE)

    def _greet(self) -> None:
        if len(self.waiting) < 8 or len(self.waiting) < int.from_bytes(self.waiting[:4], "big"):
            return
        names = self.waiting[8:].split(b"\0")
        if dict(zip(names[::2], names[1::2], strict=False)).get(b"user") == self.user.encode():
            self.waiting = b""
            self.greeted = True
            self.transport.write(WELCOME)
        elif self.waiting:
            data, self.waiting = self.waiting, b""
            self.transport.pause_reading()
            task = asyncio.get_running_loop().create_task(self._pass_through(data))
            task.add_done_callback(lambda done: done.exception() and self.transport.close())

    async def _pass_through(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.far, _ = await loop.create_connection(lambda: Pipe(self), *self.real)
        self.far.write(data)
        self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.far is not None:
            self.far.close()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Session, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--user", required=True, help="who is served here")
    parser.add_argument("--real", required=True, metavar="HOST:PORT", help="whose all others are")
    parser.add_argument("--reached", required=True, help="what the real server answers when it is asked which it is")
    args = parser.parse_args()
    Session.reached = answer(args.reached.split(","))
    host, _, port = args.real.rpartition(":")
    Session.user, Session.real = args.user, (host, int(port))
    parent = os.getppid()

    async def until_orphaned() -> None:
        serving = asyncio.ensure_future(serve(args.port))
        while os.getppid() == parent and not serving.done():
            await asyncio.sleep(1)
        serving.cancel()

    asyncio.run(until_orphaned())


if __name__ == "__main__":
    main()
