"""What stands in the files of PgBouncer and pgpool-II, and what is no line of theirs."""

from __future__ import annotations

import random

import pytest
import yaml

from pgsplit.errors import ConfigError
from pgsplit.importing import writer
from pgsplit.importing.conf import plain, read_conf, read_pool_passwd
from pgsplit.importing.ini import connection_string, read_ini, read_userlist
from pgsplit.importing.source import Entry
from tests.importing.drafts import loaded, pgbouncer, pgpool, reader

INI = """\
[databases]
shop = host=db1 port=5433 dbname=shop user=app password='hidden'
* = host=db2,db3
[pgbouncer]
listen_addr = 127.0.0.1, ::1
listen_port = 6433
auth_type = cert
auth_user = app
auth_query = select 1
pool_mode = transaction
client_tls_sslmode = verify-full
client_tls_cert_file = a
client_tls_key_file = b
client_tls_ca_file = c
client_tls_protocols = tlsv1.2
server_tls_sslmode = verify-ca
server_tls_ca_file = d
"""
CONF = """\
listen_addresses = '*'
port = 9998
backend_hostname0 = 'db1'
backend_port0 = 5433
backend_weight0 = 0.3
backend_flag0 = 'ALWAYS_PRIMARY'
backend_hostname1 = 'db2'
backend_weight1 = 7
sr_check_user = 'watch'
sr_check_password = 'hidden'
ssl = on
ssl_cert = 'a'
ssl_key = 'b'
ssl_ca_cert = 'c'
read_only_function_list = 'get_.*,now'
"""


def ini(text: str, **files: str) -> list[tuple[str, int, str, str, str]]:
    entries = read_ini(text, "a.ini", reader({name.replace("_", "."): held for name, held in files.items()}))
    return [(entry.file, entry.line, entry.section, entry.name, entry.value) for entry in entries]


def test_an_ini_has_sections_comments_and_quoted_names():
    text = ('; a comment\n[databases]\n  shop=host=db1 \n"my ""shop""" = host=db2\r\n* = host=db3 ; no comment\n'
            "# another\n[pgbouncer]\nlisten_addr =\n")
    assert ini(text) == [("a.ini", 3, "databases", "shop", "host=db1"),
                         ("a.ini", 4, "databases", 'my "shop"', "host=db2"),
                         ("a.ini", 5, "databases", "*", "host=db3 ; no comment"),
                         ("a.ini", 8, "pgbouncer", "listen_addr", "")]


def test_an_include_stands_for_what_it_holds_and_names_its_own_lines():
    assert ini("[pgbouncer]\n%include b.ini\nlisten_port = 1\n", b_ini="\npool_mode = session\n") == [
        ("b.ini", 2, "pgbouncer", "pool_mode", "session"), ("a.ini", 3, "pgbouncer", "listen_port", "1")]


@pytest.mark.parametrize("text, problem", [
    ("[pgbouncer]\nlisten_addr\n", "a.ini:2: is neither [section], nor name = value, nor a comment"),
    ("listen_addr = *\n", "a.ini:1: stands before the first [section]"),
    ("%include c.ini\n", "a.ini:1: %include c.ini: No such file or directory"),
    ("%include a.ini\n", "a.ini:1: %include: files are included 10 deep"),
])
def test_what_is_no_line_of_an_ini(text, problem):
    with pytest.raises(ConfigError) as caught:
        read_ini(text, "a.ini", reader({"a.ini": text}))
    assert caught.value.problems == [problem]


def test_a_connection_string_has_quoted_values():
    assert connection_string("host=db1 port = 5432 password='it''s # me' connect_query='select 1' user=") == {
        "host": "db1", "port": "5432", "password": "it's # me", "connect_query": "select 1", "user": ""}


@pytest.mark.parametrize("text", ["host", "host=db1 'x'", "password='open", "=db1", "host=db1 = 1"])
def test_what_is_no_connection_string_is_not_repeated(text):
    with pytest.raises(ValueError, match="is not a connection string: name=value is expected at letter") as caught:
        connection_string(text)
    assert "open" not in str(caught.value)


def test_long_lines_take_no_longer_for_it():
    assert len(connection_string("x=" + "'" + "''" * 100_000 + "'")["x"]) == 100_000
    with pytest.raises(ValueError):
        connection_string("x='" + "''" * 100_000)
    [entry] = read_conf("a = '" + "\\'" * 100_000 + "'", "p")
    assert len(entry.value) == 200_000
    with pytest.raises(ConfigError):
        read_conf("a = '" + "''" * 100_000, "p")


