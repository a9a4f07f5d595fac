"""G1 by comparison: two thousand statements of all kinds, directly and through pgsplit, are answered alike."""

from __future__ import annotations

import pytest

from pgsplit.demo.counts import Counts
from tests.differential.__main__ import configuration
from tests.differential.replay import replay_that_stutters
from tests.differential.runner import USER, Runner
from tests.differential.script import corpus, mixture

SEEDS = range(1, 9)
FILES = ("arrays", "transactions", "with")      # some that are quick, of three kinds
PARTS = 4                                       # that can run at the same time


@pytest.fixture
def superuser(cluster):
    cluster.primary.query(f"alter role {USER} superuser")
    yield
    cluster.primary.query("drop database if exists differential with (force)")
    cluster.primary.query("drop role if exists diff_tenant")
    cluster.primary.query(f"alter role {USER} nosuperuser")


@pytest.mark.parametrize("part", [1, *(pytest.param(part, marks=pytest.mark.slow) for part in (0, 2, 3))])
def test_every_answer_is_the_primarys(cluster, pgsplit_server, superuser, part):
    proxy = pgsplit_server(**configuration(cluster))
    runner = Runner(cluster, proxy.port)
    scripts = [(f"seed {seed}", mixture(seed, 200)) for seed in SEEDS]
    scripts += [(name, script) for name, script in corpus(0) if name in FILES]
    assert len(scripts) == len(SEEDS) + len(FILES)
    assert steps_of(scripts) > 2000
    own = scripts[part::PARTS]
    with replay_that_stutters(cluster, 0):
        for name, script in own:
            found = runner.check(script)
            assert found is None, f"{name}:\n{found}"
    assert runner.unsteady < runner.steps / 100
    assert Counts.of(proxy.client.arbiter("totals")).replica > 200 * steps_of(own) / steps_of(scripts)


def steps_of(scripts):
    return sum(len(script) for _, script in scripts)
