"""Editing a user list leaves every other byte as it is, or is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsplit.config.user_file import CannotEdit, Change, edited, users_at

BLOCK = """\
# the team's proxy
listen: 0.0.0.0:6432
users:            # who may come in
  app: app-secret      # the application
  # reports, nightly
  "report":   'it''s a secret'

  old: md50123456789abcdef0123456789abcdef
consistency: global   # the default
"""
FLOW = "primary: db1\nusers: {app: a, 'b c': \"d\"}   # two\nx: 1\n"
ITEMS = """\
- username: app      # first
  password: one
# then
- {username: report, password: two}
-   password: three
    username: last
"""


def secrets(text, path=("users",)):
    return {user.username: user.secret for user in users_at(text, path)}


def test_a_secret_is_changed_where_it_stands():
    assert edited(BLOCK, ("users",), [Change("app", "new")]) == BLOCK.replace("app-secret", '"new"')
    assert edited(BLOCK, ("users",), [Change("report", 'a"b\\')]) == BLOCK.replace("'it''s a secret'", '"a\\"b\\\\"')
    assert edited(FLOW, ("users",), [Change("b c", "new")]) == FLOW.replace('"d"', '"new"')
    assert edited(ITEMS, (), [Change("last", "new")]) == ITEMS.replace("three", '"new"')


def test_a_user_is_added_behind_the_last_one():
    line = "  old: md50123456789abcdef0123456789abcdef\n"
    assert edited(BLOCK, ("users",), [Change("neu", "x")]) == BLOCK.replace(line, line + '  "neu": "x"\n')
    assert edited(FLOW, ("users",), [Change("neu", "x")]) == FLOW.replace('"d"', '"d", "neu": "x"')
    assert edited(ITEMS, (), [Change("neu", "x")]) == ITEMS + '- {username: "neu", password: "x"}\n'
    assert edited("users: {}\n", ("users",), [Change("neu", "x")]) == 'users: {"neu": "x"}\n'
    assert edited("users:\n  a: b", ("users",), [Change("c", "d")]) == 'users:\n  a: b\n  "c": "d"\n'


def test_a_user_is_deleted_with_its_line():
    assert edited(BLOCK, ("users",), [Change("app", None)]) == BLOCK.replace(
        "  app: app-secret      # the application\n", "")
    assert edited(FLOW, ("users",), [Change("app", None)]) == FLOW.replace("app: a, ", "")
    assert edited(FLOW, ("users",), [Change("b c", None)]) == FLOW.replace(", 'b c': \"d\"", "")
    assert edited(ITEMS, (), [Change("app", None)]) == ITEMS.replace(
        "- username: app      # first\n  password: one\n", "")
    assert edited(ITEMS, (), [Change("last", None)]) == ITEMS.replace(
        "-   password: three\n    username: last\n", "")


def test_several_changes_and_windows_line_ends():
    text = BLOCK.replace("\n", "\r\n")
    result = edited(text, ("users",), [Change("app", None), Change("neu", "x"), Change("report", "y")])
    assert secrets(result) == {"report": "y", "old": "md50123456789abcdef0123456789abcdef", "neu": "x"}
    assert result.count("\n") == result.count("\r\n")


def test_a_list_deep_in_envoys_form():
    path = ("static_resources", "listeners", 0, "user_list")
    text = "static_resources:\n  listeners:\n  - name: l\n    user_list:\n    - username: a\n      password: b\n"
    result = edited(text, path, [Change("c", "d"), Change("a", "new")])
    assert secrets(result, path) == {"a": "new", "c": "d"}


@pytest.mark.parametrize(("text", "change", "why"), [
    ("users:\n  a: &x b\n  c: *x\n", Change("a", "n"), "line 2 has an anchor"),
    ("users:\n  a: !!str b\n", Change("a", "n"), "line 2 has an anchor, an alias or a tag"),
    ("users:\n  a: |\n    b\n", Change("a", "n"), "block scalar: edit this one by hand"),
    ("users:\n  a: b\n", Change("a", None), "the last user of a list"),
    ("users:\n  a: b\n", Change("c", None), "there is no user 'c'"),
    ("users: {a: b, # one\n c: d}\n", Change("a", None), "comment"),
    ("users: {a: b, c: d,}\n", Change("e", "f"), "ends with a comma"),
    ("users:\n", Change("a", "b"), "users"),
    ("nobody: 1\n", Change("a", "b"), "not where it was"),
])
def test_what_is_refused(text, change, why):
    with pytest.raises(CannotEdit, match=why):
        edited(text, ("users",), [change])


def test_a_secret_is_in_no_repr():
    assert "hunter2" not in repr(Change("a", "hunter2"))


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
SECRETS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@given(st.sampled_from([BLOCK, FLOW, BLOCK.replace("\n", "\r\n")]), NAMES, SECRETS)
def test_whatever_is_written_is_read_again(text, name, secret):
    before = secrets(text)
    try:
        result = edited(text, ("users",), [Change(name, secret)])
    except CannotEdit:
        return
    assert secrets(result) == before | {name: secret}
    if name not in before:
        assert secrets(edited(result, ("users",), [Change(name, None)])) == before
        assert edited(result, ("users",), [Change(name, None)]) == text
