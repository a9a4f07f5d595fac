"""Steps that every driver's script has: tables of statements, run one by one by its own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.drivers import statements
from tests.drivers.record import Connect, Script

TABLES = {
    "settings": statements.SETTINGS, "transactions": statements.TRANSACTIONS, "temporary": statements.TEMPORARY,
    "locks": statements.LOCKS, "row_security": statements.ROW_SECURITY, "sequences": statements.SEQUENCES,
    "notices": statements.NOTICES, "prepared_by_sql": statements.PREPARED, "cursors_by_sql": statements.CURSORS,
    "several": statements.SEVERAL, "values": [f"select {value} as v" for value in statements.VALUES],
    "errors": [text for statement in statements.ERRORS.values()
               for text in (statement, "select 1", "rollback", "discard all")],
}


def add_tables(script: Script, each: Callable[[Connect, list[str]], Any], *, without: tuple[str, ...] = ()) -> None:
    """One step a table: *each* runs its statements on a connection, outside transactions of the driver's own."""
    for name, texts in TABLES.items():
        if name not in without:
            script[name] = _step(each, texts)


def _step(each: Callable[[Connect, list[str]], Any], texts: list[str]) -> Callable[[Connect], Any]:
    return lambda connect: each(connect, [text.replace("{schema}", connect.target.user) for text in texts])
