"""What pgbouncer.ini becomes: each setting is taken over, or named with what to do."""

from __future__ import annotations

import pytest

from pgsplit.config.model import Address
from pgsplit.errors import ConfigError
from pgsplit.importing import writer
from pgsplit.importing.draft import Wishes
from pgsplit.importing.pgbouncer import TOGETHER, from_pgbouncer
from pgsplit.importing.pgbouncer_rules import RULES
from tests.importing.drafts import FILES, about, loaded, pgbouncer, reader

SHOP = """\
[databases]
shop = host=db1 port=5433 dbname=shop

[pgbouncer]
listen_addr = 127.0.0.1, ::1
listen_port = 6433
auth_type = scram-sha-256
auth_file = userlist.txt
admin_users = app
pool_mode = transaction
max_client_conn = 500
default_pool_size = 20
client_login_timeout = 20
dns_max_ttl = 0.5
server_tls_sslmode = require
ignore_startup_parameters = extra_float_digits
"""


def with_settings(*lines: str) -> str:
    return SHOP + "".join(f"{line}\n" for line in lines)


def test_a_whole_one_becomes_a_configuration():
    config = loaded(pgbouncer(SHOP, replicas=("db2:5432",))).config
    listener = config.listeners[0]
    assert [(address.host, address.port) for address in listener.addresses] == [("127.0.0.1", 6433), ("::1", 6433)]
    assert all(cluster.endpoints == (Address(host="db1", port=5433), Address(host="db2", port=5432))
               and cluster.role == "auto" and cluster.dns_refresh == 0.5 for cluster in config.clusters)
    assert [(user.username, user.secret) for user in listener.users] == [("app", "app-secret")]
    assert (listener.max_connections, listener.client_login_timeout, listener.upstream_ssl) == (500, 20, "REQUIRE")
    assert (config.process.admin_users, config.process.console_database) == (("app",), "pgbouncer")
    assert config.monitor.username == "app"


def test_every_setting_is_named_once_with_its_line():
    draft = pgbouncer(SHOP)
    text = writer.written(draft).replace("\n#   ", " ")
    for number, line in enumerate(SHOP.splitlines(), 1):
        if " = " in line:
            assert text.count(f"pgbouncer.ini:{number}: {line}: ") == 1, line
    assert "max_connections must allow as many connections as there are clients" in about(draft, "pool_mode")


def test_every_setting_of_pgbouncer_is_in_a_table():
    known = {*RULES, *TOGETHER}
    assert not set(RULES) & set(TOGETHER)
    draft = pgbouncer("[databases]\na = host=db1\n[pgbouncer]\n" + "".join(f"{name} = 0\n" for name in RULES
                                                                       if name != "pool_mode"))
    assert not draft.problems and len(known) > 100
    assert {remark.entry.name for remark in draft.remarks if remark.entry} == {*RULES, "a"} - {"pool_mode"}


def test_a_setting_that_nobody_knows_is_named_with_the_nearest():
    draft = pgbouncer(with_settings("max_client_con = 5"))
    assert about(draft, "max_client_con") == (
        "pgbouncer.ini:17: max_client_con = 5: is not known: no setting of PgBouncer's: max_client_conn?")


def test_what_holds_of_a_setting_that_stands_twice_is_the_last():
    draft = pgbouncer(with_settings("max_client_conn = 7"))
    assert draft.values["max_connections"] == "7"
    assert [str(remark) for remark in draft.remarks if "stands again in line 17" in remark.text]


@pytest.mark.parametrize("line, words", [
    ("pool_mode = pooled", "is not session, transaction or statement"),
    ("max_client_conn = many", "is not a whole number"),
    ("max_client_conn = 1000 ; clients", "is not a whole number: a comment stands in a line of its own"),
    ("listen_port = x", "is not a whole number"), ("dns_max_ttl = soon", "is not a time"),
    ("auth_type = magic", "is not one of md5"), ("server_tls_sslmode = maybe", "is not one of disable"),
    ("client_tls_sslmode = maybe", "is not one of disable"),
])
def test_a_value_that_is_none_is_a_problem_with_its_line(line, words):
    [problem] = pgbouncer(with_settings(line)).problems
    assert problem.startswith(f"pgbouncer.ini:17: {line}: {words}")


# --- databases ------------------------------------------------------------------------------------------------------

def databases(*lines: str, **wishes: object):
    return pgbouncer("[databases]\n" + "".join(f"{line}\n" for line in lines) + "[pgbouncer]\nlisten_addr = *\n",
                     **wishes)


def test_databases_of_one_server_need_no_more_than_it():
    draft = databases("a = host=db1", "b = host=db1 port=5432 dbname=b", "* = host=db1")
    assert draft.values["servers"] == ["db1:5432"] and not draft.problems
    assert "every database of the servers can be reached" in about(draft, "*")


