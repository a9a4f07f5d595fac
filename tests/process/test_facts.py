"""The memory in which the monitor tells."""

from __future__ import annotations

import os
import random

import pytest

from pgsplit.process.facts import RECORDS, SIZE, WORDS, Facts, TooMuch


def everything(facts: Facts) -> list[bytes | None]:
    return [facts.read(record, number) for record, number in enumerate(facts.numbers())]


def test_what_is_written_is_read_by_its_number():
    facts = Facts()
    facts.begin(7)
    assert facts.pid == 7 and facts.numbers() == []
    facts.write(0, b"first")
    facts.write(2, b"third")
    assert everything(facts) == [b"first", None, b"third"]
    [before, _, other] = facts.numbers()
    facts.write(0, b"")
    assert facts.numbers()[0] > before and facts.numbers()[2] == other
    assert facts.read(0, before) is None                  # that is not there any more
    assert everything(facts)[0] == b""


def test_a_fact_that_is_being_written_is_not_read():
    """Whatever of it has come through, in whatever order."""
    facts = Facts()
    facts.write(0, b"the primary is A")
    number = facts.numbers()[0]
    facts._texts[0:16] = b"the primary is B"              # as the writer begins
    assert facts.read(0, number) is None and facts.read(0, number + 1) is None
    facts._records[0] = number + 1
    assert facts.read(0, number + 1) is None
    facts._records[0] = number
    facts.write(0, b"the primary is B")                   # another one, behind a writer that has died there
    assert facts.read(0, facts.numbers()[0]) == b"the primary is B"
    facts._records[1] = -1                                # no length at all
    assert facts.read(0, facts.numbers()[0]) is None


def test_another_monitor_begins_with_nothing():
    facts = Facts()
    facts.begin(7)
    facts.write(0, b"known")
    [before] = facts.numbers()
    facts.begin(0)
    assert facts.pid == 0 and facts.numbers()[0] > before and everything(facts) == [b""]


@pytest.mark.parametrize(("record", "length"), [(RECORDS, 1), (0, SIZE + 1)])
def test_what_has_no_room_is_refused(record, length):
    with pytest.raises(TooMuch):
        Facts().write(record, bytes(length))


def test_one_writes_and_many_read():
    """Texts of one letter each, of which a torn one would have two."""
    facts = Facts()
    facts.write(0, b"a")
    writer = os.fork()
    if writer == 0:
        for turn in range(20_000):
            facts.write(0, bytes([97 + turn % 26]) * random.randint(1, 3000))
        os._exit(0)
    whole = 0
    while os.waitpid(writer, os.WNOHANG)[0] == 0:
        text = facts.read(0, facts.numbers()[0])
        if text is not None:
            assert len(set(text)) == 1
            whole += 1
    assert whole and WORDS == 3
