"""How the runs of a suite are read and compared, and written into the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pgsplit.demo.counts import Counts
from pgsplit.errors import PgSplitError
from tests.conformance import outcome, postgresql, report
from tests.conformance.outcome import FAILED, PASSED, SKIPPED
from tests.conformance.report import Result
from tests.conformance.servers import DIRECT, PGSPLIT
from tests.conformance.suites import Suite
from tests.conformance.trial import Trial

SUITE = Suite("driver", "1.0", needs=(), arguments=(), explained={"known": "it is known"})


def ended(outcomes: Mapping[str, str]) -> Trial:
    return Trial(outcomes, Counts(primary=7, replica=12345, sessions=0), "15.0", Path("log"))


def result(direct: Mapping[str, str], through: Mapping[str, str], again: Mapping[str, str] | None = None) -> Result:
    return Result(SUITE, {DIRECT: ended(direct), PGSPLIT: ended(through)}, ended(again) if again else None)


def test_a_test_that_is_told_of_twice_has_its_worst_outcome(tmp_path):
    junit = tmp_path / "junit.xml"
    junit.write_text("""<testsuites><testsuite>
        <testcase classname=".cache.x.source.test.A" name="a"/>
        <testcase classname="test.A" name="a"><error message="in its teardown"/></testcase>
        <testcase classname="test.A" name="b"><skipped/></testcase>
        <testcase classname="test.A" name="c"/></testsuite></testsuites>""")
    assert outcome.read(junit) == {"test.A::a": FAILED, "test.A::b": SKIPPED, "test.A::c": PASSED}


@pytest.mark.parametrize("through, unexplained", [
    ({"known": PASSED, "new": PASSED}, []),
    ({"known": FAILED, "new": PASSED}, []),
    ({"known": PASSED, "new": FAILED}, ["new"]),
    ({"known": PASSED, "new": SKIPPED}, ["new"]),
    ({"known": PASSED}, ["new"]),
])
def test_what_does_not_end_as_it_does_directly_wants_an_explanation(through, unexplained):
    assert [each.test for each in result({"known": PASSED, "new": PASSED}, through).unexplained] == unexplained


def test_what_two_direct_runs_differ_in_is_unsteady_and_still_told():
    found = result({"a": PASSED, "b": PASSED}, {"a": FAILED, "b": FAILED}, again={"a": FAILED, "b": PASSED})
    assert [each.test for each in found.unexplained] == ["b"]
    assert [each.test for each in found.differences] == ["a", "b"]


def test_the_page_keeps_what_is_written_by_hand(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# By hand\n\n{report.BEGIN}\nold\n{report.END}\n\nby hand, too\n")
    found = result({"known": PASSED, "broken": FAILED}, {"known": FAILED, "broken": FAILED})
    report.write(page, [found])
    once = page.read_text()
    report.write(page, [found])
    assert page.read_text() == once
    assert once.startswith("# By hand\n") and once.endswith("\n\nby hand, too\n") and "old" not in once
    for line in ("| driver 1.0 | 1 passed, 1 failed | 2 failed | 12,345, 7 |",
                 "* driver: `known`: passed directly, failed by pgsplit: it is known", "* driver: `broken`"):
        assert line in once.splitlines()


def test_a_page_without_its_marks_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{report.END}\n{report.BEGIN}\n")
    with pytest.raises(PgSplitError, match="has no line"):
        report.write(page, [result({}, {})])
    assert page.read_text() == f"{report.END}\n{report.BEGIN}\n"


def test_what_pg_regress_prints_is_read_in_either_form():
    assert postgresql.read("""\
test test_setup                   ... ok          214 ms
parallel group (2 tests):  char boolean
     boolean                      ... FAILED     1007 ms
     char                         ... ok          341 ms
""") == {"test_setup": PASSED, "boolean": FAILED, "char": PASSED}
    assert postgresql.read("""\
# parallel group (2 tests):  char boolean
ok 1         - test_setup                                214 ms
not ok 2     + boolean                                  1007 ms
ok 3         + char                                      341 ms
1..3
""") == {"test_setup": PASSED, "boolean": FAILED, "char": PASSED}
