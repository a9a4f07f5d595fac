"""G1 by the drivers' own eyes: a script's results through pgsplit are those of the primary itself."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from tests.drivers.conftest import USERS
from tests.drivers.record import Target, record

DRIVERS = ("psql", "psycopg3", "psycopg2", "asyncpg_", "pg8000_")
# Both ways on the wire and both users; the other pairs in CI.
CLEAR, TLS = (False, USERS[0]), (True, USERS[1])
PAIRS = [pytest.param(tls, user, id=f"{'tls' if tls else 'clear'}-{user}",
                      marks=[] if (tls, user) in (CLEAR, TLS) else pytest.mark.slow)
         for tls in (False, True) for user in USERS]


@pytest.mark.parametrize("tls, user", PAIRS)
@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_sees_the_same_through_pgsplit(database, pgsplit_port, name, tls, user):
    driver = importlib.import_module(f"tests.drivers.{name}").driver
    direct = Target(database.primary.port, user, database.roles[user].password, tls)
    outcomes = []
    for target in (direct, replace(direct, port=pgsplit_port)):
        database.primary.query(f"drop schema if exists {user} cascade; create schema {user} authorization {user}",
                               dbname="drivers")
        outcomes.append(record(driver, target))
    expected, seen = outcomes
    assert len(expected) >= 30
    different = [step for step in expected if expected[step] != seen[step]]
    for step in different:
        print(f"--- {step}, direct, then through pgsplit:", *around_difference(expected[step], seen[step]), sep="\n")
    assert different == []


def around_difference(one: str, other: str) -> tuple[str, str]:
    same = next((index for index, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), 0)
    return one[max(0, same - 300):same + 600], other[max(0, same - 300):same + 600]
