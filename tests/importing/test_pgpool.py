"""What pgpool.conf becomes: each setting is taken over, or named with what to do."""

from __future__ import annotations

import pytest

from pgsplit.config.model import Address
from pgsplit.errors import ConfigError
from pgsplit.importing import writer
from pgsplit.importing.pgpool import TOGETHER
from pgsplit.importing.pgpool_functions import glob
from pgsplit.importing.pgpool_rules import RULES
from tests.importing.drafts import about, loaded, pgpool

SHOP = """\
backend_clustering_mode = 'streaming_replication'
listen_addresses = '*'      # everywhere
port = 9998
unix_socket_directories = '/run/pgpool'
backend_hostname0 = 'db1'
backend_port0 = 5433
backend_weight0 = 1
backend_flag0 = 'ALLOW_TO_FAILOVER'
backend_data_directory0 = '/data'
backend_hostname1 = 'db2'
backend_weight1 = 1
enable_pool_hba = on
pool_passwd = 'pool_passwd'
num_init_children = 64
max_pool = 4
load_balance_mode = on
sr_check_period = 10
sr_check_user = 'watch'
sr_check_password = 'watch-secret'
health_check_user0 = 'nobody'
delay_threshold = 10MB
delay_threshold_by_time = 1500
disable_load_balance_on_write = 'transaction'
memory_cache_enabled = off
failover_command = '/etc/failover.sh %d'
"""


def with_settings(*lines: str) -> str:
    return SHOP + "".join(f"{line}\n" for line in lines)


def test_a_whole_one_becomes_a_configuration():
    config = loaded(pgpool(SHOP)).config
    listener = config.listeners[0]
    assert [str(address) for address in listener.addresses] == ["0.0.0.0:9998", "/run/pgpool/.s.PGSQL.9998"]
    for cluster in config.clusters:
        assert cluster.endpoints == (Address(host="db1", port=5433), Address(host="db2", port=5432))
        assert (cluster.role, cluster.max_lag_bytes, cluster.max_lag) == ("auto", 10 << 20, 1.5)
    assert {user.username for user in listener.users} == {"app", "watch"}
    assert (config.monitor.username, config.monitor.secret) == ("watch", "watch-secret")
    assert (listener.max_connections, listener.upstream_ssl, listener.transactions) == (64, "DISABLE", "until_write")


def test_every_setting_is_named_once_with_its_line():
    text = writer.written(pgpool(SHOP)).replace("\n#   ", " ")
    for number, line in enumerate(SHOP.splitlines(), 1):
        assert text.count(f"pgpool.conf:{number}: {line.partition(' ')[0]} = ") == 1, line
    assert "watch-secret" not in "".join(line for line in text.splitlines() if line.startswith("#"))


def test_every_rule_says_something_of_any_value():
    assert not set(RULES) & set(TOGETHER) and len({*RULES, *TOGETHER}) > 200
    for value in ("0", "'off'", "'on'", "1"):
        draft = pgpool("backend_hostname0 = 'db1'\n" + "".join(
            f"{name} = {value}\n" for name in RULES if name != "disable_load_balance_on_write"))
        said = {remark.entry.name for remark in draft.remarks if remark.entry}
        wrong = {problem.split()[1] for problem in draft.problems}
        assert said | wrong >= {*RULES} - {"disable_load_balance_on_write"}
        assert wrong <= {"authentication_timeout", "num_init_children", "delay_threshold", "delay_threshold_by_time"}


def test_a_setting_of_one_server_is_as_the_general_one():
    assert "health_interval" in about(pgpool(with_settings("health_check_period1 = 5")), "health_check_period1")
    assert "is not known" in about(pgpool(with_settings("log_pid = on")), "log_pid")
    assert "max_pool?" in about(pgpool(with_settings("max_poool = 1")), "max_poool")


@pytest.mark.parametrize("lines", [
    ("backend_clustering_mode = 'native_replication'",), ("backend_clustering_mode = raw",), ("replication_mode = on",),
    ("master_slave_mode = on", "master_slave_sub_mode = 'slony'")])
def test_another_replication_is_a_problem(lines):
    [problem] = pgpool(with_settings(*lines)).problems
    assert "pgsplit is for streaming replication" in problem and problem.startswith("pgpool.conf:2")


def test_older_words_for_streaming_replication_are_no_problem():
    draft = pgpool(SHOP.partition("\n")[2] + "master_slave_mode = on\nmaster_slave_sub_mode = 'stream'\n"
                   "replication_mode = off\n")
    assert not draft.problems and loaded(draft)


# --- servers --------------------------------------------------------------------------------------------------------

def servers(*nodes: tuple[str, str], **wishes: object):
    """Each a weight and a flag."""
    return pgpool("".join(f"backend_hostname{n} = 'db{n}'\nbackend_weight{n} = {weight}\nbackend_flag{n} = '{flag}'\n"
                          for n, (weight, flag) in enumerate(nodes)), **wishes)


def test_weights_become_whole_ones():
    draft = servers(("0.5", ""), ("1.5", ""), ("1", ""))
    assert draft.values["servers"] == [
        {"address": "db0:5432", "weight": "1"}, {"address": "db1:5432", "weight": "3"},
        {"address": "db2:5432", "weight": "2"}]
    assert [placement.weight for placement in loaded(draft).config.clusters[0].placements] == [1, 3, 2]
    assert servers(("2", ""), ("2", "")).values["servers"] == ["db0:5432", "db1:5432"]


def test_a_server_without_weight_is_the_last_that_gets_reads():
    draft = servers(("0", ""), ("1", ""))
    assert draft.values["servers"] == [{"address": "db0:5432", "priority": "1"}, "db1:5432"]
    assert "only when no other server may serve them" in about(draft, "backend_weight0")
    assert servers(("0", ""), ("0", "")).values["servers"] == ["db0:5432", "db1:5432"]


