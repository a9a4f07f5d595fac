"""The workloads, a line each: what is sent, where its reads stand, and by which client's function."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module

from bench.offload.clients import Client, NotHere

BEFORE = "before a write"
READ_ONLY = "READ ONLY"
AUTOCOMMIT = "autocommit"
BEHIND = "after the write"
STANDS = (BEFORE, READ_ONLY, AUTOCOMMIT)        # those that could move, and
AIM = 0.95                                      # how many of them should
TOTALS = r"\bsum\("         # only reads behind a write ask for it


@dataclass(frozen=True)
class Workload:
    """*client* is ``module.function`` in bench.offload.clients; *stands*: where the reads stand that could move.

    A read whose text matches *after* stands behind its transaction's write. *package* is what pip calls the client.
    """

    name: str
    client: str
    stands: str
    words: str
    after: str = ""
    rounds: int = 200
    package: str = ""

    def load(self) -> Client:
        """:raises NotHere: where the client is not installed."""
        module, _, function = self.client.partition(".")
        try:
            found: Client = getattr(import_module(f"bench.offload.clients.{module}"), function)
        except ModuleNotFoundError as error:
            raise NotHere(f"{error.name} is not installed") from None
        return found

    def is_after(self, text: str) -> bool:
        return bool(self.after and re.search(self.after, text, re.IGNORECASE))


ALL = (
    Workload("psycopg", "psycopg3.defaults", BEFORE, "psycopg 3, its defaults", TOTALS, package="psycopg"),
    Workload("psycopg-autocommit", "psycopg3.autocommit", AUTOCOMMIT, "psycopg 3, autocommit", package="psycopg"),
    Workload("sqlalchemy-read", "sqlalchemy_.read_sessions", BEFORE, "SQLAlchemy ORM, sessions that read",
             package="SQLAlchemy"),
    Workload("sqlalchemy-write", "sqlalchemy_.read_then_write", BEFORE, "SQLAlchemy ORM, read then write", TOTALS,
             package="SQLAlchemy"),
    Workload("sqlalchemy-readonly", "sqlalchemy_.read_only_sessions", READ_ONLY,
             "SQLAlchemy ORM, `postgresql_readonly`", package="SQLAlchemy"),
    Workload("django-atomic", "django_.atomic_requests", BEFORE, "Django, ATOMIC_REQUESTS", TOTALS, package="Django"),
    Workload("django", "django_.no_atomic_requests", AUTOCOMMIT, "Django, no ATOMIC_REQUESTS", package="Django"),
    Workload("asyncpg-pool", "asyncpg_.pool", AUTOCOMMIT, "asyncpg, a pool", package="asyncpg"),
    Workload("asyncpg-transactions", "asyncpg_.transactions", BEFORE, "asyncpg, transactions", TOTALS,
             package="asyncpg"),
    Workload("pg8000", "pg8000_.defaults", BEFORE, "pg8000, its defaults", TOTALS, package="pg8000"),
    Workload("pg8000-autocommit", "pg8000_.autocommit", AUTOCOMMIT, "pg8000, autocommit", package="pg8000"),
    Workload("pgjdbc", "pgjdbc.transactions", BEFORE, "pgjdbc, autocommit off", TOTALS),
    Workload("pgjdbc-readonly", "pgjdbc.read_only", READ_ONLY, "pgjdbc, `setReadOnly(true)`"),
    Workload("tpc-b", "pgbench.tpc_b", BEHIND, "pgbench, TPC-B", r"\babalance\b"),
    Workload("pgbench", "pgbench.transactions", BEFORE, "pgbench, `BEGIN; SELECT; SELECT; COMMIT`"),
    Workload("pgbench-prepared", "pgbench.prepared_transactions", BEFORE, "pgbench, the same, `-M prepared`"),
    Workload("rls-set-local", "psycopg3.set_local", BEFORE, "row-level security, SET LOCAL", package="psycopg"),
    Workload("rls-set-config", "psycopg3.set_config", BEFORE, "row-level security, `set_config(…, true)`",
             package="psycopg"),
    Workload("rls-write", "psycopg3.tenants_write", BEFORE, "row-level security, read then write", TOTALS,
             package="psycopg"),
    Workload("function", "psycopg3.function", AUTOCOMMIT, "a function of the user's", package="psycopg"),
    Workload("postgrest", "psycopg3.postgrest", READ_ONLY, "PostgREST's statements for a GET", package="psycopg"),
    Workload("postgrest-body", "psycopg3.postgrest_body", READ_ONLY, "PostgREST's, without `current_setting()`",
             package="psycopg"),
)
BY_NAME = {workload.name: workload for workload in ALL}