def test_databases_of_several_servers_are_a_problem_that_says_what_to_do():
    lines = ("a = host=db1", "b = host=db2 port=5433")
    [problem] = databases(*lines).problems
    assert problem.startswith("pgbouncer.ini:2: [databases] lead to several servers")
    assert "a on db1:5432; b on db2:5433" in problem and "--replica HOST:PORT" in problem and "--database" in problem
    draft = databases(*lines, databases=("b",))
    assert draft.values["servers"] == ["db2:5433"] and not draft.problems
    assert "is not among those of --database" in about(draft, "a")
    assert databases(*lines, databases=("c",)).problems == [
        "--database c: [databases] has none of that name; it has a, b"]


def test_a_database_on_a_replica_is_what_reads_are_for():
    draft = databases("shop = host=db1", "shop_ro = host=db2 dbname=shop", replicas=("db2:5432",))
    assert draft.values["servers"] == ["db1:5432", "db2:5432"] and not draft.problems
    assert "reads go there by themselves" in about(draft, "shop_ro")


def test_a_list_of_hosts_are_servers():
    draft = databases("a = host=db1,db2,2001:db8::1 port=5433")
    assert draft.values["servers"] == ["db1:5433", "db2:5433", "[2001:db8::1]:5433"]
    assert len(loaded(draft).config.clusters[0].endpoints) == 3


def test_without_a_host_it_was_a_unix_socket():
    for line in ("a = dbname=a", "a = host=/run/postgresql port=5432"):
        draft = databases(line)
        assert draft.values["servers"] == ["localhost:5432"]
        assert "reaches its servers by TCP" in about(draft, "a")
        assert draft.values["upstream_tls"] == "disable"        # on this machine


def test_a_name_or_user_of_the_pooler_s_own_is_told():
    draft = databases("a = host=db1 dbname=real user=owner password='it''s' pool_size=5 timezone=UTC odd=1")
    assert draft.users["owner"] == "it's"
    text = about(draft, "a")
    for words in ("its clients ask for real", "all clients were owner at the server", "pool_size: is not a pool here",
                  "timezone: ALTER DATABASE", "odd: is not known"):
        assert words in text
    assert "it's" not in text and "it''s" not in text


def test_no_database_lacks_a_server():
    draft = pgbouncer("[databases]\n[pgbouncer]\nlisten_addr = *\n")
    assert any("servers: [databases] names none" in remark.text for remark in draft.remarks)
    with pytest.raises(ConfigError):
        loaded(draft)
    assert loaded(pgbouncer("[databases]\n[pgbouncer]\nlisten_addr = *\n", replicas=("db1:5432",)))


# --- users ----------------------------------------------------------------------------------------------------------

def test_secrets_are_taken_as_they_are():
    verifier = "SCRAM-SHA-256$4096:c2FsdA==$" + "A" * 43 + "=:" + "A" * 43 + "="
    text = (f'"app" "app-secret"\n"v" "{verifier}"\n"m" "md5{"a" * 32}"\n"0" "0123"\n"no" "!yes: #"\n'
            '"none" ""\n"c" "cert"\n')
    draft = pgbouncer(SHOP, files={"userlist.txt": text})
    assert {user.username: user.secret for user in loaded(draft).config.listeners[0].users} == {
        "app": "app-secret", "v": verifier, "m": "md5" + "a" * 32, "0": "0123", "no": "!yes: #"}
    said = [str(remark) for remark in draft.remarks]
    assert any("userlist.txt:6: user 'none' has no password" in line for line in said)
    assert any("userlist.txt:7: user 'c' has a password that means something else here" in line for line in said)
    comments = [line for line in writer.written(draft).splitlines() if line.startswith("#")]
    assert not any(secret in line for line in (*said, *comments) for secret in ("app-secret", verifier, "0123", "!yes"))


def test_the_list_that_is_named_is_read_where_it_can_be():
    assert pgbouncer(SHOP, userlist=None).users == {"app": "app-secret"}
    draft = pgbouncer(SHOP, userlist=None, files={})
    assert "userlist.txt cannot be read here (No such file or directory)" in about(draft, "auth_file")
    with pytest.raises(ConfigError, match=r"other.txt: No such file"):
        pgbouncer(SHOP, userlist="other.txt")


def test_a_monitor_needs_a_clear_password():
    md5 = {"userlist.txt": f'"app" "md5{"a" * 32}"\n'}
    draft = pgbouncer(SHOP, files=md5)
    assert any("--monitor USER --monitor-password-file FILE" in remark.text for remark in draft.remarks)
    with pytest.raises(ConfigError):
        loaded(draft)
    config = loaded(pgbouncer(SHOP, files=md5, monitor="watch", monitor_password="watch-secret")).config
    assert (config.monitor.username, config.monitor.secret) == ("watch", "watch-secret")


def test_a_query_for_users_needs_one_who_can_log_in():
    lines = ("auth_user = lookup", "auth_query = SELECT * FROM find($1)")
    draft = pgbouncer(with_settings(*lines))
    assert "'lookup' has no password" in about(draft, "auth_user") and "auth_query" not in draft.values
    listed = {"userlist.txt": FILES["userlist.txt"] + '"lookup" "find-secret"\n'}
    listener = loaded(pgbouncer(with_settings(*lines), files=listed)).config.listeners[0]
    assert (listener.auth_user, listener.auth_query, listener.auth_dbname) == (
        "lookup", "SELECT * FROM find($1)", "shop")
    assert loaded(pgbouncer(with_settings(*lines, "auth_dbname = users"), files=listed)).config.listeners[
        0].auth_dbname == "users"