def test_a_primary_for_ever_is_named():
    for flag in ("ALWAYS_PRIMARY", "ALWAYS_MASTER|DISALLOW_TO_FAILOVER"):
        draft = servers(("1", flag), ("1", "DISALLOW_TO_FAILOVER"), replicas=("db9:5432",))
        assert "servers" not in draft.values
        assert (draft.values["primary"], draft.values["replicas"]) == ("db0:5432", ["db1:5432", "db9:5432"])
        read, write = loaded(draft).config.clusters
        assert (read.role, write.role, len(read.endpoints), len(write.endpoints)) == ("read", "write", 2, 1)
        text = writer.written(draft)
        assert text.index("backend_hostname0") < text.index("\nprimary:") < text.index("backend_hostname1")


@pytest.mark.parametrize("line, words", [
    ("backend_port0 = %%PORT%%", "is not a whole number"), ("backend_weight0 = heavy", "is not a number"),
    ("port = x", "is not a whole number"), ("delay_threshold = much", "is not a size"),
    ("disable_load_balance_on_write = 'never'", "is not one of off")])
def test_a_value_that_is_none_is_a_problem_with_its_line(line, words):
    [problem] = pgpool(with_settings(line)).problems
    assert problem.startswith("pgpool.conf:26: ") and words in problem


def test_no_server_or_one_is_told():
    assert any("there is no backend_hostname" in remark.text for remark in pgpool("port = 1\n").remarks)
    draft = servers(("1", ""))
    assert draft.values["servers"] == ["db0:5432"] and any("add the standbys here" in r.text for r in draft.remarks)
    local = pgpool("backend_hostname0 = '/run/postgresql'\n")
    assert local.values["servers"] == ["localhost:5432"] and "by TCP" in about(local, "backend_hostname0")


# --- users ----------------------------------------------------------------------------------------------------------

def test_what_is_encrypted_is_left_out_and_told():
    text = f"app:TEXTapp-secret\nb:AESDs5wrD6cHaL1ISuGX2KVoQ==\nc:md5{'a' * 32}\n"
    draft = pgpool(SHOP, files={"pool_passwd": text})
    assert draft.users == {"app": "app-secret", "c": "md5" + "a" * 32, "watch": "watch-secret"}
    [remark] = [str(remark) for remark in draft.remarks if "encrypted" in remark.text]
    assert "pool_passwd:2: user 'b'" in remark and "AES" not in remark


def test_a_monitor_without_a_password_is_missing():
    text = SHOP.replace("'watch-secret'", "'AESDs5wrD6cHaL1ISuGX2KVoQ=='")
    draft = pgpool(text, files={"pool_passwd": ""})
    assert "is encrypted" in about(draft, "sr_check_password")
    assert any("--monitor USER" in remark.text for remark in draft.remarks)
    with pytest.raises(ConfigError):
        loaded(draft)
    assert loaded(pgpool(text)).config.monitor.username == "app"        # who has one


# --- functions ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("regex, expected", [
    ("my_func", "my_func"), ("get_.*", "get_*"), ("^app\\.is_.*$", "app.is_*"), ("App.Get", "app.get"), (".*", "*"),
    ("get_[0-9]+", None), ("(a|b)", None), ("", None), ("a" * 50_000 + "!", None)])
def test_a_name_with_wildcards_becomes_the_shell_s(regex, expected):
    assert glob(regex) == expected


def test_functions_of_ones_own_are_taken_and_built_in_ones_known():
    draft = pgpool(with_settings("read_only_function_list = 'get_.*,now,price'",
                                 "write_function_list = 'nextval,setval,audit,log_[a-z]+'"))
    process = loaded(draft).config.process
    assert (process.replica_functions, process.primary_functions) == (("get_*", "price"), ("audit",))
    assert "built-in functions are known here: now" in about(draft, "read_only_function_list")
    assert "log_[a-z]+" in about(draft, "write_function_list")
    older = pgpool(with_settings("white_function_list = 'price'", "black_function_list = 'nextval,setval'"))
    assert older.values["replica_functions"] == "price" and "primary_functions" not in older.values


@pytest.mark.parametrize("pattern", [".*", "next.*", "pg_.*", "pg_create_.*", ".*val", "lo_.*"])
def test_no_pattern_sends_a_built_in_function_to_replicas(pattern):
    draft = pgpool(with_settings(f"read_only_function_list = '{pattern}'"))
    assert "replica_functions" not in draft.values
    assert "would take in built-in functions" in about(draft, "read_only_function_list")


# --- TLS ------------------------------------------------------------------------------------------------------------

def test_tls_is_for_both_sides():
    files = ("ssl = on", "ssl_cert = 'server.crt'", "ssl_key = '/etc/server.key'")
    config = loaded(pgpool(with_settings(*files))).config
    assert (config.listeners[0].downstream_ssl, config.listeners[0].upstream_ssl) == ("ALLOW", "REQUIRE")
    config = loaded(pgpool(with_settings(*files, "ssl_ca_cert = '/etc/ca.crt'", "ssl_ciphers = 'HIGH'"))).config
    tls = config.listeners[0].tls
    assert tls is not None and (tls.client_ca, tls.params.cipher_suites) == ("/etc/ca.crt", ("HIGH",))
    assert config.clusters[0].tls.ca == "/etc/ca.crt"
    draft = pgpool(with_settings("ssl = off", "ssl_cert = 'server.crt'"))
    assert "tls" not in draft.values and draft.values["upstream_tls"] == "disable"
    assert "tls: needs ssl_cert and ssl_key" in about(pgpool(with_settings("ssl = on")), "ssl")