def test_a_list_of_users():
    text = '"app" "secret"\n; "no" "body"\n  "a ""b""" "p""w" more\n\n"none" ""\n'
    assert read_userlist(text, "u") == [("u:1", "app", "secret"), ("u:3", 'a "b"', 'p"w'), ("u:5", "none", "")]
    with pytest.raises(ConfigError) as caught:
        read_userlist('"app" secret\n', "u")
    assert caught.value.problems == ['u:1: is not "user" "password"']


def test_a_conf_has_quotes_comments_and_no_need_of_an_equals_sign():
    text = ("# a comment\nport = 9999 # behind\nlisten_addresses '*'\nssl=on\npassword = 'a # b'\nempty = ''\nnone =\n"
            "delay_threshold = 10MB\n")
    assert [(entry.line, entry.name, entry.value) for entry in read_conf(text, "p")] == [
        (2, "port", "9999"), (3, "listen_addresses", "*"), (4, "ssl", "on"), (5, "password", "a # b"),
        (6, "empty", ""), (7, "none", ""), (8, "delay_threshold", "10MB")]
    with pytest.raises(ConfigError) as caught:
        read_conf("port = 1 2\n= 3\nport = 'x\n", "p")
    assert caught.value.problems == [f"p:{line}: is neither name = value nor a comment" for line in (1, 2, 3)]


def test_a_pool_passwd_holds_secrets_of_four_kinds():
    hashed = "md5" + "a" * 32
    text = f"app:{hashed}\nb:AESDs5wrD6cHaL1ISuGX2KVoQ==\nc:TEXTsec:ret\nd:plain\n\n"
    assert [(name, plain(secret)) for _, name, secret in read_pool_passwd(text, "p")] == [
        ("app", hashed), ("b", None), ("c", "sec:ret"), ("d", "plain")]
    with pytest.raises(ConfigError):
        read_pool_passwd("nobody\n", "p")


@pytest.mark.parametrize("name, value", [
    ("shop", "host=db1 password=hidden1 user=a"), ("shop", "host=db1 password='hid''den hidden1'"),
    ("shop", "host=db1 password='hidden1"), ("sr_check_password", "hidden1 hidden2"), ("wd_authkey", "hidden1"),
    ("failover_command", "PGPASSWORD=hidden1 psql"), ("failback_command", "psql postgres://a:hidden1@db1/x"),
    ("auth_ldap_options", 'ldapserver="x" ldapbindpasswd=hidden1'), ("shop", "host=db1 PASSWORD = hidden1"),
])
def test_no_entry_shows_a_secret(name, value):
    entry = Entry("f", 1, name, value)
    assert "***" in entry.shown and "hid" not in entry.shown + repr(entry)


def test_nothing_of_a_file_ends_a_comment():
    shown = Entry("f", 1, "a", "b\rc\x85d\u2028e\x1b[2J" + "x" * 1000).shown
    assert shown.startswith("a = b?c?d?e?[2J") and len(shown) == 100


@pytest.mark.parametrize("make, text", [(pgbouncer, INI), (pgpool, CONF)], ids=["pgbouncer", "pgpool"])
def test_whatever_stands_there_is_read_or_refused(make, text):
    """A draft, or lines that say what is wrong; the file is YAML then, and nothing that is said has a secret."""
    pieces = ["'", '"', "''", "\\'", "=", "%include x", "[", "]", "[users]", "[a]", "*", "\x00", "\udce9", "\u2028",
              "\r", "#", ";", "host=", "password='hidden", "!", "- x", "? y", "0", "-1", "1/0", "99999999999", "on",
              "off", "a=b c=d"]
    rng, drafts = random.Random(17), 0
    for _ in range(150):
        lines = text.splitlines()
        for _ in range(rng.randrange(6)):
            at = rng.randrange(len(lines))
            name, _, value = lines[at].partition(" = ")
            piece = rng.choice(pieces)
            lines[at] = rng.choice([f"{name} = {piece}", f"{name} = '{piece}'", f"{name} = {value} {piece}", piece,
                                    f"{name}{piece} = {value}", rng.choice(lines)])
        try:
            draft = make("\n".join(lines))
        except ConfigError as error:
            assert not any("hidden" in problem for problem in error.problems)
            continue
        drafts += 1
        whole = writer.written(draft)
        assert not any("hidden" in said for said in (*writer.said(draft), *draft.problems))
        assert not any("hidden" in line for line in whole.splitlines() if line.startswith("#"))
        assert set(yaml.safe_load(whole) or {}) <= {*draft.values, "users"}
        try:
            loaded(draft)
        except ConfigError:
            pass
    assert drafts > 50
