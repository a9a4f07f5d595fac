"""pg8000 as the DB-API has it (BEGIN with each first statement), and in autocommit."""

from __future__ import annotations

import pg8000.dbapi as pg8000

from bench.offload.clients import Sent, Target, requests, writes
from bench.offload.clients.texts import FORMAT as SQL


def defaults(target: Target, rounds: int) -> Sent:
    return _run(target, rounds, autocommit=False)


def autocommit(target: Target, rounds: int) -> Sent:
    return _run(target, rounds, autocommit=True)


def _run(target: Target, rounds: int, *, autocommit: bool) -> Sent:
    connection = pg8000.connect(**target.plain, ssl_context=False)
    connection.autocommit = autocommit
    cursor = connection.cursor()
    for account, write in requests(rounds):
        for text in SQL.reads:
            cursor.execute(text, (account,))
            cursor.fetchall()
        if write:
            cursor.execute(SQL.update, (5, account))
        if write and not autocommit:
            cursor.execute(SQL.insert, (account, 5))
            cursor.execute(SQL.total, (account,))
            cursor.fetchall()
        if not autocommit:
            connection.commit()
    connection.close()
    return Sent(3 * rounds, 0 if autocommit else writes(rounds))
