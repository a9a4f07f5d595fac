"""What the texts of SET, RESET and DISCARD tell of the session, and which do not tell it."""

from __future__ import annotations

import pytest

from pgsplit.classify.classify import classify
from pgsplit.classify.set_commands import ALL, Change
from pgsplit.split.settings import LOGIN, Settings, changed


@pytest.mark.parametrize("sql, changes", [
    ("set timezone = 'Asia/Tokyo'", [("timezone", "Asia/Tokyo")]),
    ("SET SESSION TimeZone TO utc", [("timezone", "utc")]),
    ("set time zone 'UTC'", [("timezone", "UTC")]), ("set app.tenant = '7'", [("app.tenant", "7")]),
    ("set work_mem = 64", [("work_mem", "64")]), ("set x = - 1", [("x", "-1")]), ("set x to default", [("x", None)]),
    ("set a = $$it's$$", []), ("set a = $$b$$", [("a", "b")]), ("set a = on", [("a", "on")]),
    ("reset timezone", [("timezone", None)]), ("reset app.tenant", [("app.tenant", None)]),
    ("reset time zone", [("timezone", None)]), ("reset all", [(ALL, None)]),
    ("discard all", [("session_authorization", None), (ALL, None)]),
    ("reset session authorization", [("session_authorization", None)]),
    ("set role a", [("role", "a")]), ('set role "A"', [("role", "A")]), ("set role none", [("role", "none")]),
    ("set search_path = app, \"User\", 'a b', \"$user\", user", [
        ("search_path", 'app, "User", "a b", "$user", "user"')]),
    ("select set_config('app.t', '5', false)", [("app.t", "5")]),
    ("select pg_catalog.set_config('A', 'c', false) as x, set_config('b', 'd', false)", [("a", "c"), ("b", "d")]),
    ("set a = 1; set b = 2; reset all", [("a", "1"), ("b", "2"), (ALL, None)]),
    ("select pg_advisory_unlock_all(); close all; unlisten *; reset all;", [(ALL, None)]),
])
def test_what_is_read_from_the_text(sql, changes):
    assert list(classify(sql).changes) == [Change(*change) for change in changes]


@pytest.mark.parametrize("sql", [
    "set a = 'it''s'", r"set a = e'\n'", "set a = U&'b'", "set a = 010", "set a = 0x10", "set a = 1e3", "set a = b, c",
    "set datestyle = 'ISO, DMY'", "set default_transaction_isolation = 'serializable'", "set role 'none'",
    "set session characteristics as transaction read only", "set session authorization a", "reset role",
    "set idle_in_transaction_session_timeout = 1", "set synchronous_commit = off", "set a.b.c = 1", "set names 'x'",
    "set local timezone = 'x'", "select set_config('a', $1, false)", "select set_config('a', 'b', true)",
    "select set_config('a', 'b' || 'c', false)", "select set_config('a', 'b', false) from t",
    "select set_config('role', 'b', false)", "begin; set a = 1; commit",
    "set a = 1; set b = c, d", "insert into t select set_config('a', 'b', false)", "set search_path = a,",
    "discard temp",
])
def test_what_is_asked_about_or_nothing_at_all(sql):
    assert classify(sql).changes == ()


def test_what_becomes_of_settings():
    def after(settings: Settings, *changes: tuple[str, str | None]) -> Settings:
        return changed(settings, [Change(*change) for change in changes])

    tokyo = after(LOGIN, ("timezone", "Asia/Tokyo"))
    assert tokyo == Settings(((b"timezone", b"Asia/Tokyo"),))
    assert after(Settings(((b"TimeZone", b"UTC"),)), ("timezone", "x")) == Settings(((b"TimeZone", b"x"),))
    assert after(tokyo, ("timezone", None)) == after(tokyo, (ALL, None)) == LOGIN
    assert after(LOGIN, ("app.t", "5"), ("app.t", None)) == Settings(((b"app.t", b""),))
    assert after(LOGIN, ("app.t", "5"), ("x", "1"), (ALL, None)) == Settings(((b"app.t", b""),))
    assert after(LOGIN, ("role", "a")).role == b"a"
    assert after(Settings((), b"u", b"a"), ("session_authorization", None)) == LOGIN