def test_users_by_certificate_log_in_at_the_servers_by_their_secrets():
    tls = ("client_tls_sslmode = verify-full", "client_tls_cert_file = /s.crt", "client_tls_key_file = /s.key",
           "client_tls_ca_file = /ca.crt", "auth_type = cert")
    listed = {"userlist.txt": FILES["userlist.txt"] + '"report" "report-secret"\n'}
    draft = pgbouncer(with_settings(*tls), files=listed)
    users = {user.username: user for user in loaded(draft).config.listeners[0].users}
    assert users["app"].secret == "app-secret"      # the monitor is no client
    assert (users["report"].secret, users["report"].upstream_secret) == ("cert", "report-secret")


# --- TLS ------------------------------------------------------------------------------------------------------------

FILES_OF_CLIENTS = ("client_tls_cert_file = /s.crt", "client_tls_key_file = s.key", "client_tls_ca_file = /ca.crt")


@pytest.mark.parametrize("mode, expected", [
    ("disable", ("DISABLE", None, None)), ("allow", ("ALLOW", "/s.crt", None)), ("prefer", ("ALLOW", "/s.crt", None)),
    ("require", ("REQUIRE", "/s.crt", None)), ("verify-ca", ("REQUIRE", "/s.crt", "/ca.crt")),
    ("verify-full", ("REQUIRE", "/s.crt", "/ca.crt"))])
def test_tls_of_clients(mode, expected):
    listener = loaded(pgbouncer(with_settings(f"client_tls_sslmode = {mode}", *FILES_OF_CLIENTS))).config.listeners[0]
    tls = listener.tls
    assert (listener.downstream_ssl, tls.certificate if tls else None, tls.client_ca if tls else None) == expected
    assert tls is None or tls.require_client_certificate == mode.startswith("verify")


def test_tls_of_clients_without_a_certificate_is_missing():
    draft = pgbouncer(with_settings("client_tls_sslmode = require"))
    assert "is missing: tls: needs client_tls_cert_file" in about(draft, "client_tls_sslmode")
    assert "tls" not in draft.values


@pytest.mark.parametrize("mode, tls, ca", [
    ("disable", "DISABLE", None), ("prefer", "REQUIRE", None), ("require", "REQUIRE", None),
    ("verify-ca", "REQUIRE", "/ca.crt"), ("verify-full", "REQUIRE", "/ca.crt")])
def test_tls_to_servers(mode, tls, ca):
    text = SHOP.replace("server_tls_sslmode = require", f"server_tls_sslmode = {mode}\nserver_tls_ca_file = /ca.crt")
    draft = pgbouncer(text)
    config = loaded(draft).config
    assert (config.listeners[0].upstream_ssl, config.clusters[0].tls.ca) == (tls, ca)
    if mode in ("prefer", "verify-full"):       # is not what pgsplit does: it is said aloud
        [remark] = [remark for remark in draft.remarks if remark.entry and remark.entry.name == "server_tls_sslmode"]
        assert remark.loud


def test_words_of_tls_are_taken_where_they_mean_the_same():
    config = loaded(pgbouncer(with_settings(
        "client_tls_sslmode = require", *FILES_OF_CLIENTS, "client_tls_protocols = tlsv1.3",
        "client_tls_ciphers = ECDHE+AESGCM", "client_tls_ecdhcurve = prime256v1", "server_tls_protocols = secure",
        "server_tls_ciphers = fast"))).config
    tls = config.listeners[0].tls
    assert tls is not None
    assert (tls.params.minimum, tls.params.cipher_suites, tls.params.ecdh_curves) == (
        "TLSv1.3", ("ECDHE+AESGCM",), ("prime256v1",))
    assert config.clusters[0].tls.params.cipher_suites == ()


# --- files ----------------------------------------------------------------------------------------------------------

def test_files_are_found_beside_the_source():
    files = {"/etc/pgbouncer/userlist.txt": FILES["userlist.txt"], "/etc/pgbouncer/more.ini": "max_client_conn = 9\n"}
    draft = from_pgbouncer(with_settings("%include more.ini"), "/etc/pgbouncer/pgbouncer.ini", reader(files), None,
                           Wishes())
    assert draft.users == {"app": "app-secret"} and draft.values["max_connections"] == "9"


def test_listen_may_be_another_to_run_beside_it():
    draft = pgbouncer(SHOP, listen=("127.0.0.1:7432",))
    assert loaded(draft).config.listeners[0].addresses == (Address(host="127.0.0.1", port=7432),)


def test_no_comment_can_become_a_setting():
    for separator in ("\r", "\x85", "\u2028"):
        draft = pgbouncer(with_settings(f"job_name = x{separator}log_level: debug", f"odd{separator} = 1")
                          if separator == "\r" else with_settings(f"job_name = x{separator}log_level: debug"))
        assert loaded(draft).config.process.log_level == "info"
