"""The suites: what each needs, and what is known about its tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PASSWORD: Final = "cpsnow"      # the superuser's in the examples of pg8000's README, which are one of its tests
DATABASE: Final = "conformance"


@dataclass(frozen=True)
class Suite:
    """The tests of a driver, as its source distribution on PyPI has them.

    In *arguments* and *environment* stand ``{host}``, ``{port}``, ``{password}`` and ``{database}``; in *needs*
    ``{version}``. The keys of *explained* are tests as junit names them, ``module.Class::test``.
    """

    name: str
    version: str
    needs: tuple[str, ...]              # what pip installs to run them
    arguments: tuple[str, ...]          # pytest's, in the distribution's directory
    environment: Mapping[str, str] = field(default_factory=dict)
    sql: tuple[str, ...] = ()           # done in the database before
    hba: tuple[str, ...] = ()           # lines of pg_hba.conf, ahead of the usual ones
    users: Mapping[str, str] = field(default_factory=dict)      # whom the tests create, with their passwords
    explained: Mapping[str, str] = field(default_factory=dict)  # what passes directly only, and why
    seconds: int = 600                  # a run that takes longer is ended


PG8000 = Suite(
    "pg8000", "1.31.6",
    needs=("pg8000=={version}", "pytest", "pytest-mock", "pytest-benchmark", "pytz"),
    arguments=("-p", "default_port", "--benchmark-disable", "test"),
    environment={"PGHOST": "{host}", "PGPORT": "{port}", "PGPASSWORD": "{password}",
                 "LOGNAME": "postgres"},        # an example in its README logs in as who runs it
    sql=("create extension hstore",),
    # Its README asks for these; and for trust for all others, where SCRAM tries more of pgsplit.
    hba=("host pg8000_md5 all 127.0.0.1/32 md5", "host pg8000_gss all 127.0.0.1/32 gss",
         "host pg8000_password all 127.0.0.1/32 password"),
    users={"boltzmann": "cha\uff6fs"},
    explained={
        "test.native.auth.test_scram-sha-256::test_scram_sha_256_ssl_True":
            "it turns TLS off at the server while it runs; what clients are offered is pgsplit's own configuration",
        "test.native.test_connection::test_broken_pipe_read":
            "a session's process on the primary was terminated a moment before: one more read may still be answered by "
            "the replica, if the primary's FATAL is not there yet",
    },
)

ASYNCPG = Suite(
    "asyncpg", "0.32.0",
    needs=("asyncpg=={version}", "pytest", "distro"),
    arguments=("tests",),
    environment={"PGHOST": "{host}", "PGPORT": "{port}", "PGUSER": "postgres", "PGPASSWORD": "{password}",
                 "PGDATABASE": "postgres"},     # some tests name that one for their second connection
    explained={
        "tests.test_execute.TestExecuteMany::test_executemany_server_failure_during_writes":
            "it looks for an error only when its writes block, and whoever stands between may take all of its 4 MiB "
            "before the server has had its turn; PgBouncer as well, now and then",
    },
)

SQLALCHEMY = Suite(
    "sqlalchemy", "2.1.9",
    needs=("sqlalchemy[postgresql-psycopgbinary]=={version}", "pytest<10"),
    arguments=("--dburi", "postgresql+psycopg://postgres:{password}@{host}:{port}/{database}", "test/dialect"),
    sql=("create schema test_schema", "create schema test_schema_2", "create extension hstore",
         "create extension citext", "create extension btree_gist", 'create collation "en_US" from "C"'),
)

ALL: Final = {suite.name: suite for suite in (PG8000, ASYNCPG, SQLALCHEMY)}
