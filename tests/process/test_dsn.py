"""Connection strings as libpq reads them, and .pgpass."""

from __future__ import annotations

import pytest

from pgsplit.errors import PgSplitError
from pgsplit.process.dsn import parse, password_in


@pytest.mark.parametrize(("text", "host", "port", "database", "user", "password"), [
    ("", "", 5432, "me", "me", None),
    ("host=h port=6 dbname=d user=u password=p", "h", 6, "d", "u", "p"),
    (r"host = h  password='it\'s \\ a' user=a\ b", "h", 5432, "a b", "a b", r"it's \ a"),
    ("postgresql://", "", 5432, "me", "me", None),
    ("postgres://u:p%40%2F@h:6/d?sslmode=require", "h", 6, "d", "u", "p@/"),
    ("postgresql://[::1]:7/d", "::1", 7, "d", "me", None),
    ("postgresql:///d?host=/tmp&port=9", "/tmp", 9, "d", "me", None),
    ("postgresql://u@%2Fvar%2Frun/d", "/var/run", 5432, "d", "u", None),
    ("host=h connect_timeout=3 application_name=x", "h", 5432, "me", "me", None)])
def test_what_it_says(text, host, port, database, user, password):
    dsn = parse(text, {}, "me")
    assert (dsn.host, dsn.port, dsn.database, dsn.user, dsn.password) == (host, port, database, user, password)


@pytest.mark.parametrize(("text", "why"), [
    ("host", "character 1"), ("host=h port", "character 7"), ("host='h", "character 1"), ("port=x", "port 'x'"),
    ("port=70000", "port '70000'"), ("host=a,b", "one host"), ("postgresql://a:1,b:2/d", "one host"),
    ("sslmode=sure", "sslmode 'sure'"), ("sslmode=verify-full", "sslrootcert"), ("service=x", "'service'"),
    ("connect_timeout=soon", "connect_timeout"), ("postgresql://h/d?x", "parameter=value")])
def test_mistakes_are_told_without_the_password(text, why):
    with pytest.raises(PgSplitError, match=why) as raised:
        parse(f"{text} password=geheim" if not text.startswith("postgresql") and "'" not in text else text, {}, "me")
    assert "geheim" not in str(raised.value)


def test_the_environment_fills_what_is_not_given():
    dsn = parse("user=u", {"PGHOST": "h", "PGPASSWORD": "p", "PGUSER": "other", "PGPORT": ""}, "me")
    assert (dsn.host, dsn.user, dsn.password, dsn.port) == ("h", "u", "p", 5432)
    assert "p" not in (repr(dsn) + str(dsn)).replace("pgsplit", "").replace("Dsn", "").replace("sp", "")


@pytest.mark.parametrize(("line", "password"), [
    ("h:6:d:u:secret\n", "secret"), ("*:*:*:*:a:b", "a:b"), ("h:6:d:v:no\n*:*:*:u:yes", "yes"),
    ("#h:6:d:u:no", None), (r"h:6:d:u:a\:b\\c", r"a:b\c"), ("h:7:d:u:no", None), ("h:6:d", None)])
def test_a_password_file(line, password):
    assert password_in(line.splitlines(), parse("host=h port=6 dbname=d user=u", {}, "me")) == password
