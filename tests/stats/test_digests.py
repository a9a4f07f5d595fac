"""Usage by text is bounded, and nothing that was counted is lost."""

from __future__ import annotations

from pgsplit.stats.digests import OTHER, Digests


def test_the_least_used_become_one():
    digests = Digests(most=10)
    for number in range(30):
        usage = digests.of(b"text %d" % number)
        usage.calls[number % 2] += number + 1
        usage.latency.observe(100 * number)
    assert len(digests.usage) <= 12
    assert sum(usage.total for usage in digests.usage.values()) == sum(range(1, 31))
    assert sum(usage.latency.total_us for usage in digests.usage.values()) == 100 * sum(range(30))
    assert digests.usage[OTHER].total > 0
    assert b"text 29" in digests.usage


def test_the_top_is_where_time_was_spent():
    digests = Digests()
    for text, microseconds in ((b"a", 10), (b"b", 1000), (b"c", 100)):
        usage = digests.of(text)
        usage.calls[0] += 1
        usage.latency.observe(microseconds)
    assert [text for text, _ in digests.top(2)] == [b"b", b"c"]
