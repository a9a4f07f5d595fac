"""asyncpg: a pool, which resets a session at each release, and transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from bench.offload.clients import Sent, Target, requests, writes
from bench.offload.clients.texts import NUMBERED as SQL

POOL = 4
Request = Callable[[Any, int, bool], Awaitable[None]]       # of a connection, an account, whether it writes


def pool(target: Target, rounds: int) -> Sent:
    asyncio.run(_serve(target, rounds, _autocommit))
    return Sent(3 * rounds)


def transactions(target: Target, rounds: int) -> Sent:
    asyncio.run(_serve(target, rounds, _transaction))
    return Sent(3 * rounds, writes(rounds))


async def _serve(target: Target, rounds: int, request: Request) -> None:
    """All requests, as many at a time as the pool has connections."""
    left = requests(rounds)
    async with asyncpg.create_pool(**target.plain, ssl=False, min_size=POOL, max_size=POOL) as pool:
        async def client() -> None:
            for account, write in left:
                async with pool.acquire() as connection:
                    await request(connection, account, write)

        await asyncio.gather(*(client() for _ in range(POOL)))


async def _autocommit(connection: Any, account: int, write: bool) -> None:
    for text in SQL.reads:
        await connection.fetch(text, account)
    if write:
        await connection.execute(SQL.update, 5, account)


async def _transaction(connection: Any, account: int, write: bool) -> None:
    async with connection.transaction():
        for text in SQL.reads:
            await connection.fetch(text, account)
        if write:
            await connection.execute(SQL.insert, account, 5)
            await connection.execute(SQL.update, 5, account)
            await connection.fetch(SQL.total, account)
