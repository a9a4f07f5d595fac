"""G1 by the drivers' own eyes: a script's results through pgsplit are those of the primary itself."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace

import pytest

from tests.drivers.conftest import USERS
from tests.drivers.record import Target, record

DRIVERS = ("psycopg3",)


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_sees_the_same_through_pgsplit(database, pgsplit_port, name, tls, user):
    driver = importlib.import_module(f"tests.drivers.{name}").driver
    direct = Target(database.primary.port, user, database.roles[user].password, tls)
    outcomes = []
    for target in (direct, replace(direct, port=pgsplit_port)):
        database.primary.query(f"drop schema if exists {user} cascade; create schema {user} authorization {user}", dbname="drivers")
        outcomes.append(record(driver, target))
    expected, seen = outcomes
    assert len(expected) >= 30
    different = [step for step in expected if expected[step] != seen[step]]
    for step in different:
        print(f"--- {step}, direct, then through pgsplit:", *around_difference(expected[step], seen[step]), sep="\n")
    assert different == []


def around_difference(one: str, other: str) -> tuple[str, str]:
    start = max(0, len(os.path.commonprefix([one, other])) - 300)
    return one[start:start + 900], other[start:start + 900]
